"""What was rendered stays as it was rendered: against hands, against edited recipes, and never against strangers."""

from __future__ import annotations

import http.client
from typing import Any

import pytest

from e2e.support import Tenant, candidates, container, is_true, message, operator_writes, reason
from testbed.product import condition

APPLY = "application/apply-patch+yaml"


def served(tenant: Tenant, **spec: Any) -> str:
    """A tenant whose deployment is Ready; returns the recipe's name."""
    name = tenant.corner(**spec)
    tenant.deploy()
    tenant.wait_ready()
    return name


def template(tenant: Tenant) -> Any:
    return tenant.find("Deployment", "app")["spec"]["template"]


def test_a_deleted_deployment_and_service_come_back_as_they_were(tenant: Tenant) -> None:
    served(tenant)
    before = {
        kind: tenant.find(kind, name) for kind, name in (("Deployment", "app"), ("Service", "app-service"))
    }
    for kind, old in before.items():
        name = old["metadata"]["name"]
        tenant.delete(kind, name)
        tenant.wait_new(kind, name, old)
    assert template(tenant) == before["Deployment"]["spec"]["template"]
    assert tenant.find("Service", "app-service")["spec"]["ports"] == before["Service"]["spec"]["ports"]
    tenant.wait_ready()


def test_a_deleted_child_comes_back_as_it_was_although_the_recipe_changed_since(tenant: Tenant) -> None:
    recipe = served(tenant, engineArgs={"max-num-seqs": 11})
    before = template(tenant)
    tenant.change_recipe(recipe, engineArgs={"max-num-seqs": 99}, env={"NCCL_DEBUG": "INFO"})
    tenant.wait_reason("RecipeSelected", "RecipeDrifted")
    old = tenant.find("Deployment", "app")
    tenant.delete("Deployment", "app")
    tenant.wait_new("Deployment", "app", old)
    assert template(tenant) == before


def test_a_deleted_child_comes_back_although_the_recipe_is_gone(tenant: Tenant) -> None:
    recipe = served(tenant)
    before = template(tenant)
    tenant.plane.request("DELETE", f"/apis/aim.engine.amd.com/v1alpha1/aimrecipes/{recipe}")
    told = message(tenant.wait_reason("RecipeSelected", "RecipeDrifted"), "RecipeSelected")
    assert "was deleted" in told
    old = tenant.find("Deployment", "app")
    tenant.delete("Deployment", "app")
    tenant.wait_new("Deployment", "app", old)
    assert template(tenant) == before


def test_a_recipe_edited_in_use_moves_no_pinned_deployment_and_shows_as_drift(tenant: Tenant) -> None:
    recipe = served(tenant)
    before = template(tenant)
    (pod,) = tenant.pods()
    tenant.change_recipe(recipe, engineArgs={"max-num-seqs": 99})
    drifted = tenant.wait_reason("RecipeSelected", "RecipeDrifted")
    assert condition(drifted, "RecipeSelected")["status"] == "True"
    assert is_true(drifted, "Ready")
    told = message(drifted, "RecipeSelected")
    assert recipe in told
    assert "updatePolicy: Automatic" in told
    assert template(tenant) == before
    assert [p["metadata"]["uid"] for p in tenant.pods()] == [pod["metadata"]["uid"]]


def test_a_recipe_that_is_edited_back_drifts_no_more(tenant: Tenant) -> None:
    recipe = served(tenant, engineArgs={"max-num-seqs": 11})
    tenant.change_recipe(recipe, engineArgs={"max-num-seqs": 99})
    tenant.wait_reason("RecipeSelected", "RecipeDrifted")
    tenant.change_recipe(recipe, engineArgs={"max-num-seqs": 11})
    tenant.wait_reason("RecipeSelected", "RecipeSelected")


def test_the_automatic_policy_follows_an_edited_recipe(tenant: Tenant) -> None:
    recipe = tenant.corner()
    tenant.deploy(recipe={"updatePolicy": "Automatic"})
    tenant.wait_ready()
    tenant.change_recipe(recipe, engineArgs={"max-num-seqs": 99})
    tenant.wait_for(
        "the arguments to follow",
        lambda: any("99" in a for a in container(tenant.find("Deployment", "app"))["args"]),
    )
    ready = tenant.wait_ready()
    assert reason(ready, "RecipeSelected") == "RecipeSelected"


HAND_EDITS: dict[str, tuple[str, Any]] = {
    "image": ("/spec/template/spec/containers/0/image", "example.com/other:1"),
    "arguments": ("/spec/template/spec/containers/0/args", ["serve", "something/else"]),
    "command": ("/spec/template/spec/containers/0/command", ["sleep"]),
    "variable": ("/spec/template/spec/containers/0/env/-", {"name": "EVIL", "value": "1"}),
    "container": ("/spec/template/spec/containers/-", {"name": "sidecar", "image": "example.com/miner:1"}),
    "GPUs": ("/spec/template/spec/containers/0/resources", {"limits": {"amd.com/gpu": "7"}, "requests": {"amd.com/gpu": "7"}}),
    "replicas": ("/spec/replicas", 5),
    "strategy": ("/spec/progressDeadlineSeconds", 5),
}  # fmt: skip


@pytest.mark.parametrize("field", HAND_EDITS)
def test_a_child_edited_by_hand_is_repaired(tenant: Tenant, field: str) -> None:
    served(tenant)
    before = tenant.find("Deployment", "app")["spec"]
    where, value = HAND_EDITS[field]
    op = "add" if where.endswith("/-") else "replace"
    edited = tenant.change(
        "Deployment",
        "app",
        [{"op": op, "path": where, "value": value}],
        content_type="application/json-patch+json",
    )
    assert edited["spec"] != before
    tenant.wait_for(
        "the Deployment to be as rendered", lambda: tenant.find("Deployment", "app")["spec"] == before
    )
    tenant.wait_ready()


def test_a_repair_is_told_by_one_event(tenant: Tenant) -> None:
    served(tenant)
    before = tenant.find("Deployment", "app")["spec"]
    where, image = HAND_EDITS["image"]
    patch = [{"op": "replace", "path": where, "value": image}]
    tenant.change("Deployment", "app", patch, content_type="application/json-patch+json")
    tenant.wait_for("the repair", lambda: tenant.find("Deployment", "app")["spec"] == before)
    told = tenant.wait_for(
        "an event about the repair", lambda: [e for e in tenant.events() if e["reason"] == "DriftRepaired"]
    )
    assert len(told) == 1
    assert "Deployment app" in told[0]["note"]


def test_a_service_edited_by_hand_is_repaired(tenant: Tenant) -> None:
    served(tenant)
    before = tenant.find("Service", "app-service")["spec"]
    tenant.change("Service", "app-service", {"spec": {"selector": {"app": "other"}}})
    tenant.wait_for("the Service to be as rendered", lambda: before["ports"] == tenant.find("Service", "app-service")["spec"]["ports"]
                    and tenant.find("Service", "app-service")["spec"]["selector"].items() >= before["selector"].items())  # fmt: skip
    tenant.change(
        "Service", "app-service", {"spec": {"ports": [{"name": "http", "port": 1234, "targetPort": 1}]}}
    )
    tenant.wait_for(
        "the port to be as rendered",
        lambda: tenant.find("Service", "app-service")["spec"]["ports"] == before["ports"],
    )


def test_a_key_added_to_the_selector_of_the_service_is_removed(tenant: Tenant) -> None:
    served(tenant)
    before = tenant.find("Service", "app-service")["spec"]["selector"]
    tenant.change("Service", "app-service", {"spec": {"selector": {"app": "other"}}})
    tenant.wait_for(
        "the selector to be as rendered, for with that key no pod is served",
        lambda: tenant.find("Service", "app-service")["spec"]["selector"] == before,
    )


def test_a_label_that_others_add_is_left_alone(tenant: Tenant) -> None:
    served(tenant)
    mark = tenant.plane.audit.mark()
    tenant.change(
        "Deployment", "app", {"metadata": {"labels": {"team": "blue"}, "annotations": {"example.com/x": "1"}}}
    )
    tenant.change("Service", "app-service", {"metadata": {"annotations": {"example.com/x": "1"}}})
    tenant.update(overrides={"env": {"NCCL_DEBUG": "INFO"}})
    tenant.wait_ready()
    metadata = tenant.find("Deployment", "app")["metadata"]
    assert metadata["labels"]["team"] == "blue"
    assert metadata["annotations"]["example.com/x"] == "1"
    assert tenant.find("Service", "app-service")["metadata"]["annotations"]["example.com/x"] == "1"
    refused = [
        w.code for w in operator_writes(tenant.plane, mark, namespace=tenant.namespace) if w.code >= 400
    ]
    assert set(refused) <= {http.client.CONFLICT}, "only races with controllers, which are run again"


def test_a_revision_deleted_by_hand_is_restored(tenant: Tenant) -> None:
    served(tenant)
    (revision,) = tenant.all("ControllerRevision", owner="app")
    name = revision["metadata"]["name"]
    tenant.delete("ControllerRevision", name)
    tenant.wait_for("the revision to come back", lambda: tenant.exists("ControllerRevision", name))
    again = tenant.find("ControllerRevision", name)
    assert again["data"] == revision["data"]
    assert again["metadata"]["ownerReferences"] == revision["metadata"]["ownerReferences"]
    assert is_true(tenant.get(), "Ready")


def foreign(kind: str, name: str) -> Any:
    """Somebody's own object of a name that we would need."""
    labels = {"app": "mine"}
    if kind == "Service":
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": labels}}
    pod = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "mine", "image": "example.com/mine:1"}]},
    }
    return {
        "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    }


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "app"), ("Service", "app-service")])
def test_an_object_that_is_not_ours_is_left_alone_and_told(tenant: Tenant, kind: str, name: str) -> None:
    tenant.corner()
    theirs = tenant.create(kind, foreign(kind, name))
    tenant.wait_for("the stranger to settle", lambda: tenant.find(kind, name).get("status") is not None)
    settled = tenant.find(kind, name)
    mark = tenant.plane.audit.mark()
    tenant.deploy()
    told = message(tenant.wait_reason("PrerequisitesMet", "NameConflict"), "PrerequisitesMet")
    assert f"{kind} {name}" in told
    assert reason(tenant.get(), "Ready") == "NameConflict"
    now = tenant.find(kind, name)
    assert now["spec"] == settled["spec"]
    assert now["metadata"].get("ownerReferences") is None
    assert now["metadata"]["uid"] == theirs["metadata"]["uid"]
    touched = [
        w
        for w in operator_writes(tenant.plane, mark, namespace=tenant.namespace)
        if w.name == name
        and w.verb in ("patch", "update", "delete")
        and w.resource != "aimdeployments.aim.engine.amd.com"
    ]
    assert touched == []


def test_a_foreign_object_with_our_labels_is_still_not_ours(tenant: Tenant) -> None:
    tenant.corner()
    stranger = foreign("Deployment", "app")
    stranger["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "aim-engine",
        "aim.engine.amd.com/deployment": "app",
    }
    tenant.create("Deployment", stranger)
    tenant.deploy()
    tenant.wait_reason("PrerequisitesMet", "NameConflict")
    assert container(tenant.find("Deployment", "app"))["image"] == "example.com/mine:1"


def test_a_conflict_ends_when_the_stranger_is_removed_and_the_user_touches_the_object(tenant: Tenant) -> None:
    tenant.corner()
    tenant.create("Service", foreign("Service", "app-service"))
    tenant.deploy()
    tenant.wait_reason("PrerequisitesMet", "NameConflict")
    tenant.delete("Service", "app-service")
    tenant.update(service={"annotations": {"example.com/turn": "1"}})
    tenant.wait_ready()
    assert tenant.find("Service", "app-service")["metadata"]["ownerReferences"][0]["name"] == "app"


def test_a_custom_recipe_serves_its_own_namespace_only(tenant: Tenant) -> None:
    catalogue = tenant.corner(maturity="optimized")
    text = f"""
recipe_id: mine
huggingface_id: {tenant.model}
hardware: MI300X
gpu_count: 1
precision: fp16
backend: vllm
config:
  args:
    max-num-seqs: 13
"""
    body = {
        "metadata": {"name": "mine", "labels": {"aim.engine.amd.com/recipe": "true"}},
        "data": {"recipe.yaml": text},
    }
    tenant.create("ConfigMap", body)
    shown = f'aim_recipe_info{{namespace="{tenant.namespace}",aimrecipe="configmap/mine",'
    tenant.wait_for("the operator to see it", lambda: shown in tenant.operator.get("/metrics")[1])
    other = f"{tenant.namespace}-other"
    tenant.plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    neighbour = Tenant(tenant.plane, tenant.operator, other)
    tenant.deploy()
    ready = tenant.wait_ready()
    assert ready["status"]["recipe"]["name"] == "configmap/mine"
    assert candidates(ready)[catalogue]["reason"] == "Outranked"
    assert any("13" in argument for argument in container(tenant.find("Deployment", "app"))["args"])
    elsewhere = neighbour.body(model=tenant.model)
    elsewhere["spec"]["scheduling"]["nodeSelector"] = {"tests.aim/pool": tenant.namespace}
    tenant.plane.request(
        "POST", f"/apis/aim.engine.amd.com/v1alpha1/namespaces/{other}/aimdeployments", elsewhere
    )
    there = neighbour.wait_ready()
    assert there["status"]["recipe"]["name"] == catalogue
    assert set(candidates(there)) == {catalogue}
    neighbour.leave()
    tenant.plane.request("DELETE", f"/api/v1/namespaces/{other}")


def test_an_unlabelled_custom_recipe_serves_only_where_it_is_named(tenant: Tenant) -> None:
    catalogue = tenant.corner()
    text = f"recipe_id: mine\nhuggingface_id: {tenant.model}\nhardware: MI300X\ngpu_count: 2\nprecision: fp16\nbackend: vllm\n"
    tenant.create("ConfigMap", {"metadata": {"name": "mine"}, "data": {"recipe.yaml": text}})
    tenant.deploy("plain")
    assert tenant.wait_ready("plain")["status"]["recipe"]["name"] == catalogue
    assert set(candidates(tenant.get("plain"))) == {catalogue}
    tenant.deploy("named", recipe={"configMap": "mine"})
    named = tenant.wait_ready("named")
    assert named["status"]["recipe"]["name"] == "configmap/mine"
    assert named["status"]["recipe"]["gpuCount"] == 2


def test_a_named_custom_recipe_implies_its_model(tenant: Tenant) -> None:
    tenant.add_node()
    text = f"recipe_id: mine\nhuggingface_id: {tenant.model}\nhardware: MI300X\ngpu_count: 1\nprecision: fp16\nbackend: vllm\n"
    tenant.create("ConfigMap", {"metadata": {"name": "mine"}, "data": {"recipe.yaml": text}})
    body = tenant.body(recipe={"configMap": "mine"})
    del body["spec"]["model"]
    tenant.plane.request(
        "POST", f"/apis/aim.engine.amd.com/v1alpha1/namespaces/{tenant.namespace}/aimdeployments", body
    )
    assert tenant.wait_ready()["status"]["recipe"]["modelID"] == tenant.model

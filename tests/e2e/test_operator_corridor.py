"""The main road: one AIMDeployment becomes a served, explained model; it changes, rests and goes again."""

from __future__ import annotations

import http.client

import pytest

from e2e.support import (
    COLLECTION,
    Json,
    Tenant,
    candidates,
    container,
    http_get,
    is_current,
    is_true,
    message,
    operator_writes,
    reason,
)
from testbed.api import ApiStatusError
from testbed.engines import EngineFleet
from testbed.product import condition

ROLLOUT = 240.0


def test_a_deployment_becomes_ready_and_says_what_serves_it(tenant: Tenant) -> None:
    chosen = tenant.corner(gpus=2)
    tenant.deploy()
    ready = tenant.wait_ready()
    status = ready["status"]
    assert status["recipe"]["name"] == chosen
    assert status["recipe"]["gpus"] == "2xMI300X"
    assert status["recipe"]["tier"] == "Primary"
    assert status["url"] == f"http://app-service.{tenant.namespace}.svc:8000/v1"
    assert (status["ready"], status["replicas"], status["readyReplicas"]) == ("1/1", 1, 1)
    engine = container(tenant.find("Deployment", "app"))
    assert engine["resources"]["requests"]["amd.com/gpu"] == "2"
    assert engine["resources"]["limits"]["amd.com/gpu"] == "2"


def test_the_status_speaks_of_the_present_generation_on_both_levels(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    tenant.update(overrides={"env": {"NCCL_DEBUG": "INFO"}})
    ready = tenant.wait_ready(timeout=ROLLOUT)
    assert ready["metadata"]["generation"] == 2
    assert ready["status"]["observedGeneration"] == 2
    kinds = {c["type"]: c["observedGeneration"] for c in ready["status"]["conditions"]}
    assert kinds == {
        "Ready": 2,
        "RecipeSelected": 2,
        "PrerequisitesMet": 2,
        "Available": 2,
        "PerformanceOnTarget": 2,
    }


def test_every_child_is_owned_by_its_deployment(tenant: Tenant) -> None:
    tenant.corner()
    uid = tenant.deploy(replicas=2, cache={"sizeGiB": 10, "retain": False})["metadata"]["uid"]
    tenant.wait("its status to be written", is_current)
    children = [
        tenant.find("Deployment", "app"),
        tenant.find("Service", "app-service"),
        tenant.find("PersistentVolumeClaim", "app-cache"),
        tenant.find("PodDisruptionBudget", "app"),
        *tenant.all("ControllerRevision", owner="app"),
    ]
    assert len(children) == 5
    for child in children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("AIMDeployment", uid, True)


def test_a_ready_engine_answers_for_the_model_that_was_asked(tenant: Tenant, fleet: EngineFleet) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    url = tenant.wait_for(
        "the engine to listen", lambda: fleet.url(tenant.namespace, pod["metadata"]["name"])
    )
    status, models = http_get(f"{url}/v1/models")
    assert status == http.client.OK
    assert [entry["id"] for entry in models["data"]] == [tenant.model]


def test_the_service_leads_to_the_port_of_the_pods(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(service={"port": 9000})
    tenant.wait_ready()
    service = tenant.find("Service", "app-service")["spec"]
    (pod,) = tenant.pods()
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = service["ports"]
    names = [p["name"] for p in pod["spec"]["containers"][0]["ports"]]
    assert port["port"] == 9000
    assert port["targetPort"] in names
    assert tenant.get()["status"]["url"].endswith(":9000/v1")


def test_every_candidate_has_a_verdict(tenant: Tenant) -> None:
    chosen = tenant.corner(maturity="optimized")
    outranked = tenant.add_recipe("slow", gpus=1, maturity="general")
    absent = tenant.add_recipe("absent", gpu_model="MI308X", precision="fp16")
    wrong = tenant.add_recipe("wrong", engineArgs={"no-such-flag": 1})
    tenant.deploy()
    tenant.wait_ready()
    weighed = tenant.wait(
        "all recipes to be weighed", lambda app: app["status"]["selection"]["evaluated"] == 4
    )
    selection = weighed["status"]["selection"]
    verdicts = {entry["recipe"]: entry for entry in selection["candidates"]}
    assert selection["outcome"] == "Selected"
    assert selection["chosen"] == chosen
    assert {name: verdict["reason"] for name, verdict in verdicts.items()} == {
        chosen: "Chosen",
        outranked: "Outranked",
        absent: "GPUModelNotInCluster",
        wrong: "RecipeInvalid",
    }
    assert all(verdict["message"] for verdict in verdicts.values())
    assert "no-such-flag" in verdicts[wrong]["message"]
    assert verdicts[absent]["remedy"]


def test_events_tell_transitions_once(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    tenant.wait_for("the event of being ready", lambda: "Serving" in [e["reason"] for e in tenant.events()])
    told = tenant.events()
    assert [event["reason"] for event in told] == ["RecipeSelected", "Serving"]
    mark = tenant.plane.audit.mark()
    tenant.plane.request("PATCH", f"/apis/aim.engine.amd.com/v1alpha1/namespaces/{tenant.namespace}/aimdeployments/app",
                         {"metadata": {"labels": {"team": "blue"}}})  # fmt: skip
    tenant.update(service={"annotations": {"example.com/owner": "blue"}})
    tenant.wait_ready()
    assert [w for w in operator_writes(tenant.plane, mark, namespace=tenant.namespace, events=True)
            if w.resource.startswith("events")] == []  # fmt: skip


def test_a_missing_claim_is_told_and_no_pod_is_made(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(cache={"existingClaim": "weights"})
    told = message(tenant.wait_reason("PrerequisitesMet", "VolumeClaimNotFound"), "PrerequisitesMet")
    assert "spec.cache.existingClaim 'weights'" in told
    assert not tenant.exists("Deployment", "app")


def test_a_deployment_whose_claim_is_missing_holds_no_gpus(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.deploy("broken", cache={"existingClaim": "weights"})
    tenant.wait_reason("PrerequisitesMet", "VolumeClaimNotFound", "broken")
    tenant.deploy("second")
    tenant.wait_ready("second")


def test_suspending_frees_the_gpus_and_resuming_serves_again(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.deploy("first")
    tenant.wait_ready("first")
    tenant.deploy("second")
    tenant.wait_reason("RecipeSelected", "InsufficientCapacity", "second")
    tenant.update("first", suspend=True)
    tenant.wait_reason("Ready", "Suspended", "first")
    tenant.wait_ready("second")
    assert tenant.pods("first") == []
    assert tenant.exists("Service", "first-service")
    tenant.remove("second")
    tenant.update("first", suspend=False)
    tenant.wait_ready("first", timeout=COLLECTION)


def test_scaling_to_zero_and_back_keeps_the_decision(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    before = tenant.wait_ready()["status"]["recipe"]
    tenant.update(replicas=0)
    tenant.wait_reason("Ready", "ScaledToZero")
    tenant.wait_for("the pods to go", lambda: not tenant.pods())
    tenant.update(replicas=1)
    assert tenant.wait_ready()["status"]["recipe"] == before


def test_the_disruption_budget_comes_with_the_second_replica_and_goes_with_it(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    assert not tenant.exists("PodDisruptionBudget", "app")
    tenant.update(replicas=2)
    tenant.wait("two replicas to answer", lambda obj: obj["status"]["ready"] == "2/2")
    tenant.wait_for("the budget", lambda: tenant.exists("PodDisruptionBudget", "app"))
    tenant.update(replicas=1)
    tenant.wait_ready()
    tenant.wait_for("the budget to go", lambda: not tenant.exists("PodDisruptionBudget", "app"))
    tenant.wait_for("one pod to be left", lambda: len(tenant.pods()) == 1)
    assert len(tenant.all("ControllerRevision", owner="app")) == 1
    assert len(tenant.all("ReplicaSet", owner="app")) == 1


def test_changed_overrides_make_a_new_revision_and_replace_the_pods(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    first = tenant.wait_ready()["status"]["recipe"]["revision"]
    (old,) = tenant.pods()
    tenant.update(overrides={"engineArgs": {"max-num-seqs": 77}})
    ready = tenant.wait(
        "to be Ready with a new revision",
        lambda obj: is_true(obj, "Ready") and obj["status"]["recipe"]["revision"] != first,
        timeout=ROLLOUT,
    )
    new = tenant.wait_for("the old pod to go", lambda: only_pod(tenant, old))
    arguments = new["spec"]["containers"][0]["args"]
    assert any("77" in argument for argument in arguments)
    names = {revision["metadata"]["name"] for revision in tenant.all("ControllerRevision", owner="app")}
    assert names == {first, ready["status"]["recipe"]["revision"]}


def only_pod(tenant: Tenant, old: Json) -> Json | None:
    """The pod, once there is one and it is not the old one: the status is ahead of the controllers of Kubernetes."""
    pods = tenant.pods()
    return pods[0] if len(pods) == 1 and pods[0]["metadata"]["uid"] != old["metadata"]["uid"] else None


def test_a_change_surges_where_gpus_are_free_and_says_so(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    tenant.update(overrides={"env": {"NCCL_DEBUG": "INFO"}})
    ready = tenant.wait_ready(timeout=ROLLOUT)
    assert ready["status"]["rollout"]["strategy"] == "Surge"
    assert "free" in ready["status"]["rollout"]["reason"]
    assert tenant.find("Deployment", "app")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }


def test_a_change_replaces_in_place_where_no_gpus_are_free_and_says_so(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.deploy()
    tenant.wait_ready()
    (old,) = tenant.pods()
    tenant.update(overrides={"env": {"NCCL_DEBUG": "INFO"}})
    ready = tenant.wait_ready(timeout=ROLLOUT)
    assert ready["status"]["rollout"]["strategy"] == "Recreate"
    assert "no node has 8 free" in ready["status"]["rollout"]["reason"]
    pod = tenant.wait_for("another pod in its place", lambda: only_pod(tenant, old))
    names = [entry["name"] for entry in pod["spec"]["containers"][0]["env"]]
    assert "NCCL_DEBUG" in names


def test_a_change_of_the_service_touches_no_pod(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    template = tenant.find("Deployment", "app")["spec"]["template"]
    (old,) = tenant.pods()
    tenant.update(service={"annotations": {"example.com/team": "blue"}})
    tenant.wait_for(
        "the annotation on the Service",
        lambda: "example.com/team" in tenant.find("Service", "app-service")["metadata"]["annotations"],
    )
    tenant.wait_ready()
    assert tenant.find("Deployment", "app")["spec"]["template"] == template
    assert [pod["metadata"]["uid"] for pod in tenant.pods()] == [old["metadata"]["uid"]]
    tenant.update(service={"annotations": {"example.com/team": None}})
    tenant.wait_for(
        "the annotation to go from the Service",
        lambda: "example.com/team" not in tenant.find("Service", "app-service")["metadata"]["annotations"],
    )


def test_a_node_selector_that_is_dropped_leaves_the_pods(tenant: Tenant) -> None:
    tenant.add_node(labels={"tests.aim/rack": "a"})
    tenant.add_recipe()
    tenant.deploy(scheduling={"nodeSelector": {"tests.aim/pool": tenant.namespace, "tests.aim/rack": "a"}})
    tenant.wait_ready()
    tenant.update(scheduling={"nodeSelector": {"tests.aim/rack": None}})
    tenant.wait_for(
        "the selector of the template to follow",
        lambda: (
            tenant.find("Deployment", "app")["spec"]["template"]["spec"]["nodeSelector"]
            == {"tests.aim/pool": tenant.namespace}
        ),
    )
    tenant.wait_ready(timeout=ROLLOUT)


def test_only_three_revisions_are_kept(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    seen = {tenant.get()["status"]["recipe"]["revision"]}
    for number in range(4):
        tenant.update(service={"annotations": {"example.com/turn": str(number)}})
        ready = tenant.wait(
            "a new revision",
            lambda obj: is_true(obj, "Ready") and obj["status"]["recipe"]["revision"] not in seen,
        )
        seen.add(ready["status"]["recipe"]["revision"])
    assert len(seen) == 5
    kept = tenant.wait_for(
        "two of five to go",
        lambda: kept if len(kept := tenant.all("ControllerRevision", owner="app")) <= 3 else None,
    )
    assert len(kept) == 3
    assert tenant.get()["status"]["recipe"]["revision"] in {r["metadata"]["name"] for r in kept}


def test_a_changed_wish_is_decided_anew(tenant: Tenant) -> None:
    bf16 = tenant.corner(maturity="optimized")
    fp16 = tenant.add_recipe("fp16", precision="fp16")
    tenant.deploy()
    assert tenant.wait_ready()["status"]["recipe"]["name"] == bf16
    tenant.update(recipe={"precision": "fp16"})
    ready = tenant.wait(
        "to be Ready with fp16",
        lambda obj: is_true(obj, "Ready") and obj["status"]["recipe"]["precision"] == "fp16",
        timeout=ROLLOUT,
    )
    assert ready["status"]["recipe"]["name"] == fp16
    assert candidates(ready)[bf16]["reason"] == "PrecisionMismatch"


def test_what_runs_goes_on_while_a_changed_wish_cannot_be_met(tenant: Tenant) -> None:
    chosen = tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    tenant.update(recipe={"precision": "fp8"})
    told = tenant.wait(
        "RecipeSelected to be False", lambda obj: condition(obj, "RecipeSelected")["status"] == "False"
    )
    assert reason(told, "RecipeSelected") in ("NoEligibleRecipe", "RecipeNotFound")
    assert told["status"]["recipe"]["name"] == chosen
    assert [p["metadata"]["uid"] for p in tenant.pods()] == [pod["metadata"]["uid"]]


def test_a_secret_is_named_to_the_pod_and_never_read(tenant: Tenant) -> None:
    tenant.corner()
    mark = tenant.plane.audit.mark()
    tenant.deploy(model=None, service={"apiKeySecret": {"name": "key", "key": "value"}})
    tenant.wait_ready()
    (entry,) = [e for e in container(tenant.find("Deployment", "app"))["env"] if e["name"] == "VLLM_API_KEY"]
    assert entry["valueFrom"]["secretKeyRef"] == {"name": "key", "key": "value", "optional": False}
    secrets = [
        r for r in tenant.plane.audit.records(mark) if r.resource == "secrets" and "aim-engine" in r.user
    ]
    assert secrets == []


def test_rendered_pods_carry_no_service_account_token(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    assert pod["spec"]["automountServiceAccountToken"] is False
    mounts = [mount["mountPath"] for c in pod["spec"]["containers"] for mount in c["volumeMounts"]]
    assert not any("serviceaccount" in mount for mount in mounts)


def test_an_image_from_elsewhere_is_refused(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(overrides={"image": "evil.example.com/engine:1"})
    told = message(tenant.wait_reason("RecipeSelected", "InvalidSpec"), "RecipeSelected")
    assert "spec.overrides.image 'evil.example.com/engine:1'" in told
    assert not tenant.exists("Deployment", "app")
    tenant.update(overrides={"image": None})
    tenant.wait_ready()


def test_an_owned_flag_cannot_be_overridden(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(overrides={"engineArgs": {"port": 9999}})
    told = message(tenant.wait_reason("RecipeSelected", "InvalidSpec"), "RecipeSelected")
    assert "port" in told
    assert "9999" in told
    assert not tenant.exists("Deployment", "app")


def test_deleting_a_deployment_removes_all_its_children(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(replicas=2)
    tenant.wait_ready()
    tenant.remove()
    kinds = ("Deployment", "ReplicaSet", "Service", "ControllerRevision", "PodDisruptionBudget", "Pod")
    for kind in kinds:
        tenant.wait_none(kind, "app", timeout=COLLECTION)


@pytest.mark.parametrize("retain", [True, False])
def test_the_cache_claim_stays_only_where_it_is_retained(tenant: Tenant, retain: bool) -> None:
    tenant.corner()
    tenant.deploy(cache={"sizeGiB": 10, "retain": retain})
    tenant.wait_for("the claim", lambda: tenant.exists("PersistentVolumeClaim", "app-cache"))
    tenant.wait("its status to be written", is_current)
    tenant.remove()
    tenant.wait_for(
        "the Deployment to go", lambda: not tenant.exists("Deployment", "app"), timeout=COLLECTION
    )
    if retain:
        tenant.wait_for("the Service to go", lambda: not tenant.exists("Service", "app-service"))
        claim = tenant.find("PersistentVolumeClaim", "app-cache")
        assert "deletionTimestamp" not in claim["metadata"]
        assert claim["metadata"].get("ownerReferences") is None
    else:
        tenant.wait_for(
            "the claim to go",
            lambda: not tenant.exists("PersistentVolumeClaim", "app-cache"),
            timeout=COLLECTION,
        )


@pytest.mark.parametrize("retain", [True, False])
def test_whether_the_claim_is_retained_may_change_while_it_is_in_use(tenant: Tenant, retain: bool) -> None:
    tenant.corner()
    tenant.deploy(cache={"sizeGiB": 10, "retain": not retain})
    tenant.wait("its status to be written", is_current)
    before = tenant.find("PersistentVolumeClaim", "app-cache")["metadata"]["uid"]
    tenant.update(cache={"sizeGiB": 10, "retain": retain})
    tenant.wait_for(
        "the claim to have an owner only where it is not retained",
        lambda: (
            bool(tenant.find("PersistentVolumeClaim", "app-cache")["metadata"].get("ownerReferences"))
            is not retain
        ),
    )
    now = tenant.wait("the change to be looked at", is_current)
    assert is_true(now, "PrerequisitesMet")
    assert tenant.find("PersistentVolumeClaim", "app-cache")["metadata"]["uid"] == before


def test_a_retained_claim_is_used_again_by_the_next_deployment_of_that_name(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(cache={"sizeGiB": 10})
    tenant.wait("its status to be written", is_current)
    before = tenant.find("PersistentVolumeClaim", "app-cache")["metadata"]["uid"]
    tenant.remove()
    tenant.wait_for(
        "the Deployment to go", lambda: not tenant.exists("Deployment", "app"), timeout=COLLECTION
    )
    tenant.deploy(cache={"sizeGiB": 10})
    tenant.wait(
        "the leftovers of the first to be gone and its own to be there",
        lambda obj: is_true(obj, "PrerequisitesMet"),
    )
    assert tenant.find("PersistentVolumeClaim", "app-cache")["metadata"]["uid"] == before


def test_a_deployment_may_be_deleted_and_made_again_at_once(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    first = tenant.deploy()
    tenant.wait_ready()
    tenant.remove()
    second = tenant.deploy()
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    tenant.wait_ready(timeout=COLLECTION)
    owner = tenant.find("Deployment", "app")["metadata"]["ownerReferences"][0]["uid"]
    assert owner == second["metadata"]["uid"]
    with pytest.raises(ApiStatusError):
        tenant.deploy()


def test_deleting_a_deployment_that_changed_its_recipe_harms_nobody(tenant: Tenant) -> None:
    first = tenant.corner(gpus=4)
    second = tenant.add_recipe("s", gpus=2)
    tenant.deploy(recipe={"name": first})
    tenant.wait_ready()
    tenant.update(recipe={"name": second})
    tenant.wait(
        "the second recipe", lambda obj: obj.get("status", {}).get("recipe", {}).get("name") == second
    )
    tenant.remove()
    tenant.wait_for(
        "nobody to use the first",
        lambda: tenant.recipe(first).get("status", {}).get("usedBy") == 0,
        timeout=COLLECTION,
    )
    tenant.wait_for(
        "nobody to use the second",
        lambda: tenant.recipe(second).get("status", {}).get("usedBy") == 0,
        timeout=COLLECTION,
    )
    tenant.deploy("next", recipe={"name": first})
    tenant.wait_ready("next", timeout=COLLECTION)

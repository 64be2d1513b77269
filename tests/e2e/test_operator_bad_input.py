"""Bad input ends in a condition or a log line that names the field, the value and the remedy, and hurts nobody else."""

from __future__ import annotations

import time
from typing import Any

import pytest

from e2e.support import COLLECTION, Json, Tenant, candidates, message, operator_writes, reason
from testbed.product import GROUP, condition

QWEN = "Qwen/Qwen3-32B"
LLAMA = "meta-llama/Llama-3.1-405B-Instruct"
LLAMA_FP8 = "amd/Llama-3.1-405B-Instruct-FP8-KV"


def refused(tenant: Tenant, name: str = "app", *, saying: str = "") -> Json:
    """The AIMDeployment as soon as it is told that it has no recipe, in such words; nothing is rendered for it."""
    told = tenant.wait(
        f"RecipeSelected to be False, {saying}",
        lambda obj: (
            condition(obj, "RecipeSelected").get("status") == "False"
            and saying in message(obj, "RecipeSelected")
        ),
        name,
    )
    assert not tenant.exists("Deployment", name)
    assert condition(told, "Ready")["status"] == "False"
    return told


def test_a_model_without_recipe_is_told_with_what_to_add(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(model="example/nobody-knows")
    told = refused(tenant)
    assert reason(told, "RecipeSelected") == "RecipeNotFound"
    assert "example/nobody-knows" in message(told, "RecipeSelected")
    assert "AIMRecipe" in message(told, "RecipeSelected")
    assert told["status"]["selection"]["outcome"] == "NoRecipe"


def test_a_missing_pinned_recipe_is_told_by_name_and_awaited(tenant: Tenant) -> None:
    tenant.corner()
    name = f"{tenant.namespace}-later"
    tenant.deploy(recipe={"name": name})
    told = refused(tenant)
    assert reason(told, "RecipeSelected") == "RecipeNotFound"
    assert name in message(told, "RecipeSelected")
    tenant.add_recipe("later", gpus=2)
    assert tenant.wait_ready()["status"]["recipe"]["name"] == name


def test_a_pinned_recipe_of_another_model_is_not_taken(tenant: Tenant) -> None:
    name = tenant.corner()
    tenant.deploy(model="example/another", recipe={"name": name})
    told = refused(tenant)
    assert name in message(told, "RecipeSelected")


def test_a_gpu_model_that_the_cluster_lacks_is_told(tenant: Tenant) -> None:
    tenant.add_node()
    absent = tenant.add_recipe("absent", gpu_model="MI308X")
    tenant.deploy(recipe={"gpuModel": "MI308X"})
    told = refused(tenant)
    assert reason(told, "RecipeSelected") == "NoEligibleRecipe"
    verdict = candidates(told)[absent]
    assert verdict["reason"] == "GPUModelNotInCluster"
    assert "MI308X" in verdict["message"]
    assert "add a MI308X node" in verdict["remedy"]


def test_a_model_too_big_for_every_gpu_is_told_with_numbers(tenant: Tenant) -> None:
    tenant.add_node()
    small = tenant.add_recipe("small", model=LLAMA, source=LLAMA_FP8, gpus=1, precision="fp8")
    tenant.deploy(model=LLAMA, recipe={"name": small})
    told = refused(tenant)
    assert reason(told, "RecipeSelected") == "NoEligibleRecipe"
    verdict = candidates(told)[small]
    assert verdict["reason"] == "MemoryInsufficient"
    assert "GiB" in verdict["message"]
    assert verdict["remedy"]
    assert "GiB" in message(told, "RecipeSelected")


def test_a_context_longer_than_the_model_allows_is_told(tenant: Tenant) -> None:
    tenant.add_node()
    tenant.deploy(model=QWEN, workload={"maxInputTokens": 5_000_000, "maxOutputTokens": 1000})
    told = refused(tenant)
    assert {verdict["reason"] for verdict in candidates(told).values()} & {
        "ContextTooLong",
        "MemoryInsufficient",
    }
    assert "5001000" in str(candidates(told)).replace(",", "").replace("_", "").replace(" ", "")


BAD_RECIPES: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "an unknown flag": ({"engineArgs": {"max-num-seq": 256}}, ("engineArgs.max-num-seq", "256", "max-num-seqs"), "RecipeInvalid"),
    "an owned flag": ({"engineArgs": {"port": 9999}}, ("port", "9999"), "RecipeInvalid"),
    "a value of the wrong kind": ({"engineArgs": {"max-num-seqs": "many"}}, ("max-num-seqs", "many"), "RecipeInvalid"),
    "an impossible TP": ({"gpus": 3, "model": QWEN}, ("64", "3"), "ParallelismInvalid"),
    "a contradictory TP": ({"gpus": 2, "engineArgs": {"tensor-parallel-size": 4}}, ("tensor-parallel-size", "4"), "ParallelismInvalid"),
    "a precision its GPU lacks": ({"gpu_model": "MI210", "precision": "fp8"}, ("fp8", "MI210", "bf16"), "PrecisionUnsupported"),
    "a GPU nobody knows": ({"gpu_model": "MI9000"}, ("hardware.gpuModel", "MI9000", "MI300X"), "RecipeInvalid"),
    "too little memory": ({"gpus": 1, "model": LLAMA, "source": LLAMA_FP8, "precision": "fp8"}, ("GiB",), "MemoryInsufficient"),
    "weights in another precision": ({"model": LLAMA, "precision": "fp8"}, ("precision", "bf16", LLAMA_FP8), "RecipeInvalid"),
    "weights of another model": ({"model": QWEN, "source": LLAMA_FP8, "precision": "fp8"}, ("source", LLAMA, QWEN), "RecipeInvalid"),
    "more GPUs than a node has": ({"gpus": 16}, ("16", "8 MI300X"), "ParallelismInvalid"),
    "an FP8 KV cache on CDNA2": ({"gpu_model": "MI210", "engineArgs": {"kv-cache-dtype": "fp8"}}, ("MI210", "fp8", "remove kv-cache-dtype"), "PrecisionUnsupported"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_RECIPES)
def test_a_bad_recipe_is_told_on_itself_and_to_those_who_name_it(tenant: Tenant, what: str) -> None:
    spec, parts, verdict = BAD_RECIPES[what]
    tenant.add_node()
    tenant.add_node("mi210-4")
    bad = tenant.add_recipe("bad", **spec)
    found = tenant.wait_for("the recipe to be judged", lambda: condition(tenant.recipe(bad), "Valid"))
    assert (found["status"], found["reason"]) == ("False", "Invalid")
    for part in parts:
        assert part in found["message"], found["message"]
    tenant.deploy(model=spec.get("model"), recipe={"name": bad})
    told = candidates(refused(tenant))[bad]
    assert told["reason"] in (verdict, "RecipeInvalid")
    assert told["message"]
    assert told["remedy"]


def test_a_bad_recipe_beside_a_good_one_stops_nobody(tenant: Tenant) -> None:
    good = tenant.corner()
    bad = tenant.add_recipe("bad", maturity="optimized", engineArgs={"no-such-flag": True})
    tenant.deploy()
    ready = tenant.wait_ready()
    assert ready["status"]["recipe"]["name"] == good
    assert candidates(ready)[bad]["reason"] == "RecipeInvalid"


def test_a_recipe_that_is_mended_serves(tenant: Tenant) -> None:
    tenant.add_node()
    bad = tenant.add_recipe("bad", engineArgs={"no-such-flag": True})
    tenant.deploy()
    refused(tenant)
    tenant.change_recipe(bad, engineArgs={"no-such-flag": None})
    tenant.wait_ready()
    tenant.wait_for(
        "Valid to become True", lambda: condition(tenant.recipe(bad), "Valid").get("status") == "True"
    )


def _events_of_config_map(tenant: Tenant, name: str) -> list[dict[str, Any]]:
    about = {"kind": "ConfigMap", "name": name}
    return [event for event in tenant.all("Event") if about.items() <= event["regarding"].items()]


NOT_YAML = "recipe_id: mine\nhuggingface_id: [unclosed\nhardware: MI300X\n"


@pytest.mark.parametrize("labelled", [True, False])
def test_a_custom_recipe_that_is_not_yaml_is_told_with_its_line_to_those_who_name_it(
    tenant: Tenant, labelled: bool
) -> None:
    tenant.corner()
    labels = {"aim.engine.amd.com/recipe": "true"} if labelled else {}
    tenant.create(
        "ConfigMap", {"metadata": {"name": "mine", "labels": labels}, "data": {"recipe.yaml": NOT_YAML}}
    )
    tenant.deploy("named", recipe={"configMap": "mine"})
    tenant.deploy("other")
    # What is labelled comes by a watch, and the first look may be before it.
    told = message(refused(tenant, "named", saying=" line "), "RecipeSelected")
    assert "mine" in told
    assert "line 3" in told or "line 2" in told
    tenant.wait_ready("other")
    if labelled:
        (event,) = tenant.wait_for("an Event on the ConfigMap", lambda: _events_of_config_map(tenant, "mine"))
        assert event["reason"] == "RecipeInvalid"
        assert "line" in event["note"]
    text = f"recipe_id: mine\nhuggingface_id: {tenant.model}\nhardware: MI300X\ngpu_count: 1\nprecision: fp16\nbackend: vllm\n"
    tenant.change("ConfigMap", "mine", {"data": {"recipe.yaml": text}})
    if labelled:
        assert tenant.wait_ready("named")["status"]["recipe"]["name"] == "configmap/mine"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "recipe_id: mine\nhuggingface_id: example/x\nhardware: MI300X\ngpu_count: lots\nprecision: fp16\n",
            ("gpu_count", "lots"),
        ),
        (
            "recipe_id: mine\nhuggingface_id: example/x\nhardware: MI300X\ngpu_count: 1\nprecision: fp99\n",
            ("precision", "fp99"),
        ),
        ("- just\n- a list\n", ("line 1", "not a YAML mapping")),
        ("", ("not a YAML mapping",)),
        ("a: &a [x]\nb: [*a, *a]\n", ("alias",)),
    ],
)
def test_a_custom_recipe_with_a_bad_field_is_told_by_field_and_value(
    tenant: Tenant, text: str, parts: tuple[str, ...]
) -> None:
    tenant.add_node()
    tenant.create("ConfigMap", {"metadata": {"name": "mine"}, "data": {"recipe.yaml": text}})
    tenant.deploy(recipe={"configMap": "mine"})
    told = message(refused(tenant), "RecipeSelected")
    assert all(part in told for part in ("mine", *parts)), told


def test_a_config_map_without_the_key_is_told(tenant: Tenant) -> None:
    tenant.add_node()
    tenant.create("ConfigMap", {"metadata": {"name": "mine"}, "data": {"other.yaml": "x: 1"}})
    tenant.deploy(recipe={"configMap": "mine"})
    assert "data.recipe.yaml" in message(refused(tenant), "RecipeSelected")


GPU_LABELS = (
    "device-id",
    "product-name",
    "vram",
    "family",
    "cu-count",
    "simd-count",
    "driver-version",
    "compute-memory-partition",
)


def without_gpu_labels(**more: str) -> dict[str, str | None]:
    """Changes that remove every label the AMD labeller writes for an MI300X."""
    values = ("74a1", "AMD_Instinct_MI300X_OAM", "192G", "AI", "304", "1216", "6.16.6", "spx_nps1")
    gone: dict[str, str | None] = {}
    for kind, value in zip(GPU_LABELS, values, strict=True):
        gone |= {
            f"amd.com/gpu.{kind}": None,
            f"beta.amd.com/gpu.{kind}": None,
            f"beta.amd.com/gpu.{kind}.{value}": None,
        }
    return {**gone, **more}


def test_nodes_without_labels_are_not_offered_and_a_good_one_still_is(tenant: Tenant) -> None:
    tenant.add_node(labels=without_gpu_labels())
    tenant.add_recipe()
    tenant.deploy()
    told = refused(tenant)
    assert "check the node labels amd.com/gpu.device-id" in message(told, "RecipeSelected")
    tenant.add_node()
    tenant.wait_ready()


def test_a_device_id_nobody_knows_is_told_with_its_value(tenant: Tenant) -> None:
    tenant.add_node(labels=without_gpu_labels(**{"amd.com/gpu.device-id": "ffff"}))
    tenant.add_recipe()
    tenant.deploy()
    refused(tenant)
    line = tenant.wait_for(
        "a log line about it",
        lambda: [x for x in tenant.operator.log(200).splitlines() if tenant.nodes[0] in x and "ffff" in x],
    )
    assert "device id" in line[0]
    assert "; " in line[0], "the remedy is missing"


def test_a_node_with_no_gpus_to_give_is_told(tenant: Tenant) -> None:
    tenant.add_node(allocatable={"amd.com/gpu": "0"})
    recipe = tenant.add_recipe()
    tenant.deploy()
    verdict = candidates(refused(tenant))[recipe]
    assert verdict["reason"] in ("CapacityInsufficient", "GPUModelNotInCluster", "NodeNotUsable")
    tenant.plane.request(
        "PATCH", f"/api/v1/nodes/{tenant.nodes[0]}/status", {"status": {"allocatable": {"amd.com/gpu": "8"}}}
    )
    tenant.wait_ready()


def test_unhealthy_gpus_are_not_given_away(tenant: Tenant) -> None:
    tenant.add_node(allocatable={"amd.com/gpu": "7"})
    tenant.add_recipe(gpus=8)
    tenant.deploy()
    assert "has 1 unhealthy GPUs of 8" in message(refused(tenant), "RecipeSelected")


def stranger(name: str, node: str, **spec: Any) -> Json:
    """A pod on a node."""
    image = {"name": "main", "image": "example/job:1"}
    containers = [image | {"resources": spec.pop("resources", {})}]
    return {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": containers, **spec}}


def run(tenant: Tenant, pod: Json) -> None:
    name = pod["metadata"]["name"]
    tenant.create("Pod", pod)
    tenant.wait_for(
        f"pod {name} to run", lambda: tenant.find("Pod", name)["status"].get("phase") == "Running"
    )


def test_odd_quantities_of_pods_are_counted_exactly(tenant: Tenant) -> None:
    """Of 192 cores 1e2, 500m and 4.15e1 leave 50; a replica that wants 50 fits, one that wants 51 does not."""
    tenant.add_node()
    for number, cpu in enumerate(("1e2", "500m", "4.15e1")):
        run(
            tenant,
            stranger(
                f"odd-{number}",
                tenant.nodes[0],
                resources={"requests": {"cpu": cpu, "memory": "1e3"}, "limits": {"amd.com/gpu": "1"}},
            ),
        )
    recipe = tenant.add_recipe(resources={"cpu": "51", "memory": "16Gi"})
    tenant.deploy()
    verdict = candidates(refused(tenant))[recipe]
    assert verdict["reason"] == "NodeResourcesInsufficient"
    tenant.update(overrides={"resources": {"cpu": "50"}})
    tenant.wait_ready()


def test_gpus_of_init_containers_and_overhead_are_counted(tenant: Tenant) -> None:
    tenant.add_node()
    handler = f"{tenant.namespace}-heavy"
    classes = "/apis/node.k8s.io/v1/runtimeclasses"
    tenant.plane.request(
        "POST",
        classes,
        {"metadata": {"name": handler}, "handler": "x", "overhead": {"podFixed": {"cpu": "190"}}},
    )
    init = {"name": "prepare", "image": "example/job:1", "resources": {"limits": {"amd.com/gpu": "8"}}}
    run(tenant, stranger("init", tenant.nodes[0], initContainers=[init]))
    recipe = tenant.add_recipe(resources={"cpu": "8", "memory": "16Gi"})
    tenant.deploy()
    assert candidates(refused(tenant))[recipe]["reason"] == "CapacityInsufficient"
    run(tenant, stranger("heavy", tenant.nodes[0], runtimeClassName=handler))
    tenant.delete("Pod", "init")
    told = tenant.wait(
        "the overhead to be told",
        lambda obj: candidates(obj)[recipe]["reason"] == "NodeResourcesInsufficient",
    )
    assert "CPU" in candidates(told)[recipe]["message"]
    tenant.delete("Pod", "heavy")
    tenant.wait_ready()
    tenant.plane.request("DELETE", f"{classes}/{handler}")


def test_a_namespace_that_is_deleted_takes_its_deployments_with_it_and_nobody_fights(tenant: Tenant) -> None:
    tenant.corner()
    doomed = f"{tenant.namespace}-doomed"
    tenant.plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": doomed}})
    there = Tenant(tenant.plane, tenant.operator, doomed)
    tenant.deploy()
    tenant.wait_ready()
    for number in range(3):
        body = there.body(f"d{number}", model=tenant.model)
        body["spec"]["scheduling"]["nodeSelector"] = {"tests.aim/pool": tenant.namespace}
        tenant.plane.request("POST", f"{GROUP}/namespaces/{doomed}/aimdeployments", body)
    for number in range(3):
        there.wait_ready(f"d{number}")
    mark = tenant.plane.audit.mark()
    tenant.plane.request("DELETE", f"/api/v1/namespaces/{doomed}")
    tenant.wait_for(
        "the namespace to go",
        lambda: (
            doomed
            not in [n["metadata"]["name"] for n in tenant.plane.request("GET", "/api/v1/namespaces")["items"]]
        ),
        timeout=COLLECTION,
    )
    writes = operator_writes(tenant.plane, mark, namespace=doomed)
    assert len([w for w in writes if w.verb == "create"]) <= 6, writes
    tenant.deploy("late")
    tenant.wait_ready("late")


def test_a_deployment_in_a_namespace_that_is_being_deleted_is_told(tenant: Tenant) -> None:
    """A finalizer keeps a ConfigMap, and with it the namespace, in the state of being deleted."""
    tenant.add_node()
    held = f"{tenant.namespace}-held"
    tenant.plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": held}})
    there = Tenant(tenant.plane, tenant.operator, held)
    there.create("ConfigMap", {"metadata": {"name": "hold", "finalizers": ["tests.aim/hold"]}})
    mark = tenant.plane.audit.mark()
    tenant.plane.request("DELETE", f"/api/v1/namespaces/{held}")
    body = there.body(model=tenant.model)
    with pytest.raises(Exception, match="being terminated"):
        tenant.plane.request("POST", f"{GROUP}/namespaces/{held}/aimdeployments", body)
    time.sleep(1)
    assert operator_writes(tenant.plane, mark, namespace=held, events=True) == []
    there.change("ConfigMap", "hold", {"metadata": {"finalizers": None}})


def test_a_stored_object_that_an_older_schema_let_in_is_told(tenant: Tenant) -> None:
    """What the schema refuses cannot be stored; a free-form value that the engine cannot take can."""
    tenant.corner()
    tenant.deploy(overrides={"engineArgs": {"max-num-seqs": {"nested": [1, 2]}}})
    told = message(refused(tenant), "RecipeSelected")
    assert "max-num-seqs" in told
    assert "nested" in told

"""GPUs are promised once, waiting ends by the event that ends it, and a fallback says what it falls back from."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from e2e.support import COLLECTION, Tenant, candidates, container, is_current, is_true, message, reason
from testbed.product import USER, condition

QUIET_SECONDS = 5.0
WAKING = 240.0
"""Seconds; less than any period after which the operator of these tests looks by itself (an hour), so that an event has
woken it."""


def wait_waiting(tenant: Tenant, name: str = "app") -> None:
    tenant.wait_reason("RecipeSelected", "InsufficientCapacity", name)


def test_replicas_beyond_the_free_gpus_are_granted_in_part_and_told(tenant: Tenant) -> None:
    tenant.corner(gpus=4)
    tenant.deploy(replicas=3)
    partly = tenant.wait("two replicas to answer", lambda obj: obj.get("status", {}).get("ready") == "2/3")
    assert tenant.find("Deployment", "app")["spec"]["replicas"] == 2
    assert len(tenant.pods()) == 2
    told = message(partly, "Available")
    assert "2 of 3 replicas answer" in told
    assert "4 free MI300X GPUs on one node" in told
    tenant.add_node()
    tenant.wait("three replicas to answer", lambda obj: obj["status"]["ready"] == "3/3", timeout=WAKING)


def test_scaling_beyond_the_free_gpus_keeps_what_runs(tenant: Tenant) -> None:
    tenant.corner(gpus=4)
    tenant.deploy()
    tenant.wait_ready()
    (first,) = tenant.pods()
    tenant.update(replicas=5)
    tenant.wait("two replicas to answer", lambda obj: obj["status"]["ready"] == "2/5")
    assert first["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in tenant.pods()}
    assert len(tenant.pods()) == 2


def test_waiting_tells_what_is_missing_and_makes_no_pods(tenant: Tenant) -> None:
    recipe = tenant.corner(gpus=8)
    tenant.occupy(1)
    tenant.deploy()
    waiting = tenant.wait_reason("RecipeSelected", "InsufficientCapacity")
    assert waiting["status"]["selection"]["outcome"] == "Waiting"
    assert reason(waiting, "Ready") == "InsufficientCapacity"
    verdict = candidates(waiting)[recipe]
    assert verdict["reason"] == "CapacityInsufficient"
    assert verdict["needed"] == "8 free MI300X GPUs on one node"
    assert verdict["has"].startswith("at most 7 on one node")
    assert "free 1 GPU" in verdict["remedy"]
    assert tenant.pods() == []
    assert not tenant.exists("Deployment", "app")


def test_free_gpus_on_two_nodes_are_not_one_nodes_gpus(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.add_node()
    tenant.occupy(4, "left", node=0)
    tenant.occupy(4, "right", node=1)
    tenant.deploy()
    wait_waiting(tenant)
    told = message(tenant.get(), "RecipeSelected")
    assert "at most 4 on one node" in told
    assert "8 in all" in told


def test_waiting_asks_the_api_server_nothing(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.occupy(1)
    tenant.deploy()
    wait_waiting(tenant)
    tenant.wait_for("the event to be posted", tenant.events)
    mark = tenant.plane.audit.mark()
    time.sleep(QUIET_SECONDS)
    asked = [
        r for r in tenant.plane.audit.records(mark) if r.user == USER and r.namespace == tenant.namespace
    ]
    assert asked == []


def test_a_waiting_deployment_starts_when_gpus_are_freed(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.occupy(1)
    tenant.deploy()
    wait_waiting(tenant)
    tenant.delete("Pod", "stranger")
    tenant.wait_ready(timeout=WAKING)


def test_a_waiting_deployment_starts_when_a_pod_ends_by_itself(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.occupy(1)
    tenant.deploy()
    wait_waiting(tenant)
    tenant.plane.set_pod_status(tenant.namespace, "stranger", {"phase": "Succeeded"})
    tenant.wait_for(
        "the pods to be made", lambda: tenant.exists("Deployment", "app") and tenant.pods(), timeout=WAKING
    )


def test_a_waiting_deployment_starts_when_another_one_is_deleted(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.deploy("first")
    tenant.wait_ready("first")
    tenant.deploy("second")
    wait_waiting(tenant, "second")
    tenant.remove("first")
    tenant.wait_ready("second", timeout=COLLECTION)


def test_a_waiting_deployment_starts_when_a_node_is_added(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.occupy(1)
    tenant.deploy()
    wait_waiting(tenant)
    tenant.add_node()
    tenant.wait_ready(timeout=WAKING)


def test_a_waiting_deployment_starts_when_its_node_is_uncordoned(tenant: Tenant) -> None:
    node = tenant.add_node(unschedulable=True)
    recipe = tenant.add_recipe()
    tenant.deploy()
    told = tenant.wait(
        "RecipeSelected to be False", lambda obj: condition(obj, "RecipeSelected").get("status") == "False"
    )
    assert candidates(told)[recipe]["reason"] == "NodeNotUsable"
    assert "cordon" in candidates(told)[recipe]["message"]
    tenant.plane.request("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})
    tenant.wait_ready(timeout=WAKING)


def test_a_waiting_deployment_starts_when_a_taint_is_removed(tenant: Tenant) -> None:
    node = tenant.add_node(
        taints=[{"key": "example.com/maintenance", "value": "yes", "effect": "NoSchedule"}]
    )
    recipe = tenant.add_recipe()
    tenant.deploy()
    told = tenant.wait(
        "RecipeSelected to be False", lambda obj: condition(obj, "RecipeSelected").get("status") == "False"
    )
    assert candidates(told)[recipe]["reason"] == "NodeNotUsable"
    assert "example.com/maintenance" in candidates(told)[recipe]["message"]
    tenant.plane.request("PATCH", f"/api/v1/nodes/{node}", {"spec": {"taints": None}})
    tenant.wait_ready(timeout=WAKING)


def test_a_deployment_without_recipe_starts_when_one_is_added(tenant: Tenant) -> None:
    tenant.add_node()
    tenant.deploy()
    told = message(tenant.wait_reason("RecipeSelected", "RecipeNotFound"), "RecipeSelected")
    assert tenant.model in told
    tenant.add_recipe()
    tenant.wait_ready(timeout=WAKING)


def test_a_deployment_starts_when_its_custom_recipe_is_added(tenant: Tenant) -> None:
    tenant.add_node()
    tenant.deploy()
    tenant.wait_reason("RecipeSelected", "RecipeNotFound")
    text = f"recipe_id: mine\nhuggingface_id: {tenant.model}\nhardware: MI300X\ngpu_count: 1\nprecision: fp16\nbackend: vllm\n"
    labels = {"aim.engine.amd.com/recipe": "true"}
    tenant.create(
        "ConfigMap", {"metadata": {"name": "mine", "labels": labels}, "data": {"recipe.yaml": text}}
    )
    tenant.wait_ready(timeout=WAKING)


def test_missing_cpus_are_told_apart_from_missing_gpus(tenant: Tenant) -> None:
    tenant.add_node(allocatable={"cpu": "4"})
    recipe = tenant.add_recipe(resources={"cpu": "8", "memory": "16Gi"})
    tenant.deploy()
    told = tenant.wait(
        "RecipeSelected to be False", lambda obj: condition(obj, "RecipeSelected").get("status") == "False"
    )
    verdict = candidates(told)[recipe]
    assert verdict["reason"] in ("NodeResourcesInsufficient", "CapacityInsufficient")
    assert "CPU" in verdict["message"]
    assert tenant.pods() == []
    tenant.update(overrides={"resources": {"cpu": "2"}})
    tenant.wait_ready(timeout=WAKING)


def racing(tenant: Tenant, count: int) -> None:
    """Create deployments d0, d1, ... at the same time."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda i: tenant.deploy(f"d{i}"), range(count)))


def outcomes(tenant: Tenant, count: int) -> Counter[str]:
    """How many deployments are Selected, Waiting, or not decided yet."""
    found = [tenant.get(f"d{i}") for i in range(count)]
    return Counter(obj.get("status", {}).get("selection", {}).get("outcome", "") for obj in found)


def test_of_two_deployments_that_race_for_the_last_gpus_exactly_one_gets_them(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    racing(tenant, 2)
    tenant.wait_for(
        "one to be served and one to wait", lambda: outcomes(tenant, 2) == {"Selected": 1, "Waiting": 1}
    )
    served, waiting = sorted(
        ("d0", "d1"), key=lambda name: tenant.get(name)["status"]["selection"]["outcome"]
    )
    tenant.wait_ready(served)
    assert not tenant.exists("Deployment", waiting)
    assert reason(tenant.get(waiting), "RecipeSelected") == "InsufficientCapacity"


def test_of_ten_deployments_at_once_as_many_are_served_as_there_are_gpus(tenant: Tenant) -> None:
    tenant.corner(gpus=1)
    racing(tenant, 10)
    tenant.wait_for("eight to be served", lambda: outcomes(tenant, 10) == {"Selected": 8, "Waiting": 2})
    ready = tenant.wait_for(
        "eight to be Ready",
        lambda: (
            [i for i in range(10) if is_true(tenant.get(f"d{i}"), "Ready")]
            if sum(is_true(tenant.get(f"d{i}"), "Ready") for i in range(10)) == 8
            else None
        ),
    )
    pods = tenant.all("Pod")
    assert len(pods) == 8
    assert all(pod["spec"].get("nodeName") for pod in pods)
    tenant.remove(f"d{ready[0]}")
    tenant.wait_for(
        "one of the waiting to take its place",
        lambda: sum(is_true(tenant.get(f"d{i}"), "Ready") for i in range(10) if i != ready[0]) == 8,
        timeout=COLLECTION,
    )
    assert len(tenant.all("Deployment")) == 8


def test_those_who_wait_are_served_in_order(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.occupy(1)
    for name in ("first", "second", "third"):
        tenant.deploy(name)
        wait_waiting(tenant, name)
    tenant.delete("Pod", "stranger")
    tenant.wait_ready("first", timeout=WAKING)
    assert reason(tenant.get("second"), "RecipeSelected") == "InsufficientCapacity"
    assert reason(tenant.get("third"), "RecipeSelected") == "InsufficientCapacity"


def fallback_corner(tenant: Tenant) -> tuple[str, str]:
    """A node of which one GPU is taken, a best recipe that needs all eight and a lesser one that needs four."""
    best = tenant.corner(gpus=8, maturity="optimized")
    lesser = tenant.add_recipe("lesser", gpus=8, maturity="general", precision="fp16", gpu_model="MI325X")
    tenant.add_node("mi325x-8")
    tenant.occupy(1)
    return best, lesser


def test_another_recipe_serves_while_the_best_ones_gpus_are_taken(tenant: Tenant) -> None:
    best, lesser = fallback_corner(tenant)
    tenant.deploy()
    ready = tenant.wait_ready()
    assert ready["status"]["recipe"]["name"] == lesser
    assert ready["status"]["recipe"]["tier"] == "Secondary"
    assert reason(ready, "RecipeSelected") == "FallbackUsed"
    assert best in message(ready, "RecipeSelected")
    assert candidates(ready)[best]["reason"] == "CapacityInsufficient"


def test_the_better_recipe_is_recommended_when_its_gpus_become_free_and_not_taken(tenant: Tenant) -> None:
    best, lesser = fallback_corner(tenant)
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    tenant.delete("Pod", "stranger")
    told = tenant.wait(
        "the recommendation",
        lambda obj: obj["status"].get("recommendation", {}).get("recipe") == best,
        timeout=WAKING,
    )
    assert told["status"]["recipe"]["name"] == lesser
    assert "updatePolicy: Automatic" in told["status"]["recommendation"]["message"]
    assert [p["metadata"]["uid"] for p in tenant.pods()] == [pod["metadata"]["uid"]]


def test_the_automatic_policy_takes_the_better_recipe_when_its_gpus_become_free(tenant: Tenant) -> None:
    best, lesser = fallback_corner(tenant)
    tenant.deploy(recipe={"updatePolicy": "Automatic"})
    assert tenant.wait_ready()["status"]["recipe"]["name"] == lesser
    tenant.delete("Pod", "stranger")
    moved = tenant.wait(
        "to be Ready with the better recipe",
        lambda obj: (
            obj["status"]["recipe"]["name"] == best
            and is_true(obj, "Ready")
            and obj["status"]["ready"] == "1/1"
        ),
    )
    assert moved["status"]["recipe"]["tier"] == "Primary"
    tenant.wait_for("the old pod to go", lambda: len(tenant.pods()) == 1)
    assert container(tenant.find("Deployment", "app"))["resources"]["limits"]["amd.com/gpu"] == "8"
    assert "recommendation" not in tenant.get()["status"]


def test_a_better_recipe_that_is_added_is_recommended(tenant: Tenant) -> None:
    chosen = tenant.corner(maturity="general")
    tenant.deploy()
    tenant.wait_ready()
    better = tenant.add_recipe("better", maturity="optimized", engineArgs={"max-num-seqs": 99})
    told = tenant.wait(
        "the recommendation",
        lambda obj: obj["status"].get("recommendation", {}).get("recipe") == better,
        timeout=WAKING,
    )
    assert told["status"]["recipe"]["name"] == chosen
    tenant.plane.request("DELETE", f"/apis/aim.engine.amd.com/v1alpha1/aimrecipes/{better}")
    tenant.wait("the recommendation to go", lambda obj: "recommendation" not in obj["status"], timeout=WAKING)


def test_without_fallback_the_best_recipe_is_waited_for(tenant: Tenant) -> None:
    best, _ = fallback_corner(tenant)
    tenant.deploy(recipe={"fallback": {"enabled": False}})
    waiting = tenant.wait_reason("RecipeSelected", "InsufficientCapacity")
    assert best in message(waiting, "RecipeSelected")
    tenant.delete("Pod", "stranger")
    assert tenant.wait_ready(timeout=WAKING)["status"]["recipe"]["name"] == best


def test_a_named_recipe_is_the_only_one(tenant: Tenant) -> None:
    _, lesser = fallback_corner(tenant)
    tenant.deploy(recipe={"name": lesser})
    ready = tenant.wait_ready()
    assert ready["status"]["recipe"]["name"] == lesser
    assert set(candidates(ready)) == {lesser}


def test_pending_pods_are_made_where_asked_for_a_cluster_autoscaler_to_see(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    tenant.occupy(1)
    tenant.deploy(recipe={"whenNoCapacity": "CreatePending"})
    told = message(tenant.wait_reason("Available", "PodsUnschedulable"), "Available")
    assert "amd.com/gpu" in told
    (pod,) = tenant.pods()
    assert pod["status"]["phase"] == "Pending"
    tenant.add_node()
    tenant.wait_ready()


def test_gpus_of_a_pod_that_is_being_deleted_are_not_given_away_yet(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    limits = {"amd.com/gpu": "8"}
    spec = {
        "nodeName": tenant.nodes[0],
        "containers": [{"name": "main", "image": "example/job:1", "resources": {"limits": limits}}],
    }
    annotations = {"testbed.aim/terminate-after": "3s"}
    tenant.create("Pod", {"metadata": {"name": "slow", "annotations": annotations}, "spec": spec})
    tenant.wait_for("the pod to run", lambda: tenant.find("Pod", "slow")["status"].get("phase") == "Running")
    tenant.deploy()
    wait_waiting(tenant)
    tenant.plane.request("DELETE", f"/api/v1/namespaces/{tenant.namespace}/pods/slow")
    tenant.update(overrides={"env": {"NCCL_DEBUG": "INFO"}})
    judged = tenant.wait("the change to be judged", is_current)
    if tenant.exists("Pod", "slow"):
        assert reason(judged, "RecipeSelected") == "InsufficientCapacity"
    tenant.wait_ready()


def test_a_partitioned_node_serves_only_recipes_for_its_mode(tenant: Tenant) -> None:
    tenant.add_node("mi300x-cpx-nps4")
    whole = tenant.add_recipe("whole", gpus=1)
    hardware = {"gpuModel": "MI300X", "gpuCount": 1, "partition": "cpx_nps4"}
    part = tenant.add_recipe("cpx", hardware=hardware, precision="fp16")
    tenant.deploy()
    ready = tenant.wait_ready()
    assert ready["status"]["recipe"]["name"] == part
    assert candidates(ready)[whole]["reason"] in (
        "PartitionMismatch",
        "NodeNotUsable",
        "CapacityInsufficient",
    )


def test_a_deployment_that_runs_keeps_its_gpus_when_its_node_is_cordoned(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    tenant.plane.request("PATCH", f"/api/v1/nodes/{tenant.nodes[0]}", {"spec": {"unschedulable": True}})
    tenant.seen()
    tenant.deploy("late")
    tenant.wait(
        "RecipeSelected to be False",
        lambda obj: condition(obj, "RecipeSelected").get("status") == "False",
        "late",
    )
    assert is_true(tenant.get(), "Ready")
    assert [p["metadata"]["uid"] for p in tenant.pods()] == [pod["metadata"]["uid"]]


def test_recipe_statuses_tell_nodes_room_and_users(tenant: Tenant) -> None:
    recipe = tenant.corner(gpus=4, gpu_model="MI250X")
    tenant.plane.request("DELETE", f"/api/v1/nodes/{tenant.nodes.pop()}")
    tenant.add_node("mi250x-8")

    def status() -> dict[str, int]:
        found = tenant.recipe(recipe).get("status", {})
        return {key: found.get(key) for key in ("matchingNodes", "fits", "usedBy")}

    tenant.wait_for(
        f"the empty node to show: {status()}",
        lambda: status() == {"matchingNodes": 1, "fits": 2, "usedBy": 0},
    )
    tenant.deploy()
    tenant.wait_ready()
    tenant.wait_for("the user to show", lambda: status() == {"matchingNodes": 1, "fits": 1, "usedBy": 1})
    tenant.remove()
    tenant.wait_for(
        "the user to go", lambda: status() == {"matchingNodes": 1, "fits": 2, "usedBy": 0}, timeout=COLLECTION
    )
    tenant.plane.request("PATCH", f"/api/v1/nodes/{tenant.nodes[0]}", {"spec": {"unschedulable": True}})
    tenant.wait_for(
        "the node to count no more", lambda: status() == {"matchingNodes": 0, "fits": 0, "usedBy": 0}
    )
    found = condition(tenant.recipe(recipe), "HardwareAvailable")
    assert (found["status"], found["reason"]) == ("False", "NoMatchingNodes")
    assert "cordon" in found["message"]

"""Several deployments want the same GPUs: who goes first, and that nobody waits for ever."""

from __future__ import annotations

from e2e.support import COLLECTION, Tenant, is_true, message
from testbed.product import condition

KEEPING = 240.0
"""Seconds; the operator of these tests keeps a node after ten, looked through every five."""


def waits(tenant: Tenant, name: str) -> None:
    tenant.wait_reason("RecipeSelected", "InsufficientCapacity", name)


def ready(tenant: Tenant, name: str) -> bool:
    return is_true(tenant.get(name), "Ready")


def test_a_big_one_is_not_starved_by_small_ones(tenant: Tenant) -> None:
    tenant.corner(gpus=8)
    small = tenant.add_recipe("small", gpus=1, model=f"{tenant.model}-small")
    tenant.occupy(1, "stranger-1")
    tenant.occupy(6, "stranger-2")
    tenant.deploy("big")
    waits(tenant, "big")
    tenant.deploy("overtakes", model=f"{tenant.model}-small")
    tenant.wait_ready("overtakes")
    tenant.delete("Pod", "stranger-2")

    tried: list[str] = []

    def refused() -> bool:
        """A newcomer is told that what is free is kept. One that came too early stops, and another tries.

        One that came before the operator had seen the stranger go waits for a moment, and is served or told then."""
        name = f"late-{len(tried)}"
        tried.append(name)
        tenant.deploy(name, model=f"{tenant.model}-small")
        obj = tenant.wait(
            "to be served, or told of the kept node",
            lambda obj: is_true(obj, "RecipeSelected") or "are kept for" in message(obj, "RecipeSelected"), name,
        )  # fmt: skip
        if condition(obj, "RecipeSelected")["status"] == "False":
            return True
        tenant.update(name, replicas=0)
        tenant.wait_none("Pod", name)
        tenant.remove(name)
        return False

    tenant.wait_for("the node to be kept for the big one", refused, timeout=KEEPING)
    late = tried[-1]
    told = message(tenant.get(late), "RecipeSelected")
    assert f"on {tenant.nodes[0]} are kept for {tenant.namespace}/big, which waits longer" in told
    assert "wait until" in told
    assert small in told
    tenant.delete("Pod", "stranger-1")
    tenant.update("overtakes", replicas=0)
    tenant.wait_ready("big", timeout=KEEPING)
    assert not ready(tenant, late)
    tenant.update("big", replicas=0)
    tenant.wait_ready(late, timeout=KEEPING)


def test_of_those_that_wait_the_higher_priority_goes_first_then_the_older(tenant: Tenant) -> None:
    urgent = f"{tenant.namespace}-urgent"
    where = "/apis/scheduling.k8s.io/v1/priorityclasses"
    tenant.plane.request("POST", where, {"metadata": {"name": urgent}, "value": 1000})
    try:
        tenant.corner(gpus=8)
        tenant.occupy(8)
        pool = {"nodeSelector": {"tests.aim/pool": tenant.namespace}}
        for name, scheduling in (
            ("b-older", pool),
            ("a-younger", pool),
            ("c-urgent", {**pool, "priorityClassName": urgent}),
        ):
            tenant.deploy(name, scheduling=scheduling)
            waits(tenant, name)
            if name == "b-older":
                tenant.wait_for("the next second", lambda: _seconds_differ(tenant, "b-older"))
        tenant.delete("Pod", "stranger")
        for first, others in (
            ("c-urgent", ("b-older", "a-younger")),
            ("b-older", ("a-younger",)),
            ("a-younger", ()),
        ):
            tenant.wait_ready(first, timeout=COLLECTION)
            assert not any(ready(tenant, name) for name in others)
            tenant.remove(first)
    finally:
        tenant.plane.request("DELETE", f"{where}/{urgent}")


def _seconds_differ(tenant: Tenant, name: str) -> bool:
    """Creation times are whole seconds; equal ones would be ordered by name."""
    made = tenant.plane.request(
        "POST", f"/api/v1/namespaces/{tenant.namespace}/configmaps", {"metadata": {"generateName": "clock-"}}
    )
    return bool(made["metadata"]["creationTimestamp"] > tenant.get(name)["metadata"]["creationTimestamp"])


def test_a_recommendation_goes_when_its_gpus_are_taken_again(tenant: Tenant) -> None:
    tenant.corner(gpus=8, maturity="optimized")
    best = tenant.recipes[0]
    tenant.add_recipe("lesser", gpus=4)
    tenant.occupy(4)
    tenant.deploy()
    tenant.wait_ready()
    tenant.delete("Pod", "stranger")
    told = tenant.wait(
        "the recommendation", lambda obj: obj["status"].get("recommendation", {}).get("recipe") == best
    )["status"]["recommendation"]
    assert "the best recipe for the wishes instead of a" in told["gain"]
    assert "a restart of 1 replica" in told["cost"]
    tenant.occupy(4, "again")
    tenant.wait(
        "the recommendation to go", lambda obj: "recommendation" not in obj["status"], timeout=KEEPING
    )


def test_another_kind_of_gpu_is_recommended_when_it_comes(tenant: Tenant) -> None:
    tenant.corner()
    newer = tenant.add_recipe("newer", gpu_model="MI355X", maturity="optimized")
    tenant.deploy()
    tenant.wait_ready()
    tenant.add_node("mi355x-8")
    tenant.wait(
        "the recommendation", lambda obj: obj["status"].get("recommendation", {}).get("recipe") == newer
    )

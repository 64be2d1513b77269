"""Whole passes of the operator over several deployments, with an API server that stores what it is given."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import Key
from unit.cli_world import Json, deployment, node, pod, recipe
from unit.operator_world import OperatorPlanner

BIG = recipe("big", gpus=8)


class Server:
    """Stores what is made, and keeps the statuses."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.statuses: dict[Key, Json] = {}
        self.refused: dict[str, ApiError] = {}
        """By kind: what a creation is answered with."""

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        if resource.kind in self.refused:
            raise self.refused[resource.kind]
        name = body["metadata"]["name"]
        metadata = {**body["metadata"], "uid": f"{resource.kind}-{name}", "resourceVersion": "1"}
        self.objects[resource.kind, namespace, name] = {**body, "metadata": metadata}
        return self.objects[resource.kind, namespace, name]

    async def apply(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        before = self.objects[resource.kind, namespace, name]["metadata"]
        version = str(int(before["resourceVersion"]) + 1)
        metadata = {**body["metadata"], "uid": before["uid"], "resourceVersion": version}
        self.objects[resource.kind, namespace, name] = {**body, "metadata": metadata}
        return self.objects[resource.kind, namespace, name]

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        try:
            return self.objects[resource.kind, namespace, name]
        except KeyError:
            raise ApiError(404, "NotFound", f"{name} not found") from None

    async def merge_status(self, _resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        status = {**self.statuses.get((namespace, name), {}), **patch}
        self.statuses[namespace, name] = status
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1}
        return {"metadata": metadata, "status": status}


class Passes:
    """An operator whose passes are made one after the other."""

    def __init__(self, *objects: tuple[str, Json]) -> None:
        self.operator = OperatorPlanner(objects)
        self.runtime = self.operator.runtime
        self.server = Server()
        reconciler = self.runtime.reconciler
        reconciler.client = reconciler.applier.client = cast(KubeClient, self.server)

    async def settle(self) -> None:
        """Make all passes that are asked for now."""
        queue = self.runtime.queue
        for _ in range(100):
            await asyncio.sleep(0)
            if not len(queue):
                return
            key = await queue.get()
            with self.runtime.metrics.reconciling("AIMDeployment") as told:
                await self.runtime._pass(key, told)
            queue.done(key)
        raise AssertionError("passes without end")

    def made(self, kind: str = "Deployment") -> list[str]:
        return sorted(name for found, _, name in self.server.objects if found == kind)

    def recipe(self, name: str) -> str:
        """What is in force."""
        current = self.operator.planner.current(("team-a", name))
        return current.recipe if current else "none"

    def replicas(self, name: str) -> int:
        """How many run."""
        return cast(int, self.server.objects["Deployment", "team-a", name]["spec"]["replicas"])

    def gone(self, made: tuple[str, Json]) -> None:
        self.runtime.intake.remove_pod(made[1])


def older(name: str, **spec: Any) -> tuple[str, Json]:
    """A deployment that goes before the others."""
    kind, obj = deployment(name, **spec)
    return kind, {**obj, "metadata": {**obj["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}}


def in_zone(name: str, zone: str) -> tuple[str, Json]:
    kind, obj = node(name, gpus=8)
    return kind, {
        **obj,
        "metadata": {**obj["metadata"], "labels": {**obj["metadata"]["labels"], "zone": zone}},
    }


async def test_who_is_woken_in_vain_does_not_keep_the_younger_from_free_gpus() -> None:
    """The older one waits for a node of another zone; the younger would take any."""
    strangers = pod("stranger-a", "node-a", 8), pod("stranger-b", "node-b", 8)
    passes = Passes(
        BIG, in_zone("node-a", "a"), in_zone("node-b", "b"), *strangers,
        older("picky", scheduling={"nodeSelector": {"zone": "a"}}), deployment("any"),
    )  # fmt: skip
    await passes.settle()
    assert passes.made() == []
    passes.gone(strangers[1])
    await passes.settle()
    assert passes.made() == ["any"]


async def test_who_only_hopes_and_is_not_moved_leaves_the_gpus_to_those_who_would_take_them() -> None:
    """Both run a fallback since the best GPUs are taken. The older one is pinned, the younger follows by itself."""
    small, stranger = recipe("small", gpus=1), pod("stranger", "gpu-1", 8)
    best = recipe("best", gpus=8, maturity="optimized")
    follows = deployment("follows", recipe={"updatePolicy": "Automatic"})
    passes = Passes(
        best, small, node("gpu-1", gpus=8), node("gpu-2", gpus=2), stranger, older("pinned"), follows,
    )  # fmt: skip
    await passes.settle()
    assert passes.recipe("follows") == passes.recipe("pinned") == "small"
    passes.gone(stranger)
    await passes.settle()
    assert passes.recipe("pinned") == "small"
    assert passes.recipe("follows") == "best"


async def test_a_suspended_deployment_takes_no_turn_and_keeps_no_node() -> None:
    stranger = pod("stranger", "gpu-1", 8)
    passes = Passes(BIG, node("gpu-1", gpus=8), stranger, older("idle", suspend=True), deployment("chat"))
    await passes.settle()
    waiters = passes.runtime.waiters
    waiters.keep_nodes(passes.runtime.tracker.inventory(), now=float("inf"), patience=1)
    assert waiters.kept_for_others(("team-a", "idle")) == {"gpu-1": ("team-a", "chat")}
    passes.gone(stranger)
    await passes.settle()
    assert passes.replicas("chat") == 1


async def test_who_leaves_after_it_was_woken_leaves_its_turn_to_the_next() -> None:
    stranger = pod("stranger", "gpu-1", 8)
    passes = Passes(BIG, node("gpu-1", gpus=8), stranger, older("first"), deployment("next"))
    await passes.settle()
    passes.gone(stranger)
    passes.runtime.on_event(resources.DEPLOYMENTS_AIM, "DELETED", older("first")[1])
    await passes.settle()
    assert passes.made() == ["next"]


async def test_nobody_stands_in_the_line_in_a_namespace_that_is_being_deleted() -> None:
    stranger = pod("stranger", "gpu-1", 8)
    passes = Passes(BIG, node("gpu-1", gpus=8), stranger, deployment("chat"))
    await passes.settle()
    assert len(passes.runtime.waiters) == 1
    going: Json = {"metadata": {"name": "team-a", "deletionTimestamp": "2026-03-01T00:00:00Z"}}
    passes.runtime.on_event(resources.NAMESPACES, "MODIFIED", going)
    await passes.settle()
    assert len(passes.runtime.waiters) == 0

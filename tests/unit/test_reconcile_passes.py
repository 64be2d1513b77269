"""Whole passes of the operator over several deployments, with an API server that stores what it is given."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import Key
from unit.cli_world import Json, deployment, node, pod, recipe
from unit.operator_world import OperatorPlanner, running

BIG = recipe("big", gpus=8)


class Server:
    """Stores what is made, and keeps the statuses."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.statuses: dict[Key, Json] = {}
        self.refused: dict[str, ApiError] = {}
        """By kind: what a creation is answered with."""
        self.mutate: Callable[[Json], Json] = lambda obj: obj
        """What an admission webhook makes of each object."""

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        if resource.kind in self.refused:
            raise self.refused[resource.kind]
        name = body["metadata"]["name"]
        metadata = {**body["metadata"], "uid": f"{resource.kind}-{name}", "resourceVersion": "1"}
        self.objects[resource.kind, namespace, name] = self.mutate({**body, "metadata": metadata})
        return self.objects[resource.kind, namespace, name]

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        return await self.apply(
            resource, namespace, name, {**self.objects[resource.kind, namespace, name], **patch}
        )

    async def apply(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        before = self.objects[resource.kind, namespace, name]["metadata"]
        version = str(int(before["resourceVersion"]) + 1)
        metadata = {**body["metadata"], "uid": before["uid"], "resourceVersion": version}
        self.objects[resource.kind, namespace, name] = self.mutate({**body, "metadata": metadata})
        return self.objects[resource.kind, namespace, name]

    async def delete(self, resource: Resource, namespace: str, name: str, _uid: str) -> None:
        self.objects.pop((resource.kind, namespace, name), None)

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
        self.serve_from(Server())

    def serve_from(self, server: Server) -> None:
        """Ask this API server."""
        self.server = server
        reconciler = self.runtime.reconciler
        reconciler.client = reconciler.applier.client = cast(KubeClient, server)

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

    def reason(self, name: str, kind: str) -> str:
        """Why a condition is as it is."""
        conditions = self.server.statuses["team-a", name]["conditions"]
        return cast(str, next(each["reason"] for each in conditions if each["type"] == kind))

    def later(self, name: str) -> bool:
        """Whether another pass is asked for by the clock."""
        return ("team-a", name) in self.runtime.queue._timers

    def label(self, labels: Json) -> None:
        """Label the namespace."""
        self.runtime.on_event(
            resources.NAMESPACES, "MODIFIED", {"metadata": {"name": "team-a", "labels": labels}}
        )

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


def own_recipe(**changes: Any) -> Json:
    """A ConfigMap without our label, which no watch brings."""
    text = "modelID: Qwen/Qwen3-32B\nhardware: {gpuModel: MI300X, gpuCount: 1}\nprecision: bf16\n"
    data = {"recipe.yaml": text + "".join(f"{name}: {value}\n" for name, value in changes.items())}
    return {"metadata": {"name": "own", "namespace": "team-a", "uid": "cm"}, "data": data}


async def test_a_named_config_map_that_no_watch_brings_is_looked_at_again() -> None:
    """Also when it can be read: what is wrong with it may be mended, and who follows recipes follows its edits."""
    passes = Passes(
        node("gpu-1", gpus=8), deployment("chat", recipe={"configMap": "own", "updatePolicy": "Automatic"})
    )
    maps = passes.server.objects
    maps["ConfigMap", "team-a", "own"] = own_recipe(engineArgs={"no-such-flag": 1})
    await passes.settle()
    assert passes.reason("chat", "RecipeSelected") == "NoEligibleRecipe"
    for edited in ({"max-model-len": 8192}, {"max-model-len": 4096}):
        maps["ConfigMap", "team-a", "own"] = own_recipe(engineArgs=edited)
        assert passes.later("chat")
        passes.runtime.queue.add(("team-a", "chat"))
        await passes.settle()
        current = passes.operator.planner.current(("team-a", "chat"))
        assert current is not None
        assert current.recipe_spec["engineArgs"] == edited


async def test_a_config_map_that_could_not_be_read_and_is_gone_is_told_as_missing() -> None:
    passes = Passes(node("gpu-1", gpus=8), deployment("chat", recipe={"configMap": "own"}))
    maps = passes.server.objects
    maps["ConfigMap", "team-a", "own"] = {**own_recipe(), "data": {"recipe.yaml": "["}}
    await passes.settle()
    assert passes.reason("chat", "RecipeSelected") == "RecipeInvalid"
    del maps["ConfigMap", "team-a", "own"]
    passes.runtime.queue.add(("team-a", "chat"))
    await passes.settle()
    assert passes.reason("chat", "RecipeSelected") == "RecipeNotFound"


async def test_advice_is_taken_back_when_the_recipe_is_closed_to_the_namespace() -> None:
    best = recipe("best", maturity="optimized", allowedNamespaces={"matchLabels": {"tier": "gold"}})
    passes = Passes(recipe("plain"), node("gpu-1", gpus=8), deployment("chat"))
    passes.label({"tier": "gold"})
    await passes.settle()
    passes.operator.feed(*best)
    await passes.settle()
    assert passes.server.statuses["team-a", "chat"]["recommendation"]["recipe"] == "best"
    passes.label({})
    await passes.settle()
    assert passes.server.statuses["team-a", "chat"]["recommendation"] is None


async def test_advice_speaks_of_the_policy_that_is_asked_for_now() -> None:
    passes = Passes(
        *running(recipe("plain"), node("gpu-1", gpus=8), moved=time.time(), recipe={"updatePolicy": "Automatic"}),
        recipe("plain"), recipe("best", maturity="optimized"), node("gpu-1", gpus=8),
    )  # fmt: skip
    passes.operator.planner.waiters.nudge(("team-a", "chat"))
    await passes.settle()
    assert "it is followed at" in passes.server.statuses["team-a", "chat"]["recommendation"]["message"]
    kind, pinned = deployment("chat")
    passes.operator.feed(kind, {**pinned, "metadata": {**pinned["metadata"], "generation": 2}})
    await passes.settle()
    assert "take it with spec.recipe" in passes.server.statuses["team-a", "chat"]["recommendation"]["message"]


async def test_a_decision_whose_record_is_refused_holds_and_is_stored_later() -> None:
    """Its children are there already: the next pass must not decide anew."""
    passes = Passes(recipe("plain"), node("gpu-1", gpus=8), deployment("chat"))
    passes.server.refused["ControllerRevision"] = ApiError(500, "InternalError", "etcd is busy")
    await passes.settle()
    assert passes.made() == ["chat"]
    passes.operator.feed(*recipe("best", maturity="optimized"))
    await passes.settle()
    assert passes.recipe("chat") == "plain"
    assert passes.made("ControllerRevision") == []
    passes.server.refused.clear()
    passes.runtime.queue.add(("team-a", "chat"))
    await passes.settle()
    assert len(passes.made("ControllerRevision")) == 1
    assert passes.recipe("chat") == "plain"


async def test_advice_is_taken_back_when_too_few_replicas_of_it_have_room() -> None:
    """Two replicas run. There is room for two better ones, and then for one."""
    nodes = node("gpu-1", gpus=8), node("gpu-2", gpus=8)
    small, best = recipe("small", gpus=4), recipe("best", gpus=8, maturity="optimized")
    passes = Passes(*nodes, small, deployment("chat", replicas=2))
    await passes.settle()
    for name in ("chat-0", "chat-1"):
        passes.operator.feed(*pod(name, "gpu-1", 4, owner="chat"))
    passes.operator.feed(*best)
    await passes.settle()
    assert passes.server.statuses["team-a", "chat"]["recommendation"]["recipe"] == "best"
    passes.operator.feed(*pod("stranger", "gpu-2", 1))
    passes.runtime.reconciler.review()
    await passes.settle()
    assert passes.server.statuses["team-a", "chat"]["recommendation"] is None


@pytest.mark.parametrize(("by_webhook", "told"), [(False, ["DriftRepaired"]), (True, [])])
async def test_only_what_is_as_rendered_again_is_told_as_repaired(by_webhook: bool, told: list[str]) -> None:
    """A policy that takes images from a mirror changes each Deployment whatever we write."""
    passes = Passes(recipe("plain"), node("gpu-1", gpus=8), deployment("chat"))
    events: list[str] = []
    passes.runtime.recorder.record = (  # type: ignore[method-assign]
        lambda _about, _kind, reason, *_: events.append(reason)
    )

    def mirrored(obj: Json) -> Json:
        changed = copy.deepcopy(obj)
        if changed["kind"] == "Deployment":
            changed["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror.example.com/vllm"
        return changed

    if by_webhook:
        passes.server.mutate = mirrored
    await passes.settle()
    live = mirrored(passes.server.objects["Deployment", "team-a", "chat"])
    live["metadata"]["resourceVersion"] = "5"
    passes.server.objects["Deployment", "team-a", "chat"] = live
    passes.operator.feed("Deployment", live)
    passes.runtime.queue.add(("team-a", "chat"))
    await passes.settle()
    assert [each for each in events if each == "DriftRepaired"] == told

"""Events in the order in which they really come: late, twice, and while a list is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from aim_engine.kube.client import KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.intake import decode_pod
from unit.cli_world import Json, config_map, deployment, node, pod, recipe
from unit.operator_world import KEY, Objects, OperatorPlanner, running
from unit.selection_world import QWEN

Made = tuple[str, Json]
HERE: Objects = (node("gpu-1", gpus=8), recipe("big", gpus=1))


def owned(kind: str, name: str, owner: str, **more: Any) -> Json:
    """A child of a deployment."""
    reference = {"kind": "AIMDeployment", "name": owner, "uid": f"uid-{owner}", "controller": True}
    metadata = {
        "name": name,
        "namespace": "team-a",
        "uid": f"uid-{kind}-{name}",
        "ownerReferences": [reference],
    }
    return {
        "kind": kind,
        "metadata": {**metadata, "labels": {"aim.engine.amd.com/deployment": owner}},
        **more,
    }


def record_of(name: str, data: Json) -> Json:
    return owned("ControllerRevision", f"{name}-x", name, revision=1, data=data)


def live_of(name: str, replicas: int = 1) -> Json:
    return owned("Deployment", name, name, spec={"replicas": replicas})


def at(made: Made, version: int, uid: str | None = None) -> Json:
    """The object as stored at a resourceVersion."""
    kind, obj = made
    metadata = {**obj["metadata"], "resourceVersion": str(version), **({"uid": uid} if uid else {})}
    return {**obj, "kind": kind, "metadata": metadata}


class Lists:
    """An API server whose lists take their time: something happens before the answer arrives."""

    def __init__(self, items: list[Json], meanwhile: Callable[[], None]) -> None:
        self.items = items
        self.meanwhile = meanwhile

    async def pages(self, resource: Resource, **_: Any) -> AsyncIterator[tuple[list[Json], str]]:  # noqa: ARG002
        self.meanwhile()
        yield [{"metadata": each["metadata"]} for each in self.items], "10"


KINDS: dict[str, tuple[Resource, Made, Callable[[OperatorPlanner], bool]]] = {
    "an AIMDeployment": (
        resources.DEPLOYMENTS_AIM, deployment("chat"), lambda known: KEY in known.planner.cache.deployments,
    ),
    "a recipe": (resources.RECIPES, recipe("big"), lambda known: "big" in known.planner.cache.recipes),
    "a ConfigMap": (
        resources.CONFIG_MAPS, config_map("own", "x"),
        lambda known: ("team-a", "own") in known.planner.cache.config_errors,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_while_a_list_is_under_way_is_no_ghost(kind: str) -> None:
    resource, made, is_known = KINDS[kind]
    operator = OperatorPlanner(())
    runtime = operator.runtime
    runtime.client = cast(
        KubeClient, Lists([], lambda: runtime.on_event(resource, "ADDED", at(made, version=11)))
    )
    asyncio.run(runtime._list(resource, whole=False))
    assert is_known(operator)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_in_a_list_and_was_known_before_is_gone(kind: str) -> None:
    resource, made, is_known = KINDS[kind]
    operator = OperatorPlanner(())
    runtime = operator.runtime
    runtime.on_event(resource, "ADDED", at(made, version=9))
    runtime.client = cast(KubeClient, Lists([], lambda: None))
    asyncio.run(runtime._list(resource, whole=False))
    assert not is_known(operator)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_a_former_object_that_is_told_late_does_not_take_its_successor(kind: str) -> None:
    """kopf has a worker for each uid, so events of two objects of one name may come in the wrong order."""
    resource, made, is_known = KINDS[kind]
    operator = OperatorPlanner(())
    runtime = operator.runtime
    runtime.on_event(resource, "ADDED", at(made, version=5, uid="former"))
    runtime.on_event(resource, "ADDED", at(made, version=8, uid="present"))
    runtime.on_event(resource, "DELETED", at(made, version=7, uid="former"))
    assert is_known(operator)
    runtime.on_event(resource, "DELETED", at(made, version=9, uid="present"))
    assert not is_known(operator)


class Ending(Lists):
    """An API server on which an object ends right after the first list that shows it was made."""

    async def pages(self, resource: Resource, **_: Any) -> AsyncIterator[tuple[list[Json], str]]:
        if resource is not resources.DEPLOYMENTS_AIM:
            yield [], "10"
            return
        shown, self.items = self.items, []
        self.meanwhile()
        yield shown, "10"


def test_what_ends_while_the_first_lists_are_under_way_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is told before the list that still shows it arrives."""
    monkeypatch.setattr("aim_engine.reconcile.runtime._RELIST_DELAY", 0.0)
    made = at(deployment("chat"), version=9)
    operator = OperatorPlanner(())
    runtime = operator.runtime
    end = at(deployment("chat"), version=10)
    runtime.client = cast(
        KubeClient,
        Ending([made], lambda: runtime.on_event(resources.DEPLOYMENTS_AIM, "DELETED", end)),
    )

    async def start() -> None:
        await runtime._sync()
        resync = asyncio.create_task(runtime._resync_forever())
        for _ in range(60_000):
            if KEY not in runtime.cache.deployments:
                break
            await asyncio.sleep(0.001)
        resync.cancel()
        await asyncio.gather(resync, return_exceptions=True)

    asyncio.run(start())
    assert KEY not in runtime.cache.deployments


async def test_a_record_that_cannot_be_read_stops_nobody_else_at_a_start() -> None:
    odd = record_of("odd", data={"renderer": 1})
    operator = OperatorPlanner((*HERE, *running(*HERE), deployment("odd")))
    operator.feed("ControllerRevision", odd)
    operator.feed("Deployment", live_of("odd"))
    operator.runtime._restore_promises()
    assert operator.runtime.tracker.bound(KEY) == 1
    assert len(operator.runtime.queue) == 2


def test_a_record_that_cannot_be_read_is_told_once_and_forgotten_when_it_is_deleted() -> None:
    operator = OperatorPlanner((*HERE, deployment("odd")))
    odd = record_of("odd", data={"renderer": 1})
    operator.feed("ControllerRevision", odd)
    told: list[str] = []
    operator.runtime.recorder.record = (  # type: ignore[method-assign]
        lambda _about, _kind, reason, message, *_: told.append(f"{reason}: {message}")
    )

    async def twice() -> None:
        for _ in range(2):
            with pytest.raises(ValueError, match="lacks 'recipe'"):
                await operator.runtime.reconciler.reconcile(("team-a", "odd"))

    asyncio.run(twice())
    assert len(told) == 1
    assert "delete it to have the deployment decided anew" in told[0]
    operator.runtime.intake.remove(resources.REVISIONS, odd)
    assert operator.plan(("team-a", "odd")).is_new


@pytest.mark.parametrize("place", ["kube-system", None])
def test_a_record_renders_nothing_into_other_namespaces(place: str | None) -> None:
    """Whoever may make ControllerRevisions in a namespace has no rights in others."""
    objects = running(*HERE)
    forged = dict(next(obj for kind, obj in objects if kind == "ControllerRevision"))
    manifests = [dict(each) for each in forged["data"]["manifests"]]
    manifests[0] = {**manifests[0], "metadata": {**manifests[0]["metadata"], "namespace": place}}
    forged["data"] = {**forged["data"], "manifests": manifests}
    operator = OperatorPlanner((*HERE, objects[0]))
    operator.feed("ControllerRevision", forged)
    with pytest.raises(ValueError, match="is not for namespace team-a"):
        operator.planner.current(KEY)


@pytest.mark.parametrize("end", ["MODIFIED", "DELETED"])
async def test_a_pod_that_is_set_aside_by_its_label_is_ours_no_more(end: str) -> None:
    """How people set a pod aside to look at it: its Deployment replaces it, and it may stay for days."""
    operator = OperatorPlanner(running(*HERE))
    runtime = operator.runtime
    operator.feed(*pod("aside", "gpu-1", 1, owner="chat"))
    assert len(runtime.cache.pods[KEY]) == 2
    aside = decode_pod(pod("aside", "gpu-1", 1)[1])
    runtime.intake.upsert_pod(aside)
    if end == "DELETED":
        runtime.intake.remove_pod(pod("aside", "gpu-1", 1)[1])
    assert [each.name for each in runtime.cache.pods[KEY].values()] == ["chat-0"]


def test_a_recipe_that_is_made_anew_under_its_name_is_news() -> None:
    """Both are of generation 1, and the end of the former is told late or never."""
    operator = OperatorPlanner((*HERE, deployment("chat")))
    runtime = operator.runtime
    runtime.on_event(resources.RECIPES, "ADDED", at(recipe("big", gpus=1), version=5, uid="former"))
    before = runtime.cache.catalogue_versions[QWEN]
    runtime.on_event(resources.RECIPES, "ADDED", at(recipe("big", gpus=2), version=8, uid="present"))
    assert runtime.cache.catalogue_versions[QWEN] > before


def test_records_of_a_former_deployment_of_the_name_are_not_kept() -> None:
    operator = OperatorPlanner(())
    runtime = operator.runtime
    runtime.on_event(resources.DEPLOYMENTS_AIM, "ADDED", at(deployment("odd"), version=5))
    runtime.on_event(resources.REVISIONS, "ADDED", record_of("odd", data={}))
    assert set(runtime.cache.revisions) == {"uid-odd"}
    runtime.on_event(resources.DEPLOYMENTS_AIM, "ADDED", at(deployment("odd"), version=8, uid="present"))
    assert not set(runtime.cache.revisions)

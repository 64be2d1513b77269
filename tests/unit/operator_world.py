"""The operator's own caches and planner without a cluster, and deployments that it serves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from aim_engine.cli.output import to_json
from aim_engine.kube.connection import Connection
from aim_engine.reconcile import resources
from aim_engine.reconcile.config import HubConfig, OperatorConfig
from aim_engine.reconcile.explanation import explain
from aim_engine.reconcile.intake import decode_pod
from aim_engine.reconcile.plan import Plan
from aim_engine.reconcile.planner import Planner
from aim_engine.reconcile.revision import to_object
from aim_engine.reconcile.runtime import Runtime
from aim_engine.reconcile.world import BY_KIND
from unit.cli_world import TAKEN, Json, deployment, pod

KEY = ("team-a", "chat")
NOBODY = HubConfig(enabled=False)
Objects = tuple[tuple[str, Json], ...]


class OperatorPlanner:
    """The planner of a whole operator process that was fed by watch events, in an order of its own."""

    def __init__(self, objects: Objects, order: int = 1, hub: HubConfig = NOBODY) -> None:
        runtime = Runtime(OperatorConfig(hub=hub), cast(Connection, None))
        shuffled = list(objects)
        random.Random(order).shuffle(shuffled)
        self.runtime = runtime
        self.planner: Planner = runtime.planner
        for kind, obj in shuffled:
            self.feed(kind, obj)
        for key in runtime.cache.deployments:
            self.planner.restore(key)

    def feed(self, kind: str, obj: Json) -> None:
        """A watch event."""
        intake, whole = self.runtime.intake, {**obj, "kind": kind}
        match kind:
            case "Node":
                intake.upsert_node(whole)
            case "Pod":
                intake.upsert_pod(decode_pod(whole))
            case _:
                self.runtime.on_event(BY_KIND[kind], "ADDED", whole)

    def document(self, key: tuple[str, str] = KEY) -> str:
        """What the operator decides, in the words of the command line."""
        document, _ = explain(self.planner, key, self.labels(key), (), TAKEN.timestamp())
        return to_json(document) + "\n"

    def plan(self, key: tuple[str, str] = KEY) -> Plan:
        """A pass as the reconciler makes it."""
        typed = self.planner.cache.deployments[key].typed
        assert typed is not None
        return self.planner.plan(key, typed, self.labels(key), (), TAKEN.timestamp())

    async def learn(self) -> None:
        """Let the Hub be asked about whatever a pass wanted to know, until each was answered once."""
        hub = self.runtime.hub
        assert hub is not None
        asking = asyncio.create_task(hub.run())
        for _ in range(6000):
            if not any(waiting.asking for waiting in hub._open.values()):
                break
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    def labels(self, key: tuple[str, str]) -> Mapping[str, str]:
        namespace = self.planner.cache.namespaces.get(key[0])
        return namespace.labels if namespace else {}


def running(
    *before: tuple[str, Json], name: str = "chat", moved: float | None = None, **spec: Any
) -> Objects:
    """A deployment that was decided and rendered in a cluster as it was before, and serves since."""
    asked = deployment(name, **spec)
    return serving(
        OperatorPlanner((*before, asked)).plan((asked[1]["metadata"]["namespace"], name)), asked, moved
    )


def serving(plan: Plan, asked: tuple[str, Json], moved: float | None = None) -> Objects:
    """A deployment and what the operator made of it by a plan."""
    name = asked[1]["metadata"]["name"]
    assert plan.revision is not None
    revision = plan.revision if moved is None else replace(plan.revision, moved_at=moved)
    record = to_object(name, "team-a", asked[1]["metadata"]["uid"], revision)
    record["metadata"]["uid"] = f"uid-revision-{name}"
    live: Json = {
        "apiVersion": "apps/v1",
        "metadata": {
            "name": name, "namespace": "team-a", "uid": f"uid-live-{name}",
            "labels": {"aim.engine.amd.com/deployment": name}, "ownerReferences": record["metadata"]["ownerReferences"],
        },
        "spec": {"replicas": plan.granted},
    }  # fmt: skip
    gpus = revision.recipe_spec["hardware"]["gpuCount"]
    return (
        asked,
        (resources.REVISIONS.kind, record),
        ("Deployment", live),
        pod(f"{name}-0", "gpu-1", gpus, owner=name),
    )

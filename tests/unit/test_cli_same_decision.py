"""The command line decides exactly as the operator does: the same objects, fed to both, give the same bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest

from aim_engine.cli.output import to_json
from aim_engine.inventory import Inventory
from aim_engine.kube.connection import Connection
from aim_engine.reconcile import resources
from aim_engine.reconcile.config import HubConfig, OperatorConfig
from aim_engine.reconcile.intake import decode_pod
from aim_engine.reconcile.planner import Planner
from aim_engine.reconcile.revision import to_object
from aim_engine.reconcile.runtime import Runtime
from aim_engine.reconcile.world import BY_KIND
from aim_engine.selection import Request, report
from unit.cli_world import TAKEN, Json, Terminal, config_map, deployment, node, pod, recipe, snapshot
from unit.selection_world import GPT_OSS

KEY = ("team-a", "chat")
CUSTOM = "recipe_id: mine\nhuggingface_id: Qwen/Qwen3-32B\nhardware: MI300X\ngpu_count: 4\nprecision: bf16\n"
BASE = (
    node("gpu-1"), node("gpu-2", gpu="MI325X"), node("gpu-3", gpu="MI355X", unschedulable=True),
    pod("other", "gpu-1", 6), recipe("small"), recipe("large", gpus=8, maturity="optimized"),
    recipe("newer", gpu="MI325X"), recipe("eight", gpu="MI355X", gpus=8), recipe("foreign", model=GPT_OSS),
    config_map("mine", CUSTOM), ("Namespace", {"metadata": {"name": "team-a", "labels": {"tier": "gold"}}}),
)  # fmt: skip
SPECS: dict[str, Json] = {
    "plain": {},
    "latency": {"recipe": {"objective": "latency"}},
    "wishes": {"recipe": {"gpuModel": "MI325X", "gpuCount": 1}},
    "custom": {"recipe": {"configMap": "mine"}},
    "no room": {"recipe": {"name": "eight"}},
    "replicas": {"replicas": 3},
    "load": {"workload": {"maxInputTokens": 4000, "maxOutputTokens": 1000, "maxBatchSize": 64}},
    "too long": {"workload": {"maxInputTokens": 400_000}},
    "unknown model": {"model": {"id": "acme/unheard-of"}},
    "generated": {
        "model": {"id": "meta-llama/Llama-2-70b-chat-hf"},
        "recipe": {"gpuCount": 8, "precision": "fp16"},
    },
    "target": {"targets": {"minTokensPerSecond": 100_000_000}},
}


class OperatorPlanner:
    """The planner of a whole operator process that was fed by watch events, in an order of its own."""

    def __init__(self, objects: tuple[tuple[str, Json], ...], config: OperatorConfig, order: int) -> None:
        runtime = Runtime(config.model_copy(update={"hub": HubConfig(enabled=False)}), cast(Connection, None))
        shuffled = list(objects)
        random.Random(order).shuffle(shuffled)
        for kind, obj in shuffled:
            self._feed(runtime, kind, {**obj, "kind": kind})
        self.planner: Planner = runtime.planner
        for key in runtime.cache.deployments:
            self.planner.restore(key)

    @staticmethod
    def _feed(runtime: Runtime, kind: str, obj: Json) -> None:
        match kind:
            case "Node":
                runtime.intake.upsert_node(obj)
            case "Pod":
                runtime.intake.upsert_pod(decode_pod(obj))
            case _:
                runtime.on_event(BY_KIND[kind], "ADDED", obj)

    def document(self, key: tuple[str, str]) -> str:
        """What the operator decides, in the words of the command line."""
        stored = self.planner.cache.deployments[key]
        assert stored.typed is not None
        free: Inventory = self.planner.free_for(key)
        namespace = self.planner.cache.namespaces.get(key[0])
        plan = self.planner.plan(
            key, stored.typed, namespace.labels if namespace else {}, (), TAKEN.timestamp()
        )
        assert plan.decision is not None
        request = Request(key[0], stored.typed.spec)
        document = report(request, plan.decision, free)
        return to_json({"namespace": key[0], "name": key[1], **document}) + "\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("order", [1, 2])
async def test_operator_and_command_line_give_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: Json, order: int
) -> None:
    objects = (*BASE, deployment("chat", **spec))
    operator = OperatorPlanner(objects, OperatorConfig(), order).document(KEY)
    path = snapshot(tmp_path, *objects)
    ended = Terminal(capsys)("explain", "chat", "-n", "team-a", "--cluster", path, "-o", "json")
    assert ended.out == operator


@pytest.mark.asyncio
async def test_promises_of_running_deployments_count_for_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One was granted its GPUs a moment ago and has no pods yet: they are free in the cluster, and taken."""
    first = (*BASE[:1], *BASE[4:5], deployment("first", replicas=8))
    planner = OperatorPlanner(first, OperatorConfig(), 1).planner
    stored = planner.cache.deployments[("team-a", "first")]
    assert stored.typed is not None
    revision = planner.plan(("team-a", "first"), stored.typed, {}, (), TAKEN.timestamp()).revision
    assert revision is not None
    record = to_object("first", "team-a", stored.uid, revision)
    record["metadata"]["uid"] = "uid-revision"
    live: Json = {
        "metadata": {
            "name": "first", "namespace": "team-a", "uid": "uid-live",
            "labels": {"aim.engine.amd.com/deployment": "first"}, "ownerReferences": record["metadata"]["ownerReferences"],
        },
        "spec": {"replicas": 8},
    }  # fmt: skip
    objects: tuple[tuple[str, Any], ...] = (
        *first, (resources.REVISIONS.kind, record), ("Deployment", live), deployment("chat"),
    )  # fmt: skip
    operator = OperatorPlanner(objects, OperatorConfig(), 2).document(KEY)
    ended = Terminal(capsys)(
        "explain", "chat", "-n", "team-a", "--cluster", snapshot(tmp_path, *objects), "-o", "json"
    )
    assert ended.out == operator
    assert ended.json["outcome"] == "Waiting"

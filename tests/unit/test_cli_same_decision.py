"""The command line decides exactly as the operator does: the same objects, fed to both, give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aim_engine.reconcile.plan import Plan
from aim_engine.selection import Request, report, schema
from unit.cli_world import TAKEN, Json, Terminal, config_map, deployment, node, pod, recipe, snapshot
from unit.json_schema import problems
from unit.operator_world import KEY, Objects, OperatorPlanner, running
from unit.selection_world import GPT_OSS

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
    "target": {"targets": {"minTokensPerSecond": 500_000}},
}


def report_of(operator: OperatorPlanner, plan: Plan) -> Json:
    """A decision of the operator as a document, by the function that makes it and no other."""
    assert plan.decision is not None
    typed = operator.planner.cache.deployments[KEY].typed
    assert typed is not None
    return report(Request(KEY[0], typed.spec), plan.decision, operator.planner.free_for(KEY))


@pytest.mark.asyncio
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize("order", [1, 2])
async def test_operator_and_command_line_give_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: Json, order: int
) -> None:
    objects = (*BASE, deployment("chat", **spec))
    operator = OperatorPlanner(objects, order)
    decided = report_of(operator, operator.plan())
    path = snapshot(tmp_path, *objects)
    ended = Terminal(capsys)("explain", "chat", "-n", "team-a", "--cluster", path, "-o", "json")
    assert ended.out == operator.document()
    assert {name: ended.json[name] for name in decided} == decided


SMALL, BIG = recipe("small"), recipe("big", gpus=8, maturity="optimized")
FULL = pod("other", "gpu-1", 4)
"""Keeps the big recipe's GPUs taken."""
NODE = node("gpu-1")


def with_spec(objects: Objects, **spec: Any) -> Objects:
    """The user changed the spec."""
    (kind, asked), *others = objects
    changed = {**asked["spec"], **spec}
    metadata = {**asked["metadata"], "generation": 2}
    return (kind, {**asked, "spec": changed, "metadata": metadata}), *others


PINNED, AUTOMATIC = {"updatePolicy": "Pinned"}, {"updatePolicy": "Automatic"}
FALLBACK = (NODE, FULL, SMALL, BIG)
JUST_MOVED = TAKEN.timestamp() - 60


@dataclass(frozen=True)
class Case:
    """A deployment that runs, what is around it now, and what a pass makes of it."""

    objects: Objects
    in_force: str
    chosen: str | None
    change: str | None = None
    recommended: str | None = None
    outcome: str = "Selected"


CASES = {
    "pinned, the best one came free": Case((NODE, SMALL, BIG, *running(*FALLBACK, recipe=PINNED)), "small", "small", None, "big"),
    "automatic, the best one came free": Case((NODE, SMALL, BIG, *running(*FALLBACK, recipe=AUTOMATIC)), "small", "big", "Recipe"),
    "automatic, within the cool-down": Case((NODE, SMALL, BIG, *running(*FALLBACK, recipe=AUTOMATIC, moved=JUST_MOVED)), "small", "small", None, "big"),
    "pinned, the best one is still taken": Case((*FALLBACK, *running(*FALLBACK, recipe=PINNED)), "small", "small"),
    "automatic, the best one is still taken": Case((*FALLBACK, *running(*FALLBACK, recipe=AUTOMATIC)), "small", "small"),
    "pinned, a better recipe was added": Case((NODE, SMALL, BIG, *running(NODE, SMALL, recipe=PINNED)), "small", "small", None, "big"),
    "automatic, a better recipe was added": Case((NODE, SMALL, BIG, *running(NODE, SMALL, recipe=AUTOMATIC)), "small", "big", "Recipe"),
    "pinned, its recipe was edited": Case(
        (NODE, recipe("small", env={"A": "b"}), *running(NODE, SMALL, recipe=PINNED)), "small", "small", None, "small",
    ),
    "automatic, its recipe was edited": Case(
        (NODE, recipe("small", env={"A": "b"}), *running(NODE, SMALL, recipe=AUTOMATIC)), "small", "small", "Recipe",
    ),
    "pinned, its recipe was deleted": Case(
        (NODE, recipe("foreign", model=GPT_OSS), *running(NODE, SMALL, recipe=PINNED)), "small", "small",
    ),
    "pinned, its node is gone": Case((node("gpu-2"), SMALL, *running(NODE, SMALL, recipe=PINNED)), "small", "small"),
    "pinned, the port was changed": Case((NODE, SMALL, BIG, *with_spec(running(*FALLBACK, recipe=PINNED), service={"port": 80})), "small", "small", "Rendering"),
    "pinned, more replicas than there is room for": Case((*FALLBACK, *with_spec(running(*FALLBACK, recipe=PINNED), replicas=9)), "small", "small", "Replicas"),
    "pinned, no replicas": Case((*FALLBACK, *with_spec(running(*FALLBACK, recipe=PINNED), replicas=0)), "small", "small", "Replicas"),
    "pinned, suspended": Case((*FALLBACK, *with_spec(running(*FALLBACK, recipe=PINNED), suspend=True)), "small", "small", "Replicas"),
    "pinned, wishes that another recipe meets": Case(
        (NODE, SMALL, BIG, *with_spec(running(*FALLBACK, recipe=PINNED), recipe={**PINNED, "gpuCount": 8})), "small", "big", "Recipe",
    ),
    "pinned, wishes that wait for GPUs": Case(
        (*FALLBACK, *with_spec(running(*FALLBACK, recipe=PINNED), recipe={**PINNED, "gpuCount": 8})), "small", None, outcome="Waiting",
    ),
    "pinned, wishes that nothing meets": Case(
        (*FALLBACK, *with_spec(running(*FALLBACK, recipe=PINNED), recipe={**PINNED, "name": "gone"})), "small", None, outcome="NoRecipe",
    ),
}  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("order", [1, 2])
async def test_of_a_running_deployment_both_say_what_is_in_force_and_what_would_be_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: Case, order: int
) -> None:
    operator = OperatorPlanner(case.objects, order)
    path = snapshot(tmp_path, *case.objects)
    words = ("chat", "-n", "team-a", "--cluster", path)
    ended = Terminal(capsys)("explain", *words, "-o", "json")
    assert ended.out == operator.document()
    told = ended.json
    assert list(problems(schema(), told)) == []
    assert told["inForce"]["recipe"] == case.in_force
    assert (told["chosen"] or {}).get("recipe") == case.chosen
    assert (told["change"], told["outcome"]) == (case.change, case.outcome)
    assert (told["recommendation"] or {}).get("recipe") == case.recommended
    verdicts = {each["recipe"]: each["verdict"] for each in told["candidates"]}
    assert [name for name, verdict in verdicts.items() if verdict == "chosen"] in ([], [case.chosen])
    if case.recommended not in (None, case.chosen):
        assert verdicts[case.recommended] == "recommended"
    diff = Terminal(capsys)("diff", *words)
    assert bool(diff.out) is (case.change is not None)
    assert ("would not change" in diff.err) is (case.change is None)
    assert diff.code == ended.code == (3 if case.outcome == "NoRecipe" else 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", ["Pinned", "Automatic"])
async def test_the_document_tells_of_the_pass_that_the_operator_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    """Nothing is asked of the operator but what it does by itself when the better recipe is created."""
    objects = (NODE, SMALL, *running(NODE, SMALL, recipe={"updatePolicy": policy}))
    operator = OperatorPlanner(objects)
    before = operator.plan()
    assert (before.is_new, before.recommendation) == (False, None)
    operator.feed(*BIG)
    plan = operator.plan()
    path = snapshot(tmp_path, *objects, BIG)
    told = Terminal(capsys)("explain", "chat", "-n", "team-a", "--cluster", path, "-o", "json").json
    assert plan.revision is not None
    assert told["chosen"]["recipe"] == plan.revision.recipe
    assert (told["change"] is not None) is plan.is_new is (policy == "Automatic")
    assert told["recommendation"] == (plan.recommendation.wire() if plan.recommendation else None)
    assert told["message"] == plan.selected.message


@pytest.mark.asyncio
async def test_promises_of_running_deployments_count_for_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One was granted its GPUs a moment ago and has no pods yet: they are free in the cluster, and taken."""
    around = (*BASE[:1], *BASE[4:5])
    *first, _pod = running(*around, name="first", replicas=8)
    objects = (*around, *first, deployment("chat"))
    operator = OperatorPlanner(objects, 2).document(KEY)
    ended = Terminal(capsys)(
        "explain", "chat", "-n", "team-a", "--cluster", snapshot(tmp_path, *objects), "-o", "json"
    )
    assert ended.out == operator
    assert ended.json["outcome"] == "Waiting"

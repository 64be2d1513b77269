"""What is refused whatever recipes and nodes there are: told by field, value, limit and remedy, and nothing that could work."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from aim_engine.api.enums import Outcome, Reason
from aim_engine.catalog.models import model_catalog
from aim_engine.selection import Check, SpecProblem, spec_problems
from unit.selection_world import (
    DEVICE_IDS,
    FACTS,
    LLAMA_405B,
    QWEN,
    UNHURRIED,
    UNKNOWN,
    choose,
    cluster,
    node,
    request,
)

FP8_RATE = 10**8 - 1
LARGE = sorted(name for name, facts in model_catalog().items() if facts.parameters > 200e9)
"""Models that are too large for some number of GPUs."""


def found(model: str = QWEN, labels: dict[str, str] | None = None, **spec: Any) -> tuple[SpecProblem, ...]:
    return spec_problems(request(model, labels=labels, **spec), FACTS)


@pytest.mark.parametrize(
    ("check", "spec", "line"),
    [
        (Check.RECIPE_COMPATIBILITY, {"recipe": {"gpuModel": "MI300XX"}},
         "spec.recipe.gpuModel 'MI300XX': is not a known GPU model; did you mean MI300X?"),
        (Check.RECIPE_COMPATIBILITY, {"recipe": {"gpuModel": "H100"}}, "spec.recipe.gpuModel 'H100': is not a known GPU model; use one of MI210"),
        (Check.RECIPE_COMPATIBILITY, {"recipe": {"gpuModel": "mi210", "precision": "fp8"}},
         "spec.recipe.precision 'fp8': MI210 (gfx90a) cannot compute it; use one of bf16"),
        (Check.RESOURCE_LIMITS, {"model": LLAMA_405B, "recipe": {"gpuModel": "MI300X", "gpuCount": 2, "precision": "bf16"}},
         "spec.recipe.gpuCount '2': weights of meta-llama/Llama-3.1-405B-Instruct need at least 756.0 GiB in bf16; 2 x MI300X have 384.0 GiB; "
         "set spec.recipe.gpuCount to 8, use a larger GPU model, or leave them out"),
        (Check.RESOURCE_LIMITS, {"model": LLAMA_405B, "recipe": {"gpuModel": "MI210", "gpuCount": 2}},
         "spec.recipe.gpuCount '2': weights of meta-llama/Llama-3.1-405B-Instruct need at least 189.0 GiB even in 4 bit"),
        (Check.SPEC, {"overrides": {"engineArgs": {"max-modle-len": 1}}}, "spec.overrides.engineArgs.max-modle-len '1': max-modle-len is not a flag of"),
        (Check.SPEC, {"overrides": {"engineArgs": {"port": 1}}}, "spec.overrides.engineArgs.port '1': port is set by the operator"),
        (Check.SPEC, {"overrides": {"engineArgs": {"middleware": "x"}}}, "middleware is denied: it imports code"),
        (Check.SPEC, {"overrides": {"env": {"LD_PRELOAD": "/secret/path.so"}}}, "spec.overrides.env.LD_PRELOAD: "),
        (Check.SPEC, {"recipe": {"gpuCount": 4}, "overrides": {"engineArgs": {"pipeline-parallel-size": 3}}},
         "spec.overrides.engineArgs.pipeline-parallel-size '3': pipeline 3 x data 1 do not divide 4 GPUs"),
        (Check.RESOURCE_LIMITS, {"overrides": {"resources": {"memory": "64"}}}, "spec.overrides.resources.memory '64': is less than 1Gi; give at least 1Gi"),
        (Check.RESOURCE_LIMITS, {"overrides": {"resources": {"cpu": "5m"}}}, "spec.overrides.resources.cpu '5m': is less than 100m"),
        (Check.RESOURCE_LIMITS, {"overrides": {"engineArgs": {"max_model_len": 100}}, "workload": {"maxInputTokens": 100, "maxOutputTokens": 1}},
         "spec.overrides.engineArgs.max-model-len '100': is below workload.maxInputTokens + maxOutputTokens (101); raise it to 101"),
        (Check.PERFORMANCE_CONSTRAINTS, {"targets": {"minTokensPerSecond": FP8_RATE}},
         f"spec.targets.minTokensPerSecond '{FP8_RATE}': no hardware within the wishes exceeds"),
        (Check.PERFORMANCE_CONSTRAINTS, {"recipe": {"gpuModel": "MI300X", "gpuCount": 2}, "targets": {"minTokensPerSecond": FP8_RATE}},
         "(2 x MI300X is estimated to reach 4261), or use more replicas"),
        (Check.PERFORMANCE_CONSTRAINTS, {"model": LLAMA_405B, "recipe": {"gpuModel": "MI210", "gpuCount": 4}, "targets": {"maxTimeToFirstTokenMilliseconds": 1}},
         "spec.targets.maxTimeToFirstTokenMilliseconds '1': no hardware within the wishes answers before"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_in_one_line(check: Check, spec: dict[str, Any], line: str) -> None:
    model = spec.pop("model", QWEN)
    (problem,) = found(model, **spec)
    assert problem.check is check
    assert line in str(problem)
    assert "\n" not in str(problem)
    assert "secret" not in str(problem)


def test_a_rate_that_only_drafted_tokens_reach_is_not_refused() -> None:
    """One sequence of 405B reads its weights some 150 times a second on 8 MI355X; a recipe may draft several tokens for each."""
    wishes = {"gpuModel": "MI355X", "gpuCount": 8, "precision": "fp8"}
    assert (
        found(LLAMA_405B, recipe=wishes, workload={"maxBatchSize": 1}, targets={"minTokensPerSecond": 300})
        == ()
    )


def test_several_causes_are_told_at_once() -> None:
    problems = found(
        recipe={"gpuModel": "MI210", "precision": "fp8"},
        overrides={"engineArgs": {"port": 1, "nonsense": 2}, "resources": {"cpu": "1m"}},
    )
    assert [problem.problem.field for problem in problems] == [
        "spec.recipe.precision", "spec.overrides.engineArgs.port", "spec.overrides.engineArgs.nonsense", "spec.overrides.resources.cpu",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (QWEN, {}),
        (QWEN, {"recipe": {"gpuModel": "mi300x", "precision": "fp8", "gpuCount": 1}}),
        (UNKNOWN, {"recipe": {"gpuModel": "MI210", "gpuCount": 1}, "targets": {"minTokensPerSecond": FP8_RATE}}),
        (LLAMA_405B, {"recipe": {"gpuModel": "MI210", "gpuCount": 2}, "overrides": {"engineArgs": {"cpu-offload-gb": 400}}}),
        (LLAMA_405B, {"recipe": {"gpuModel": "MI300X", "gpuCount": 1}}),
        (QWEN, {"workload": {"maxInputTokens": 1_000_000}}),
        (QWEN, {"targets": {"minTokensPerSecond": 5000, "maxTimeToFirstTokenMilliseconds": 200}}),
    ],
)  # fmt: skip
def test_what_somebody_may_still_make_possible_is_not_refused(model: str, spec: dict[str, Any]) -> None:
    assert found(model, **spec) == ()


WISHES = st.fixed_dictionaries(
    {},
    optional={
        "gpuModel": st.sampled_from(sorted(DEVICE_IDS)),
        "gpuCount": st.sampled_from([1, 2, 4, 8]),
        "precision": st.sampled_from(["bf16", "fp16", "fp8", "int4", "mxfp4"]),
    },
)


@UNHURRIED
@given(st.sampled_from(sorted(model_catalog())), WISHES, st.integers(1, 10**6), st.integers(1, 2000))
def test_nothing_that_selection_can_choose_is_refused(
    model: str, wishes: dict[str, Any], rate: int, first: int
) -> None:
    """Selection may generate a configuration for anything that fits, so whatever it chooses is a proof that it works."""
    everything = cluster(*(node(f"n-{name}", name, 8) for name in DEVICE_IDS))
    targets = {"minTokensPerSecond": rate, "maxTimeToFirstTokenMilliseconds": first}
    asked = request(model, recipe=wishes, targets=targets)
    if choose([], everything, asked).outcome is Outcome.SELECTED:
        assert spec_problems(asked, FACTS) == ()


NARROW = st.fixed_dictionaries(
    {"gpuModel": st.sampled_from(sorted(DEVICE_IDS)), "gpuCount": st.sampled_from([1, 2])},
    optional={"precision": st.sampled_from(["bf16", "fp16", "fp8", "int4", "mxfp4"])},
)
MEMORY = (Reason.MEMORY_INSUFFICIENT, Reason.CONTEXT_TOO_LONG)


@UNHURRIED
@given(st.sampled_from(LARGE), NARROW, st.sampled_from([None, 4096, 100_000]))
def test_who_follows_a_remedy_of_the_gpu_count_meets_no_verdict_on_memory(
    model: str, wishes: dict[str, Any], tokens: int | None
) -> None:
    load: dict[str, Any] = {"workload": {"maxInputTokens": tokens}} if tokens else {}
    told = " ".join(str(problem) for problem in found(model, recipe=wishes, **load))
    enough = re.search(r"set spec.recipe.gpuCount to (\d+)", told)
    event("a count is told" if enough else "none is told")
    if not enough:
        return
    asked = request(model, recipe={**wishes, "gpuCount": int(enough[1])}, **load)
    assert spec_problems(asked, FACTS) == ()
    everything = cluster(*(node(f"n-{name}", name, 8) for name in DEVICE_IDS))
    decision = choose([], everything, asked)
    assert decision.outcome is Outcome.SELECTED
    assert not [verdict for verdict in decision.verdicts if verdict.reason in MEMORY]

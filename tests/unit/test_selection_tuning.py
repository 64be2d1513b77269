"""Loads, overrides and targets that a recipe's GPUs cannot serve: told in the user's words, and the remedy really helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Reason
from aim_engine.selection import Observation, Verdict
from unit.selection_world import (
    GPT_OSS,
    LLAMA_405B,
    QWEN,
    UNHURRIED,
    UNKNOWN,
    choose,
    chosen,
    cluster,
    node,
    recipe,
    request,
    verdict_on,
)

ALL = cluster(node("a", "MI210"), node("b", "MI300X"), node("c", "MI355X"))
NO_FALLBACK: dict[str, Any] = {"recipe": {"fallback": {"enabled": False}}}


def told(spec: Mapping[str, Any], *, model: str = QWEN, **fields: Any) -> Verdict:
    """The verdict on one recipe under a spec."""
    return verdict_on(
        choose([recipe("r", model=model, **fields)], ALL, request(model, **{**NO_FALLBACK, **spec})), "r"
    )


def number(verdict: Verdict) -> float:
    """The value that the remedy names."""
    assert verdict.remedy
    found = re.search(r"[<>]= ([\d.]+)", verdict.remedy)
    assert found, verdict.remedy
    return float(found[1].rstrip("."))


def test_a_load_becomes_flags_of_the_engine() -> None:
    decision = choose(
        [recipe("r")],
        ALL,
        request(workload={"maxBatchSize": 9, "maxInputTokens": 9000, "maxOutputTokens": 500}),
    )
    assert decision.choice
    args = decision.choice.assessment.args
    assert (args["max-num-seqs"], args["max-model-len"]) == (9, 9500)


@pytest.mark.parametrize(
    ("args", "batch", "sequences", "tokens"),
    [
        ({"max-num-seqs": 512, "max-num-batched-tokens": 1024}, None, 512, 1024),
        ({"max-num-seqs": 512, "max-num-batched-tokens": 1024}, 64, 64, 1024),
        ({"max-num-seqs": 512, "max-num-batched-tokens": 1024}, 1024, 1024, 1024),
        ({"max-num-seqs": 512, "max-num-batched-tokens": 1024}, 2048, 2048, 2048),
        ({"max_num_seqs": 512, "max_num_batched_tokens": "1k"}, 2048, 2048, 2048),
        ({}, 2048, 2048, None),
        ({}, 16_384, 16_384, None),
        ({}, 20_000, 20_000, 20_000),
        ({"data-parallel-size": 4}, 1026, 257, None),
        ({"data-parallel-size": 4}, 1, 1, None),
        ({"data-parallel-size": 4, "max-num-batched-tokens": 128}, 1024, 256, 256),
    ],
    ids=str,
)  # fmt: skip
def test_a_batch_replaces_the_recipes_and_brings_the_tokens_that_the_engine_needs_for_it(
    args: dict[str, Any], batch: int | None, sequences: int | None, tokens: int | None
) -> None:
    """vLLM does not start with fewer tokens in a step than sequences; of an MI300X it takes 16,384 by itself."""
    load = {"maxBatchSize": batch} if batch else {}
    verdict_and_choice = choose(
        [recipe("r", count=4, engineArgs={"max-model-len": 8192, **args})], ALL, request(workload=load)
    )
    assert verdict_and_choice.choice, verdict_and_choice
    assessment = verdict_and_choice.choice.assessment
    assert assessment.args.get("max-num-seqs") == sequences
    assert assessment.args.get("max-num-batched-tokens") == tokens
    assert assessment.plan
    assert assessment.plan.max_num_batched_tokens >= assessment.plan.max_num_seqs


def test_the_tokens_are_those_of_the_recipes_own_engine_line() -> None:
    """vLLM 0.23 takes 8,192 by itself where 0.32 takes 16,384."""
    for version, tokens in (("0.23.0", 10_000), ("0.32.0", None)):
        decision = choose(
            [recipe("r", engineVersion=version)], ALL, request(workload={"maxBatchSize": 10_000})
        )
        assert decision.choice
        assert decision.choice.assessment.args.get("max-num-batched-tokens") == tokens


def test_an_override_goes_before_the_load() -> None:
    decision = choose(
        [recipe("r", engineArgs={"max-model-len": 8192, "max-num-seqs": 4})], ALL,
        request(workload={"maxBatchSize": 9}, overrides={"engineArgs": {"max-num-seqs": 11}}),
    )  # fmt: skip
    assert decision.choice
    assert decision.choice.assessment.args["max-num-seqs"] == 11


def test_a_context_that_is_long_enough_is_kept_as_the_recipe_was_tuned() -> None:
    decision = choose([recipe("r")], ALL, request(workload={"maxInputTokens": 100}))
    assert decision.choice
    assert decision.choice.assessment.args["max-model-len"] == 8192


@pytest.mark.parametrize(
    ("load", "field"),
    [
        ({"maxInputTokens": 40_000}, "spec.workload.maxInputTokens"),
        ({"maxOutputTokens": 40_000}, "spec.workload.maxOutputTokens"),
        (
            {"maxInputTokens": 30_000, "maxOutputTokens": 10_000},
            "spec.workload.maxInputTokens + maxOutputTokens",
        ),
    ],
)
def test_a_context_too_long_for_the_kv_cache_names_the_field_and_the_nearest_that_fits(
    load: dict[str, int], field: str
) -> None:
    tight: dict[str, Any] = {
        "gpu": "MI210",
        "count": 2,
        "engineArgs": {"max-model-len": 4096, "gpu-memory-utilization": 0.62},
    }
    verdict = told({"workload": load}, **tight)
    assert verdict.reason is Reason.CONTEXT_TOO_LONG
    assert verdict.message.startswith(f"{field} asks for 40000; ")
    assert verdict.remedy
    assert verdict.remedy.startswith(f"set {field} <= ")
    nearest = int(number(verdict))
    assert told({"workload": {"maxInputTokens": nearest}}, **tight).reason is Reason.CHOSEN
    assert told({"workload": {"maxInputTokens": nearest + 1}}, **tight).reason is not Reason.CHOSEN


def test_a_batch_too_large_names_the_field_and_the_nearest_that_fits() -> None:
    tight: dict[str, Any] = {
        "gpu": "MI210",
        "count": 2,
        "engineArgs": {"max-model-len": 4096, "gpu-memory-utilization": 0.62},
    }
    verdict = told(
        {
            "workload": {"maxBatchSize": 30_000},
            "overrides": {"engineArgs": {"max-num-batched-tokens": 32_768}},
        },
        **tight,
    )
    assert verdict.message.startswith("spec.workload.maxBatchSize asks for 30000; ")
    nearest = int(number(verdict))
    overrides = {"engineArgs": {"max-num-batched-tokens": 32_768}}
    assert (
        told({"workload": {"maxBatchSize": nearest}, "overrides": overrides}, **tight).reason is Reason.CHOSEN
    )
    assert (
        told({"workload": {"maxBatchSize": nearest + 1}, "overrides": overrides}, **tight).reason
        is not Reason.CHOSEN
    )


def test_too_little_memory_for_the_engine_names_the_override_and_the_nearest_that_fits() -> None:
    low = {"overrides": {"engineArgs": {"gpu-memory-utilization": 0.3}}}
    verdict = told(low)
    assert verdict.message.startswith("spec.overrides.engineArgs.gpu-memory-utilization is 0.3; ")
    nearest = number(verdict)
    assert told({"overrides": {"engineArgs": {"gpu-memory-utilization": nearest}}}).reason is Reason.CHOSEN
    below = {"overrides": {"engineArgs": {"gpu-memory-utilization": round(nearest - 0.01, 2)}}}
    assert told(below).reason is not Reason.CHOSEN


def test_a_recipe_that_fits_with_no_load_at_all_is_to_blame_itself() -> None:
    verdict = told({"workload": {"maxBatchSize": 4}}, model=LLAMA_405B, count=1)
    assert verdict.reason is Reason.MEMORY_INSUFFICIENT
    assert "spec.workload" not in verdict.message


@given(tokens=st.integers(8193, 2_000_000), batch=st.integers(1, 60_000))
@UNHURRIED
def test_whatever_is_asked_a_remedy_in_the_users_words_helps(tokens: int, batch: int) -> None:
    tight: dict[str, Any] = {
        "gpu": "MI210",
        "count": 2,
        "engineArgs": {
            "max-model-len": 8192,
            "gpu-memory-utilization": 0.62,
            "max-num-batched-tokens": 65_536,
        },
    }
    verdict = told({"workload": {"maxInputTokens": tokens, "maxBatchSize": batch}}, **tight)
    if verdict.reason is Reason.CHOSEN or "spec.workload" not in (verdict.remedy or ""):
        return
    nearest = int(number(verdict))
    load = {"maxInputTokens": tokens, "maxBatchSize": batch}
    load["maxBatchSize" if "maxBatchSize" in str(verdict.remedy) else "maxInputTokens"] = nearest
    assert told({"workload": load}, **tight).reason is Reason.CHOSEN


TARGET = "spec.targets.minTokensPerSecond"


@pytest.mark.parametrize(
    ("targets", "fields", "message", "remedy"),
    [
        ({"minTokensPerSecond": 3000}, {"tokens": 2500}, f"{TARGET} asks for 3000; the recipe reached 2500 (published)", f"set {TARGET} <= 2500"),
        ({"minTokensPerSecond": 3000}, {"tokens": 9000, "observed": Observation("MI300X", "0.32.0", 2000.4)},
         "the recipe reached 2000 (observed with 0.32.0)", f"set {TARGET} <= 2000"),
        ({"minTokensPerSecond": 90_000_000}, {}, "the hardware cannot exceed", "or allow recipes with more GPUs"),
        ({"maxTimeToFirstTokenMilliseconds": 100}, {"first_token": 250, "tokens": 1},
         "the recipe took 250 (published)", "set spec.targets.maxTimeToFirstTokenMilliseconds >= 250"),
        ({"maxTimeToFirstTokenMilliseconds": 1}, {}, "the hardware cannot go below", "set spec.targets.maxTimeToFirstTokenMilliseconds >= "),
    ],
)  # fmt: skip
def test_a_target_out_of_reach_is_told_with_both_numbers_and_the_nearest(
    targets: dict[str, int], fields: dict[str, Any], message: str, remedy: str
) -> None:
    verdict = told({"targets": targets}, **fields)
    assert verdict.reason is Reason.TARGET_NOT_REACHABLE
    assert message in verdict.message
    assert remedy in str(verdict.remedy)


def test_the_nearest_target_is_reachable() -> None:
    for targets in ({"minTokensPerSecond": 90_000_000}, {"maxTimeToFirstTokenMilliseconds": 1}):
        verdict = told({"targets": targets})
        (name,) = targets
        assert told({"targets": {name: int(number(verdict))}}).reason is Reason.CHOSEN


def test_an_estimate_below_the_target_is_no_reason_for_a_no() -> None:
    decision = choose([recipe("r")], ALL, request(targets={"minTokensPerSecond": 10_000}))
    assert decision.choice
    rate = decision.choice.assessment.rate
    assert rate
    assert (rate.kind.value, rate.value < 10_000) == ("estimated", True)


def test_every_number_in_a_message_says_its_kind() -> None:
    for fields, kind in (
        ({}, "estimated "), ({"tokens": 900}, "published 900"),
        ({"tokens": 900, "observed": Observation("MI300X", "0.32.0", 700)}, "observed 700 tok/s per GPU (engine 0.32.0)"),
    ):  # fmt: skip
        decision = choose([recipe("r", **fields)], ALL)
        assert kind in decision.message


# The last resort

LLAMA_2 = "meta-llama/Llama-2-70b-chat-hf"


@pytest.mark.parametrize("gpu", ["MI210", "MI250X", "MI300X", "MI325X", "MI350X", "MI355X"])
def test_the_documented_command_finds_a_configuration_on_every_generation(gpu: str) -> None:
    """Llama 2 70B on eight GPUs in fp16, and no recipe at hand."""
    decision = choose(
        [], cluster(node("n", gpu)), request(LLAMA_2, recipe={"gpuCount": 8, "precision": "fp16"})
    )
    assert chosen(decision) == f"generated/llama-2-70b-chat-hf-{gpu.lower()}-8x-fp16"


@pytest.mark.parametrize(
    ("model", "wishes", "name", "source", "args"),
    [
        (QWEN, {}, "generated/qwen3-32b-mi300x-1x-bf16", None, {}),
        (QWEN, {"precision": "fp16"}, "generated/qwen3-32b-mi300x-1x-fp16", None, {"dtype": "float16"}),
        (QWEN, {"precision": "fp8"}, "generated/qwen3-32b-mi300x-1x-fp8", "Qwen/Qwen3-32B-FP8", {}),
        (
            LLAMA_2,
            {"precision": "fp8"},
            "generated/llama-2-70b-chat-hf-mi300x-1x-fp8",
            None,
            {"quantization": "fp8"},
        ),
        (QWEN, {"precision": "int4"}, None, None, {}),
        (QWEN, {"backend": "sglang"}, None, None, {}),
        (GPT_OSS, {"precision": "mxfp4"}, "generated/gpt-oss-120b-mi300x-1x-mxfp4", None, {}),
        (UNKNOWN, {"precision": "fp8"}, None, None, {}),
    ],
)
def test_what_is_generated_keeps_the_precision_asked_for(
    model: str, wishes: dict[str, Any], name: str | None, source: str | None, args: dict[str, Any]
) -> None:
    decision = choose([], cluster(node("n", "MI300X")), request(model, recipe=wishes))
    assert chosen(decision) == name
    if decision.choice:
        spec = decision.choice.assessment.candidate.spec
        assert spec.source == source
        assert {key: spec.engine_args.get(key) for key in args} == args


# Did you mean?


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("qwen/qwen3-32b", QWEN),
        ("Qwen/Qwen3-32b", QWEN),
        ("Qwen/Qwen3-23B", QWEN),
        ("acme/Model-X", "acme/model-x"),
        ("qwen3-32b", QWEN),
        ("model-x", "acme/model-x"),
    ],
)
def test_a_model_in_other_letters_or_nearly_the_same_is_asked_back(model: str, near: str) -> None:
    decision = choose([recipe("r", model="acme/model-x")], ALL, request(model))
    assert decision.message.startswith(f"no recipe exists for model '{model}' (did you mean {near}?), and ")
    assert (decision.remedy or "").startswith(f"write {near}, or add an AIMRecipe")


def test_a_gpu_model_that_does_not_exist_is_asked_back() -> None:
    verdict = told({"recipe": {"gpuModel": "MI30X", "fallback": {"enabled": False}}})
    assert verdict.reason is Reason.GPU_MODEL_MISMATCH
    assert "asks for MI30X, which is no known GPU model; did you mean MI3" in verdict.message


@pytest.mark.parametrize(
    ("fields", "targets", "met"),
    [
        ({"tokens": 3500}, {"minTokensPerSecond": 3000}, "known to meet spec.targets"),
        ({"observed": Observation("MI300X", "0.32.0", 3000)}, {"minTokensPerSecond": 3000}, "known to meet spec.targets"),
        ({}, {"minTokensPerSecond": 3000}, "not known to meet spec.targets: nobody measured it"),
        ({"tokens": 3500}, {"maxTimeToFirstTokenMilliseconds": 500}, "not known to meet spec.targets: nobody measured it"),
        ({"tokens": 1, "first_token": 300}, {"maxTimeToFirstTokenMilliseconds": 500}, "known to meet spec.targets"),
        ({"tokens": 3500}, {}, None),
    ],
    ids=str,
)  # fmt: skip
def test_the_choice_says_whether_it_is_known_to_meet_the_targets(
    fields: dict[str, Any], targets: dict[str, int], met: str | None
) -> None:
    decision = choose([recipe("r", **fields)], ALL, request(targets=targets))
    assert chosen(decision) == "r"
    parts = decision.message.split(", ")
    assert [part for part in parts if "meet spec.targets" in part] == ([met] if met else [])


@pytest.mark.parametrize(
    ("performance", "told"),
    [
        ([("declared", 1850, None)], "its author claims 925"),
        ([("declared", 1850, None), ("declared", 900, None)], "its author claims 925"),
        ([("vendor", 4000, "0.11.1")], "another engine version reached 2000 (published with 0.11.1)"),
        ([("vendor", 4000, None), ("declared", 1850, None)], "published 2000 tok/s per GPU"),
        ([], None),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_do_not_count_are_told_beside_the_one_that_does(
    performance: list[tuple[str, int, str | None]], told: str | None
) -> None:
    points = [
        {"tokensPerSecond": rate, "provenance": {"kind": kind, "source": "x", "engineVersion": version}}
        for kind, rate, version in performance
    ]
    message = choose([recipe("r", count=2, performance=points)], ALL).message
    beside = [part for part in message.split(", ") if "claims" in part or "reached" in part]
    assert beside == ([told] if told and "published 2000" not in told else [])
    assert (told or "estimated ") in message


def test_a_choice_for_latency_tells_the_latency() -> None:
    decision = choose([recipe("r", inter_token=12, tokens=1)], ALL, request(recipe={"objective": "latency"}))
    assert "published 12 ms between tokens" in decision.message
    assert "between tokens" not in choose([recipe("r", inter_token=12, tokens=1)], ALL).message

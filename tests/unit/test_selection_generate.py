"""Configurations made from model facts: they fit, on the fewest devices of the nodes at hand, with all the context there is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Outcome, Reason
from aim_engine.catalog.models import Checkpoint, ModelFacts, model_catalog
from aim_engine.hub.config_json import describe
from aim_engine.inventory import Inventory
from aim_engine.selection import CatalogueFacts, Decision, Source, recipe_fit, validity_problems
from aim_engine.selection.generate import generated
from aim_engine.sizing import FitVerdict
from unit.model_configs import qwen3_5
from unit.selection_world import (
    FACTS,
    LLAMA_405B,
    QWEN,
    UNHURRIED,
    choose,
    chosen,
    cluster,
    node,
    request,
    verdict_on,
)

LLAMA_2, GEMMA = "meta-llama/Llama-2-70b-chat-hf", "google/gemma-3-27b-it"
MIXTRAL = "mistralai/Mixtral-8x22B-Instruct-v0.1"
HYBRID = "Qwen/Qwen3.6-27B"
CPX = cluster(node(gpus=64, partition="cpx_nps4"))


def context(decision: Decision) -> int:
    assert decision.choice
    found = decision.choice.assessment.args["max-model-len"]
    assert isinstance(found, int)
    return found


def limit(decision: Decision, name: str, reason: Reason) -> tuple[str, int]:
    """The field that is to blame for a refusal, and the largest value that would not be refused."""
    verdict = verdict_on(decision, name)
    assert verdict.reason is reason
    assert verdict.remedy
    field, most = verdict.remedy.removeprefix("set ").split(" <= ")
    return field, int(most)


@pytest.mark.parametrize(
    ("model", "inventory", "wishes", "name"),
    [
        (MIXTRAL, cluster(node(gpu="MI210", gpus=8)), {}, "generated/mixtral-8x22b-instruct-v0-1-mi210-8x-bf16"),
        (MIXTRAL, cluster(node(gpu="MI210", gpus=4)), {}, None),
        (MIXTRAL, cluster(node("a", "MI210", 4), node("b", "MI210", 8)), {}, "generated/mixtral-8x22b-instruct-v0-1-mi210-8x-bf16"),
        (QWEN, cluster(node(gpu="MI210", gpus=8)), {}, "generated/qwen3-32b-mi210-2x-bf16"),
        (QWEN, CPX, {}, "generated/qwen3-32b-mi300x-cpx-nps4-8x-bf16"),
        (LLAMA_2, CPX, {"precision": "fp16"}, "generated/llama-2-70b-chat-hf-mi300x-cpx-nps4-8x-fp16"),
        (LLAMA_2, CPX, {"gpuCount": 32}, "generated/llama-2-70b-chat-hf-mi300x-cpx-nps4-32x-fp16"),
        (LLAMA_2, cluster(node(gpus=4, partition="cpx_nps4")), {"precision": "fp16"}, None),
        (QWEN, cluster(node("a"), node("b", gpus=64, partition="cpx_nps4")), {}, "generated/qwen3-32b-mi300x-1x-bf16"),
        (GEMMA, cluster(node(gpu="MI210", gpus=4)), {}, "generated/gemma-3-27b-it-mi210-2x-bf16"),
        (GEMMA, cluster(node(gpu="MI210", gpus=4)), {"gpuCount": 1}, "generated/gemma-3-27b-it-mi210-1x-bf16"),
    ],
    ids=str,
)  # fmt: skip
def test_the_fewest_devices_of_the_largest_node_are_taken(
    model: str, inventory: Inventory, wishes: dict[str, Any], name: str | None
) -> None:
    assert chosen(choose([], inventory, request(model, recipe=wishes))) == name


def test_a_context_is_shortened_to_what_the_asked_gpus_hold() -> None:
    inventory, wishes = cluster(node(gpu="MI210", gpus=4)), {"gpuCount": 1}
    alone = choose([], inventory, request(GEMMA, recipe=wishes))
    assert 2048 <= context(alone) < 32768
    assert alone.choice is not None
    fit = alone.choice.assessment.fit
    assert fit is not None
    assert fit.memory is not None
    assert fit.memory.kv_tokens - context(alone) < 1024 * 2
    assert context(choose([], inventory, request(GEMMA))) == 32768


def test_a_context_that_was_asked_for_is_never_shortened() -> None:
    inventory = cluster(node(gpu="MI210", gpus=4))
    asked = request(GEMMA, recipe={"gpuCount": 1}, workload={"maxInputTokens": 30_000})
    decision = choose([], inventory, asked)
    assert decision.outcome is Outcome.NO_RECIPE
    field, most = limit(decision, "generated/gemma-3-27b-it-mi210-1x-bf16", Reason.CONTEXT_TOO_LONG)
    assert field == "spec.workload.maxInputTokens"
    shorter = request(GEMMA, recipe={"gpuCount": 1}, workload={"maxInputTokens": most})
    assert context(choose([], inventory, shorter)) == most
    more = choose([], inventory, request(GEMMA, workload={"maxInputTokens": 30_000}))
    assert chosen(more) == "generated/gemma-3-27b-it-mi210-2x-bf16"
    assert context(more) == 30_000


def test_a_count_that_cannot_hold_the_model_is_told_with_what_would_help() -> None:
    decision = choose([], cluster(node()), request(LLAMA_405B, recipe={"gpuCount": 2}))
    verdict = verdict_on(decision, "generated/llama-3-1-405b-instruct-mi300x-2x-bf16")
    assert verdict.reason is Reason.MEMORY_INSUFFICIENT
    assert verdict.remedy == "use 8 x MI300X"


class HubFacts(CatalogueFacts):
    """As when the Hub has told of one more model."""

    told = describe(HYBRID, qwen3_5(64, 5120, 24, 4, 48, 17408), None, "the Hub")

    def model(self, model_id: str) -> ModelFacts | None:
        return self.told.facts if model_id == HYBRID else super().model(model_id)

    def checkpoint(self, source_id: str) -> Checkpoint | None:
        return self.told.checkpoint if source_id == HYBRID else super().checkpoint(source_id)


@pytest.mark.parametrize(
    ("inventory", "sequences"),
    [(cluster(node(gpu="MI210", gpus=8)), 64), (CPX, None), (cluster(node()), None)],
    ids=["MI210, with which vLLM would not start", "partitions", "MI300X"],
)
def test_no_more_sequences_are_started_than_their_recurrent_states_leave_room_for(
    inventory: Inventory, sequences: int | None
) -> None:
    decision = choose([], inventory, request(HYBRID), HubFacts())
    assert decision.choice is not None
    assert decision.choice.assessment.args.get("max-num-seqs") == sequences
    assert decision.choice.assessment.fit is not None
    assert decision.choice.assessment.fit.verdict is FitVerdict.FITS


def test_more_sequences_than_their_states_leave_room_for_are_refused_in_the_users_own_words() -> None:
    devices = {"gpuCount": 4}
    asked = request(HYBRID, recipe=devices, workload={"maxBatchSize": 2000})
    decision = choose([], CPX, asked, HubFacts())
    assert decision.outcome is Outcome.NO_RECIPE
    refused = "generated/qwen3-6-27b-mi300x-cpx-nps4-4x-bf16"
    field, most = limit(decision, refused, Reason.MEMORY_INSUFFICIENT)
    assert field == "spec.workload.maxBatchSize"
    fewer = request(HYBRID, recipe=devices, workload={"maxBatchSize": most})
    assert choose([], CPX, fewer, HubFacts()).choice is not None


@pytest.mark.parametrize(
    "wish",
    [{"workload": {"maxBatchSize": 200}}, {"overrides": {"engineArgs": {"max-num-seqs": 200}}}],
    ids=str,
)
def test_devices_are_taken_for_as_many_sequences_as_are_asked_for(wish: dict[str, Any]) -> None:
    inventory = cluster(node(gpu="MI210", gpus=8))
    alone = choose([], inventory, request(HYBRID), HubFacts())
    assert chosen(alone) == "generated/qwen3-6-27b-mi210-1x-bf16"
    decision = choose([], inventory, request(HYBRID, **wish), HubFacts())
    assert chosen(decision) == "generated/qwen3-6-27b-mi210-2x-bf16"
    assert decision.choice is not None
    assert decision.choice.assessment.args["max-num-seqs"] == 200


def test_more_devices_are_taken_where_few_would_serve_a_handful_of_sequences() -> None:
    decision = choose([], CPX, request("Qwen/Qwen3.6-35B-A3B", recipe={"precision": "fp8"}))
    assert decision.choice is not None
    assert decision.choice.assessment.candidate.spec.hardware.gpu_count == 4
    assert int(str(decision.choice.assessment.args.get("max-num-seqs", 256))) >= 32


clusters = st.sampled_from(
    [
        cluster(node(gpu=gpu, gpus=gpus, partition=partition))
        for gpu, gpus, partition in (
            ("MI210", 4, None), ("MI210", 8, None), ("MI250X", 8, None), ("MI300X", 8, None), ("MI300X", 2, None),
            ("MI325X", 8, None), ("MI355X", 8, None), ("MI300X", 64, "cpx_nps4"), ("MI300X", 16, "dpx_nps1"),
            ("MI355X", 64, "cpx_nps4"),
        )
    ]
)  # fmt: skip


@UNHURRIED
@given(
    st.sampled_from(sorted(model_catalog())), clusters,
    st.sampled_from([{}, {"gpuCount": 1}, {"gpuCount": 4}, {"precision": "fp8"}, {"precision": "bf16"}]),
    st.one_of(st.none(), st.integers(1, 200_000)),
)  # fmt: skip
def test_whatever_is_generated_without_a_count_is_valid_and_fits(
    model: str, inventory: Inventory, wishes: dict[str, Any], tokens: int | None
) -> None:
    load = {"maxInputTokens": tokens} if tokens else {}
    for each in generated(request(model, recipe=wishes, workload=load), inventory, FACTS):
        assert each.source is Source.GENERATED
        length = each.spec.engine_args["max-model-len"]
        assert isinstance(length, int)
        most = model_catalog()[model].max_position_embeddings
        assert length == min(tokens, most) if tokens else min(2048, most) <= length <= min(32768, most)
        if "gpuCount" in wishes:
            assert each.spec.hardware.gpu_count == wishes["gpuCount"]
            continue
        assert validity_problems(each, FACTS) == ()
        answer = recipe_fit(each, FACTS)
        assert answer is not None
        assert answer.verdict is FitVerdict.FITS

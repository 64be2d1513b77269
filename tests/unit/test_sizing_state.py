"""Recurrent states: how many sequences a hybrid model can be started with, against what engines printed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.api.enums import Backend, Precision, Reason
from aim_engine.catalog.gpus import GIB, gpu_catalog
from aim_engine.catalog.models import ModelFacts, model_catalog
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import engine
from aim_engine.hub.config_json import ConfigError, describe
from aim_engine.sizing import FitVerdict, explain, fit, most_sequences, remedies, told
from aim_engine.sizing.kv_cache import (
    kv_bytes_per_token_per_full_layer,
    state_bytes_per_sequence,
    states_that_fit,
    tokens_that_fit,
)
from unit.model_configs import MODELS, qwen3_5

NEXT = "Qwen/Qwen3-Next-80B-A3B-Instruct"


def facts_of(config: dict[str, Any]) -> ModelFacts:
    return describe("acme/model", config, None, "test").facts


NEXT_80B = facts_of(next(each.config for each in MODELS if each.id == NEXT))
DENSE_0_8B = facts_of(qwen3_5(24, 1024, 8, 2, 16, 3584, tie_word_embeddings=True))
DENSE_9B = facts_of(qwen3_5(32, 4096, 16, 4, 32, 12288))
DENSE_27B = facts_of(qwen3_5(64, 5120, 24, 4, 48, 17408))
MOE_35B = facts_of(qwen3_5(40, 2048, 16, 2, 32, experts=(256, 8, 512)))


@pytest.mark.parametrize(
    ("facts", "tensor", "element", "printed"),
    [
        pytest.param(NEXT_80B, 2, None, 544, id="Qwen3-Next-80B-A3B on vLLM 0.10.2"),
        pytest.param(DENSE_0_8B, 1, None, 544, id="Qwen3.5-0.8B on vLLM 0.21"),
        pytest.param(DENSE_9B, 1, None, 528, id="Qwen3.5-9B"),
        pytest.param(DENSE_9B, 1, 1.0, 1056, id="Qwen3.5-9B with an FP8 KV cache"),
        pytest.param(DENSE_27B, 1, None, 784, id="Qwen3.5-27B on vLLM 0.19"),
        pytest.param(MOE_35B, 1, None, 1056, id="Qwen3.5-35B-A3B on ROCm"),
    ],
)
def test_a_page_holds_the_tokens_that_the_engine_prints(
    facts: ModelFacts, tensor: int, element: float | None, printed: int
) -> None:
    """ "Setting attention block size to ... tokens to ensure that attention page size is >= mamba page size"."""
    plan = EnginePlan(tensor_parallel=tensor, kv_cache_bytes_per_element=element)
    block = printed * kv_bytes_per_token_per_full_layer(facts, plan) * (facts.kv_layers or 0)
    assert states_that_fit(facts, plan, 100 * block) == 100
    assert states_that_fit(facts, plan, 100 * block - 1) == 99


@pytest.mark.parametrize(
    ("facts", "tensor", "gib", "printed"),
    [
        # vllm-project/vllm issue 49064: 2 x RX 7900 XT, vLLM 0.23.1, Qwen3.8-27B, which has the dimensions of Qwen3.5-27B
        pytest.param(DENSE_27B, 2, 3.86, 161, id="27B over two GPUs"),
        # one GB10, vLLM 0.30, nvidia/Qwen3.8-27B-NVFP4, without drafts
        pytest.param(DENSE_27B, 1, 11.6, 242, id="27B on one"),
        # vLLM 0.27.1, Qwen/Qwen-Image-2.1-PE-T2I, which has the dimensions of Qwen3.5-9B
        pytest.param(DENSE_9B, 1, 1.74, 108, id="9B on one"),
    ],
)
def test_as_many_states_fit_as_the_engine_prints(
    facts: ModelFacts, tensor: int, gib: float, printed: int
) -> None:
    """ "max_num_seqs exceeds available Mamba cache blocks (...)", beside the KV cache memory, which is told in two digits."""
    plan = EnginePlan(tensor_parallel=tensor)
    counted = states_that_fit(facts, plan, gib * GIB)
    assert counted == pytest.approx(printed, abs=1)


def test_the_longest_sequence_is_the_one_that_the_engine_prints() -> None:
    """Issue 49064 again: "the estimated maximum model length is 123872", in whole blocks, of 3.86 GiB."""
    fits = tokens_that_fit(DENSE_27B, EnginePlan(tensor_parallel=2), 3.86 * GIB)
    assert fits == pytest.approx(123_872, rel=0.005)


def test_states_are_in_the_format_that_the_configuration_names() -> None:
    plan = EnginePlan(tensor_parallel=1)
    config = qwen3_5(64, 5120, 24, 4, 48, 17408)
    wide = state_bytes_per_sequence(facts_of(config), plan)
    for name in ("bfloat16", "float16", None):
        narrow = {**config, "text_config": {**config["text_config"], "mamba_ssm_dtype": name}}
        assert 1.9 < wide / state_bytes_per_sequence(facts_of(narrow), plan) < 2
    for value in ("float64", ["float32"], 4):
        wrong = {**config, "text_config": {**config["text_config"], "mamba_ssm_dtype": value}}
        with pytest.raises(ConfigError, match="mamba_ssm_dtype"):
            facts_of(wrong)


def test_stages_of_a_pipeline_hold_their_own_layers() -> None:
    whole, halves = EnginePlan(tensor_parallel=1), EnginePlan(tensor_parallel=1, pipeline_parallel=2)
    assert states_that_fit(DENSE_27B, halves, GIB) == pytest.approx(
        2 * (states_that_fit(DENSE_27B, whole, GIB) or 0), abs=1
    )


def test_kinds_of_layers_that_are_almost_as_many_share_groups_of_the_larger_number() -> None:
    plan = EnginePlan(tensor_parallel=1)

    def blocks(attention: int) -> int:
        whole = (20 - attention) * GIB
        mixed = replace(DENSE_27B, layers=20, kv_layers=attention, state_bytes_per_sequence=whole)
        return states_that_fit(mixed, plan, 1000 * GIB) or 0

    assert (blocks(5), blocks(9), blocks(15)) == (200, 90, 200)
    assert blocks(0) == 50, "without attention the states of all layers are one group"


def test_models_without_states_are_not_bound() -> None:
    plan = EnginePlan(tensor_parallel=1, state_for_all_seqs=True)
    dense = model_catalog()["Qwen/Qwen3-32B"]
    assert states_that_fit(dense, plan, GIB) is None
    assert most_sequences(dense, None, gpu_catalog()["MI300X"], None, Precision.BF16, plan) is None


def test_more_sequences_than_states_are_refused_and_the_remedy_fits() -> None:
    gpu, facts = gpu_catalog()["MI300X"], model_catalog()[NEXT]
    args = {"max-num-seqs": 4096}
    plan = engine(Backend.VLLM).plan(args, 1, gpu)
    answer = fit(facts, None, gpu, None, Precision.BF16, plan)
    most = most_sequences(facts, None, gpu, None, Precision.BF16, plan)
    assert most is not None
    assert 1024 < most < 4096
    more = engine(Backend.VLLM).plan({"max-num-seqs": most + 1}, 1, gpu)
    assert fit(facts, None, gpu, None, Precision.BF16, more).verdict is FitVerdict.DOES_NOT_FIT
    assert (answer.verdict, answer.reason) == (FitVerdict.DOES_NOT_FIT, Reason.MEMORY_INSUFFICIENT)
    assert (answer.needed, answer.has) == ("4096 sequences", f"{most} sequences")
    assert answer.message == (
        f"max-num-seqs 4,096 needs KV cache for as many recurrent states at once; memory is left for {most:,}"
    )
    found = remedies(facts, None, gpu, None, Precision.BF16, plan)
    assert (told(found) or "").startswith(f"set max-num-seqs <= {most}, or use 2 x MI300X")
    fewer = engine(Backend.VLLM).plan({"max-num-seqs": most}, 1, gpu)
    assert fit(facts, None, gpu, None, Precision.BF16, fewer).verdict is FitVerdict.FITS
    steps = {step.name: step for step in explain(facts, None, gpu, None, Precision.BF16, plan)}
    assert steps["sequences at start"].value == most


@pytest.mark.parametrize("asked", [2048, 8192, 60_000])
def test_the_limit_is_the_same_whatever_was_asked_for(asked: int) -> None:
    """The logits of so many sequences would take memory too, at last all of it."""
    gpu, facts = gpu_catalog()["MI300X"], model_catalog()[NEXT]
    plan = engine(Backend.VLLM).plan({"max-num-seqs": asked}, 1, gpu)
    assert most_sequences(facts, None, gpu, None, Precision.BF16, plan) == most_sequences(
        facts, None, gpu, None, Precision.BF16, replace(plan, max_num_seqs=4096)
    )


@pytest.mark.parametrize(
    "args",
    [
        {"enforce-eager": True},
        {"compilation-config": {"cudagraph_mode": "NONE"}},
        {"compilation-config": {"cudagraph_mode": "PIECEWISE"}},
        {"optimization-level": "0"},
        pytest.param({"mamba-ssm-cache-dtype": "bfloat16"}, id="states of another form are not sized"),
    ],
    ids=str,
)
def test_an_engine_that_captures_no_whole_steps_is_not_bound(args: dict[str, object]) -> None:
    gpu, facts = gpu_catalog()["MI300X"], model_catalog()[NEXT]
    plan = engine(Backend.VLLM).plan({"max-num-seqs": 4096, **args}, 1, gpu)
    assert fit(facts, None, gpu, None, Precision.BF16, plan).verdict is FitVerdict.FITS
    steps = explain(facts, None, gpu, None, Precision.BF16, plan)
    assert "sequences at start" not in {step.name for step in steps}


@pytest.mark.parametrize(
    ("args", "verdict"), [({}, FitVerdict.FITS), ({"max-num-seqs": 9000}, FitVerdict.DOES_NOT_FIT)]
)
def test_a_container_with_settings_of_its_own_is_held_to_what_is_asked_of_it(
    args: dict[str, object], verdict: FitVerdict
) -> None:
    gpu = gpu_catalog()["MI210"]
    plan = replace(engine(Backend("aim")).plan(args, 1, gpu), max_model_len=8192)
    assert fit(DENSE_27B, None, gpu, None, Precision.BF16, plan).verdict is verdict


def test_sglang_takes_as_many_as_fit_by_itself() -> None:
    gpu, facts = gpu_catalog()["MI300X"], model_catalog()[NEXT]
    plan = engine(Backend("sglang")).plan({"max-running-requests": 4096}, 1, gpu)
    assert fit(facts, None, gpu, None, Precision.BF16, plan).verdict is FitVerdict.FITS

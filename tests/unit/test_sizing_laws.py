"""Laws of sizing that hold for every model and GPU."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import GIB, GPU, gpu_catalog, partition_divisor
from aim_engine.catalog.models import Checkpoint, checkpoint_catalog, model_facts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing import Fit, FitVerdict, Remedy, estimate, fit, remedies

gpus = st.sampled_from(sorted(gpu_catalog().values(), key=lambda gpu: gpu.generation))
checkpoints = st.sampled_from(sorted(checkpoint_catalog().values(), key=lambda stored: stored.id))
contexts = st.one_of(st.none(), st.integers(1, 20_000_000))
plain_plans = st.builds(
    EnginePlan,
    tensor_parallel=st.sampled_from([1, 2, 3, 4, 8, 16]),
    pipeline_parallel=st.sampled_from([1, 2]),
    data_parallel=st.sampled_from([1, 2]),
    expert_parallel=st.booleans(),
    max_model_len=st.one_of(st.none(), st.integers(1, 300_000)),
    max_model_len_auto=st.booleans(),
    max_num_batched_tokens=st.integers(1, 65536),
    whole_prompts=st.booleans(),
    max_num_seqs=st.one_of(st.integers(1, 1024), st.integers(1, 16384)),
    gpu_memory_utilization=st.floats(0.1, 1),
    kv_cache_bytes_per_element=st.sampled_from([None, 1.0, 2.0]),
    hybrid_kv_cache=st.booleans(),
    context_extended=st.booleans(),
    state_for_all_seqs=st.booleans(),
)


ONLINE = {"quantization": "fp8", "online_precision": Precision.FP8}
FP8_CACHE = {"kv_cache_bytes_per_element": 1.0, "kv_cache_precision": Precision.FP8}
plans = st.builds(
    lambda plan, changes: replace(plan, **changes),
    plain_plans,
    st.sampled_from([{}, {}, {}, ONLINE, FP8_CACHE, {**ONLINE, **FP8_CACHE}]),
)
modes = st.sampled_from([None, None, "spx", "dpx", "qpx", "cpx_nps4", "tpx"])


def ask(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, context: int | None = None, partition: str | None = None
) -> Fit:
    return fit(
        model_facts(stored.model), stored, gpu, partition, stored.precision, plan, required_context=context
    )


def helping(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, context: int | None, partition: str | None
) -> tuple[Remedy, ...]:
    return remedies(
        model_facts(stored.model), stored, gpu, partition, stored.precision, plan, required_context=context
    )


@given(checkpoints, gpus, modes, plans, contexts)
@settings(max_examples=600, deadline=None)
def test_every_remedy_makes_it_fit(
    stored: Checkpoint, gpu: GPU, partition: str | None, plan: EnginePlan, context: int | None
) -> None:
    facts = model_facts(stored.model)
    before = ask(stored, gpu, plan, context, partition).verdict
    found = helping(stored, gpu, plan, context, partition)
    assert not found or before is FitVerdict.DOES_NOT_FIT
    for each in found:
        after = fit(
            facts, each.checkpoint, gpu, each.partition, each.precision, each.plan, required_context=each.required_context
        )  # fmt: skip
        assert after.verdict is FitVerdict.FITS, each.text
    assert len({each.text for each in found}) == len(found) <= 5


@given(checkpoints, gpus, modes, plans, contexts)
@settings(max_examples=300, deadline=None)
def test_where_no_remedy_is_told_none_exists(
    stored: Checkpoint, gpu: GPU, partition: str | None, plan: EnginePlan, context: int | None
) -> None:
    """Everything is tried that may be changed, each at its most generous, in a plain loop."""
    if ask(stored, gpu, plan, context, partition).verdict is not FitVerdict.DOES_NOT_FIT:
        return
    if helping(stored, gpu, plan, context, partition):
        return
    model = model_facts(stored.model)
    assert model is not None
    partition = partition if partition_divisor(gpu, partition) else None
    fp8 = Precision.FP8 in gpu.hardware_precisions and model.mla_index_bytes is None
    tokens = 1024 if plan.max_model_len is None else min(1024, plan.max_model_len)
    for other in checkpoint_catalog().values():
        if other.model != model.id:
            continue
        for size, experts, online in product((1, 2, 4, 8, 16, 32, 64), (False, True), (None, Precision.FP8)):
            states = plan.state_for_all_seqs and model.state_bytes_per_sequence is not None
            generous = replace(
                plan, max_num_seqs=1 if states else plan.max_num_seqs, tensor_parallel=size, pipeline_parallel=1, data_parallel=1, expert_parallel=experts,
                max_model_len=tokens, max_model_len_auto=False, online_precision=online, kv_cache_precision=None,
                max_num_batched_tokens=min(plan.max_num_batched_tokens, 2048 if plan.max_num_seqs <= 2048 else 65536),
                gpu_memory_utilization=max(plan.gpu_memory_utilization, 0.92),
                kv_cache_bytes_per_element=1.0 if fp8 else plan.kv_cache_bytes_per_element,
            )  # fmt: skip
            answer = fit(model, other, gpu, partition, other.precision, generous)
            assert answer.verdict is FitVerdict.DOES_NOT_FIT, (other.id, generous)


@given(checkpoints, gpus, modes, plans, contexts)
@settings(max_examples=300, deadline=None)
def test_a_remedy_says_what_it_changes(
    stored: Checkpoint, gpu: GPU, partition: str | None, plan: EnginePlan, context: int | None
) -> None:
    for each in helping(stored, gpu, plan, context, partition):
        said = each.text
        for pattern, value in (
            (r"use (\d+) x ", each.gpus),
            (r"max-model-len (?:<=|to) (\d+)", each.plan.max_model_len),
            (r"maxInputTokens \+ maxOutputTokens <= (\d+)", each.required_context),
            (r"max-num-batched-tokens to (\d+)", each.plan.max_num_batched_tokens),
            (r"gpu-memory-utilization to ([\d.]+)", each.plan.gpu_memory_utilization),
            (r"max-num-seqs <= (\d+)", each.plan.max_num_seqs),
        ):
            for number in re.findall(pattern, said):
                assert float(number) == value, said
        assert (each.plan.gpus != plan.gpus) <= (f"use {each.gpus} x " in said)
        assert (each.checkpoint is not stored) == (each.checkpoint is not None and each.checkpoint.id in said)
        assert (each.required_context != context) == ("maxInputTokens" in said)
        assert (each.plan.max_model_len != plan.max_model_len) == ("max-model-len" in said)
        assert (each.plan.whole_prompts is not plan.whole_prompts) == (
            "enable-chunked-prefill to true" in said
        )
        assert (each.plan.expert_parallel is not plan.expert_parallel) == ("enable-expert-parallel" in said)


@given(checkpoints, gpus, plans, contexts)
def test_a_known_model_gets_an_answer_with_a_reason_when_it_is_no(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, context: int | None
) -> None:
    answer = ask(stored, gpu, plan, context)
    assert answer.verdict is not FitVerdict.UNKNOWN
    assert answer.message
    assert (answer.verdict is FitVerdict.FITS) == (answer.reason is None)


@given(checkpoints, gpus, plans, contexts, st.integers(0, 300))
def test_more_memory_never_makes_a_fitting_model_unfit(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, context: int | None, more_gib: int
) -> None:
    larger = replace(gpu, vram_bytes=gpu.vram_bytes + more_gib * GIB)
    if ask(stored, gpu, plan, context).verdict is FitVerdict.FITS:
        assert ask(stored, larger, plan, context).verdict is FitVerdict.FITS


@given(checkpoints, gpus, plans, st.integers(1, 10_000_000), st.integers(0, 10_000_000))
def test_a_longer_requirement_never_turns_no_into_yes(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, context: int, more: int
) -> None:
    if ask(stored, gpu, plan, context + more).verdict is FitVerdict.FITS:
        assert ask(stored, gpu, plan, context).verdict is FitVerdict.FITS


@given(checkpoints, gpus, plans, st.integers(1, 300_000))
def test_a_shorter_context_setting_never_needs_more_memory(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, length: int
) -> None:
    longer, shorter = replace(plan, max_model_len=length), replace(plan, max_model_len=max(1, length // 2))
    if ask(stored, gpu, longer).verdict is FitVerdict.FITS:
        assert ask(stored, gpu, shorter).verdict is FitVerdict.FITS


@given(checkpoints, gpus, plans)
def test_what_fits_can_hold_the_context_it_promises(stored: Checkpoint, gpu: GPU, plan: EnginePlan) -> None:
    answer = ask(stored, gpu, plan)
    if answer.verdict is FitVerdict.FITS and answer.memory is not None and not plan.max_model_len_auto:
        memory = answer.memory
        assert memory.usable_context == memory.max_context <= memory.kv_tokens
        assert memory.weights_bytes_per_gpu + memory.overhead_bytes < memory.usable_bytes <= gpu.vram_bytes


@given(checkpoints, gpus, plans, contexts)
def test_the_answer_does_not_change_when_asked_again(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, context: int | None
) -> None:
    assert ask(stored, gpu, plan, context) == ask(stored, gpu, plan, context)


@given(checkpoints, gpus, plans, st.floats(1, 4))
def test_more_bandwidth_is_never_slower(
    stored: Checkpoint, gpu: GPU, plan: EnginePlan, factor: float
) -> None:
    facts = model_facts(stored.model)
    assert facts is not None
    faster = replace(gpu, memory_bandwidth_bytes_per_s=gpu.memory_bandwidth_bytes_per_s * factor)
    before = estimate(facts, stored, gpu, plan, stored.precision)
    after = estimate(facts, stored, faster, plan, stored.precision)
    assert after.tokens_per_second >= before.tokens_per_second > 0
    assert 0 < after.inter_token_latency_ms <= before.inter_token_latency_ms


@given(gpus, plain_plans, st.sampled_from(list(Precision)))
def test_an_unknown_model_never_gets_a_memory_verdict(
    gpu: GPU, plan: EnginePlan, precision: Precision
) -> None:
    answer = fit(None, None, gpu, None, precision, plan)
    runnable = precision in gpu.runnable_precisions and plan.gpus <= gpu.most_gpus_per_node
    assert answer.verdict is (FitVerdict.UNKNOWN if runnable else FitVerdict.DOES_NOT_FIT)
    assert answer.memory is None

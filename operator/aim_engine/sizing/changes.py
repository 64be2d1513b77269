"""What may be changed about a question, kind by kind: each yields the changed question and the words that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from aim_engine.api.enums import Precision
from aim_engine.catalog.assumptions import division_sizes, memory_assumptions, remedy_settings
from aim_engine.catalog.models import Checkpoint, checkpoint_catalog
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.case import Case, longest_context, memory_of, sequences_to_start
from aim_engine.sizing.weights import SIXTEEN_BIT

Change = tuple[Case, str]
Kind = Callable[[Case], Iterator[Change]]


def contexts(case: Case) -> Iterator[Change]:
    """A context that the model allows and the KV cache holds; requests as long as it, or it as long as the requests."""
    model, plan = case.model, case.plan
    if model is None or case.vram_bytes is None:
        return
    served, required = longest_context(model, plan), case.required_context or 0
    cap = served if plan.context_extended else min(served, model.max_position_embeddings)
    limit, name = _within(memory_of(case, model).kv_tokens, cap), plan.names.context
    automatic = plan.max_model_len_auto and plan.max_model_len is None
    if limit and required > limit and (automatic or limit == served):
        yield replace(case, required_context=limit), f"set maxInputTokens + maxOutputTokens <= {limit}"
    elif limit and required > limit:
        yield (
            _served(replace(case, required_context=limit), limit),
            f"set maxInputTokens + maxOutputTokens <= {limit} and {name} to {limit}",
        )
    elif limit and limit < served and not automatic:
        yield _served(case, limit), f"set {name} <= {limit}"
    if required > served and (plan.context_extended or required <= model.max_position_embeddings):
        yield _served(case, required), f"raise {name} to {required}"


def _within(held: int, cap: int) -> int:
    """The longest context, told in round steps where memory decides; 0 when it is shorter than a step."""
    step = remedy_settings().context_step
    return cap if held >= cap else held // step * step


def _served(case: Case, context: int) -> Case:
    return replace(case, plan=replace(case.plan, max_model_len=context))


def kv_caches(case: Case) -> Iterator[Change]:
    """An FP8 KV cache where the GPU computes FP8, a 16-bit one where it cannot read what was asked for.

    Not for sparse attention, whose kernels on ROCm read no other format than their own.
    """
    plan, gpu, model = case.plan, case.gpu, case.model
    if plan.kv_cache_precision in gpu.refused_kv_cache_precisions:
        yield _kv_cache(case, None, None), f"remove {plan.names.kv_cache}"
        return
    sparse = model is not None and model.mla_index_bytes is not None
    if (
        not sparse
        and (plan.kv_cache_bytes_per_element or 2) > 1.5
        and Precision.FP8 in gpu.hardware_precisions
    ):
        yield _kv_cache(case, 1.0, Precision.FP8), f"use {plan.names.kv_cache_fp8}"


def _kv_cache(case: Case, element: float | None, precision: Precision | None) -> Case:
    plan = replace(case.plan, kv_cache_bytes_per_element=element, kv_cache_precision=precision)
    return replace(case, plan=plan)


def expert_parallelism(case: Case) -> Iterator[Change]:
    """Experts dealt out whole, where there are any."""
    plan, known = case.plan, case.model
    if known is not None and bool(known.experts) is not plan.expert_parallel:
        words = (
            f"remove {plan.names.expert_parallel}"
            if plan.expert_parallel
            else f"set {plan.names.expert_parallel_on}"
        )
        yield replace(case, plan=replace(plan, expert_parallel=not plan.expert_parallel)), words


def gpu_counts(case: Case) -> Iterator[Change]:
    """Other numbers of GPUs of one node, the nearest first: in the same stages and data parallel ranks, then without."""
    plan = case.plan
    spread = plan.pipeline_parallel * plan.data_parallel
    found: list[tuple[tuple[int, bool, int], EnginePlan, str]] = []
    for size in division_sizes():
        kept = size * spread
        if kept <= case.most_gpus and size != plan.tensor_parallel:
            wider = replace(plan, tensor_parallel=size)
            found.append(((abs(kept - plan.gpus), False, kept), wider, f"use {kept} x {case.device}"))
        if spread * plan.decode_context_parallel > 1 and size <= case.most_gpus:
            alone = replace(
                plan, tensor_parallel=size, pipeline_parallel=1, data_parallel=1, decode_context_parallel=1
            )
            words = f"use {size} x {case.device} by tensor parallelism alone"
            found.append(((abs(size - plan.gpus), True, size), alone, words))
    for _, changed, words in sorted(found, key=lambda each: each[0]):
        yield replace(case, plan=changed), words


def weights(case: Case) -> Iterator[Change]:
    """Other known checkpoints of the model that the GPU runs, the nearest format first; FP8 made while loading.

    A quantisation that was asked for belongs to the weights it was asked for, and goes with them.
    """
    plan, own = case.plan, case.precision if case.checkpoint is None else case.checkpoint.precision
    plain = replace(plan, quantization=None, online_precision=None)
    quantised, name = plan.quantization is not None, plan.names.quantization
    if quantised and own in case.gpu.runnable_precisions:
        yield replace(case, precision=own, plan=plain), f"remove {name}"
    for stored in _others(case):
        words = f"use {stored.id} ({stored.precision}){f' without {name}' if quantised else ''}"
        yield replace(case, checkpoint=stored, precision=stored.precision, plan=plain), words
    if not quantised and case.loaded in SIXTEEN_BIT and Precision.FP8 in case.gpu.hardware_precisions:
        online = replace(plan, quantization="fp8", online_precision=Precision.FP8)
        yield replace(case, precision=Precision.FP8, plan=online), f"set {name} fp8"


def _others(case: Case) -> list[Checkpoint]:
    formats, computed = memory_assumptions().formats, case.gpu.hardware_precisions
    now = formats[case.loaded].bytes
    own = None if case.checkpoint is None else (case.checkpoint.precision, case.checkpoint.quantization_block)
    known = _checkpoints_of(case.model.id) if case.model is not None else ()
    runnable = [
        each
        for each in known
        if {each.precision, each.rest_precision or each.precision} <= case.gpu.runnable_precisions
        and (each.precision, each.quantization_block) != own
    ]
    return sorted(
        runnable,
        key=lambda each: (abs(formats[each.precision].bytes - now), each.precision not in computed, each.id),
    )


@cache
def _checkpoints_of(model_id: str) -> tuple[Checkpoint, ...]:
    return tuple(each for each in checkpoint_catalog().values() if each.model == model_id)


def batches(case: Case) -> Iterator[Change]:
    """Smaller batches, whose activations take less: of parts of prompts instead of whole ones, and of fewer tokens."""
    plan, fewer = case.plan, remedy_settings().max_num_batched_tokens
    parted = replace(plan, whole_prompts=False)
    on = plan.names.chunked_prefill_on if plan.whole_prompts else None
    if on:
        yield replace(case, plan=parted), on
    if plan.max_num_seqs <= fewer < plan.max_num_batched_tokens:
        changed = replace(parted, max_num_batched_tokens=fewer)
        smaller = f"set {plan.names.batch} to {fewer}"
        yield (
            replace(case, plan=changed),
            smaller if on is None or plan.names.batch in on else f"{on} and {smaller}",
        )


def sequences(case: Case) -> Iterator[Change]:
    """As many sequences at a time as there is memory for their recurrent states."""
    if case.vram_bytes is None:
        return
    most, plan = sequences_to_start(case), case.plan
    if most is not None and 1 <= most < plan.max_num_seqs:
        changed = replace(plan, max_num_seqs=most)
        yield replace(case, plan=changed), f"set {plan.names.sequences} <= {most}"


def utilizations(case: Case) -> Iterator[Change]:
    """The usual part of the memory, where less was allowed."""
    plan, usual = case.plan, remedy_settings().gpu_memory_utilization
    if plan.gpu_memory_utilization < usual and plan.kv_cache_memory_bytes is None:
        changed = replace(plan, gpu_memory_utilization=usual)
        yield replace(case, plan=changed), f"set {plan.names.utilization} to {usual:g}"


def partitions(case: Case) -> Iterator[Change]:
    """A mode that the GPU has, where it lacks the one asked for."""
    if case.vram_bytes is None:
        yield replace(case, partition=None), "use whole GPUs"
        for mode in case.gpu.partitions:
            yield replace(case, partition=mode), f"use {mode}"


NEAREST: Mapping[str, Kind] = {
    "context": contexts,
    "sequences": sequences,
    "KV cache": kv_caches,
    "experts": expert_parallelism,
    "utilization": utilizations,
    "batch": batches,
    "GPUs": gpu_counts,
    "weights": weights,
    "partition": partitions,
}
"""All kinds of changes, the ones that cost the user least first."""

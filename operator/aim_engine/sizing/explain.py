"""The memory model step by step, as ordered rows for people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import GPU, partition_vram_bytes
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.fit import Fit, FitVerdict, fit, most_sequences, smallest_gpu_count
from aim_engine.sizing.kv_cache import (
    kv_bytes_for_context,
    kv_bytes_per_token_per_full_layer,
    kv_bytes_per_token_per_layer,
    kv_layers,
    sequences_that_fit,
    state_bytes_per_sequence,
    states_that_fit,
)
from aim_engine.sizing.memory import MemoryModel, memory_model
from aim_engine.sizing.overhead import activation_bytes_per_token, step_tokens
from aim_engine.sizing.remedy import Remedy, hopeless, remedies, told
from aim_engine.sizing.weights import bytes_per_weight, expert_share, stage_layers, weight_format, weights


@dataclass(frozen=True, slots=True)
class Step:
    """One number on the way from a model to a verdict."""

    name: str
    value: int | float | str
    unit: str
    """`bytes`, `tokens`, ...; empty for words and bare numbers."""
    how: str
    """What it was computed from."""


@dataclass(frozen=True, slots=True)
class _Case:
    model: ModelFacts
    checkpoint: Checkpoint | None
    gpu: GPU
    partition: str | None
    precision: Precision
    plan: EnginePlan
    memory: MemoryModel
    context: int


def explain(
    model: ModelFacts | None,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    context: int | None = None,
) -> tuple[Step, ...]:
    """Every number of one replica in the order of computation; the verdict last.

    `context` is the length of a sequence for which concurrency is told; None: the longest that is served. Of a model
    whose facts are unknown, or a partition mode the GPU lacks, only the verdict is told.
    """
    vram_bytes = partition_vram_bytes(gpu, partition)
    answer = fit(model, checkpoint, gpu, partition, precision, plan, required_context=context)
    verdict = Step("verdict", answer.verdict.value, "", answer.message)
    found = remedies(model, checkpoint, gpu, partition, precision, plan, required_context=context)
    remedy = list(_remedy(model, gpu, partition, answer, found))
    if model is None or vram_bytes is None:
        return (verdict, *remedy)
    memory = memory_model(model, checkpoint, precision, plan, vram_bytes)
    case = _Case(
        model, checkpoint, gpu, partition, precision, plan, memory, context or max(1, memory.usable_context)
    )
    return (
        *_weights(case),
        *_room(case, vram_bytes),
        *_overhead(case),
        *_kv_cache(case),
        *_answers(case),
        verdict,
        *remedy,
    )


def _remedy(
    model: ModelFacts | None, gpu: GPU, partition: str | None, answer: Fit, found: tuple[Remedy, ...]
) -> Iterator[Step]:
    if found:
        yield Step("remedy", told(found) or "", "", "smallest changes, each of which helps")
    elif model is not None and answer.verdict is FitVerdict.DOES_NOT_FIT:
        yield Step(
            "remedy", "none", "", hopeless(gpu.model if partition is None else f"{gpu.model} in {partition}")
        )


def concurrency(
    model: ModelFacts,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    context: int,
) -> int:
    """Sequences of a context that the KV caches of one replica hold at once, at most `max-num-seqs` per rank.

    0 where not one fits, and for a partition mode the GPU lacks.
    """
    vram_bytes = partition_vram_bytes(gpu, partition)
    if vram_bytes is None:
        return 0
    room = memory_model(model, checkpoint, precision, plan, vram_bytes).kv_bytes
    return plan.data_parallel * min(plan.max_num_seqs, sequences_that_fit(model, plan, room, context))


def _weights(case: _Case) -> Iterator[Step]:
    model, plan, checkpoint = case.model, case.plan, case.checkpoint
    parts = weights(model, checkpoint, case.precision, plan)
    form = weight_format(checkpoint, case.precision, plan)
    width = bytes_per_weight(model, checkpoint, case.precision, plan)
    published = checkpoint is not None and parts.total == (checkpoint.loaded_bytes or checkpoint.bytes)
    files = (
        "half of the checkpoint's files, which are in 32 bit"
        if checkpoint and checkpoint.loaded_bytes
        else "size of the checkpoint's files"
    )
    yield Step("parameters", model.parameters, "", model.source)
    if model.active_parameters != model.parameters:
        yield Step(
            "active parameters", model.active_parameters, "", "read per token; all of them are in memory"
        )
    yield Step("weight format", form.value, "", _format_origin(case, form))
    yield Step("weight width", width, "bytes", "of one quantised weight with its part of the scales")
    yield Step(
        "weights",
        parts.total,
        "bytes",
        files if published else "parameters x width",
    )
    matrices = "one matrix for input and output" if parts.tied else "input and output, a matrix each"
    yield Step(
        "embeddings", parts.embedding * (1 if parts.tied else 2), "bytes",
        f"vocabulary {model.vocab_size:,} x hidden size {model.hidden_size:,} x 2 bytes; {matrices}"
        if model.vocab_size else "the vocabulary is not known; counted with the rest",
    )  # fmt: skip
    if parts.experts:
        yield Step(
            "routed experts", parts.experts, "bytes",
            f"{model.experts} experts, {model.experts_per_token} per token; from total and active parameters",
        )  # fmt: skip
        dealt = "whole experts dealt out over" if plan.expert_parallel else "every expert cut over"
        yield Step(
            "experts per GPU", expert_share(model, plan), "",
            f"{dealt} tensor {plan.tensor_parallel} x data {plan.data_parallel} ranks",
        )  # fmt: skip
    yield Step(
        "weights per GPU", case.memory.weights_bytes_per_gpu, "bytes",
        f"tensor {plan.tensor_parallel}, pipeline {plan.pipeline_parallel} "
        f"(largest stage {max(stage_layers(model.layers, plan.pipeline_parallel))} of {model.layers} layers), "
        f"data {plan.data_parallel} (copies all but experts); {plan.weights_offload_bytes:,} bytes in host memory",
    )  # fmt: skip


def _format_origin(case: _Case, form: Precision) -> str:
    if case.checkpoint is None:
        return "as asked"
    if form is case.checkpoint.precision:
        return f"of the checkpoint {case.checkpoint.id}"
    return f"quantised while loading {case.checkpoint.id}"


def _room(case: _Case, vram_bytes: int) -> Iterator[Step]:
    device = case.gpu.model if case.partition is None else f"{case.gpu.model} in {case.partition}"
    yield Step("GPU memory", vram_bytes, "bytes", device)
    yield Step(
        "usable memory", case.memory.usable_bytes, "bytes",
        f"gpu-memory-utilization {case.plan.gpu_memory_utilization:g}",
    )  # fmt: skip


def _overhead(case: _Case) -> Iterator[Step]:
    plan, overhead = case.plan, case.memory.overhead
    per_token = activation_bytes_per_token(case.model, plan)
    yield Step("context", overhead.context, "bytes", "HIP context and RCCL buffers, assumed")
    yield Step("graphs", overhead.graphs, "bytes", "assumed" if plan.graphs else "none captured")
    yield Step(
        "activations", overhead.activations, "bytes",
        f"{_step(case.model, plan)} x {per_token:,.0f} bytes, workspaces included",
    )  # fmt: skip
    yield Step(
        "logits", overhead.logits, "bytes",
        f"max-num-seqs {plan.max_num_seqs:,} x vocabulary {case.model.vocab_size or 0:,} x 4 bytes",
    )  # fmt: skip
    yield Step("overhead", overhead.total, "bytes", "context + graphs + activations + logits")


def _step(model: ModelFacts, plan: EnginePlan) -> str:
    tokens = step_tokens(model, plan)
    if tokens == plan.max_num_batched_tokens:
        return f"max-num-batched-tokens {tokens:,}"
    return f"whole prompts of {tokens:,} tokens"


def _kv_cache(case: _Case) -> Iterator[Step]:
    model, plan = case.model, case.plan
    layers, per_layer = kv_layers(model, plan), kv_bytes_per_token_per_layer(model, plan)
    element = plan.kv_cache_bytes_per_element or 2
    if model.mla_kv_lora_rank is not None:
        vector = f"latent {model.mla_kv_lora_rank} + rope {model.mla_rope_head_dim or 0} values, whole on every GPU"
    else:
        heads = max(1, model.kv_heads // plan.tensor_parallel)
        vector = f"key and value x {heads} of {model.kv_heads} KV heads x {model.head_dim}"
    yield Step("KV bytes per token and layer", per_layer, "bytes", f"{vector} x {element:g} bytes")
    full = kv_bytes_per_token_per_full_layer(model, plan)
    if full != per_layer:
        yield Step(
            "KV bytes per token and full layer", full, "bytes", "layers without a window have other heads"
        )
    yield Step("layers that keep every token", layers.full, "", "of the longest pipeline stage")
    if layers.windowed:
        yield Step(
            "layers that keep a window", layers.windowed, "",
            f"window + one batch = {layers.window_tokens:,} tokens",
        )  # fmt: skip
    yield Step(
        "KV bytes per token", case.memory.kv_bytes_per_token_per_gpu, "bytes", "per GPU, over these layers"
    )
    state = state_bytes_per_sequence(model, plan)
    if state:
        yield Step("state per sequence", int(state), "bytes", "per GPU, of the linear-attention layers")
    most = most_sequences(model, case.checkpoint, case.gpu, case.partition, case.precision, plan)
    if most is not None:
        held = states_that_fit(model, plan, case.memory.kv_bytes) or 0
        yield Step(
            "sequences at start", max(most, held), "sequences",
            "at most: the engine starts with a block of the KV cache for the state of each",
        )  # fmt: skip
    origin = "kv-cache-memory-bytes" if plan.kv_cache_memory_bytes else "usable - weights - overhead"
    yield Step("KV cache", case.memory.kv_bytes, "bytes", f"per GPU: {origin}")


def _answers(case: _Case) -> Iterator[Step]:
    model, plan, memory = case.model, case.plan, case.memory
    limit = "max-model-len" if plan.max_model_len else "the model's maximum"
    yield Step("KV tokens that fit", memory.kv_tokens, "tokens", "in one sequence, per data parallel rank")
    yield Step("context limit", memory.max_context, "tokens", limit)
    yield Step("longest context", memory.usable_context, "tokens", "the smaller of the two")
    yield Step(
        "KV cache of one sequence", int(kv_bytes_for_context(model, plan, case.context)), "bytes",
        f"per GPU, of {case.context:,} tokens",
    )  # fmt: skip
    yield Step(
        "concurrency",
        concurrency(model, case.checkpoint, case.gpu, case.partition, case.precision, plan, case.context),
        "sequences",
        f"of {case.context:,} tokens at once in {plan.data_parallel} KV caches; max-num-seqs {plan.max_num_seqs:,} each",
    )
    smallest = smallest_gpu_count(
        model, case.checkpoint, case.gpu, case.partition, case.precision, plan, required_context=case.context
    )
    yield Step(
        "smallest GPU count", "none" if smallest is None else smallest, "GPUs",
        f"of one node, tensor parallel, for {memory.max_context:,} tokens of context",
    )  # fmt: skip

"""Memory of one GPU: weights, overhead, KV cache. All figures are of the busiest GPU of a replica."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aim_engine.api.enums import Precision
from aim_engine.catalog.assumptions import memory_assumptions
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan

_SIXTEEN_BIT = frozenset({Precision.BF16, Precision.FP16})


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Where the memory of one GPU goes, and what context that leaves room for."""

    weights_bytes_per_gpu: int
    kv_bytes_per_token_per_gpu: int
    """Of a token that every layer keeps; layers with a sliding window drop older ones."""
    overhead_bytes: int
    usable_bytes: int
    kv_bytes: int
    """Room for the KV cache; negative when not even the weights fit."""
    kv_tokens: int
    """Longest single sequence the KV cache can hold."""
    max_context: int
    """Longest context the model or the engine's settings allow."""
    usable_context: int
    """The smaller of the two."""


def weight_format(checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan) -> Precision:
    """Format the weights have in GPU memory: quantised while loading, else the checkpoint's, else as asked."""
    stored = precision if checkpoint is None else checkpoint.precision
    if plan.online_precision is not None and stored in _SIXTEEN_BIT:
        return plan.online_precision
    return stored


def weights_bytes(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> int:
    """Bytes of all weights. Embeddings of quantised checkpoints stay in 16 bit."""
    loaded = weight_format(checkpoint, precision, plan)
    if checkpoint is not None and checkpoint.bytes is not None and loaded is checkpoint.precision:
        return checkpoint.bytes
    per_parameter = memory_assumptions().bytes_per_parameter
    embeddings = 2 * (model.vocab_size or 0) * model.hidden_size
    kept_in_16_bit = embeddings * (per_parameter[Precision.BF16] - per_parameter[loaded])
    return math.ceil(model.parameters * per_parameter[loaded] + kept_in_16_bit)


def weights_bytes_per_gpu(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> int:
    """Share of one GPU: experts are spread over tensor and data parallel ranks, the rest is copied per data rank."""
    total = weights_bytes(model, checkpoint, precision, plan)
    experts = total * expert_fraction(model)
    shard = plan.tensor_parallel * plan.pipeline_parallel
    share = (total - experts) / shard + experts / (shard * plan.data_parallel)
    return max(0, math.ceil(share) - plan.weights_offload_bytes)


def expert_fraction(model: ModelFacts) -> float:
    """Part of the parameters that sits in routed experts, from total and active counts."""
    if not model.experts or not model.experts_per_token or model.experts == model.experts_per_token:
        return 0.0
    per_expert = (model.parameters - model.active_parameters) / (model.experts - model.experts_per_token)
    return min(1.0, per_expert * model.experts / model.parameters)


def kv_bytes_per_token_per_layer(model: ModelFacts, plan: EnginePlan) -> float:
    """KV cache of one token in one layer on one GPU. MLA keeps one latent vector, which every GPU holds whole."""
    element = plan.kv_cache_bytes_per_element or 2.0
    if model.mla_kv_lora_rank is not None:
        values = model.mla_kv_lora_rank + (model.mla_rope_head_dim or 0)
    else:
        values = 2 * max(1, model.kv_heads // plan.tensor_parallel) * model.head_dim
    return values * element / plan.decode_context_parallel


def kv_bytes_for_context(model: ModelFacts, plan: EnginePlan, context: int) -> float:
    """KV cache of one sequence on the busiest pipeline stage."""
    full, windowed, kept = _layers(model, plan)
    per_layer = kv_bytes_per_token_per_layer(model, plan)
    return per_layer * (full * context + windowed * min(context, kept))


def memory_model(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan, vram_bytes: int
) -> MemoryModel:
    """Memory of one GPU of `vram_bytes`."""
    weights = weights_bytes_per_gpu(model, checkpoint, precision, plan)
    overhead = _overhead_bytes(model, plan)
    usable = int(vram_bytes * plan.gpu_memory_utilization)
    kv = usable - weights - overhead
    if plan.kv_cache_memory_bytes is not None:
        kv = min(plan.kv_cache_memory_bytes, vram_bytes - weights - overhead)
    tokens = _tokens_that_fit(model, plan, kv)
    longest = plan.max_model_len or model.max_position_embeddings
    return MemoryModel(
        weights_bytes_per_gpu=weights,
        kv_bytes_per_token_per_gpu=math.ceil(
            kv_bytes_per_token_per_layer(model, plan) * sum(_layers(model, plan)[:2])
        ),
        overhead_bytes=overhead,
        usable_bytes=usable,
        kv_bytes=kv,
        kv_tokens=tokens,
        max_context=longest,
        usable_context=min(tokens, longest),
    )


def _overhead_bytes(model: ModelFacts, plan: EnginePlan) -> int:
    assumed = memory_assumptions()
    activations = plan.max_num_batched_tokens * model.hidden_size * assumed.activation_bytes
    return max(assumed.minimum_overhead_bytes, assumed.reserve_bytes + activations)


def _layers(model: ModelFacts, plan: EnginePlan) -> tuple[int, int, int]:
    """Layers of one pipeline stage that keep every token, those that keep a window, and how many tokens they keep."""
    stage = math.ceil(model.layers / plan.pipeline_parallel)
    if not plan.hybrid_kv_cache or not model.sliding_window or not model.sliding_layers:
        return stage, 0, 0
    windowed = model.sliding_layers * stage // model.layers
    return stage - windowed, windowed, model.sliding_window + plan.max_num_batched_tokens


def _tokens_that_fit(model: ModelFacts, plan: EnginePlan, kv_bytes: float) -> int:
    full, windowed, kept = _layers(model, plan)
    per_layer = kv_bytes_per_token_per_layer(model, plan)
    if kv_bytes <= 0:
        return 0
    within = kv_bytes / (per_layer * (full + windowed))
    if within <= kept or not windowed:
        return int(within)
    beyond = (kv_bytes - per_layer * windowed * kept) / (per_layer * full) if full else math.inf
    return int(min(beyond, 10**12))

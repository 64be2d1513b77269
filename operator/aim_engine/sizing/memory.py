"""Memory of one GPU: weights, overhead, KV cache. All figures are of the busiest GPU of a replica."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aim_engine.api.enums import Precision
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.kv_cache import kv_bytes_per_token, tokens_that_fit
from aim_engine.sizing.overhead import Overhead, overhead
from aim_engine.sizing.weights import weights_bytes_per_gpu


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Where the memory of one GPU goes, and what context that leaves room for."""

    weights_bytes_per_gpu: int
    kv_bytes_per_token_per_gpu: int
    """Of a token that every layer keeps; layers with a sliding window drop older ones."""
    overhead: Overhead
    usable_bytes: int
    kv_bytes: int
    """Room for the KV cache; negative when not even the weights fit."""
    kv_tokens: int
    """Longest single sequence the KV cache can hold."""
    max_context: int
    """Longest context the model or the engine's settings allow."""
    usable_context: int
    """The smaller of the two."""

    @property
    def overhead_bytes(self) -> int:
        """Everything beside weights and KV cache."""
        return self.overhead.total


def memory_model(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan, vram_bytes: int
) -> MemoryModel:
    """Memory of one GPU of `vram_bytes`."""
    weights = weights_bytes_per_gpu(model, checkpoint, precision, plan)
    beside = overhead(model, plan)
    usable = int(vram_bytes * plan.gpu_memory_utilization)
    kv = usable - weights - beside.total
    if plan.kv_cache_memory_bytes is not None:
        kv = min(plan.kv_cache_memory_bytes, vram_bytes - weights - beside.total)
    tokens = tokens_that_fit(model, plan, kv)
    longest = plan.max_model_len or model.max_position_embeddings
    return MemoryModel(
        weights_bytes_per_gpu=weights,
        kv_bytes_per_token_per_gpu=math.ceil(kv_bytes_per_token(model, plan)),
        overhead=beside,
        usable_bytes=usable,
        kv_bytes=kv,
        kv_tokens=tokens,
        max_context=longest,
        usable_context=min(tokens, longest),
    )

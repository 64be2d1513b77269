"""What the hardware cannot exceed, whatever the software: memory bandwidth and peak operations without any efficiency."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import GPU, partition_divisor
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.roofline import peak_operations, touched_fraction
from aim_engine.sizing.weights import weight_format, weights_bytes


@dataclass(frozen=True, slots=True)
class Bound:
    """Limits of one replica."""

    tokens_per_second: float
    """Generated tokens per second, at most."""
    first_token_ms: float
    """Time to the first token of one prompt, at least."""


def hardware_bound(
    model: ModelFacts, checkpoint: Checkpoint | None, gpu: GPU, plan: EnginePlan, precision: Precision,
    *, partition: str | None = None, prompt_tokens: int = 1,
) -> Bound | None:  # fmt: skip
    """Limits from two facts: a token takes two operations per active parameter, and a step reads the weights it touches.

    KV cache, attention, communication and launches are left out, so nothing real is faster. Where tokens are drafted a step brings
    more than one, and only the operations bound them. None where the GPU's peak is not published.
    """
    parts = partition_divisor(gpu, partition) or 1
    operations = peak_operations(gpu, weight_format(checkpoint, precision, plan)) / parts * plan.gpus
    if not operations:
        return None
    bandwidth = gpu.memory_bandwidth_bytes_per_s / parts * plan.gpus
    weights = weights_bytes(model, checkpoint, precision, plan)
    batch = plan.max_num_seqs * plan.data_parallel
    reads = weights * touched_fraction(model, batch)
    computing = operations / (2 * model.active_parameters)
    prefill = 1000 * 2 * model.active_parameters * prompt_tokens / operations
    reading = 1000 * weights * touched_fraction(model, prompt_tokens) / bandwidth
    stepping = math.inf if plan.drafts else batch * bandwidth / reads
    return Bound(tokens_per_second=min(computing, stepping), first_token_ms=max(prefill, reading))

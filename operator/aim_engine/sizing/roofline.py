"""Predicted decode speed from bandwidth, peak operations and a calibration. For ranking, never for a promise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aim_engine.api.enums import Precision
from aim_engine.catalog.assumptions import SpeedCalibration, speed_calibration
from aim_engine.catalog.gpus import GPU, partition_divisor, partition_vram_bytes
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.kv_cache import kv_bytes_for_context
from aim_engine.sizing.memory import memory_model
from aim_engine.sizing.weights import expert_fraction, weight_format, weights_bytes

_EXCHANGES_PER_LAYER = 2
"""All-reduces of a tensor parallel layer: after attention and after the MLP, of a 16-bit hidden state."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted decode speed of one replica: throughput under load, latency of a single request."""

    tokens_per_second: float
    inter_token_latency_ms: float


def estimate(
    model: ModelFacts,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    plan: EnginePlan,
    precision: Precision,
    *,
    partition: str | None = None,
    calibration: SpeedCalibration | None = None,
) -> Estimate:
    """Speed of a configuration that fits; with no room for a single sequence the throughput is that of one.

    `calibration`: other constants or another load than those of the catalogue, to compare with a published point.
    """
    vram_bytes = partition_vram_bytes(gpu, partition) or gpu.vram_bytes
    memory = memory_model(model, checkpoint, precision, plan, vram_bytes)
    constants = calibration or speed_calibration()
    load = math.ceil(constants.concurrency / plan.data_parallel)
    batch = max(1, min(plan.max_num_seqs, load, memory.kv_tokens // constants.context_tokens))
    busy = _step_ms(model, checkpoint, gpu, plan, precision, partition, constants, batch)
    alone = _step_ms(model, checkpoint, gpu, plan, precision, partition, constants, 1)
    return Estimate(
        tokens_per_second=1000 * batch * plan.data_parallel / busy,
        inter_token_latency_ms=alone,
    )


def _step_ms(
    model: ModelFacts,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    plan: EnginePlan,
    precision: Precision,
    partition: str | None,
    constants: SpeedCalibration,
    batch: int,
) -> float:
    """One decode step of `batch` sequences. Pipeline stages take turns, so they add up to the whole model."""
    parts = partition_divisor(gpu, partition) or 1
    size = plan.tensor_parallel
    weights = weights_bytes(model, checkpoint, precision, plan) * read_share(model, plan, batch)
    kv = kv_bytes_for_context(model, plan, constants.context_tokens) * plan.pipeline_parallel * batch
    bandwidth = gpu.memory_bandwidth_bytes_per_s / parts * constants.bandwidth_efficiency
    reading = 1000 * (weights + kv) / bandwidth
    overhead = model.layers * constants.overhead_ms_per_layer
    peak = (
        peak_operations(gpu, weight_format(checkpoint, precision, plan))
        / parts
        * size
        * constants.compute_efficiency
    )
    computing = 1000 * 2 * model.active_parameters * batch / peak if peak else 0.0
    exchanged = batch * model.layers * _EXCHANGES_PER_LAYER * 2 * (1 - 1 / size) * 2 * model.hidden_size
    return overhead + reading + computing + 1000 * exchanged / constants.link_bytes_per_s


def read_share(model: ModelFacts, plan: EnginePlan, batch: int) -> float:
    """Part of the weights that one GPU reads in a step: data parallel ranks copy all but the experts, which they share, and whose
    tokens are those of all ranks."""
    experts, ranks = expert_fraction(model), plan.data_parallel
    touched = touched_fraction(model, batch * ranks) - (1 - experts)
    return (1 - experts + touched / ranks) / plan.tensor_parallel


def touched_fraction(model: ModelFacts, batch: int) -> float:
    """Part of the weights that a step reads: all of a dense model, of experts those that some token is routed to."""
    experts = expert_fraction(model)
    if not experts or not model.experts or not model.experts_per_token:
        return 1.0
    idle = (1 - model.experts_per_token / model.experts) ** batch
    return 1 - experts * idle


def peak_operations(gpu: GPU, precision: Precision) -> float:
    """Operations per second in a format, or in 16 bit where the GPU only stores it; 0 when nothing is published."""
    computed = precision if precision in gpu.hardware_precisions else Precision.BF16
    return 1e12 * gpu.tflops.get(computed, gpu.tflops.get(Precision.BF16, 0.0))

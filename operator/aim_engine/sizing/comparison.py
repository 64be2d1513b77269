"""The models' own answers to what others published: for the page of errors and the tests that bound them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from aim_engine.api.enums import Precision
from aim_engine.catalog.assumptions import speed_calibration
from aim_engine.catalog.comparisons import (
    KnownVerdict,
    PublishedCapacity,
    PublishedColumns,
    PublishedSize,
    PublishedSpeed,
    published_speeds,
)
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint, model_facts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.fit import Fit, fit
from aim_engine.sizing.kv_cache import kv_bytes_per_token, tokens_that_fit
from aim_engine.sizing.memory import memory_model
from aim_engine.sizing.roofline import estimate
from aim_engine.sizing.weights import weights_bytes

_PLAN = EnginePlan(
    tensor_parallel=1, max_num_batched_tokens=16384, max_num_seqs=1024, gpu_memory_utilization=0.92
)
"""vLLM's defaults on large GPUs."""
_TENTH = 0.1


def computed_gib(published: PublishedSize) -> float:
    """Weight files by parameters and format, not by their published size."""
    stored, model = _known(published.checkpoint)
    unsized = replace(stored, bytes=None)
    return weights_bytes(replace(model, checkpoint_bytes=None), unsized, stored.precision, _PLAN) / 2**30


def answer(known: KnownVerdict) -> Fit:
    """Our verdict on a configuration that somebody knows."""
    stored, model = _known(known.checkpoint)
    plan = replace(
        _PLAN, tensor_parallel=known.count, max_model_len=min(known.context, model.max_position_embeddings)
    )
    return fit(model, stored, gpu_catalog()[known.gpu], None, stored.precision, plan)


def estimated_rate(published: PublishedSpeed) -> float:
    """Our estimate under the published load; a request's context is on average its prompt and half of its answer."""
    stored, model = _known(published.checkpoint)
    context = published.input_tokens + published.output_tokens // 2
    load = replace(speed_calibration(), concurrency=published.concurrency, context_tokens=context)
    plan = replace(
        _PLAN, tensor_parallel=published.count, max_model_len=8192, online_precision=published.online
    )
    precision = published.online or stored.precision
    return estimate(
        model, stored, gpu_catalog()[published.gpu], plan, precision, calibration=load
    ).tokens_per_second


@dataclass(frozen=True, slots=True)
class Deviation:
    """Estimates of speed over published ones, within a class."""

    points: int
    mean: float
    """Mean factor, up or down: 1 is exact."""
    lowest: float
    highest: float


def deviation(group: str) -> Deviation:
    """The estimates of one class against all its published points."""
    found = [
        estimated_rate(each) / each.tokens_per_second for each in published_speeds() if each.group == group
    ]
    mean = math.exp(sum(abs(math.log(ratio)) for ratio in found) / len(found))
    return Deviation(len(found), mean, min(found), max(found))


def computed_columns(published: PublishedColumns) -> tuple[float, float, float]:
    """(GiB of weights in bf16, in FP8, KiB of KV cache per token): by dimensions alone, all heads on one GPU, windows ignored."""
    model = replace(_model(published.model), checkpoint_bytes=None)
    plan = replace(_PLAN, hybrid_kv_cache=False)
    bf16, fp8 = (weights_bytes(model, None, form, plan) for form in (Precision.BF16, Precision.FP8))
    return bf16 / 2**30, fp8 / 2**30, kv_bytes_per_token(model, plan) / 2**10


def computed_capacity(published: PublishedCapacity, gpu: str, count: int, *, own_overhead: bool) -> int:
    """Thousand KV tokens that fit; 0 where the weights do not. With our overhead, or with the flat reserve of the published figure."""
    stored, model = _known(published.checkpoint)
    plan = replace(
        _PLAN, tensor_parallel=count, gpu_memory_utilization=published.utilization, hybrid_kv_cache=False,
        kv_cache_bytes_per_element=1.0 if published.kv_cache is Precision.FP8 else None,
    )  # fmt: skip
    memory = memory_model(model, stored, stored.precision, plan, gpu_catalog()[gpu].vram_bytes)
    beside = memory.overhead_bytes if own_overhead else published.reserve_bytes
    room = memory.usable_bytes - memory.weights_bytes_per_gpu - beside
    return max(0, tokens_that_fit(model, plan, room) // 1000)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the cells of one checkpoint agree with ours."""

    cells: int
    verdicts: int
    """Cells where both say that it fits, or both that it does not."""
    within: int
    """Cells within a tenth of each other; both saying no counts."""
    largest: tuple[str, int, int, int]
    """(GPU, count, published, ours) of the largest ratio where both fit."""


def agreement(published: PublishedCapacity, *, own_overhead: bool) -> Agreement:
    """All cells of one checkpoint."""
    found = [
        (gpu, count, told, computed_capacity(published, gpu, count, own_overhead=own_overhead))
        for gpu, count, told in published.cells
    ]
    both = [each for each in found if each[2] and each[3]]
    return Agreement(
        cells=len(found),
        verdicts=sum((told > 0) == (ours > 0) for _, _, told, ours in found),
        within=sum(abs(told - ours) <= _TENTH * told for _, _, told, ours in found),
        largest=max(both, key=lambda cell: abs(math.log(cell[3] / cell[2]))),
    )


def _model(model_id: str) -> ModelFacts:
    found = model_facts(model_id)
    if found is None:
        raise LookupError(f"comparisons.yaml names '{model_id}', which models.yaml does not know")
    return found


def _known(source: str) -> tuple[Checkpoint, ModelFacts]:
    stored = checkpoint(source)
    model = model_facts(stored.model) if stored else None
    if stored is None or model is None:
        raise LookupError(f"comparisons.yaml names '{source}', which models.yaml does not know")
    return stored, model

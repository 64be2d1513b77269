"""The models' own answers to what others published: for the page of errors and the tests that bound them."""

from __future__ import annotations

from dataclasses import replace

from aim_engine.catalog.assumptions import speed_calibration
from aim_engine.catalog.comparisons import KnownVerdict, PublishedSize, PublishedSpeed
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint, model_facts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.fit import Fit, fit
from aim_engine.sizing.roofline import estimate
from aim_engine.sizing.weights import weights_bytes

_PLAN = EnginePlan(
    tensor_parallel=1, max_num_batched_tokens=16384, max_num_seqs=1024, gpu_memory_utilization=0.92
)
"""vLLM's defaults on large GPUs."""


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
    plan = replace(_PLAN, tensor_parallel=published.count, max_model_len=8192)
    return estimate(
        model, stored, gpu_catalog()[published.gpu], plan, stored.precision, calibration=load
    ).tokens_per_second


def _known(source: str) -> tuple[Checkpoint, ModelFacts]:
    stored = checkpoint(source)
    model = model_facts(stored.model) if stored else None
    if stored is None or model is None:
        raise LookupError(f"comparisons.yaml names '{source}', which models.yaml does not know")
    return stored, model

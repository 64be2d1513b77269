"""Default tier: a plain configuration made from model facts, for models that no recipe serves here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aim_engine.api.enums import Backend, Maturity, Precision
from aim_engine.api.recipe import AIMRecipeSpec, Hardware
from aim_engine.catalog.gpus import GPU, gpu_catalog
from aim_engine.catalog.models import ModelFacts, checkpoint_catalog
from aim_engine.engines import engine
from aim_engine.inventory import Inventory
from aim_engine.selection.types import Candidate, Facts, Request, Source, candidate
from aim_engine.sizing import smallest_gpu_count

_DEFAULT_CONTEXT = 32768
_SIXTEEN_BIT = {Precision.BF16: "bfloat16", Precision.FP16: "float16"}
"""Formats that convert into each other while loading, by vLLM's name."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """How a model is loaded in one precision."""

    precision: Precision
    source: str | None
    """Checkpoint, where it is not the model's own."""
    args: Mapping[str, object]


def generated(request: Request, inventory: Inventory, facts: Facts) -> list[Candidate]:
    """One configuration per whole-GPU model of the cluster, within the wishes and with the fewest GPUs that hold it.

    Nothing is generated for a model whose facts are unknown: a guess could only crash.
    """
    model_id, wishes = request.model_id, request.spec.recipe
    model = facts.model(model_id) if model_id else None
    if (
        model is None
        or model_id is None
        or not request.fallback
        or wishes.backend not in (None, Backend.VLLM)
    ):
        return []
    weights = _weights(model_id, model, facts, wishes.precision)
    if weights is None:
        return []
    wished = (wishes.gpu_model or "").lower()
    whole = {pool.gpu_model for pool in inventory.pools if pool.partition is None}
    gpus = sorted(name for name in whole & set(gpu_catalog()) if wished in ("", name.lower()))
    made = (_configuration(model_id, model, weights, facts, request, gpu_catalog()[name]) for name in gpus)
    return [each for each in made if each is not None]


def _weights(model_id: str, model: ModelFacts, facts: Facts, wanted: Precision | None) -> _Weights | None:
    """The checkpoint as it is, another one in the precision asked for, or a conversion while loading; None: no way known."""
    known = facts.checkpoint(model_id)
    own = known.precision if known else model.native_precision
    if wanted in (None, own):
        return _Weights(own, None, {})
    if {own, wanted} <= set(_SIXTEEN_BIT):
        return _Weights(Precision(wanted), None, {"dtype": _SIXTEEN_BIT[Precision(wanted)]})
    others = sorted(each.id for each in checkpoint_catalog().values() if each.model == model.id)
    other = next((name for name in others if _precision_of(facts, name) is wanted), None)
    if other is not None:
        return _Weights(Precision(wanted), other, {})
    if wanted is Precision.FP8 and own in _SIXTEEN_BIT:
        return _Weights(Precision.FP8, None, {"quantization": "fp8"})
    return None


def _precision_of(facts: Facts, source_id: str) -> Precision | None:
    """Format of a checkpoint; None where it is not known."""
    known = facts.checkpoint(source_id)
    return known.precision if known else None


def _configuration(
    model_id: str, model: ModelFacts, weights: _Weights, facts: Facts, request: Request, gpu: GPU
) -> Candidate | None:
    precision = weights.precision
    if precision not in gpu.runnable_precisions:
        return None
    context = min(request.required_context or _DEFAULT_CONTEXT, model.max_position_embeddings)
    args = {"max-model-len": context, **weights.args}
    count = request.spec.recipe.gpu_count or _smallest(
        model, facts, weights.source or model_id, gpu, precision, args, context
    )
    if count is None:
        return None
    slug = re.sub(r"[^a-z0-9]+", "-", model_id.rsplit("/", 1)[-1].lower()).strip("-")
    spec = AIMRecipeSpec(
        model_id=model_id,
        source=weights.source,
        hardware=Hardware(gpu_model=gpu.model, gpu_count=count),
        precision=precision,
        backend=Backend.VLLM,
        engine_args=args,
        maturity=Maturity.UNOPTIMIZED,
    )
    return candidate(f"generated/{slug}-{gpu.model.lower()}-{count}x-{precision}", Source.GENERATED, spec)


def _smallest(
    model: ModelFacts, facts: Facts, source_id: str, gpu: GPU, precision: Precision, args: Mapping[str, object], context: int,
) -> int | None:  # fmt: skip
    plan = engine(Backend.VLLM).plan(args, 1, gpu)
    return smallest_gpu_count(
        model, facts.checkpoint(source_id), gpu, None, precision, plan, required_context=context
    )

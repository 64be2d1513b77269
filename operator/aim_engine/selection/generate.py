"""Default tier: a plain configuration made from model facts, for models that no recipe serves here."""

from __future__ import annotations

import re

from aim_engine.api.enums import Backend, Maturity, Precision
from aim_engine.api.recipe import AIMRecipeSpec, Hardware
from aim_engine.catalog.gpus import GPU, gpu_catalog
from aim_engine.catalog.models import ModelFacts
from aim_engine.engines import engine
from aim_engine.inventory import Inventory
from aim_engine.selection.types import Candidate, Facts, Request, Source, candidate
from aim_engine.sizing import smallest_gpu_count

_DEFAULT_CONTEXT = 32768


def generated(request: Request, inventory: Inventory, facts: Facts) -> list[Candidate]:
    """One configuration per whole-GPU model of the cluster, with the fewest GPUs that hold the model.

    Nothing is generated for a model whose facts are unknown: a guess could only crash.
    """
    model_id = request.model_id
    model = facts.model(model_id) if model_id else None
    if model is None or model_id is None or not request.fallback:
        return []
    wished = (request.spec.recipe.gpu_model or "").lower()
    whole = {pool.gpu_model for pool in inventory.pools if pool.partition is None}
    gpus = sorted(name for name in whole & set(gpu_catalog()) if wished in ("", name.lower()))
    made = (_configuration(model_id, model, facts, request, gpu_catalog()[name]) for name in gpus)
    return [each for each in made if each is not None]


def _configuration(
    model_id: str, model: ModelFacts, facts: Facts, request: Request, gpu: GPU
) -> Candidate | None:
    known = facts.checkpoint(model_id)
    precision = known.precision if known else model.native_precision
    if precision not in gpu.runnable_precisions:
        return None
    context = min(request.required_context or _DEFAULT_CONTEXT, model.max_position_embeddings)
    count = request.spec.recipe.gpu_count or _smallest(model, facts, model_id, gpu, precision, context)
    if count is None:
        return None
    slug = re.sub(r"[^a-z0-9]+", "-", model_id.rsplit("/", 1)[-1].lower()).strip("-")
    spec = AIMRecipeSpec(
        model_id=model_id,
        hardware=Hardware(gpu_model=gpu.model, gpu_count=count),
        precision=precision,
        backend=Backend.VLLM,
        engine_args={"max-model-len": context},
        maturity=Maturity.UNOPTIMIZED,
    )
    return candidate(f"generated/{slug}-{gpu.model.lower()}-{count}x-{precision}", Source.GENERATED, spec)


def _smallest(
    model: ModelFacts, facts: Facts, model_id: str, gpu: GPU, precision: Precision, context: int
) -> int | None:
    plan = engine(Backend.VLLM).plan({"max-model-len": context}, 1, gpu)
    return smallest_gpu_count(
        model, facts.checkpoint(model_id), gpu, None, precision, plan, required_context=context
    )

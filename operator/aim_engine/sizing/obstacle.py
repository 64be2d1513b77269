"""The rules that a question must pass, in the order they are tried."""

from __future__ import annotations

from enum import StrEnum

from aim_engine.catalog.models import ModelFacts
from aim_engine.sizing.case import Case, context_to_hold, longest_context, memory_of, room, sequences_to_start
from aim_engine.sizing.parallelism import parallelism_problem


class Obstacle(StrEnum):
    """The kinds of rules."""

    PARTITION = "partition"
    PRECISION = "precision"
    KV_CACHE_FORMAT = "KV cache format"
    PARALLELISM = "parallelism"
    MODEL_CONTEXT = "model context"
    SERVED_CONTEXT = "served context"
    WEIGHTS = "weights"
    KV_CACHE = "KV cache"
    STATES = "recurrent states"


def obstacle(case: Case) -> Obstacle | None:
    """The first rule that is broken; of a model whose dimensions are not known, the hardware's rules alone."""
    return _of_hardware(case) or (_of_model(case, case.model) if case.model is not None else None)


def fits(case: Case) -> bool:
    """Whether no rule is broken. Of a model that is not known only the hardware's rules are tried."""
    return obstacle(case) is None


def _of_hardware(case: Case) -> Obstacle | None:
    if case.vram_bytes is None:
        return Obstacle.PARTITION
    if not case.formats <= case.gpu.runnable_precisions:
        return Obstacle.PRECISION
    if case.plan.kv_cache_precision in case.gpu.refused_kv_cache_precisions:
        return Obstacle.KV_CACHE_FORMAT
    return Obstacle.PARALLELISM if parallelism_problem(case) is not None else None


def _of_model(case: Case, model: ModelFacts) -> Obstacle | None:
    plan = case.plan
    if not plan.context_extended and (plan.max_model_len or 0) > model.max_position_embeddings:
        return Obstacle.MODEL_CONTEXT
    if (case.required_context or 0) > longest_context(model, plan):
        return Obstacle.SERVED_CONTEXT
    memory = memory_of(case, model)
    if memory.weights_bytes_per_gpu + memory.overhead_bytes >= room(case, memory):
        return Obstacle.WEIGHTS
    if context_to_hold(case, memory) > memory.kv_tokens:
        return Obstacle.KV_CACHE
    most = sequences_to_start(case)
    return Obstacle.STATES if most is not None and plan.max_num_seqs > most else None

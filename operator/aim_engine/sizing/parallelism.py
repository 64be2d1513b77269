"""Rules on how a model may be divided over GPUs. Which there are, in which order, and their sources: catalog/parallelism.yaml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aim_engine.catalog.assumptions import division_rules, division_sizes
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan


@dataclass(frozen=True, slots=True)
class ParallelismProblem:
    """Why a division is impossible, and what would be possible."""

    message: str
    remedy: str


Check = Callable[[ModelFacts, Checkpoint | None, EnginePlan], ParallelismProblem | None]


def parallelism_problem(
    model: ModelFacts, checkpoint: Checkpoint | None, plan: EnginePlan
) -> ParallelismProblem | None:
    """First rule that the plan breaks."""
    found = (CHECKS[each.rule](model, checkpoint, plan) for each in division_rules())
    return next((problem for problem in found if problem is not None), None)


def _attention_heads(model: ModelFacts, _: Checkpoint | None, plan: EnginePlan) -> ParallelismProblem | None:
    if model.attention_heads % plan.tensor_parallel == 0:
        return None
    return _undivided(model, f"{model.attention_heads} attention heads", plan.tensor_parallel)


def _kv_heads(model: ModelFacts, _: Checkpoint | None, plan: EnginePlan) -> ParallelismProblem | None:
    if _kv_heads_divide(model, plan.tensor_parallel):
        return None
    return _undivided(model, f"{model.kv_heads} KV heads", plan.tensor_parallel)


def _undivided(model: ModelFacts, what: str, size: int) -> ParallelismProblem:
    possible = (n for n in division_sizes() if model.attention_heads % n == 0 and _kv_heads_divide(model, n))
    sizes = ", ".join(map(str, possible))
    return ParallelismProblem(
        f"{what} cannot be divided over {size} GPUs", f"use tensor parallelism over {sizes} GPUs"
    )


def _kv_heads_divide(model: ModelFacts, size: int) -> bool:
    return model.kv_heads % size == 0 or size % model.kv_heads == 0


def _pipeline_stages(model: ModelFacts, _: Checkpoint | None, plan: EnginePlan) -> ParallelismProblem | None:
    if plan.pipeline_parallel <= model.layers:
        return None
    return ParallelismProblem(
        f"{model.layers} layers cannot be divided into {plan.pipeline_parallel} stages",
        f"set pipeline-parallel-size <= {model.layers}",
    )


def _expert_parallel(model: ModelFacts, _: Checkpoint | None, plan: EnginePlan) -> ParallelismProblem | None:
    if not plan.expert_parallel or model.experts:
        return None
    return ParallelismProblem("the model has no experts", "remove enable-expert-parallel")


def _expert_blocks(
    model: ModelFacts, checkpoint: Checkpoint | None, plan: EnginePlan
) -> ParallelismProblem | None:
    block = model.quantization_block if checkpoint is None else checkpoint.quantization_block
    width = model.moe_intermediate_size
    ranks = plan.tensor_parallel * plan.data_parallel
    if block is None or width is None or plan.expert_parallel or width % (ranks * block) == 0:
        return None
    most = max((n for n in division_sizes() if width % (n * block) == 0), default=1)
    return ParallelismProblem(
        f"experts of width {width} in FP8 blocks of {block} cannot be divided over {ranks} GPUs",
        f"use {most} GPUs, or set enable-expert-parallel",
    )


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "attention-heads": _attention_heads,
        "kv-heads": _kv_heads,
        "pipeline-stages": _pipeline_stages,
        "expert-parallel": _expert_parallel,
        "expert-blocks": _expert_blocks,
    }
)
"""The check of each rule by its name."""

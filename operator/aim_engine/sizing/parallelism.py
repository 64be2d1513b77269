"""Rules on how a model may be divided over GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan


@dataclass(frozen=True, slots=True)
class ParallelismProblem:
    """Why a division is impossible, and what would be possible."""

    message: str
    remedy: str


def parallelism_problem(
    model: ModelFacts, checkpoint: Checkpoint | None, plan: EnginePlan
) -> ParallelismProblem | None:
    """First rule that the plan breaks."""
    return next(_problems(model, checkpoint, plan), None)


def _problems(
    model: ModelFacts, checkpoint: Checkpoint | None, plan: EnginePlan
) -> Iterator[ParallelismProblem]:
    size = plan.tensor_parallel
    sizes = ", ".join(str(n) for n in (1, 2, 4, 8, 16) if _divides(model, n))
    if not _divides(model, size):
        yield ParallelismProblem(
            f"{model.attention_heads} attention and {model.kv_heads} KV heads cannot be divided over {size} GPUs",
            f"use tensor parallelism over {sizes} GPUs",
        )
    if plan.pipeline_parallel > model.layers:
        yield ParallelismProblem(
            f"{model.layers} layers cannot be divided into {plan.pipeline_parallel} stages",
            f"set pipeline-parallel-size <= {model.layers}",
        )
    if plan.expert_parallel and not model.experts:
        yield ParallelismProblem("the model has no experts", "remove enable-expert-parallel")
    yield from _expert_blocks(model, checkpoint, plan)


def _divides(model: ModelFacts, size: int) -> bool:
    kv_heads_fit = model.kv_heads % size == 0 or size % model.kv_heads == 0
    return model.attention_heads % size == 0 and kv_heads_fit


def _expert_blocks(
    model: ModelFacts, checkpoint: Checkpoint | None, plan: EnginePlan
) -> Iterator[ParallelismProblem]:
    block = model.quantization_block if checkpoint is None else checkpoint.quantization_block
    width = model.moe_intermediate_size
    if block is None or width is None or plan.expert_parallel:
        return
    ranks = plan.tensor_parallel * plan.data_parallel
    if width % (ranks * block) == 0:
        return
    most = max((n for n in (1, 2, 4, 8, 16) if width % (n * block) == 0), default=1)
    yield ParallelismProblem(
        f"experts of width {width} in FP8 blocks of {block} cannot be divided over {ranks} GPUs",
        f"use {most} GPUs, or set enable-expert-parallel",
    )

"""Rules on how a model may be divided over GPUs. Which there are, in which order, and their sources: catalog/parallelism.yaml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from aim_engine.api.enums import Precision
from aim_engine.catalog.assumptions import division_rules, memory_assumptions
from aim_engine.catalog.models import ModelFacts
from aim_engine.sizing.case import Case
from aim_engine.sizing.weights import scale_block

Check = Callable[[Case, ModelFacts], str | None]


def parallelism_problem(case: Case) -> str | None:
    """First rule that the plan breaks, in words; of a model that is not known only those that hold for every one."""
    for each in division_rules():
        if case.model is not None:
            found = CHECKS[each.rule](case, case.model)
        else:
            found = one_node(case) if each.rule == ONE_NODE else None
        if found is not None:
            return found
    return None


def one_node(case: Case) -> str | None:
    """A replica is one pod, so its GPUs are those of one node."""
    gpus, most = case.plan.gpus, case.most_gpus
    return None if gpus <= most else f"{gpus} GPUs of one replica; a node has at most {most} {case.device}"


def _attention_heads(case: Case, model: ModelFacts) -> str | None:
    size = case.plan.tensor_parallel
    if model.attention_heads % size == 0:
        return None
    return f"{model.attention_heads} attention heads cannot be divided over {size} GPUs"


def _kv_heads(case: Case, model: ModelFacts) -> str | None:
    size = case.plan.tensor_parallel
    for heads in (model.kv_heads, model.full_kv_heads or model.kv_heads):
        if heads % size and size % heads:
            return f"{heads} KV heads cannot be divided over {size} GPUs"
    return None


def _decode_context(case: Case, model: ModelFacts) -> str | None:
    size, sharing = case.plan.tensor_parallel, case.plan.decode_context_parallel
    if size % sharing:
        return f"tensor parallel size {size} is not divisible by decode context parallel size {sharing}"
    copies = size // model.kv_heads
    if sharing == 1 or model.mla_kv_lora_rank is not None or sharing <= copies:
        return None
    return (
        f"decode context parallel size {sharing} needs as many copies of the cache, and {model.kv_heads} KV heads over {size} GPUs "
        f"have {max(copies, 1)}"
    )


def _pipeline_stages(case: Case, model: ModelFacts) -> str | None:
    if case.plan.pipeline_parallel <= model.layers:
        return None
    return f"{model.layers} layers cannot be divided into {case.plan.pipeline_parallel} stages"


def _expert_parallel(case: Case, model: ModelFacts) -> str | None:
    return "the model has no experts" if case.plan.expert_parallel and not model.experts else None


def _dense_blocks(case: Case, model: ModelFacts) -> str | None:
    block = scale_block(model, case.checkpoint, case.precision, case.plan)
    width, size = model.intermediate_size, case.plan.tensor_parallel
    if case.loaded is not Precision.FP8 or block is None or width is None or model.experts or size == 1:
        return None
    if width % (size * block) == 0:
        return None
    return f"MLPs of width {width} in FP8 blocks of {block} cannot be divided over {size} GPUs"


def _expert_blocks(case: Case, model: ModelFacts) -> str | None:
    block = scale_block(model, case.checkpoint, case.precision, case.plan)
    width, ranks = model.moe_intermediate_size, _ranks(case)
    if case.loaded is not Precision.FP8 or block is None or width is None or ranks is None:
        return None
    if width % (ranks * block) == 0:
        return None
    return f"experts of width {width} in FP8 blocks of {block} cannot be divided over {ranks} GPUs"


def _expert_groups(case: Case, model: ModelFacts) -> str | None:
    width, ranks = model.moe_intermediate_size, _ranks(case)
    if case.loaded is not Precision.MXFP4 or width is None or ranks is None:
        return None
    block = scale_block(model, case.checkpoint, case.precision, case.plan)
    edge = block or memory_assumptions().formats[Precision.MXFP4].default_block or 1
    if model.native_precision is Precision.MXFP4:
        groups = -(-width // edge)
        fits = (ranks - 1) * -(-groups // ranks) < groups
    else:
        fits = width % (ranks * edge) == 0
    return (
        None
        if fits
        else f"experts of width {width} in MXFP4 groups of {edge} cannot be divided over {ranks} GPUs"
    )


def _ranks(case: Case) -> int | None:
    """GPUs over which every expert is cut; None where experts stay whole."""
    plan = case.plan
    return None if plan.expert_parallel else plan.tensor_parallel * plan.data_parallel


ONE_NODE = "one-node"
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        ONE_NODE: lambda case, _: one_node(case),
        "attention-heads": _attention_heads,
        "kv-heads": _kv_heads,
        "decode-context": _decode_context,
        "pipeline-stages": _pipeline_stages,
        "expert-parallel": _expert_parallel,
        "dense-blocks": _dense_blocks,
        "expert-blocks": _expert_blocks,
        "expert-groups": _expert_groups,
    }
)
"""The check of each rule by its name."""

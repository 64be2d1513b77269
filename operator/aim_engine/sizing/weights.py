"""Bytes of a model's weights, whole and on the busiest GPU of a replica."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aim_engine.api.enums import Precision
from aim_engine.catalog.assumptions import memory_assumptions
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan

SIXTEEN_BIT = frozenset({Precision.BF16, Precision.FP16})
_EMBEDDING_BYTES = 2
"""Embeddings stay in 16 bit in every format."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a whole model, by how parallelism divides them."""

    embedding: int
    """One matrix of vocabulary x hidden size; 0 where the vocabulary is not known."""
    tied: bool
    """Input and output share that matrix."""
    experts: int
    """Routed experts."""
    rest: int
    """Attention, dense MLPs, shared experts, norms, embeddings per layer."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding * (1 if self.tied else 2) + self.experts + self.rest


def weight_format(checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan) -> Precision:
    """Format the weights have in GPU memory: quantised while loading, else the checkpoint's, else as asked."""
    stored = precision if checkpoint is None else checkpoint.precision
    if plan.online_precision is not None and stored in SIXTEEN_BIT:
        return plan.online_precision
    return stored


def scale_block(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> int | None:
    """Edge of the blocks that share a scale, where it is known of the weights in the format they are loaded in."""
    stored, block = (
        (model.native_precision, model.quantization_block)
        if checkpoint is None
        else (checkpoint.precision, checkpoint.quantization_block)
    )
    return block if weight_format(checkpoint, precision, plan) is stored else None


def bytes_per_weight(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> float:
    """Bytes of one quantised weight with its part of the scales."""
    loaded = weight_format(checkpoint, precision, plan)
    return (
        memory_assumptions().formats[loaded].bytes_per_weight(scale_block(model, checkpoint, precision, plan))
    )


def rest_bytes_per_weight(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> float:
    """Bytes of one weight outside the routed experts, which may have a format of their own."""
    loaded = weight_format(checkpoint, precision, plan)
    forms = memory_assumptions().formats
    kept = None if checkpoint is None or loaded is not checkpoint.precision else checkpoint.rest_precision
    if kept is None and forms[loaded].experts_only and expert_fraction(model):
        kept = Precision.BF16
    if kept is not None:
        return forms[kept].bytes_per_weight(None)
    return bytes_per_weight(model, checkpoint, precision, plan)


def weights(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> Weights:
    """Size of the published files where it is known, else parameters by their format."""
    loaded = weight_format(checkpoint, precision, plan)
    matrix = (model.vocab_size or 0) * model.hidden_size
    matrices = 1 if model.tied_embeddings else 2
    lookup = model.lookup_parameters or 0
    expert_parameters = model.parameters * expert_fraction(model)
    embedding = _EMBEDDING_BYTES * matrix
    experts = math.ceil(expert_parameters * bytes_per_weight(model, checkpoint, precision, plan))
    size = None if checkpoint is None else checkpoint.loaded_bytes or checkpoint.bytes
    if checkpoint is not None and size is not None and loaded is checkpoint.precision:
        embedding = min(embedding, size // matrices)
        experts = min(experts, size - matrices * embedding)
        rest = size - matrices * embedding - experts
    else:
        quantised = max(0.0, model.parameters - matrices * matrix - lookup - expert_parameters)
        width = rest_bytes_per_weight(model, checkpoint, precision, plan)
        rest = math.ceil(quantised * width) + lookup * _EMBEDDING_BYTES
    return Weights(embedding, model.tied_embeddings, experts, rest)


def weights_bytes(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> int:
    """Bytes of all weights."""
    return weights(model, checkpoint, precision, plan).total


def weights_bytes_per_gpu(
    model: ModelFacts, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan
) -> int:
    """Bytes on a GPU of the largest pipeline stage, less what is kept in host memory.

    Data parallel ranks copy everything but the experts. Experts are cut over tensor and data parallel ranks, or dealt
    out whole under expert parallelism.
    """
    parts = weights(model, checkpoint, precision, plan)
    width = rest_bytes_per_weight(model, checkpoint, precision, plan)
    layers = (
        parts.rest / plan.tensor_parallel
        + parts.experts * expert_share(model, plan)
        + _copied_parameters(model, plan) * width
    )
    stages = stage_layers(model.layers, plan.pipeline_parallel)
    embedding = parts.embedding / plan.tensor_parallel
    largest = max(
        layers * count / model.layers + embedding * _matrices(parts, stage, len(stages))
        for stage, count in enumerate(stages)
    )
    return max(0, math.ceil(largest) - plan.weights_offload_bytes)


def expert_share(model: ModelFacts, plan: EnginePlan) -> float:
    """Part of the routed experts that the busiest rank of a stage holds."""
    ranks = plan.tensor_parallel * plan.data_parallel
    if plan.expert_parallel and model.experts:
        return math.ceil(model.experts / ranks) / model.experts
    return 1 / ranks


def expert_fraction(model: ModelFacts) -> float:
    """Part of the parameters that sits in routed experts, from total and active counts."""
    if not model.experts or not model.experts_per_token or model.experts == model.experts_per_token:
        return 0.0
    per_expert = (model.parameters - model.active_parameters) / (model.experts - model.experts_per_token)
    return min(1.0, per_expert * model.experts / model.parameters)


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each pipeline stage as vLLM deals them out: what is left over goes to the stages before the last."""
    each, left = divmod(layers, stages)
    return tuple(each + (stages - 1 - left <= stage < stages - 1) for stage in range(stages))


def _matrices(parts: Weights, stage: int, stages: int) -> int:
    """Embedding matrices of a stage: the first embeds, the last makes logits; one stage shares a tied matrix."""
    if stages == 1:
        return 1 if parts.tied else 2
    return int(stage in (0, stages - 1))


def _copied_parameters(model: ModelFacts, plan: EnginePlan) -> float:
    """Parameters that a tensor parallel rank holds beyond its even share: projections of KV heads or of the latent."""
    size = plan.tensor_parallel
    if model.mla_kv_lora_rank is not None:
        columns = (model.mla_kv_lora_rank + (model.mla_rope_head_dim or 0)) * (1 - 1 / size)
    else:
        columns = 2 * model.head_dim * max(0.0, 1 - model.kv_heads / size)
    return (model.kv_layers or model.layers) * model.hidden_size * columns

"""Memory of one GPU beside weights and KV cache: what an engine's profile run finds taken."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aim_engine.catalog.assumptions import memory_assumptions
from aim_engine.catalog.models import ModelFacts
from aim_engine.catalog.plan import EnginePlan

_ACTIVATION_BYTES = 2
"""Activations are of 16 bit."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Bytes of one GPU by cause."""

    context: int
    """HIP context and RCCL buffers."""
    graphs: int
    activations: int
    """Peak of a forward pass over a full batch."""
    logits: int
    """Of a full set of sequences, sampled at once."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.context + self.graphs + self.activations + self.logits


def overhead(model: ModelFacts, plan: EnginePlan) -> Overhead:
    """Of a GPU that runs all it was allowed to batch."""
    assumed = memory_assumptions()
    workspace = assumed.latent_workspace_tokens * _latent_bytes_per_token(model, plan)
    batch = step_tokens(model, plan) * activation_bytes_per_token(model, plan)
    return Overhead(
        context=assumed.context_bytes,
        graphs=assumed.graph_bytes if plan.graphs else 0,
        activations=math.ceil(batch + workspace),
        logits=plan.max_num_seqs * (model.vocab_size or 0) * assumed.logit_bytes,
    )


def step_tokens(model: ModelFacts, plan: EnginePlan) -> int:
    """Tokens of the largest forward pass."""
    if not plan.whole_prompts:
        return plan.max_num_batched_tokens
    return max(plan.max_num_batched_tokens, plan.max_model_len or model.max_position_embeddings)


def activation_bytes_per_token(model: ModelFacts, plan: EnginePlan) -> float:
    """Peak within a layer, per token of the batch: the larger of attention and MLP, beside the hidden states."""
    assumed = memory_assumptions()
    size = plan.tensor_parallel
    attention = (2 * model.attention_heads + 2 * model.kv_heads) * model.head_dim / size
    width = model.intermediate_size or assumed.assumed_mlp_ratio * model.hidden_size
    dense = 0.0 if _only_experts(model) else 3 * width / size
    largest = max(attention, dense, _expert_values(model, plan))
    return assumed.hidden_bytes * model.hidden_size + _ACTIVATION_BYTES * largest


def _only_experts(model: ModelFacts) -> bool:
    """No dense MLP is known of beside the experts."""
    return bool(model.experts) and model.intermediate_size is None


def _expert_values(model: ModelFacts, plan: EnginePlan) -> float:
    """Values between the layers of the experts. Input and output of an expert share one buffer."""
    width = model.moe_intermediate_size
    if not model.experts or not model.experts_per_token or width is None:
        return 0.0
    part = width / (plan.tensor_parallel * plan.data_parallel)
    return model.experts_per_token * (max(2 * part, model.hidden_size) + part)


def _latent_bytes_per_token(model: ModelFacts, plan: EnginePlan) -> float:
    if model.mla_kv_lora_rank is None:
        return 0.0
    return _ACTIVATION_BYTES * 2 * model.attention_heads * model.head_dim / plan.tensor_parallel

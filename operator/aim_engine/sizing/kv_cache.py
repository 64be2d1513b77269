"""KV cache of one GPU: bytes per token and sequence, and how many of each fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aim_engine.catalog.assumptions import state_blocks
from aim_engine.catalog.models import ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.overhead import step_tokens

_UNLIMITED = 10**12
"""Tokens that fit where a token takes no memory."""
_SIXTEEN_BIT_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class KVLayers:
    """Layers of the longest pipeline stage by what they keep."""

    full: int
    """Keep every token."""
    windowed: int
    """Keep the last `window_tokens` only."""
    window_tokens: int


def kv_layers(model: ModelFacts, plan: EnginePlan) -> KVLayers:
    """Layers that keep a cache; linear-attention layers keep none."""
    keeping = model.layers if model.kv_layers is None else model.kv_layers
    stage = math.ceil(keeping / plan.pipeline_parallel)
    if not plan.hybrid_kv_cache or not model.sliding_window or not model.sliding_layers or not keeping:
        return KVLayers(stage, 0, 0)
    windowed = model.sliding_layers * stage // keeping
    return KVLayers(stage - windowed, windowed, model.sliding_window + step_tokens(model, plan))


def kv_bytes_per_token_per_layer(model: ModelFacts, plan: EnginePlan) -> float:
    """KV cache of one token in one windowed layer on one GPU, or in any where all are alike.

    MLA keeps one latent vector, which every GPU holds whole.
    """
    return _bytes_per_token(model, plan, model.kv_heads, model.head_dim)


def kv_bytes_per_token_per_full_layer(model: ModelFacts, plan: EnginePlan) -> float:
    """KV cache of one token in one layer that keeps every token, on one GPU."""
    heads, size = model.full_kv_heads or model.kv_heads, model.full_head_dim or model.head_dim
    return _bytes_per_token(model, plan, heads, size)


def _bytes_per_token(model: ModelFacts, plan: EnginePlan, heads: int, size: int) -> float:
    element = plan.kv_cache_bytes_per_element or _SIXTEEN_BIT_BYTES
    if model.mla_kv_lora_rank is not None:
        values = model.mla_kv_lora_rank + (model.mla_rope_head_dim or 0)
    else:
        values = 2 * max(1, heads // plan.tensor_parallel) * size
    return (values * element + (model.mla_index_bytes or 0)) / plan.decode_context_parallel


def kv_bytes_per_token(model: ModelFacts, plan: EnginePlan) -> float:
    """KV cache on one GPU of a token that every layer keeps."""
    layers, full, windowed = _by_kind(model, plan)
    return full * layers.full + windowed * layers.windowed


def _by_kind(model: ModelFacts, plan: EnginePlan) -> tuple[KVLayers, float, float]:
    """(layers, bytes of a token in one that keeps all, bytes in one with a window).

    Without the hybrid cache all layers keep every token, and the wider of the two counts.
    """
    layers = kv_layers(model, plan)
    full, windowed = (
        kv_bytes_per_token_per_full_layer(model, plan),
        kv_bytes_per_token_per_layer(model, plan),
    )
    return layers, full if layers.windowed or not model.sliding_layers else max(full, windowed), windowed


def state_bytes_per_sequence(model: ModelFacts, plan: EnginePlan) -> float:
    """Recurrent state of one sequence on one GPU, whatever its length."""
    whole = model.state_bytes_per_sequence or 0
    return whole / (plan.tensor_parallel * plan.pipeline_parallel)


def states_that_fit(model: ModelFacts, plan: EnginePlan, kv_bytes: float) -> int | None:
    """Blocks of the KV cache, of which vLLM wants one for the recurrent state of each sequence; None without such layers.

    A block is a page in each layer of a group of layers; the pages of a sequence's other groups are blocks of their own.
    """
    whole = state_bytes_per_sequence(model, plan) * plan.pipeline_parallel
    attention = model.layers if model.kv_layers is None else model.kv_layers
    recurrent = model.layers - attention
    if not whole or recurrent <= 0:
        return None
    page, group, rule = whole / recurrent, recurrent, state_blocks()
    if attention:
        token = kv_bytes_per_token_per_full_layer(model, plan) * plan.decode_context_parallel
        page = rule.token_step * token * math.ceil(page / (rule.token_step * token))
        fewer, more = sorted((attention, recurrent))
        group = more if more < fewer * rule.group_tolerance else fewer
    return max(0, int(kv_bytes // (page * math.ceil(group / plan.pipeline_parallel))))


def kv_bytes_for_context(model: ModelFacts, plan: EnginePlan, context: int) -> float:
    """Cache and state of one sequence on one GPU of the longest pipeline stage."""
    layers, full, windowed = _by_kind(model, plan)
    kept = full * layers.full * context + windowed * layers.windowed * min(context, layers.window_tokens)
    return kept + state_bytes_per_sequence(model, plan)


def tokens_that_fit(model: ModelFacts, plan: EnginePlan, kv_bytes: float) -> int:
    """Longest single sequence that so much memory holds; 0 when there is none."""
    layers, full, windowed = _by_kind(model, plan)
    room = kv_bytes - state_bytes_per_sequence(model, plan)
    if room <= 0:
        return 0
    if not layers.full + layers.windowed:
        return _UNLIMITED
    within = room / (full * layers.full + windowed * layers.windowed)
    if within <= layers.window_tokens or not layers.windowed:
        return int(min(within, _UNLIMITED))
    if not layers.full:
        return _UNLIMITED
    beyond = (room - windowed * layers.windowed * layers.window_tokens) / (full * layers.full)
    return int(min(beyond, _UNLIMITED))


def sequences_that_fit(model: ModelFacts, plan: EnginePlan, kv_bytes: float, context: int) -> int:
    """Sequences of a context that one data parallel rank holds at once, whatever `max-num-seqs` allows."""
    each = kv_bytes_for_context(model, plan, context)
    return 0 if kv_bytes <= 0 else int(min(kv_bytes / each if each else _UNLIMITED, _UNLIMITED))

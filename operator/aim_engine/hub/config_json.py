"""A model's `config.json` as the facts that sizing needs. Pure. A number that is not there stays unknown, never guessed; so does a
model of a type, with a format or with a pattern of layers that is not understood (`catalog/architectures.yaml`).

Parameter counts are computed from the dimensions: the matrices of attention, MLPs, experts and embeddings of decoder models
as transformers builds them. Norms and biases, well below one in a thousand, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.catalog.architectures import Architecture, architectures, foreign_keys
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.hub.attention import Layers, kept_layers
from aim_engine.hub.config_reader import ConfigError, Reader, mapping, shown
from aim_engine.hub.quantization import stored_format

__all__ = ["ConfigError", "Described", "describe"]

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
_STATE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a value of a recurrent state by `mamba_ssm_dtype`; without it the state has the model's own 16-bit format, as vLLM keeps it."""
_STRETCHING = ("yarn", "linear", "dynamic")
"""Kinds of rotary scaling whose factor vLLM multiplies the context by (config/model.py, _get_and_verify_max_len)."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a repository says of itself."""

    facts: ModelFacts
    checkpoint: Checkpoint


def describe(model_id: str, config: object, weights_bytes: int | None, source: str) -> Described:
    """Facts of a repository from its `config.json` and the size of its weight files.

    Raises ConfigError naming the field, its value and what was expected.
    """
    whole = mapping(config, "config.json")
    reader = Reader({**whole, **_text_part(whole)})
    kind = _architecture(reader)
    dense = _dimensions(reader, kind)
    experts = _experts(reader, kind)
    kept = kept_layers(reader, kind, dense.layers)
    linear = _linear_layers(reader, kept, dense.hidden)
    form = stored_format(reader, has_experts=experts is not None)
    mla = reader.count("kv_lora_rank", required=False)
    total = _parameters(reader, dense, experts, linear, active=False)
    facts = ModelFacts(
        id=model_id,
        parameters=total,
        active_parameters=min(total, _parameters(reader, dense, experts, linear, active=True)),
        layers=dense.layers,
        hidden_size=dense.hidden,
        attention_heads=dense.heads,
        kv_heads=dense.heads if mla else dense.kv_heads,
        head_dim=dense.head_dim,
        max_position_embeddings=_context(reader),
        native_precision=form.precision,
        native_rest_precision=form.rest,
        source=source,
        vocab_size=dense.vocab,
        tied_embeddings=dense.tied,
        intermediate_size=dense.intermediate,
        checkpoint_bytes=weights_bytes,
        experts=experts.count if experts else None,
        experts_per_token=experts.per_token if experts else None,
        moe_intermediate_size=experts.width if experts else None,
        quantization_block=form.block,
        mla_kv_lora_rank=mla,
        mla_rope_head_dim=reader.count("qk_rope_head_dim", required=False) if mla else None,
        mla_index_bytes=_index_bytes(reader) if mla else None,
        sliding_window=kept.window,
        sliding_layers=kept.windowed or None,
        kv_layers=dense.layers - linear.layers if linear else None,
        state_bytes_per_sequence=linear.state_bytes if linear else None,
    )
    stored = Checkpoint(
        model_id, model_id, form.precision, source, weights_bytes, None, form.block, form.rest,
        loaded_bytes=weights_bytes // 2 if form.wide and weights_bytes else None,
    )  # fmt: skip
    return Described(facts, stored)


@dataclass(frozen=True, slots=True)
class _Dimensions:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    intermediate: int | None
    tied: bool
    """Input and output embeddings are one matrix."""


@dataclass(frozen=True, slots=True)
class _Experts:
    count: int
    per_token: int
    width: int
    shared_width: int
    """All shared experts together."""
    dense_layers: int
    """Layers without experts."""


@dataclass(frozen=True, slots=True)
class _Linear:
    """Layers with a recurrent state instead of a KV cache."""

    layers: int
    state_bytes: int
    parameters_per_layer: int


def _text_part(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """The innermost: a part of a part, as of models that also speak."""
    found: Mapping[str, Any] = {}
    inner: Mapping[str, Any] | None = whole
    while inner is not None:
        parts = (inner.get(name) for name in _TEXT_PARTS)
        inner = next((part for part in parts if isinstance(part, Mapping)), None)
        found = found if inner is None else inner
    return found


def _architecture(reader: Reader) -> Architecture:
    """What is known of the model's type; refuses types and keys that are not understood."""
    name = reader.values.get("model_type")
    found = architectures().get(name) if isinstance(name, str) else None
    if found is None:
        raise ConfigError(
            f"model_type is {shown(name)}, which is none of the {len(architectures())} decoders whose memory is understood"
        )
    foreign = next((key for key in foreign_keys() if reader.values.get(key)), None)
    if foreign is not None:
        raise ConfigError(f"{foreign} is {shown(reader.values[foreign])}: such hybrids are not understood")
    return found


def _dimensions(reader: Reader, kind: Architecture) -> _Dimensions:
    hidden, heads = (
        reader.must("hidden_size", "n_embd", "d_model"),
        reader.must("num_attention_heads", "n_head"),
    )
    if reader.values.get("is_encoder_decoder") is True:
        raise ConfigError("is_encoder_decoder is true; only decoder models are sized")
    return _Dimensions(
        layers=reader.must("num_hidden_layers", "n_layer"),
        hidden=hidden,
        heads=heads,
        kv_heads=reader.count("num_key_value_heads", required=False) or heads,
        head_dim=_head_dim(reader) or max(1, hidden // heads),
        vocab=reader.must("vocab_size"),
        intermediate=reader.count("intermediate_size", "ffn_hidden_size", "n_inner", required=False),
        tied=reader.flag("tie_word_embeddings", default=kind.tied),
    )


def _head_dim(reader: Reader) -> int | None:
    """Of MLA that of the values: its `head_dim`, where transformers wrote one, is the part of the keys that is rotated."""
    names = ("v_head_dim", "head_dim") if reader.values.get("kv_lora_rank") else ("head_dim", "v_head_dim")
    return reader.count(*names, required=False)


def _index_bytes(reader: Reader) -> int | None:
    """Of sparse attention, per token and layer: one FP8 key, and a scale for every 128 of its values."""
    values = reader.count("index_head_dim", required=False)
    return values + 4 * -(-values // 128) if values else None


def _experts(reader: Reader, kind: Architecture) -> _Experts | None:
    count = reader.count("n_routed_experts", "num_experts", "num_local_experts", required=False)
    if count is None or count == 1:
        return None
    width = reader.count("moe_intermediate_size", "intermediate_size")
    assert width is not None  # noqa: S101  count raises
    shared = reader.count("shared_expert_intermediate_size", required=False)
    if shared is None:
        found = reader.count("n_shared_experts", "num_shared_experts", required=False)
        shared = (kind.shared_experts if found is None else found) * width
    return _Experts(
        count=count,
        per_token=reader.must(
            "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k"
        ),
        width=width,
        shared_width=shared,
        dense_layers=_layers_without_experts(reader),
    )


def _layers_without_experts(reader: Reader) -> int:
    layers = reader.must("num_hidden_layers", "n_layer")
    first = reader.count("first_k_dense_replace", required=False) or 0
    step = (
        reader.count("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq", required=False)
        or 1
    )
    listed = reader.items("moe_layers")
    if listed:
        return max(0, layers - len(listed))
    only = len(reader.items("mlp_only_layers"))
    after = max(0, layers - first)
    return min(layers, first + (after - after // step) + only)


def _linear_layers(reader: Reader, kept: Layers, hidden: int) -> _Linear | None:
    """Gated DeltaNet layers, as Qwen3-Next has them."""
    if not kept.recurrent:
        return None
    keys, values = reader.must("linear_num_key_heads"), reader.must("linear_num_value_heads")
    key_dim, value_dim = reader.must("linear_key_head_dim"), reader.must("linear_value_head_dim")
    kernel = reader.must("linear_conv_kernel_dim")
    mixed = 2 * keys * key_dim + values * value_dim
    element = str(reader.values.get("mamba_ssm_dtype") or "bfloat16")
    if element not in _STATE_BYTES:
        raise ConfigError(f"mamba_ssm_dtype is {shown(element)}; known are {', '.join(_STATE_BYTES)}")
    state = values * key_dim * value_dim * _STATE_BYTES[element] + mixed * (kernel - 1) * 2
    projections = hidden * (mixed + values * value_dim + 2 * values) + values * value_dim * hidden
    return _Linear(kept.recurrent, kept.recurrent * state, projections + mixed * kernel)


def _parameters(
    reader: Reader, dense: _Dimensions, experts: _Experts | None, linear: _Linear | None, *, active: bool
) -> int:
    """All parameters, or those that one token uses."""
    full_layers = dense.layers - (linear.layers if linear else 0)
    total = _attention(reader, dense) * full_layers
    total += linear.layers * linear.parameters_per_layer if linear else 0
    without = experts.dense_layers if experts else dense.layers
    width = reader.count("intermediate_size_mlp", required=False) or dense.intermediate
    if without and width is None:
        raise ConfigError("intermediate_size is missing, so the parameters cannot be counted")
    total += without * 3 * dense.hidden * (width or 0)
    if experts:
        used = experts.per_token if active else experts.count
        each = 3 * dense.hidden * (used * experts.width + experts.shared_width) + dense.hidden * experts.count
        total += (dense.layers - without) * each
    return total + (1 if dense.tied else 2) * dense.vocab * dense.hidden


def _attention(reader: Reader, dense: _Dimensions) -> int:
    rank = reader.count("kv_lora_rank", required=False)
    if rank is None:
        gate = 2 if reader.flag("attn_output_gate", default=False) else 1
        return dense.hidden * dense.head_dim * ((gate + 1) * dense.heads + 2 * dense.kv_heads)
    nope, rope = reader.must("qk_nope_head_dim"), reader.must("qk_rope_head_dim")
    value = reader.must("v_head_dim")
    queries = dense.heads * (nope + rope)
    query_rank = reader.count("q_lora_rank", required=False)
    query = query_rank * (dense.hidden + queries) if query_rank else dense.hidden * queries
    return (
        query
        + dense.hidden * (rank + rope)
        + rank * dense.heads * (nope + value)
        + dense.heads * value * dense.hidden
    )


def _context(reader: Reader) -> int:
    """The longest context as vLLM derives it: the trained length, stretched by the factor of the rotary scaling that is configured."""
    positions = reader.must(
        "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"
    )
    scaling = reader.part("rope_scaling") or reader.part("rope_parameters")
    kind = str(scaling.get("rope_type", scaling.get("type", "")))
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if kind not in _STRETCHING or isinstance(factor, bool) or not isinstance(factor, int | float):
        return positions
    if kind == "yarn":
        return max(positions, _stretched(original, factor))
    # Gemma 3 names its stretched length already.
    already = str(reader.values.get("model_type", "")).startswith("gemma3")
    return positions if already else max(positions, _stretched(positions, factor))


def _stretched(positions: object, factor: float) -> int:
    """0 where the two numbers are no length and no factor."""
    if not isinstance(positions, int) or not 1 <= positions < 2**40 or not 1 <= factor < 2**40:
        return 0
    stretched = int(positions * factor)
    return stretched if stretched < 2**40 else 0

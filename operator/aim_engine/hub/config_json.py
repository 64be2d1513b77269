"""A model's `config.json` as the facts that sizing needs. Pure. A number that is not there stays unknown, never guessed.

Parameter counts are computed from the dimensions: the matrices of attention, MLPs, experts and embeddings of decoder models
as transformers builds them. Norms and biases, well below one in a thousand, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.enums import Precision
from aim_engine.catalog.models import Checkpoint, ModelFacts

_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
_DTYPES = {"bfloat16": Precision.BF16, "float16": Precision.FP16, "float32": Precision.BF16}
_BITS = {8: Precision.INT8, 4: Precision.INT4}
_STATE_BYTES = 4
"""Recurrent state is kept in 32 bit."""


class ConfigError(ValueError):
    """The configuration does not describe a decoder whose memory can be computed; the message says which field."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a repository says of itself."""

    facts: ModelFacts
    checkpoint: Checkpoint


def describe(model_id: str, config: object, weights_bytes: int | None, source: str) -> Described:
    """Facts of a repository from its `config.json` and the size of its weight files.

    Raises ConfigError naming the field, its value and what was expected.
    """
    whole = _mapping(config, "config.json")
    text = _text_part(whole)
    reader = _Reader({**whole, **text})
    precision, block = _format(reader)
    dense = _dimensions(reader)
    experts = _experts(reader)
    mla = reader.count("kv_lora_rank", required=False)
    linear = _linear_layers(reader, dense)
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
        native_precision=precision,
        source=source,
        vocab_size=dense.vocab,
        tied_embeddings=reader.flag("tie_word_embeddings", default=False),
        intermediate_size=dense.intermediate,
        checkpoint_bytes=weights_bytes,
        experts=experts.count if experts else None,
        experts_per_token=experts.per_token if experts else None,
        moe_intermediate_size=experts.width if experts else None,
        quantization_block=block,
        mla_kv_lora_rank=mla,
        mla_rope_head_dim=reader.count("qk_rope_head_dim", required=False) if mla else None,
        mla_index_bytes=reader.count("index_head_dim", required=False) if mla else None,
        sliding_window=_window(reader, dense)[0],
        sliding_layers=_window(reader, dense)[1],
        kv_layers=dense.layers - linear.layers if linear else None,
        state_bytes_per_sequence=linear.state_bytes if linear else None,
    )
    stored = Checkpoint(model_id, model_id, precision, source, weights_bytes, None, block)
    return Described(facts, stored)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Typed access to a configuration; text and vision parts are merged, the text part wins."""

    values: Mapping[str, Any]

    def count(self, *names: str, required: bool = True) -> int | None:
        """A whole number of at least 1 under the first name that is there."""
        for name in names:
            value = self.values.get(name)
            if value is None or (not required and value == 0):
                continue
            if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**40:
                return value
            raise ConfigError(f"{name} is {_shown(value)}, which is no whole number of at least 1")
        if required:
            raise ConfigError(f"{names[0]} is missing, so memory cannot be computed")
        return None

    def must(self, *names: str) -> int:
        found = self.count(*names)
        assert found is not None  # noqa: S101  count raises
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name)
        return value if isinstance(value, bool) else default

    def part(self, name: str) -> Mapping[str, Any]:
        value = self.values.get(name)
        return value if isinstance(value, Mapping) else {}

    def words(self, name: str) -> list[str]:
        value = self.values.get(name)
        return [str(each) for each in value] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class _Dimensions:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    intermediate: int | None


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
    for name in _TEXT_PARTS:
        part = whole.get(name)
        if isinstance(part, Mapping):
            return _text_part(part) if any(isinstance(part.get(n), Mapping) for n in _TEXT_PARTS) else part
    return {}


def _dimensions(reader: _Reader) -> _Dimensions:
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
        head_dim=reader.count("head_dim", "v_head_dim", required=False) or max(1, hidden // heads),
        vocab=reader.must("vocab_size"),
        intermediate=reader.count("intermediate_size", "ffn_hidden_size", "n_inner", required=False),
    )


def _experts(reader: _Reader) -> _Experts | None:
    count = reader.count("n_routed_experts", "num_experts", "num_local_experts", required=False)
    if count is None or count == 1:
        return None
    width = reader.count("moe_intermediate_size", "intermediate_size")
    assert width is not None  # noqa: S101  count raises
    shared = reader.count("shared_expert_intermediate_size", required=False)
    if shared is None:
        shared = (reader.count("n_shared_experts", "num_shared_experts", required=False) or 0) * width
    return _Experts(
        count=count,
        per_token=reader.must(
            "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k"
        ),
        width=width,
        shared_width=shared,
        dense_layers=_layers_without_experts(reader),
    )


def _layers_without_experts(reader: _Reader) -> int:
    layers = reader.must("num_hidden_layers", "n_layer")
    first = reader.count("first_k_dense_replace", required=False) or 0
    step = (
        reader.count("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq", required=False)
        or 1
    )
    listed = reader.values.get("mlp_only_layers")
    only = len(listed) if isinstance(listed, list) else 0
    after = max(0, layers - first)
    return min(layers, first + (after - after // step) + only)


def _linear_layers(reader: _Reader, dense: _Dimensions) -> _Linear | None:
    """Gated DeltaNet layers (Qwen3-Next and later): `layer_types`, or every `full_attention_interval`-th layer is full."""
    types = reader.words("layer_types")
    count = sum(kind == "linear_attention" for kind in types)
    interval = reader.count("full_attention_interval", required=False)
    if not types and interval is not None:
        count = dense.layers - dense.layers // interval
    if not count:
        return None
    keys, values = reader.must("linear_num_key_heads"), reader.must("linear_num_value_heads")
    key_dim, value_dim = reader.must("linear_key_head_dim"), reader.must("linear_value_head_dim")
    kernel = reader.must("linear_conv_kernel_dim")
    mixed = 2 * keys * key_dim + values * value_dim
    state = values * key_dim * value_dim * _STATE_BYTES + mixed * (kernel - 1) * 2
    projections = dense.hidden * (mixed + values * value_dim + 2 * values) + values * value_dim * dense.hidden
    return _Linear(count, count * state, projections + mixed * kernel)


def _parameters(
    reader: _Reader, dense: _Dimensions, experts: _Experts | None, linear: _Linear | None, *, active: bool
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
    matrices = 1 if reader.flag("tie_word_embeddings", default=False) else 2
    return total + matrices * dense.vocab * dense.hidden


def _attention(reader: _Reader, dense: _Dimensions) -> int:
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


def _window(reader: _Reader, dense: _Dimensions) -> tuple[int | None, int | None]:
    """(window, layers that have it) of models that mix windowed and full attention, or have a window everywhere."""
    window = reader.count("sliding_window", "attention_chunk_size", required=False)
    if window is None or reader.values.get("use_sliding_window") is False:
        return None, None
    types = reader.words("layer_types")
    if types:
        windowed = sum(kind in ("sliding_attention", "chunked_attention") for kind in types)
        return (window, windowed) if windowed else (None, None)
    pattern = reader.count("sliding_window_pattern", required=False)
    if pattern:
        return window, dense.layers - dense.layers // pattern
    return window, dense.layers


def _context(reader: _Reader) -> int:
    """The longest context as vLLM derives it: the trained length, times the factor of YaRN where that is configured."""
    positions = reader.must(
        "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"
    )
    scaling = reader.part("rope_scaling") or reader.part("rope_parameters")
    kind = str(scaling.get("rope_type", scaling.get("type", "")))
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if (
        kind == "yarn"
        and isinstance(factor, int | float)
        and isinstance(original, int)
        and factor >= 1
        and original > 0
    ):
        stretched = original * factor
        return max(positions, int(stretched)) if math.isfinite(stretched) and stretched < 2**40 else positions
    return positions


def _format(reader: _Reader) -> tuple[Precision, int | None]:
    """(format of the weights, edge of its scale blocks)."""
    quantised = reader.part("quantization_config")
    method = str(quantised.get("quant_method", "")).lower()
    if not quantised:
        word = str(reader.values.get("dtype") or reader.values.get("torch_dtype") or "bfloat16").removeprefix(
            "torch."
        )
        if word not in _DTYPES:
            raise ConfigError(f"torch_dtype is {_shown(word)}; known are {', '.join(_DTYPES)}")
        return _DTYPES[word], None
    block = quantised.get("weight_block_size")
    edge = (
        block[0] if isinstance(block, list) and block and isinstance(block[0], int) and block[0] > 0 else None
    )
    match method:
        case "mxfp4":
            return Precision.MXFP4, 32
        case "fp8" | "fbgemm_fp8":
            return Precision.FP8, edge
        case "awq" | "gptq" | "awq_marlin" | "gptq_marlin":
            return _bits(quantised.get("bits", 4), "quantization_config.bits"), None
        case "compressed-tensors" | "quark" | "modelopt":
            return _group(quantised, method), edge
        case _:
            raise ConfigError(
                f"quantization_config.quant_method is {_shown(method)}, which is not known here"
            )


def _group(quantised: Mapping[str, Any], method: str) -> Precision:
    """Format of weights that llm-compressor, Quark or ModelOpt describe by groups of layers."""
    text = str(quantised).lower()
    if "mxfp4" in text or "'fp4'" in text or "mx" in str(quantised.get("format", "")).lower():
        return Precision.MXFP4
    groups = quantised.get("config_groups")
    group: object = next(iter(groups.values()), {}) if isinstance(groups, Mapping) else {}
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if isinstance(weights, Mapping):
        bits = weights.get("num_bits", 8)
        return Precision.FP8 if weights.get("type") == "float" and bits == 8 else _bits(bits, "num_bits")
    if "fp8" in text:
        return Precision.FP8
    raise ConfigError(f"quantization_config of {_shown(method)} says no format that is known here")


def _bits(value: object, field: str) -> Precision:
    if isinstance(value, int) and value in _BITS:
        return _BITS[value]
    raise ConfigError(f"{field} is {_shown(value)}; known are 4 and 8")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} is {_shown(value)}, not an object")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."

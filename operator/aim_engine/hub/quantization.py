"""The format of a checkpoint's weights, from `quantization_config` and `torch_dtype`. Four bits that are neither integers nor MXFP4 are
no format of ours: they are refused, not taken for another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.enums import Precision
from aim_engine.hub.config_reader import ConfigError, Reader, shown

_DTYPES = {"bfloat16": Precision.BF16, "float16": Precision.FP16, "float32": Precision.BF16}
_BITS = {8: Precision.INT8, 4: Precision.INT4}
_MX_GROUP = 32
_EXCLUDED = ("ignore", "exclude", "modules_to_not_convert")
"""Names of the lists of layers that stay as they were, by the tool that made the checkpoint."""


@dataclass(frozen=True, slots=True)
class StoredFormat:
    """How the weights are stored."""

    precision: Precision
    block: int | None = None
    """Edge of the scale blocks that restrict how experts are cut: those of FP8."""
    rest: Precision | None = None
    """Format of everything but the experts, where it is another."""
    wide: bool = False
    """The files are in 32 bit, which an engine loads in 16."""


def stored_format(reader: Reader, *, has_experts: bool) -> StoredFormat:
    """The format; raises ConfigError for one that is not known here."""
    quantised = reader.part("quantization_config")
    if not quantised:
        return StoredFormat(_dtype(reader), wide=_word(reader) == "float32")
    precision = _precision(quantised)
    rest = _dtype(reader) if has_experts and _keeps_attention(quantised) else None
    return StoredFormat(precision, _edge(quantised) if precision is Precision.FP8 else None, rest)


def _dtype(reader: Reader) -> Precision:
    found = _DTYPES.get(_word(reader))
    if found is None:
        raise ConfigError(f"torch_dtype is {shown(_written(reader))}; known are {', '.join(_DTYPES)}")
    return found


def _word(reader: Reader) -> str:
    return str(_written(reader)).removeprefix("torch.")


def _written(reader: Reader) -> object:
    return reader.values.get("dtype") or reader.values.get("torch_dtype") or "bfloat16"


def _precision(quantised: Mapping[str, Any]) -> Precision:
    method = str(quantised.get("quant_method", "")).lower()
    match method:
        case "mxfp4":
            return Precision.MXFP4
        case "fp8" | "fbgemm_fp8":
            return Precision.FP8
        case "awq" | "gptq" | "awq_marlin" | "gptq_marlin":
            return _bits(quantised.get("bits", 4), "quantization_config.bits")
        case "compressed-tensors":
            return _compressed(quantised)
        case "quark":
            return _quark(quantised)
        case "modelopt":
            return _modelopt(quantised)
        case _:
            raise ConfigError(f"quantization_config.quant_method is {shown(method)}, which is not known here")


def _compressed(quantised: Mapping[str, Any]) -> Precision:
    """llm-compressor: groups of layers, of which the first speaks for the weights."""
    weights = _part(_first(quantised.get("config_groups")), "weights")
    bits, kind = weights.get("num_bits"), weights.get("type")
    if kind != "float":
        return _bits(bits, "quantization_config.config_groups weights.num_bits")
    return _float(bits, mx="mxfp4" in str(quantised.get("format", "")).lower())


def _quark(quantised: Mapping[str, Any]) -> Precision:
    weight = _part(quantised.get("global_quant_config"), "weight")
    dtype = str(weight.get("dtype", "")).lower()
    if dtype.startswith("fp8"):
        return Precision.FP8
    if dtype.startswith("fp4"):
        return _float(4, mx=weight.get("group_size") == _MX_GROUP or weight.get("scale_format") == "e8m0")
    for bits, precision in _BITS.items():
        if dtype in (f"int{bits}", f"uint{bits}"):
            return precision
    raise ConfigError(
        f"quantization_config.global_quant_config.weight.dtype is {shown(dtype)}, which is not known here"
    )


def _modelopt(quantised: Mapping[str, Any]) -> Precision:
    algorithm = str(quantised.get("quant_algo", "")).upper()
    if algorithm.startswith("FP8"):
        return Precision.FP8
    raise ConfigError(
        f"quantization_config.quant_algo is {shown(algorithm)}, which AMD GPUs do not serve as it is"
    )


def _float(bits: object, *, mx: bool) -> Precision:
    if bits == 8:
        return Precision.FP8
    if bits == 4 and mx:
        return Precision.MXFP4
    what = (
        "4-bit floating point that is not MXFP4 (NVFP4?)"
        if bits == 4
        else f"{shown(bits)}-bit floating point"
    )
    raise ConfigError(f"quantization_config describes {what}, which is none of our formats")


def _bits(value: object, field: str) -> Precision:
    if isinstance(value, int) and value in _BITS:
        return _BITS[value]
    raise ConfigError(f"{field} is {shown(value)}; known are 4 and 8")


def _edge(quantised: Mapping[str, Any]) -> int | None:
    block = quantised.get("weight_block_size")
    edge = block[0] if isinstance(block, list) and block else None
    return edge if isinstance(edge, int) and not isinstance(edge, bool) and edge > 0 else None


def _keeps_attention(quantised: Mapping[str, Any]) -> bool:
    lists = (quantised.get(name) for name in _EXCLUDED)
    return any("attn" in str(layer) for found in lists if isinstance(found, list) for layer in found)


def _part(value: object, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _first(groups: object) -> object:
    return next(iter(groups.values()), None) if isinstance(groups, Mapping) else None

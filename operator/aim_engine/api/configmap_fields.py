"""Parts of the recipe forms that others wrote: GPU names, precision aliases, flags, resources, declared performance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aim_engine.api.configmap_yaml import Document, Path
from aim_engine.api.enums import ProvenanceKind

PRECISION_ALIASES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float8": "fp8", "fp4": "mxfp4"}
_MODEL_NAME = re.compile(r"MI\d{3}[A-Z]?")
_PARALLEL = {
    "tensor-parallel-size": ("tp", "tp-size"),
    "pipeline-parallel-size": ("pp", "pp-size"),
    "data-parallel-size": ("dp", "dp-size"),
}
"""Flags that multiply to the GPU count, with their shorter spellings in vLLM and SGLang."""
_MODEL_FLAGS = ("model", "model-path", "model_path")


def hardware(document: Document) -> tuple[dict[str, Any], dict[str, Path]]:
    """`hardware` as text or mapping, and where its fields stand."""
    value = document.data.get("hardware")
    if not isinstance(value, Mapping):
        return {"gpuModel": gpu_model(value)}, {"hardware.gpuModel": ("hardware",)}
    only_fields(
        document,
        ("hardware",),
        {"gpu_model", "gpuModel", "gpu", "gpu_count", "gpuCount", "count", "partition"},
    )
    result: dict[str, Any] = {}
    origins: dict[str, Path] = {}
    for ours, names in (
        ("gpuModel", ("gpu_model", "gpuModel", "gpu")),
        ("gpuCount", ("gpu_count", "gpuCount", "count")),
        ("partition", ("partition",)),
    ):
        for name in names:
            if name in value:
                result[ours] = gpu_model(value[name]) if ours == "gpuModel" else value[name]
                origins[f"hardware.{ours}"] = ("hardware", name)
    return result, origins


def gpu_model(value: Any) -> Any:
    """`mi300x` and `AMD Instinct MI300X` are MI300X; what names no Instinct GPU is left as it is."""
    found = _MODEL_NAME.search(value.upper()) if isinstance(value, str) else None
    return found.group() if found else value


def precision(value: Any) -> Any:
    lowered = value.lower() if isinstance(value, str) else value
    return PRECISION_ALIASES.get(lowered, lowered) if isinstance(lowered, str) else value


def engine_args(document: Document, path: Path, model: Any, count: Any, notes: list[str]) -> dict[str, Any]:
    """Flags without dashes; what the operator sets by itself is dropped when it agrees and refused when not."""
    args: dict[str, Any] = {}
    written: dict[str, str] = {}
    for key, value in mapping_at(document, path).items():
        flag, setting = key.lstrip("-"), True if value is None else boolean(value)
        if flag.startswith("no-") and setting is True:
            flag, setting = flag.removeprefix("no-"), False
        if flag in written:
            raise document.refuse(
                (*path, key), value, f"the flag {flag} is set twice", "remove one of the two"
            )
        args[flag], written[flag] = setting, key
    for flag in (flag for flag in _MODEL_FLAGS if flag in args):
        if args[flag] != model:
            message = f"the flag names another model than {model}"
            raise document.refuse((*path, written[flag]), args[flag], message, "remove the flag")
        notes.append(f"the flag {flag} was dropped: the operator sets it")
        del args[flag]
    tensor = _tensor_parallel(document, path, args, written, count)
    if tensor is not None:
        notes.append(f"the flag {tensor} was dropped: it follows from the GPU count")
        del args[tensor]
    return args


def _tensor_parallel(
    document: Document, path: Path, args: Mapping[str, Any], written: Mapping[str, str], count: Any
) -> str | None:
    """The flag that sets tensor parallelism, once all parallel sizes together agree with the GPU count."""
    canonical = {flag.replace("_", "-"): flag for flag in args}
    sizes = {
        name: next((canonical[each] for each in (name, *shorter) if each in canonical), None)
        for name, shorter in _PARALLEL.items()
    }
    if args.get(canonical.get("enable-dp-attention", "")) is True:
        del sizes["data-parallel-size"]  # SGLang then splits the same GPUs once more
    tensor = sizes["tensor-parallel-size"]
    if tensor is None or count is None:
        return tensor
    product = 1
    for flag in (flag for flag in sizes.values() if flag is not None):
        text = str(args[flag])
        if not (text.isascii() and text.isdecimal()) or len(text) > 4:
            raise document.refuse(
                (*path, written[flag]), args[flag], "this is no number of GPUs", "write a whole number"
            )
        product *= int(text)
    if str(product) != str(count):
        message = f"the parallel sizes need {product} GPUs, the recipe has {count}"
        raise document.refuse((*path, written[tensor]), args[tensor], message, "remove the flag")
    return tensor


def boolean(value: Any) -> Any:
    lowered = value.lower() if isinstance(value, str) else value
    if lowered == "true":
        return True
    return False if lowered == "false" else value


def environment(document: Document, path: Path) -> dict[str, str]:
    env: dict[str, str] = {}
    for name, value in mapping_at(document, path).items():
        if isinstance(value, Mapping | list):
            raise document.refuse(
                (*path, name), value, "an environment variable is text", "write text or a number"
            )
        env[name] = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return env


def resources(document: Document, count: Any, notes: list[str]) -> dict[str, str]:
    """Limits win: a model server killed at its request would help nobody."""
    only_fields(document, ("resources",), {"requests", "limits"})
    result: dict[str, str] = {}
    for kind in ("requests", "limits"):
        path: Path = ("resources", kind)
        for name, value in mapping_at(document, path).items():
            if name == "amd.com/gpu":
                if count is not None and str(value) != str(count):
                    raise document.refuse(
                        (*path, name), value, f"the recipe has {count} GPUs", "remove the line"
                    )
            elif name not in ("cpu", "memory"):
                notes.append(f"resources.{kind}.{name} was left out: only cpu and memory can be set")
            else:
                if result.get(name, str(value)) != str(value):
                    notes.append(f"resources: requests equal limits, so {name} is {value}")
                result[name] = str(value)
    return result


def declared_performance(document: Document, source: str) -> list[dict[str, Any]]:
    fields = {
        "expected_tokens_per_second": "tokensPerSecond",
        "expected_latency_ms": "requestLatencyMilliseconds",
    }
    only_fields(document, ("performance",), set(fields))
    entry: dict[str, Any] = {}
    for name, value in mapping_at(document, ("performance",)).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.5 <= value <= 1e9:
            raise document.refuse(
                ("performance", name),
                value,
                "this is not a positive number",
                "write a number or remove the line",
            )
        entry[fields[name]] = round(value) or 1
    return (
        [{**entry, "provenance": {"kind": ProvenanceKind.DECLARED.value, "source": source}}] if entry else []
    )


def mapping_at(document: Document, path: Path) -> Mapping[str, Any]:
    """The mapping at `path`; an absent or empty one is empty."""
    value: Any = document.data
    for part in path:
        value = value.get(part)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise document.refuse(path, value, "this is not a mapping", "write it as `field: value` lines")
    return dict(value)


def only_fields(document: Document, path: Path, known: set[str]) -> None:
    for name, value in mapping_at(document, path).items():
        if name not in known:
            raise document.refuse(
                (*path, name),
                value,
                "there is no such field",
                f"remove it, or correct it to one of {', '.join(sorted(known))}",
            )

"""Parts of the recipe forms that others wrote: GPU names, precision aliases, flags, resources, declared performance."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from aim_engine.api.configmap_yaml import Document, ReadError
from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.wording import Path

PRECISION_ALIASES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float8": "fp8", "fp4": "mxfp4"}
_MODEL_NAME = re.compile(r"(?<![A-Z0-9])MI\d{3}[A-Z]?(?![A-Z0-9])")
_PARALLEL = {
    "tensor-parallel-size": ("tp", "tp-size"),
    "pipeline-parallel-size": ("pp", "pp-size"),
    "data-parallel-size": ("dp", "dp-size"),
}
"""Flags that multiply to the GPU count, with their shorter spellings in vLLM and SGLang."""
_MODEL_FLAGS = ("model", "model-path", "model_path")


@dataclass(frozen=True, slots=True)
class Reading:
    """One document while it is read: what is wrong with it, and what was left out of it."""

    document: Document
    notes: list[str] = field(default_factory=list)
    _faults: dict[Path, ReadError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._faults.update(self.document.spoilt)

    def fault(self, path: Path, value: object, message: str, remedy: str) -> None:
        """Note what is wrong with a value, unless the value or what is around it is known to be wrong."""
        if not self.is_wrong(path):
            self._faults[path] = self.document.error(path, value, message, remedy)

    def is_wrong(self, path: Path) -> bool:
        """Whether the value at `path`, or what is around it, is at fault."""
        return any(path[:length] in self._faults for length in range(len(path) + 1))

    @property
    def faults(self) -> tuple[ReadError, ...]:
        """All that is wrong, in the order of the document."""
        order = {path: position for position, path in enumerate(self.document.lines)}
        return tuple(
            error for path, error in sorted(self._faults.items(), key=lambda each: order.get(each[0], -1))
        )

    def mapping(self, *path: str) -> Mapping[str, Any]:
        """The mapping at `path`; an absent, empty or wrong one is empty."""
        value: Any = self.document.data
        for end, part in enumerate(path, 1):
            value = value.get(part)
            if value is None:
                return {}
            if not isinstance(value, Mapping):
                self.fault(path[:end], value, "this is not a mapping", "write it as `field: value` lines")
                return {}
        return dict(value)

    def only_fields(self, known: Collection[str], *path: str) -> None:
        """Note the fields of a mapping that nobody knows."""
        for name, value in self.mapping(*path).items():
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.75)
                remedy = (
                    f"did you mean {near[0]}?"
                    if near
                    else f"remove it, or correct it to one of {', '.join(sorted(known))}"
                )
                self.fault((*path, name), value, "there is no such field", remedy)


_HARDWARE_FIELDS = (
    ("gpuModel", ("gpu_model", "gpuModel", "gpu")),
    ("gpuCount", ("gpu_count", "gpuCount", "count")),
    ("partition", ("partition",)),
)


def hardware(reading: Reading) -> tuple[dict[str, Any], dict[str, Path]]:
    """`hardware` as text or mapping, and where its fields stand."""
    value = reading.document.data.get("hardware")
    if not isinstance(value, Mapping):
        origins: dict[str, Path] = {"hardware.gpuModel": ("hardware",)}
        return ({} if value is None else {"gpuModel": gpu_model(value)}), origins
    reading.only_fields({name for _, names in _HARDWARE_FIELDS for name in names}, "hardware")
    result: dict[str, Any] = {}
    origins = {}
    for ours, names in _HARDWARE_FIELDS:
        for name in names:
            if name in value:
                result[ours] = gpu_model(value[name]) if ours == "gpuModel" else value[name]
                origins[f"hardware.{ours}"] = ("hardware", name)
    return result, origins


def gpu_model(value: Any) -> Any:
    """`mi300x` and `AMD Instinct MI300X` are MI300X; what names no Instinct GPU, or several, is left as it is."""
    found = set(_MODEL_NAME.findall(value.upper())) if isinstance(value, str) else set()
    return found.pop() if len(found) == 1 else value


def precision(value: Any) -> Any:
    lowered = value.lower() if isinstance(value, str) else value
    return PRECISION_ALIASES.get(lowered, lowered) if isinstance(lowered, str) else value


def engine_args(
    reading: Reading, path: tuple[str, ...], model: Any, count: Any
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Flags without dashes, and where each stands. What the operator sets by itself is dropped when it agrees, a fault when not."""
    args: dict[str, Any] = {}
    written: dict[str, Path] = {}
    for key, value in reading.mapping(*path).items():
        flag, setting = key.lstrip("-"), True if value is None else boolean(value)
        if flag.startswith("no-") and setting is True:
            flag, setting = flag.removeprefix("no-"), False
        if flag in written:
            reading.fault((*path, key), value, f"the flag {flag} is set twice", "remove one of the two")
            continue
        args[flag], written[flag] = setting, (*path, key)
    for flag in (flag for flag in _MODEL_FLAGS if flag in args):
        if model is not None and args[flag] != model:
            message = f"the flag names another model than {model}"
            reading.fault(written[flag], args[flag], message, "remove the flag")
        else:
            reading.notes.append(f"the flag {flag} was dropped: the operator sets it")
        del args[flag]
    tensor = _tensor_parallel(reading, args, written, count)
    if tensor is not None:
        reading.notes.append(f"the flag {tensor} was dropped: it follows from the GPU count")
        del args[tensor]
    return args, {f"engineArgs.{flag}": where for flag, where in written.items()}


def _tensor_parallel(
    reading: Reading, args: Mapping[str, Any], written: Mapping[str, Path], count: Any
) -> str | None:
    """The flag that sets tensor parallelism. A fault where all parallel sizes together disagree with the GPU count."""
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
            reading.fault(written[flag], args[flag], "this is no number of GPUs", "write a whole number")
            return tensor
        product *= int(text)
    if str(product) != str(count):
        message = f"the parallel sizes need {product} GPUs, the recipe has {count}"
        reading.fault(written[tensor], args[tensor], message, "remove the flag")
    return tensor


def boolean(value: Any) -> Any:
    lowered = value.lower() if isinstance(value, str) else value
    if lowered == "true":
        return True
    return False if lowered == "false" else value


def environment(reading: Reading, *path: str) -> dict[str, str]:
    env: dict[str, str] = {}
    for name, value in reading.mapping(*path).items():
        if isinstance(value, Mapping | list):
            reading.fault((*path, name), "", "an environment variable is text", "write text or a number")
            continue
        env[name] = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return env


def resources(reading: Reading, count: Any) -> tuple[dict[str, str], dict[str, Path]]:
    """Limits win: a model server killed at its request would help nobody."""
    reading.only_fields({"requests", "limits"}, "resources")
    result: dict[str, str] = {}
    origins: dict[str, Path] = {}
    for kind in ("requests", "limits"):
        for name, value in reading.mapping("resources", kind).items():
            path = ("resources", kind, name)
            if name == "amd.com/gpu":
                if count is not None and str(value) != str(count):
                    reading.fault(path, value, f"the recipe has {count} GPUs", "remove the line")
            elif name not in ("cpu", "memory"):
                reading.notes.append(f"resources.{kind}.{name} was left out: only cpu and memory can be set")
            else:
                if result.get(name, str(value)) != str(value):
                    reading.notes.append(f"resources: requests equal limits, so {name} is {value}")
                result[name], origins[f"resources.{name}"] = str(value), path
    return result, origins


def declared_performance(reading: Reading, source: str) -> list[dict[str, Any]]:
    fields = {
        "expected_tokens_per_second": "tokensPerSecond",
        "expected_latency_ms": "requestLatencyMilliseconds",
    }
    reading.only_fields(fields, "performance")
    entry: dict[str, Any] = {}
    for name, value in reading.mapping("performance").items():
        if name not in fields or reading.is_wrong(("performance", name)):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.5 <= value <= 1e9:
            reading.fault(
                ("performance", name),
                value,
                "this is not a number between 0.5 and 1000000000",
                "write a positive number or remove the line",
            )
            continue
        entry[fields[name]] = round(value) or 1
    return (
        [{**entry, "provenance": {"kind": ProvenanceKind.DECLARED.value, "source": source}}] if entry else []
    )

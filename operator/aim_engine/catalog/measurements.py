"""Published performance, from `measurements.yaml`: each number with the exact configuration it was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from aim_engine.api.enums import Backend, Precision
from aim_engine.api.performance import Performance
from aim_engine.catalog.data import read_yaml


@dataclass(frozen=True, slots=True)
class Setting:
    """What a number holds for. It is never carried to another one."""

    checkpoint: str
    gpu_model: str
    gpu_count: int
    precision: Precision
    backend: Backend


@dataclass(frozen=True, slots=True)
class NotAttached:
    """A published figure that no recipe carries."""

    figure: str
    source: str
    why: str


@cache
def not_attached() -> tuple[NotAttached, ...]:
    """Published figures that no recipe carries, with the reason."""
    return tuple(NotAttached(**row) for row in read_yaml("measurements.yaml")["notAttached"])


def published(setting: Setting) -> tuple[Performance, ...]:
    """All published numbers of a setting, in the order of the file."""
    return measurements().get(setting, ())


@cache
def measurements() -> Mapping[Setting, tuple[Performance, ...]]:
    """All published numbers we know."""
    found: dict[Setting, tuple[Performance, ...]] = {}
    for row in read_yaml("measurements.yaml")["measurements"]:
        setting = Setting(
            checkpoint=row["checkpoint"],
            gpu_model=row["gpuModel"],
            gpu_count=row["gpuCount"],
            precision=Precision(row["precision"]),
            backend=Backend(row["backend"]),
        )
        found[setting] = (*found.get(setting, ()), *(_performance(row, point) for point in row["points"]))
    return MappingProxyType(found)


def _performance(row: dict[str, Any], point: dict[str, Any]) -> Performance:
    load = {name: point[name] for name in ("inputTokens", "outputTokens", "concurrency") if name in point}
    numbers = {name: value for name, value in point.items() if name not in load}
    return Performance.strict_load({**numbers, "workload": load or None, "provenance": row["provenance"]})

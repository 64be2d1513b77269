"""Which model types of `config.json` are understood, and what their configuration classes fill in; from `architectures.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from aim_engine.catalog.data import read_yaml


class Keeps(StrEnum):
    """What a layer keeps of the tokens it has seen."""

    FULL = "full"
    WINDOW = "window"
    STATE = "state"
    """A recurrent state of fixed size."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the file of a type may leave out."""

    full_every: int | None = None
    window_everywhere: bool = False
    window_switch: bool = False
    window_after: bool = False
    no_rope_layers: bool = False
    linear: int | None = None
    tied: bool = False
    shared_experts: int = 0


@cache
def architectures() -> Mapping[str, Architecture]:
    """Types that are understood."""
    rows = read_yaml("architectures.yaml")["types"]
    return MappingProxyType({name: _architecture(row) for name, row in rows.items()})


@cache
def layer_types() -> Mapping[str, Keeps]:
    """Values of `layer_types` that are understood."""
    rows = read_yaml("architectures.yaml")["layerTypes"]
    return MappingProxyType({name: Keeps(kind) for name, kind in rows.items()})


@cache
def foreign_keys() -> tuple[str, ...]:
    """Keys of hybrids that are not understood."""
    return tuple(read_yaml("architectures.yaml")["foreignKeys"])


def _architecture(row: Mapping[str, int | bool]) -> Architecture:
    return Architecture(
        full_every=row.get("fullEvery"),
        window_everywhere=bool(row.get("windowEverywhere", False)),
        window_switch=bool(row.get("windowSwitch", False)),
        window_after=bool(row.get("windowAfter", False)),
        no_rope_layers=bool(row.get("noRopeLayers", False)),
        linear=row.get("linear"),
        tied=bool(row.get("tied", False)),
        shared_experts=row.get("sharedExperts", 0),
    )

"""Quantities of stored objects, read so that odd ones count as nothing and leave a note instead of an exception."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from aim_engine.api.quantity import milli, whole

CPU = "cpu"
MEMORY = "memory"
_SHOWN = 80
"""Characters of an odd value in a message."""


def mapping(value: object) -> Mapping[str, Any]:
    """`value` when it is a mapping, else an empty one: stored objects may lack any field."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Mapping[str, Any]]:
    """The mappings in a list; whatever is not a list, or not a mapping within it, is passed over."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def amount(resource: str, text: object, problems: list[str]) -> int:
    """A quantity as an integer: thousandths for cpu, whole units for all else. Odd ones are 0 with a note."""
    value = _amount(resource == CPU, text) if isinstance(text, str | int | float) else None
    if value is None:
        shown = repr(text) if len(repr(text)) <= _SHOWN else f"{repr(text)[:_SHOWN]}..."
        problems.append(f"{resource}: {shown} is not a quantity of at least 0 and counts as 0")
        return 0
    return value


@lru_cache(maxsize=8192, typed=True)
def _amount(thousandths: bool, text: str | int | float) -> int | None:
    try:
        value = milli(text) if thousandths else whole(text)
    except (ValueError, ArithmeticError):
        return None
    return value if value >= 0 else None

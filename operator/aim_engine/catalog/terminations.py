"""Last words of engines that failed, and what they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from aim_engine.api.enums import Backend
from aim_engine.catalog.data import file_names, read_yaml


@dataclass(frozen=True, slots=True)
class TerminationRule:
    """A text an engine writes when it fails. Named groups of `pattern` may be used in `message` and `remedy`."""

    reason: str
    pattern: re.Pattern[str]
    message: str
    remedy: str


@cache
def termination_rules(backend: Backend) -> tuple[TerminationRule, ...]:
    """Rules of an engine; the first that matches counts. None for an engine without a file of them."""
    name = f"{backend}-terminations.yaml"
    rows = read_yaml(f"engines/{name}")["terminations"] if name in file_names("engines") else ()
    return tuple(
        TerminationRule(row["reason"], re.compile(row["pattern"], re.DOTALL), row["message"], row["remedy"])
        for row in rows
    )

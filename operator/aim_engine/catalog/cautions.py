"""Overrides that give up a margin of safety: allowed, and warned about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from aim_engine.catalog.data import read_yaml


@dataclass(frozen=True, slots=True)
class Caution:
    """A flag or a variable and what is given up with it."""

    name: str
    env: bool
    above: float | None
    """Only values beyond this; None: any but false."""
    why: str
    source: str

    def applies(self, value: object) -> bool:
        """Whether this value gives the margin up."""
        if self.above is None:
            return str(value).lower() not in ("false", "0", "none", "")
        try:
            return float(str(value)) > self.above
        except ValueError:
            return False


@cache
def cautions() -> tuple[Caution, ...]:
    """All of them."""
    return tuple(
        Caution(row.get("flag") or row["env"], "env" in row, row.get("above"), row["why"], row["source"])
        for row in read_yaml("cautions.yaml")["cautions"]
    )

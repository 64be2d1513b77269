"""Grafana's variables: their values as Prometheus tells them, and a query with them filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.telemetry.dashboards import label_values
from aim_engine.telemetry.preview.client import Client, Window

Json = dict[str, Any]
POINTS = 240
"""Points of a curve."""
_USE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$([A-Za-z_]\w*)")
"""A number such as `$1` is no variable but a group of `label_replace`."""
_SPECIAL = re.compile(r"[\\$^*{}\[\]'+?.()|]")


@dataclass(frozen=True)
class Scope:
    """What fills a board's queries in: the value of each variable as it stands in a query, and as people read it."""

    window: Window
    filled: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        """A text with all variables replaced; KeyError for one that the board does not have."""
        window = self.window
        built_in = {
            "__rate_interval": f"{window.rate_interval(POINTS)}s",
            "__interval": f"{window.step(POINTS):.0f}s",
            "__range": f"{window.end - window.start:.0f}s",
        }
        known = {**self.filled, **built_in}
        return _USE.sub(lambda use: known[use[1] or use[3]], text)


def resolve(board: Json, client: Client, window: Window, chosen: Mapping[str, str]) -> Scope:
    """The values of a board's variables: those chosen, else all, or the first where only one may be."""
    filled: dict[str, str] = {}
    shown: dict[str, str] = {}
    for variable in board["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "textbox":
            shown[name] = filled[name] = chosen.get(name, variable["query"])
        elif variable["type"] == "query":
            selector, label = label_values(Scope(window, filled).fill(variable["definition"]))
            values = client.label_values(selector, label, window)
            filled[name], shown[name] = _value(variable, values, chosen.get(name))
    return Scope(window, filled, shown)


def _value(variable: Json, values: list[str], chosen: str | None) -> tuple[str, str]:
    """(in a query, for people)."""
    if chosen is not None:
        return chosen, chosen
    if not variable["multi"]:
        first = values[0] if values else ""
        return first, first or "none"
    every = variable.get("allValue") or "|".join(_escaped(value) for value in values)
    return every, "All"


def _escaped(value: str) -> str:
    """A value as it stands for itself in a regular expression within a PromQL string."""
    return _SPECIAL.sub(r"\\\\\g<0>", value)

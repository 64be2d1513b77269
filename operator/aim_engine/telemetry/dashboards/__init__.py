"""Grafana dashboards, made by code: `python -m aim_engine.telemetry.dashboards` writes them, a test fails on drift.

A board that names a series nobody serves is not generated at all: renamed metrics are what empties dashboards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from aim_engine.telemetry.dashboards.board import document
from aim_engine.telemetry.dashboards.boards import deployment, fleet, operator, recipes, recommendations
from aim_engine.telemetry.dashboards.promql import metric_names
from aim_engine.telemetry.dashboards.sources import known_series
from aim_engine.telemetry.dashboards.style import Json

_BOARDS = (fleet, recipes, deployment, recommendations, operator)


class UnknownMetricError(ValueError):
    """A dashboard names a series that neither we nor the engines and exporters we know serve."""


def dashboards() -> Mapping[str, Json]:
    """File name -> dashboard, checked."""
    made = {f"{module.UID.removeprefix('aim-')}.json": document(module.board()) for module in _BOARDS}
    for name, board in made.items():
        check(name, board)
    return made


def files() -> Mapping[str, str]:
    """File name -> its text."""
    return {name: json.dumps(board, indent=2, ensure_ascii=False) + "\n" for name, board in dashboards().items()}  # fmt: skip


def check(name: str, board: Json) -> None:
    """Raise UnknownMetricError when a query names what nobody serves."""
    for where, expression in queries(board):
        unknown = metric_names(expression) - known_series()
        if unknown:
            raise UnknownMetricError(
                f"{name}, {where}: nobody serves {', '.join(sorted(unknown))}; correct the name, or add it to "
                f"catalog/exposition.yaml with its source. Query: {expression}"
            )


def queries(board: Json) -> Iterator[tuple[str, str]]:
    """(where, PromQL) of all targets of panels, and the selectors of all variables."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel '{panel['title']}' target {target['refId']}", target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable '{variable['name']}'", label_values(variable["definition"])[0]


def label_values(definition: str) -> tuple[str, str]:
    """(selector, label) of a variable's `label_values(selector, label)`."""
    inside = definition.removeprefix("label_values(").removesuffix(")")
    selector, _, label = inside.rpartition(",")
    return selector.strip(), label.strip()

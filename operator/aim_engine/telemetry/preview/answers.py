"""What a panel shows: its queries' answers with the names, texts, colours and rows that Grafana would make of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aim_engine.telemetry.preview.client import Client, Series
from aim_engine.telemetry.preview.units import written
from aim_engine.telemetry.preview.variables import POINTS, Scope

Json = dict[str, Any]
Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """A series with the name its legend gives it, and its field's settings after all overrides."""

    name: str
    series: Series
    field: Json


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table."""

    title: str
    field: Json


@dataclass(frozen=True, slots=True)
class TableAnswer:
    """A table after its transformations."""

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[Cell]]


def curves(panel: Json, client: Client, scope: Scope) -> list[Curve]:
    """The series of all targets of a panel, in their order."""
    found: list[Curve] = []
    for target in panel["targets"]:
        for series in ask(target, client, scope):
            name = legend(target["legendFormat"], series.labels)
            found.append(Curve(name, series, settings(panel, name)))
    return found


def ask(target: Json, client: Client, scope: Scope) -> list[Series]:
    """The answer to one target."""
    expression = scope.fill(target["expr"])
    if target["instant"]:
        return client.instant(expression, scope.window.end)
    return client.range(expression, scope.window, scope.window.step(POINTS))


def legend(form: str, labels: Mapping[str, str]) -> str:
    """The name of a series."""
    if form == "__auto":
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items())) or "Value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda use: labels.get(use[1], ""), form)


def settings(panel: Json, name: str) -> Json:
    """The field's settings: the panel's defaults, then every override that matches the name."""
    config = panel["fieldConfig"]
    field = {**config["defaults"], "custom": dict(config["defaults"].get("custom", {}))}
    for override in config["overrides"]:
        matcher = override["matcher"]
        if matcher["id"] == "byName" and matcher["options"] != name:
            continue
        if matcher["id"] == "byRegexp" and not re.search(matcher["options"].strip("/"), name):
            continue
        for each in override["properties"]:
            if each["id"].startswith("custom."):
                field["custom"][each["id"].removeprefix("custom.")] = each["value"]
            else:
                field[each["id"]] = each["value"]
    return field


def last(series: Series) -> float | None:
    """The last value that is a number."""
    return next((value for value in reversed(series.values) if not math.isnan(value)), None)


def shown(value: Cell, field: Json) -> tuple[str, str]:
    """(text, colour): a value mapping's, else the number in its unit and its threshold's colour ("" without)."""
    if value is None:
        return str(field.get("noValue", "–")), ""
    key = value if isinstance(value, str) else f"{value:g}"
    for mapping in field.get("mappings", ()):
        if key in mapping["options"]:
            result = mapping["options"][key]
            return result["text"], result.get("color", "")
    if isinstance(value, str):
        steps = field.get("thresholds", {}).get("steps", ())
        return value, steps[0]["color"] if len(steps) == 1 else ""
    return written(value, field.get("unit", "short"), field.get("decimals")), threshold_colour(value, field)


def threshold_colour(value: float, field: Json) -> str:
    """Colour of the highest threshold that a value reaches."""
    colour = ""
    for step in field.get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return colour


def table_answer(panel: Json, client: Client, scope: Scope) -> TableAnswer:
    """The rows of a table panel: answers merged by the labels they share, then named, ordered and sorted."""
    targets = panel["targets"]
    frames = [
        [_row(series, f"Value #{target['refId']}" if len(targets) > 1 else "Value") for series in ask(target, client, scope)]
        for target in targets
    ]  # fmt: skip
    organize = panel["transformations"][-1]["options"]
    names = organize["renameByName"]
    rows = merged(frames)
    extra = sorted({key for row in rows for key in row} - set(names) - set(organize["excludeByName"]))
    columns = [TableColumn(names[field], settings(panel, names[field])) for field in names]
    columns += [TableColumn(label, settings(panel, label)) for label in extra]
    cells = [[row.get(field) for field in (*names, *extra)] for row in rows]
    return TableAnswer(columns, _sorted(cells, columns, panel["options"]["sortBy"]))


def _row(series: Series, value_field: str) -> dict[str, Cell]:
    return {**series.labels, value_field: series.values[-1]}


def merged(frames: Iterable[Sequence[Mapping[str, Cell]]]) -> list[dict[str, Cell]]:
    """Rows of several answers as one table: a row joins every earlier one with which it agrees on all fields they share."""
    rows: list[dict[str, Cell]] = []
    for frame in frames:
        fresh: list[dict[str, Cell]] = []
        for row in frame:
            partners = [old for old in rows if _agree(old, row)]
            for old in partners:
                old.update(row)
            if not partners:
                fresh.append(dict(row))
        rows += fresh
    return rows


def _agree(one: Mapping[str, Cell], other: Mapping[str, Cell]) -> bool:
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[key] == other[key] for key in shared)


def _sorted(
    rows: list[list[Cell]], columns: Sequence[TableColumn], sort_by: Sequence[Json]
) -> list[list[Cell]]:
    for sort in reversed(sort_by):
        at = next((i for i, column in enumerate(columns) if column.title == sort["displayName"]), None)
        if at is not None:
            there = [row for row in rows if row[at] is not None]
            missing = [row for row in rows if row[at] is None]
            there.sort(key=lambda row: (str(type(row[at])), row[at]), reverse=bool(sort["desc"]))
            rows = there + missing
    return rows

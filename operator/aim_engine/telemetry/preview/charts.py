"""Curves, bands, heat maps and donuts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle, Wedge
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from aim_engine.telemetry.preview.answers import Curve, curves, last, shown
from aim_engine.telemetry.preview.canvas import Canvas
from aim_engine.telemetry.preview.client import Client, Window
from aim_engine.telemetry.preview.theme import (
    BORDER,
    FAINT,
    GRID,
    HEAT,
    PALETTE,
    PANEL,
    TEXT,
    colour,
    fitted,
    points,
    width_of,
)
from aim_engine.telemetry.preview.units import written
from aim_engine.telemetry.preview.variables import POINTS, Scope

Json = dict[str, Any]
Numbers = NDArray[np.float64]
_LINE = 17.0
_LETTERS = 11
_HEADINGS = {"mean": "Mean", "max": "Max", "lastNotNull": "Last", "sum": "Total", "min": "Min"}


def draw_timeseries(canvas: Canvas, panel: Json, client: Client, scope: Scope) -> None:
    """Curves, stacked or not, with the table of their names and figures below."""
    found = curves(panel, client, scope)
    if not found:
        canvas.nothing()
        return
    inks = _inks(found)
    lines = _legend(canvas, panel, found, inks)
    chart = canvas.chart(_axis_room(found), 4, 8, lines + 20)
    _plot(chart, found, inks, scope.window)
    _limits(chart, found, panel)
    _axes(chart, panel["fieldConfig"]["defaults"], scope.window, canvas.height - lines)


def _axis_room(found: Sequence[Curve]) -> float:
    top = max(
        (value for curve in found for value in curve.series.values if math.isfinite(value)), default=1.0
    )
    unit = found[0].field.get("unit", "short")
    return max(38.0, 12 + max(width_of(written(share * top, unit), _LETTERS) for share in (0.5, 0.75, 1.0)))


def _inks(found: Sequence[Curve]) -> list[str]:
    inks, turn = [], 0
    for curve in found:
        choice = curve.field["color"]
        if choice["mode"] == "fixed":
            inks.append(colour(choice["fixedColor"]))
        else:
            inks.append(PALETTE[turn % len(PALETTE)])
            turn += 1
    return inks


def _plot(chart: Axes, found: Sequence[Curve], inks: Sequence[str], window: Window) -> None:
    grid = np.arange(window.start, window.end + 1e-6, window.step(POINTS))
    below = np.zeros_like(grid)
    for curve, ink in zip(found, inks, strict=True):
        custom = curve.field["custom"]
        values = _on(grid, curve)
        if custom["stacking"]["mode"] == "normal":
            top = below + np.nan_to_num(values)
            if custom["drawStyle"] == "bars":
                chart.bar(grid, top - below, width=(grid[1] - grid[0]) * 0.9, bottom=below, color=ink, alpha=0.85, linewidth=0)  # fmt: skip
            else:
                chart.fill_between(
                    grid, below, top, color=ink, alpha=custom["fillOpacity"] / 100, linewidth=0
                )
                chart.plot(grid, np.where(np.isnan(values), np.nan, top), color=ink, linewidth=1.1)
            below = top
            continue
        style = custom.get("lineStyle", {})
        dashes = (0, (5, 4)) if style.get("fill") == "dash" else "-"
        chart.plot(grid, values, color=ink, linewidth=1.5, linestyle=dashes)
        if custom["fillOpacity"]:
            chart.fill_between(grid, 0, values, color=ink, alpha=custom["fillOpacity"] / 100, linewidth=0)


def _on(grid: Numbers, curve: Curve) -> Numbers:
    """The curve's values at the grid's times; NaN where it has none."""
    step = grid[1] - grid[0] if len(grid) > 1 else 1.0
    values = np.full(len(grid), np.nan)
    places = np.rint((np.asarray(curve.series.times) - grid[0]) / step).astype(int)
    inside = (places >= 0) & (places < len(grid))
    values[places[inside]] = np.asarray(curve.series.values)[inside]
    values[~np.isfinite(values)] = np.nan
    return values


def _limits(chart: Axes, found: Sequence[Curve], panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    top = defaults.get("max") or max(chart.get_ylim()[1], 1e-9)
    chart.set_ylim(defaults.get("min", 0), top)
    if all(value == 0 for curve in found for value in curve.series.values) and "max" not in defaults:
        chart.set_ylim(0, 1)
    if defaults["custom"].get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and step["value"] <= chart.get_ylim()[1]:
                chart.axhline(step["value"], color=colour(step["color"]), linewidth=1, linestyle=(0, (6, 5)), alpha=0.8)  # fmt: skip


def _axes(chart: Axes, defaults: Json, window: Window, height: float) -> None:
    unit = defaults.get("unit", "short")
    chart.set_facecolor(PANEL)
    chart.set_xlim(window.start, window.end)
    chart.yaxis.set_major_locator(_ticks(unit, chart.get_ylim()[1], max(3, min(6, round(height / 45)))))
    chart.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, unit)))
    _time_axis(chart, window)
    chart.grid(color=GRID, linewidth=0.8)
    chart.set_axisbelow(True)
    chart.tick_params(colors=FAINT, labelsize=points(_LETTERS), length=0, pad=4)
    for side in chart.spines.values():
        side.set_visible(False)


def _ticks(unit: str, top: float, count: int) -> Locator:
    """Round numbers in the unit that they are written in: minutes, hours, MiB."""
    if unit == "bytes" and top > 0:
        return MultipleLocator(2.0 ** math.ceil(math.log2(top / count)))
    if unit == "s" and top >= 120:
        steps = (
            30,
            60,
            120,
            300,
            600,
            1800,
            3600,
            7200,
            21600,
            86400,
            7 * 86400,
            14 * 86400,
            28 * 86400,
            91 * 86400,
            182 * 86400,
        )
        return MultipleLocator(next((float(s) for s in steps if top / s <= count), float(steps[-1])))
    return MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])


def _time_axis(chart: Axes, window: Window) -> None:
    span = window.end - window.start
    steps = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
    step = next((s for s in steps if span / s <= 9), steps[-1])
    first = math.ceil(window.start / step) * step
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%m-%d"
    chart.xaxis.set_major_locator(FixedLocator(list(np.arange(first, window.end, step))))
    chart.xaxis.set_major_formatter(
        FuncFormatter(lambda at, _: datetime.fromtimestamp(at, UTC).strftime(form))
    )


def _calculated(curve: Curve, kind: str) -> float:
    values = np.asarray([value for value in curve.series.values if math.isfinite(value)])
    if not len(values):
        return math.nan
    ways: Mapping[str, float] = {
        "mean": float(values.mean()), "max": float(values.max()), "min": float(values.min()), "sum": float(values.sum()),
        "lastNotNull": float(values[-1]),
    }  # fmt: skip
    return ways[kind]


def _legend(canvas: Canvas, panel: Json, found: Sequence[Curve], inks: Sequence[str]) -> float:
    """Draw it at the foot; its height."""
    calcs = panel["options"]["legend"].get("calcs", [])
    if not calcs:
        return _list(canvas, [curve.name for curve in found], inks)
    order = list(range(len(found)))
    if panel["options"]["legend"].get("sortDesc"):
        order.sort(key=lambda at: -np.nan_to_num(_calculated(found[at], "lastNotNull"), nan=-math.inf))
    room = max(1, min(len(found), int(canvas.height * 0.36 // _LINE) - 1))
    height = _LINE * (room + 1) + 6
    top = canvas.height - height + 6
    rights = [canvas.width - 78 * (len(calcs) - 1 - at) - 4 for at in range(len(calcs))]
    for right, kind in zip(rights, calcs, strict=True):
        canvas.write(right, top + _LINE / 2, _HEADINGS[kind], _LETTERS, FAINT, align="right")
    left_out = len(found) - room
    if left_out:
        canvas.write(22, top + _LINE / 2, f"{left_out} more in the list", _LETTERS, FAINT)
    for place, at in enumerate(order[:room]):
        middle = top + _LINE * (place + 1.5)
        canvas.patch(Rectangle((4, middle - 2), 12, 3.5, facecolor=inks[at], linewidth=0))
        canvas.write(
            22,
            middle,
            fitted(found[at].name or "Value", _LETTERS, rights[0] - 100),
            _LETTERS,
            TEXT,
        )
        for right, kind in zip(rights, calcs, strict=True):
            field = found[at].field
            told = written(_calculated(found[at], kind), field.get("unit", "short"), field.get("decimals"))
            canvas.write(right, middle, told, _LETTERS, TEXT, align="right")
    return height


def _list(canvas: Canvas, names: Sequence[str], inks: Sequence[str]) -> float:
    """Names beside one another, in as many lines as they need up to two; their height."""
    x, line = 4.0, 0
    places: list[tuple[float, int, str, str]] = []
    for name, ink in zip(names, inks, strict=True):
        told = fitted(name, _LETTERS, 260)
        width = 18 + width_of(told, _LETTERS) + 16
        if x + width > canvas.width and places:
            x, line = 4.0, line + 1
        if line < 2:
            places.append((x, line, told, ink))
        x += width
    height = _LINE * (min(line, 1) + 1) + 4
    for x, at, told, ink in places:
        middle = canvas.height - height + 4 + _LINE * (at + 0.5)
        canvas.patch(Rectangle((x, middle - 2), 12, 3.5, facecolor=ink, linewidth=0))
        canvas.write(x + 18, middle, told, _LETTERS, TEXT)
    return height


def draw_timeline(canvas: Canvas, panel: Json, client: Client, scope: Scope) -> None:
    """A band for each series in the colours of its states."""
    found = sorted(curves(panel, client, scope), key=lambda curve: curve.name)
    if not found:
        canvas.nothing()
        return
    states: dict[str, str] = {}
    names = min(canvas.width * 0.4, max(width_of(curve.name, _LETTERS) for curve in found) + 14)
    chart = canvas.chart(names, 2, 8, 44)
    step = scope.window.step(POINTS)
    for row, curve in enumerate(found):
        for start, end, value in _stretches(curve, step):
            text, paint = shown(value, curve.field)
            states[text] = colour(paint) or FAINT
            chart.add_patch(Rectangle((start, row + 0.1), end - start, 0.8, facecolor=states[text], alpha=0.8, linewidth=0))  # fmt: skip
    _axes(chart, {}, scope.window, canvas.height)
    chart.set_ylim(len(found), 0)
    chart.yaxis.set_major_locator(FixedLocator([row + 0.5 for row in range(len(found))]))
    chart.yaxis.set_major_formatter(
        FuncFormatter(lambda at, _: fitted(found[int(at)].name, _LETTERS, names - 10))
    )
    chart.grid(visible=False, axis="y")
    _list(canvas, list(states), list(states.values()))


def _stretches(curve: Curve, step: float) -> list[tuple[float, float, float]]:
    """(start, end, value) of times without a change or a gap."""
    found: list[tuple[float, float, float]] = []
    for at, value in zip(curve.series.times, curve.series.values, strict=True):
        if found and found[-1][2] == value and at - found[-1][1] < step / 2:
            found[-1] = (found[-1][0], at + step, value)
        else:
            found.append((at, at + step, value))
    return found


def draw_heatmap(canvas: Canvas, panel: Json, client: Client, scope: Scope) -> None:
    """Counts by bucket over time; buckets that stay empty at either end are left out."""
    found = [curve for curve in curves(panel, client, scope) if curve.series.labels.get("le")]
    found.sort(key=lambda curve: float(curve.series.labels["le"]))
    if not found:
        canvas.nothing()
        return
    window = scope.window
    grid = np.arange(window.start, window.end + 1e-6, window.step(POINTS))
    cumulative = np.vstack([np.nan_to_num(_on(grid, curve)) for curve in found])
    counts = np.diff(cumulative, axis=0, prepend=0.0).clip(min=0)
    used = np.flatnonzero(counts.sum(axis=1) > 0)
    low, high = (max(0, used[0] - 1), min(len(found), used[-1] + 2)) if len(used) else (0, len(found))
    chart = canvas.chart(58, 4, 8, 22)
    shades = LinearSegmentedColormap.from_list("heat", HEAT)
    visible = np.ma.masked_less_equal(np.sqrt(counts[low:high]), 0)
    chart.imshow(visible, origin="lower", aspect="auto", interpolation="nearest", cmap=shades, extent=(window.start, window.end, 0, high - low))  # fmt: skip
    _axes(chart, {}, window, canvas.height)
    every = max(1, (high - low) // 7)
    places = list(range(0, high - low, every))
    unit = panel["options"]["yAxis"]["unit"]
    chart.set_ylim(0, high - low)
    chart.yaxis.set_major_locator(FixedLocator([place + 1 for place in places]))
    bounds = {place + 1: float(found[low + place].series.labels["le"]) for place in places}
    chart.yaxis.set_major_formatter(
        FuncFormatter(lambda at, _: written(bounds.get(round(at), math.nan), unit))
    )


def draw_donut(canvas: Canvas, panel: Json, client: Client, scope: Scope) -> None:
    """Shares, with their values beside them."""
    found = [curve for curve in curves(panel, client, scope) if last(curve.series)]
    if not found:
        canvas.nothing()
        return
    inks = _inks(found)
    values = [last(curve.series) or 0.0 for curve in found]
    radius = min(canvas.height * 0.4, canvas.width * 0.19)
    centre, start = (radius + 8, canvas.height / 2), -90.0
    for value, ink in zip(values, inks, strict=True):
        sweep = 360 * value / sum(values)
        canvas.patch(Wedge(centre, radius, start, start + sweep, width=radius * 0.42, facecolor=ink, edgecolor=PANEL, linewidth=1.5))  # fmt: skip
        start += sweep
    left, line = centre[0] + radius + 14, 24.0
    top = canvas.height / 2 - line * (len(found) - 1) / 2
    for row, (curve, value, ink) in enumerate(zip(found, values, inks, strict=True)):
        middle = top + row * line
        canvas.patch(Rectangle((left, middle - 5), 10, 10, facecolor=ink, edgecolor=BORDER))
        canvas.write(left + 17, middle, fitted(curve.name, 12, canvas.width - left - 92), 12, TEXT)
        canvas.write(canvas.width - 46, middle, written(value, "none", 0), 12, TEXT, align="right")
        canvas.write(canvas.width - 4, middle, f"{value / sum(values):.0%}", 12, FAINT, align="right")

"""Stats and bar gauges."""

from __future__ import annotations

from typing import Any

from matplotlib.patches import FancyBboxPatch, Rectangle

from aim_engine.telemetry.preview.answers import Curve, curves, last, shown
from aim_engine.telemetry.preview.canvas import Canvas
from aim_engine.telemetry.preview.client import Client
from aim_engine.telemetry.preview.theme import BORDER, TEXT, colour, fitted, width_of
from aim_engine.telemetry.preview.variables import Scope

Json = dict[str, Any]
_LARGEST, _SMALLEST = 44.0, 13.0


def draw_stat(canvas: Canvas, panel: Json, client: Client, scope: Scope) -> None:
    """Large numbers side by side."""
    found = curves(panel, client, scope)
    if not found:
        canvas.nothing(panel["fieldConfig"]["defaults"].get("noValue", "–"))
        return
    room = canvas.width / len(found)
    for index, curve in enumerate(found):
        _one(canvas, panel["options"], curve, index * room, room)


def _one(canvas: Canvas, options: Json, curve: Curve, left: float, room: float) -> None:
    text, paint = shown(last(curve.series), curve.field)
    ink = colour(paint) if paint else TEXT
    if options["colorMode"] == "background":
        canvas.patch(
            FancyBboxPatch((left, 0), room, canvas.height, boxstyle="round,pad=0,rounding_size=3", facecolor=ink, edgecolor="none", alpha=0.85)
        )  # fmt: skip
        ink = "#ffffff"
    if options["graphMode"] == "area" and len(curve.series.times) > 1:
        _spark(canvas, curve, ink, left, room)
    if options["textMode"] == "name":
        lines = [curve.name]
    elif options["textMode"] == "value_and_name":
        lines = [text, curve.name]
    else:
        lines = [text]
    middle = canvas.height / 2 - (10 if options["graphMode"] == "area" else 2)
    size = _size(lines[0], room - 16, canvas.height)
    step = size * 0.5 + 11
    canvas.write(left + room / 2, middle - (step / 2 if len(lines) > 1 else 0), fitted(lines[0], size, room - 8), size, ink, align="center", bold=True)  # fmt: skip
    if len(lines) > 1:
        canvas.write(left + room / 2, middle + step / 2 + 6, fitted(lines[1], 13, room - 8), 13, TEXT, align="center")  # fmt: skip


def _size(text: str, room: float, height: float) -> float:
    size = min(_LARGEST, height * 0.48)
    wide = width_of(text, size, bold=True)
    return max(_SMALLEST, size if wide <= room else size * room / wide)


def _spark(canvas: Canvas, curve: Curve, ink: str, left: float, room: float) -> None:
    chart = canvas.chart(left, canvas.height * 0.62, canvas.width - left - room, -6)
    chart.set_axis_off()
    times, values = curve.series.times, curve.series.values
    chart.fill_between(times, values, 0, color=ink, alpha=0.18, linewidth=0)
    chart.plot(times, values, color=ink, linewidth=1.2)
    chart.set_xlim(times[0], times[-1])
    top = max([value for value in values if value == value], default=1.0) or 1.0
    chart.set_ylim(0, top * 1.1)


def draw_bar_gauge(canvas: Canvas, panel: Json, client: Client, scope: Scope) -> None:
    """A bar for each series, longest possible where the greatest is."""
    found = curves(panel, client, scope)
    if not found:
        canvas.nothing(panel["fieldConfig"]["defaults"].get("noValue", "–"))
        return
    values = [last(curve.series) or 0.0 for curve in found]
    least, most = found[0].field.get("min", 0), found[0].field.get("max", max(values) or 1.0)
    row = min(44.0, canvas.height / len(found))
    texts = [shown(value, curve.field) for value, curve in zip(values, found, strict=True)]
    names = min(canvas.width * 0.45, max(width_of(curve.name, 12) for curve in found) + 14)
    numbers = max(width_of(text, 16, bold=True) for text, _ in texts) + 16
    for index, (curve, value, (text, paint)) in enumerate(zip(found, values, texts, strict=True)):
        middle, room = (index + 0.5) * row, canvas.width - names - numbers
        canvas.write(names - 8, middle, fitted(curve.name, 12, names - 10), 12, TEXT, align="right")
        canvas.patch(Rectangle((names, middle - row * 0.36), room, row * 0.72, facecolor=BORDER, alpha=0.6))
        share = max(0.0, min(1.0, (value - least) / ((most - least) or 1.0)))
        canvas.patch(
            Rectangle(
                (names, middle - row * 0.36), room * share, row * 0.72, facecolor=colour(paint), alpha=0.75
            )
        )
        canvas.write(canvas.width - 4, middle, text, 16, colour(paint) or TEXT, align="right", bold=True)

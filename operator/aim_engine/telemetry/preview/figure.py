"""A dashboard as one picture: its panels in their grid, each with its title, under a bar with title and variables."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from aim_engine.telemetry.preview.canvas import Canvas
from aim_engine.telemetry.preview.charts import draw_donut, draw_heatmap, draw_timeline, draw_timeseries
from aim_engine.telemetry.preview.client import Client, Window
from aim_engine.telemetry.preview.numbers import draw_bar_gauge, draw_stat
from aim_engine.telemetry.preview.tables import draw_table
from aim_engine.telemetry.preview.theme import (
    BORDER,
    DPI,
    FAINT,
    GROUND,
    PANEL,
    TEXT,
    fitted,
    picture_palette,
    width_of,
)
from aim_engine.telemetry.preview.variables import Scope, resolve

Json = dict[str, Any]
WIDTH = 1600
COLUMN = WIDTH / 24
UNIT = 36
"""Pixels of one row of the grid."""
GAP = 6
HEAD = 52
TITLE = 30
DRAW: Mapping[str, Callable[[Canvas, Json, Client, Scope], None]] = {
    "stat": draw_stat, "timeseries": draw_timeseries, "bargauge": draw_bar_gauge, "piechart": draw_donut,
    "state-timeline": draw_timeline, "heatmap": draw_heatmap, "table": draw_table,
}  # fmt: skip


def picture(board: Json, client: Client, window: Window, chosen: Mapping[str, str]) -> bytes:
    """The board as a PNG file."""
    scope = resolve(board, client, window, chosen)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    height = round(HEAD + rows * UNIT + 2 * GAP)
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=GROUND)
    _head(Canvas(figure, 0, 0, WIDTH, HEAD), board, scope)
    for panel in board["panels"]:
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP, HEAD + place["y"] * UNIT + GAP
        w, h = place["w"] * COLUMN - GAP, place["h"] * UNIT - GAP
        outside = Canvas(figure, x, y, w, h)
        if panel["type"] == "row":
            outside.write(6, h / 2, f"▾  {panel['title']}", 15, TEXT, bold=True)
            continue
        _frame(outside)
        outside.write(12, TITLE / 2 + 2, fitted(panel["title"], 13, w - 24), 13, TEXT)
        inside = Canvas(figure, x + 8, y + TITLE, w - 16, h - TITLE - 8)
        DRAW[panel["type"]](inside, panel, client, scope)
    return _png(figure)


def _frame(canvas: Canvas) -> None:
    box = FancyBboxPatch(
        (0.5, 0.5), canvas.width - 1, canvas.height - 1, boxstyle="round,pad=0,rounding_size=3", facecolor=PANEL, edgecolor=BORDER,
        linewidth=1, zorder=-1,
    )  # fmt: skip
    canvas.patch(box)


def _head(canvas: Canvas, board: Json, scope: Scope) -> None:
    canvas.write(14, 27, board["title"], 20, TEXT, bold=True)
    x = 14 + width_of(board["title"], 20, bold=True) + 34
    labels = {variable["name"]: variable["label"] for variable in board["templating"]["list"]}
    for name, value in scope.shown.items():
        if value:
            canvas.write(x, 27, labels[name], 12, FAINT)
            x += width_of(labels[name], 12) + 8
            told = fitted(value, 12, 240)
            canvas.write(x, 27, told, 12, TEXT)
            x += width_of(told, 12) + 26
    start, end = (datetime.fromtimestamp(at, UTC) for at in (scope.window.start, scope.window.end))
    canvas.write(WIDTH - 14, 27, f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC", 12, FAINT, align="right")


def _png(figure: Figure) -> bytes:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])  # type: ignore[no-untyped-call]
    out = io.BytesIO()
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for each in picture_palette() for part in each])
    drawn.quantize(palette=palette, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()

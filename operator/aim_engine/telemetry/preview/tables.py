"""Tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.patches import Rectangle

from aim_engine.telemetry.preview.answers import Cell, TableColumn, shown, table_answer
from aim_engine.telemetry.preview.canvas import Canvas
from aim_engine.telemetry.preview.client import Client
from aim_engine.telemetry.preview.theme import (
    BORDER,
    FAINT,
    GRID,
    LINK,
    TEXT,
    colour,
    fitted,
    width_of,
)
from aim_engine.telemetry.preview.variables import Scope

Json = dict[str, Any]
ROW = 28.0
LETTERS = 12
SMALL = 11
_PAD = 7.0


def draw_table(canvas: Canvas, panel: Json, client: Client, scope: Scope) -> None:
    """Header and as many rows as there is room for."""
    found = table_answer(panel, client, scope)
    if not found.rows:
        canvas.nothing(panel["fieldConfig"]["defaults"].get("noValue", "–"))
        return
    widths = _widths(found.columns, canvas.width)
    lefts = [sum(widths[:index]) for index in range(len(widths))]
    for column, left, width in zip(found.columns, lefts, widths, strict=True):
        right = _is_number(found.rows, found.columns.index(column))
        x, align = (left + width - _PAD, "right") if right else (left + _PAD, "left")
        canvas.write(
            x,
            ROW / 2,
            fitted(column.title, LETTERS, width - 2 * _PAD),
            LETTERS,
            LINK,
            align=align,
        )
    fitting = int((canvas.height - ROW) // ROW)
    for index, row in enumerate(found.rows[:fitting]):
        top = ROW * (index + 1)
        canvas.line([0, canvas.width], [top, top], GRID, 0.7)
        for column, cell, left, width in zip(found.columns, row, lefts, widths, strict=True):
            _cell(canvas, column, cell, left, top, width)
    left_out = len(found.rows) - fitting
    if left_out > 0:
        canvas.write(
            canvas.width - _PAD,
            canvas.height + 1,
            f"{left_out} more below",
            11,
            FAINT,
            align="right",
        )


def _is_number(rows: Sequence[Sequence[Cell]], at: int) -> bool:
    return any(isinstance(row[at], float) for row in rows)


def _widths(columns: Sequence[TableColumn], room: float) -> list[float]:
    """Fixed widths as they are, the rest shared; all smaller where they do not fit."""
    fixed = [float(column.field["custom"].get("width", 0)) for column in columns]
    flexible = fixed.count(0.0)
    share = max(150.0, (room - sum(fixed)) / flexible) if flexible else 0.0
    wanted = [width or share for width in fixed]
    scale = room / sum(wanted)
    return [width * scale if scale < 1 or not flexible else width for width in wanted]


def _cell(canvas: Canvas, column: TableColumn, cell: Cell, left: float, top: float, width: float) -> None:
    kind = column.field["custom"].get("cellOptions", {}).get("type", "auto")
    text, paint = shown(cell, column.field)
    if cell is None:
        text, paint = "", ""
    middle, number = top + ROW / 2, isinstance(cell, float)
    ink = LINK if column.field.get("links") else TEXT
    if kind == "color-text" and paint:
        ink = colour(paint)
    if kind == "gauge" and isinstance(cell, float):
        ink = colour(paint)
        _bar(canvas, column.field, cell, ink, left, middle, width)
    if kind == "color-background" and paint:
        canvas.patch(Rectangle((left + 1, top + 1), width - 2, ROW - 2, facecolor=colour(paint), alpha=0.7))  # fmt: skip
    x, align = (left + width - _PAD, "right") if number else (left + _PAD, "left")
    room = width - 2 * _PAD
    if column.field["custom"].get("cellOptions", {}).get("wrapText") and width_of(text, LETTERS) > room:
        first, second = _two_lines(text, room)
        if second:
            canvas.write(x, middle - 6, first, SMALL, ink, align=align)
            canvas.write(x, middle + 6, second, SMALL, ink, align=align)
        else:
            canvas.write(x, middle, first, SMALL, ink, align=align)
        return
    canvas.write(x, middle, fitted(text, LETTERS, room), LETTERS, ink, align=align)


def _two_lines(text: str, room: float) -> tuple[str, str]:
    words = text.split(" ")
    broken = next((at for at in range(len(words), 0, -1) if width_of(" ".join(words[:at]), SMALL) <= room), 1)
    return " ".join(words[:broken]), fitted(" ".join(words[broken:]), SMALL, room)


def _bar(
    canvas: Canvas, field: Json, value: float, ink: str, left: float, middle: float, width: float
) -> None:
    room = max(10.0, width - width_of("100%", LETTERS) - 3 * _PAD)
    least, most = field.get("min", 0), field.get("max", 1)
    share = max(0.0, min(1.0, (value - least) / ((most - least) or 1)))
    canvas.patch(Rectangle((left + _PAD, middle - 7), room, 14, facecolor=BORDER))
    canvas.patch(Rectangle((left + _PAD, middle - 7), room * share, 14, facecolor=ink, alpha=0.8))

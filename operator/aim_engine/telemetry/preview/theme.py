"""Colours and letters in the manner of Grafana's dark theme."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

DPI = 100
GROUND, PANEL, BORDER, GRID = "#111217", "#181b1f", "#2a2d33", "#2c2f36"
TEXT, FAINT, LINK = "#d0d1dc", "#8e8f9d", "#6e9fff"
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "purple": "#b877d9"}
PALETTE = (
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37a2b4", "#fade2a", "#96d98d",
    "#ffb357", "#ff7383", "#c0d8ff", "#ca95e5", "#e0b400", "#56a64b",
)  # fmt: skip
HEAT = ("#3d2a1e", "#b4541a", "#ff9830", "#ffe0b0")


def picture_palette() -> list[tuple[int, int, int]]:
    """At most 256 colours that pictures consist of: each ink, and what becomes of it on a panel where it is thin or see-through."""
    inks = dict.fromkeys((*PALETTE, *NAMED.values(), "#8e8e8e", TEXT, FAINT, LINK))
    mixed = [_mixed(ink, PANEL, share / 8) for ink in inks for share in range(1, 9)]
    heat = [_mixed(one, other, share / 8) for one, other in pairwise(HEAT) for share in range(8)]
    plain = [_mixed(one, one, 1) for one in (GROUND, PANEL, BORDER, GRID, "#ffffff")]
    return list(dict.fromkeys((*plain, *mixed, *heat)))[:256]


def _mixed(ink: str, ground: str, share: float) -> tuple[int, int, int]:
    one, other = (tuple(int(each[at : at + 2], 16) for at in (1, 3, 5)) for each in (ink, ground))
    red, green, blue = (round(a * share + b * (1 - share)) for a, b in zip(one, other, strict=True))
    return red, green, blue


def colour(name: str) -> str:
    """A colour of Grafana's as matplotlib knows it."""
    return NAMED.get(name, name)


def points(pixels: float) -> float:
    """Size of letters of so many pixels."""
    return pixels * 72 / DPI


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(10, 10, DPI)  # type: ignore[no-untyped-call]


def width_of(text: str, pixels: float, *, bold: bool = False) -> float:
    """Pixels that a text takes."""
    font = FontProperties(size=points(pixels), weight="bold" if bold else "normal")
    measured = _renderer().get_text_width_height_descent(one_line(text), font, False)  # type: ignore[no-untyped-call]
    return float(measured[0])


def fitted(text: str, pixels: float, room: float) -> str:
    """The text, cut with an ellipsis where it takes more than the room."""
    if width_of(text, pixels) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(f"{text[:middle]}…", pixels) <= room else (low, middle - 1)
    return f"{text[:low].rstrip()}…" if low else ""


def one_line(text: str) -> str:
    """The text without breaks."""
    return " ".join(text.split())

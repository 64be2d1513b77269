"""A rectangle of the picture that is drawn into, measured in pixels from its upper left corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Affine2D

from aim_engine.telemetry.preview.theme import FAINT, TEXT, one_line, points


@dataclass(frozen=True, slots=True)
class Canvas:
    """Place and size. What is drawn goes onto the figure itself: axes cost much, and only charts need them."""

    figure: Figure
    x: float
    y: float
    width: float
    height: float

    @property
    def _whole(self) -> float:
        return float(self.figure.bbox.height)

    def _pixels(self) -> Affine2D:
        return Affine2D().scale(1, -1).translate(self.x, self._whole - self.y)

    def write(
        self, x: float, y: float, text: str, pixels: float, paint: str = TEXT, *, align: str = "left", bold: bool = False
    ) -> None:  # fmt: skip
        """A text whose middle is at the height y."""
        self.figure.text(
            x, y, one_line(text), fontsize=points(pixels), color=paint, ha=align, va="center_baseline",
            fontweight="bold" if bold else "normal", parse_math=False, transform=self._pixels(),
        )  # fmt: skip

    def patch(self, patch: Patch) -> None:
        """A shape, above the chart and below the texts."""
        patch.set_transform(self._pixels())
        self.figure.add_artist(patch)

    def line(self, xs: Sequence[float], ys: Sequence[float], paint: str, width: float) -> None:
        """A line through these points."""
        self.figure.add_artist(Line2D(xs, ys, color=paint, linewidth=width, transform=self._pixels()))

    def chart(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes inside, with these margins."""
        width, whole = float(self.figure.bbox.width), self._whole
        return self.figure.add_axes(
            (
                (self.x + left) / width, 1 - (self.y + self.height - bottom) / whole,
                max(1.0, self.width - left - right) / width, max(1.0, self.height - top - bottom) / whole,
            )
        )  # fmt: skip

    def nothing(self, text: str = "No data") -> None:
        """What Grafana shows without data."""
        self.write(self.width / 2, self.height / 2, text, 14, FAINT, align="center")

"""The inside of a panel, which a drawer fills."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aim_engine.telemetry.preview.theme import FAINT, write


@dataclass(frozen=True, slots=True)
class Canvas:
    """Place and size in pixels; `axes` are measured in pixels from its upper left corner."""

    figure: Figure
    axes: Axes
    x: float
    y: float
    width: float
    height: float
    whole: float
    """Height of the picture."""

    def chart(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes of their own inside, with these margins in pixels."""
        width = self.figure.bbox.width
        return self.figure.add_axes(
            (
                (self.x + left) / width, 1 - (self.y + self.height - bottom) / self.whole,
                max(1.0, self.width - left - right) / width, max(1.0, self.height - top - bottom) / self.whole,
            )
        )  # fmt: skip

    def nothing(self, text: str = "No data") -> None:
        """What Grafana shows without data."""
        write(self.axes, self.width / 2, self.height / 2, text, 14, FAINT, align="center")

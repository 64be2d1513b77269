"""Numbers as Grafana writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_SHORT = ((1e12, " Tri"), (1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1.0, ""))
_BINARY = tuple((float(1024**power), f" {name}") for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB"), (0, "B")))  # fmt: skip
_TIME = ((604800.0, " weeks"), (86400.0, " days"), (3600.0, " hours"), (60.0, " mins"), (1.0, " s"), (1e-3, " ms"), (1e-6, " µs"))  # fmt: skip
_PLAIN = {"none": "", "string": "", "celsius": " °C", "percent": "%"}
_COUNTED = {"reqps": " req/s", "ops": " ops/s", "cpm": " cpm", "short": ""}


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "percentunit":
        return f"{_digits(value * 100, decimals)}%"
    if unit in _PLAIN:
        return f"{_digits(value, decimals)}{_PLAIN[unit]}"
    if unit.startswith("si:"):
        return _scaled(value, _SI, decimals, f" {{}}{unit.removeprefix('si:').strip()}")
    if unit == "watt":
        return _scaled(value, _SI[:5], decimals, " {}W")
    if unit == "bytes":
        return _scaled(value, _BINARY, decimals, "{}")
    if unit == "s":
        return _scaled(value, _TIME, decimals, "{}")
    return _scaled(value, _SHORT, decimals, f"{{}}{_COUNTED.get(unit, f' {unit}')}")


def _scaled(value: float, steps: Sequence[tuple[float, str]], decimals: int | None, form: str) -> str:
    size, name = next(((s, n) for s, n in steps if abs(value) >= s), steps[-1])
    if value == 0:
        size, name = next((s, n) for s, n in steps if s == 1.0)
    return f"{_digits(value / size, decimals)}{form.format(name)}"


def _digits(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if value == 0 or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(places, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

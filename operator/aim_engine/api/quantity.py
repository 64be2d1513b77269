"""Kubernetes quantities (`500m`, `1e3`, `128Gi`) as exact integers."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

_PATTERN = re.compile(
    r"^([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))((?:[KMGTPE]i)|[numkMGTPE]|(?:[eE][-+]?[0-9]+))?$"
)
_FACTORS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_MAX_EXPONENT = 18
_MAX_DIGITS = 40
"""Kubernetes itself stops at 2^63; this keeps numbers such that everybody can print them."""


@lru_cache(maxsize=4096)
def parse_quantity(text: str | int | float) -> Decimal:
    """The value of a quantity in its base unit (cores, bytes, GPUs).

    Raises ValueError that names the text when it is not a quantity.
    """
    match = _PATTERN.match(str(text).strip())
    if not match:
        raise ValueError(f"'{text}' is not a Kubernetes quantity; write for example 500m, 16 or 128Gi")
    number, suffix = match.group(1), match.group(2) or ""
    if len(number) > _MAX_DIGITS:
        raise ValueError(
            f"'{number[:_MAX_DIGITS]}...' has more digits than a quantity can hold; write it with a suffix"
        )
    if suffix in _FACTORS:
        return Decimal(number) * _FACTORS[suffix]
    exponent = int(suffix[1:]) if len(suffix) <= _MAX_DIGITS else _MAX_EXPONENT + 1
    if abs(exponent) > _MAX_EXPONENT:
        raise ValueError(f"'{text}' is out of range: the exponent must lie between -18 and 18")
    return Decimal(number).scaleb(exponent)


def milli(text: str | int | float) -> int:
    """A quantity in thousandths, rounded up as the scheduler does: `500m` -> 500."""
    return int((parse_quantity(text) * 1000).to_integral_value(rounding=ROUND_CEILING))


def whole(text: str | int | float) -> int:
    """A quantity in whole units, rounded up: `1e3` -> 1000, `1500m` -> 2."""
    return int(parse_quantity(text).to_integral_value(rounding=ROUND_CEILING))


def format_bytes(count: int | float) -> str:
    """A byte count for people: GiB with one decimal, MiB below a tenth of a GiB."""
    gib = count / 2**30
    return f"{gib:.1f} GiB" if gib >= 0.1 else f"{count / 2**20:.0f} MiB"

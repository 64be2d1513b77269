"""Units, thresholds, colours and value mappings that the boards share: the same thing looks the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.api.conditions import CONDITION_REASONS

Json = dict[str, Any]
Thresholds = tuple[tuple[float | None, str], ...]
"""Colour from each value on; the first value is None, the colour below all others."""

TOKENS = "si:tok/s"
RATIO = "percentunit"
REQUESTS = "reqps"
SECONDS = "s"
COUNT = "short"
TEXT = "string"
PER_MINUTE = "cpm"

GREEN, ORANGE, RED, BLUE, PURPLE, GREY = "green", "orange", "red", "blue", "purple", "#8e8e8e"
YELLOW, TEAL = "#f2cc0c", "#37a2b4"

NEUTRAL: Thresholds = ((None, BLUE),)
GOOD: Thresholds = ((None, GREEN),)
NONE_IS_GOOD: Thresholds = ((None, GREEN), (1, ORANGE))
NONE_IS_VITAL: Thresholds = ((None, GREEN), (1, RED))
SOME_IS_GOOD: Thresholds = ((None, RED), (1, GREEN))
SHARE_OF_EXPECTED: Thresholds = ((None, RED), (0.6, ORANGE), (0.8, GREEN))
FILLING: Thresholds = ((None, GREEN), (0.8, ORANGE), (0.95, RED))
ATTAINMENT: Thresholds = ((None, RED), (0.9, ORANGE), (0.95, GREEN))
ERRORS: Thresholds = ((None, GREEN), (0.01, ORANGE), (0.05, RED))
ADVICE: Thresholds = ((None, GREEN), (1, BLUE))


def mapped(choices: Mapping[str, tuple[str, str]]) -> Json:
    """Values to be shown as other texts in colours: value -> (text, colour; "" keeps the column's)."""
    options = {
        value: {"text": text, "index": index, **({"color": colour} if colour else {})}
        for index, (value, (text, colour)) in enumerate(choices.items())
    }
    return {"type": "value", "options": options}


STATUS = mapped({"true": ("Yes", GREEN), "false": ("No", RED), "unknown": ("Unknown", GREY)})
STATE = mapped({"0": ("False", RED), "1": ("Unknown", GREY), "2": ("True", GREEN)})
"""A condition as a number: the higher the better."""
TIER = mapped(
    {"Primary": ("Primary", GREEN), "Secondary": ("Secondary", YELLOW), "Tertiary": ("Tertiary", ORANGE), "Default": ("Default", PURPLE)}
)  # fmt: skip
ALERT = mapped({"firing": ("Firing", RED), "pending": ("Pending", YELLOW)})
SEVERITY = mapped({"critical": ("Critical", RED), "warning": ("Warning", ORANGE), "info": ("Info", BLUE)})
HEALTH = mapped({"1": ("Healthy", GREEN), "0": ("Unhealthy", RED)})
ACTIONS = mapped(
    {reason.value: (doc.action.replace("`", ""), "") for reason, doc in CONDITION_REASONS.items()}
)
"""What to do about a reason of a condition, in the words of the reference."""

"""Many times, kept in little memory: counts in steps of one percent. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

STEP = 1.01
"""Ratio of two neighbouring steps: a percentile errs by half a percent at most."""
_SHORTEST = 1e-6
_LOG_STEP = math.log(STEP)


@dataclass(slots=True)
class Samples:
    """Times in seconds."""

    count: int = 0
    total: float = 0.0
    largest: float = 0.0
    _steps: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Take a time; what is below a microsecond counts as one."""
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)
        self._steps[round(math.log(max(seconds, _SHORTEST)) / _LOG_STEP)] += 1

    @property
    def mean(self) -> float | None:
        """None without samples."""
        return self.total / self.count if self.count else None

    def percentile(self, share: float) -> float | None:
        """The smallest time that is not exceeded by `share` (0..1) of the samples; None without samples."""
        wanted, seen = share * self.count, 0
        for step in sorted(self._steps):
            seen += self._steps[step]
            if seen >= wanted:
                return min(math.exp(step * _LOG_STEP), self.largest)
        return None

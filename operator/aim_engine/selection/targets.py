"""Whether a candidate can reach what `spec.targets` asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aim_engine.api.deployment import Targets
from aim_engine.selection.types import Assessment, Point, Prediction


@dataclass(frozen=True, slots=True)
class Missed:
    """A target that evidence or the hardware rules out."""

    message: str
    remedy: str
    needed: str
    has: str


def missed_target(targets: Targets, current: Assessment) -> Missed | None:
    """The first target that is out of reach; None when nothing rules any out."""
    return _throughput(targets.min_tokens_per_second, current) or _first_token(
        targets.max_time_to_first_token_milliseconds, current
    )


def known_to_meet(targets: Targets, points: Sequence[Point]) -> bool:
    """Whether one point of the evidence meets all targets: numbers of two loads are never put together."""
    rate, first = targets.min_tokens_per_second, targets.max_time_to_first_token_milliseconds
    return any(
        (rate is None or (point.tokens_per_second or 0) >= rate)
        and (first is None or (point.first_token_ms is not None and point.first_token_ms <= first))
        for point in points
    ) or (rate is None and first is None)


def _saturated(current: Assessment) -> bool:
    """Whether the evidence for the throughput was taken under the load that the recipe is made for."""
    batch = current.plan.max_num_seqs * current.plan.data_parallel if current.plan else 0
    return any(
        point.tokens_per_second is not None and (point.concurrency is None or point.concurrency >= batch)
        for point in current.points
    )


def _throughput(wanted: int | None, current: Assessment) -> Missed | None:
    if wanted is None:
        return None
    field = "spec.targets.minTokensPerSecond"
    known = current.rate if current.rate and current.rate.is_evidence else None
    if known is not None and known.value >= wanted:
        return None
    if known is not None and _saturated(current):
        has = f"{known.value:.0f}"
        remedy = f"set {field} <= {math.floor(known.value)}, or use more replicas"
        return Missed(
            f"{field} asks for {wanted}; the recipe reached {has} ({known})", remedy, str(wanted), has
        )
    if current.bound is None or current.bound.tokens_per_second >= wanted:
        return None
    limit = math.floor(current.bound.tokens_per_second)
    message = f"{field} asks for {wanted}; the hardware cannot exceed {limit}"
    expected = f" (it is {current.rate} to reach {math.floor(current.rate.value)})" if current.rate else ""
    remedy = f"set {field} <= {limit}{expected}, or allow recipes with more GPUs"
    return Missed(message, remedy, str(wanted), str(limit))


def _first_token(wanted: int | None, current: Assessment) -> Missed | None:
    if wanted is None:
        return None
    field = "spec.targets.maxTimeToFirstTokenMilliseconds"
    known: Prediction | None = current.first_token
    if known is not None:
        if known.value <= wanted:
            return None
        has = f"{known.value:.0f}"
        remedy = f"set {field} >= {math.ceil(known.value)}"
        return Missed(f"{field} asks for {wanted}; the recipe took {has} ({known})", remedy, str(wanted), has)
    if current.bound is None or current.bound.first_token_ms <= wanted:
        return None
    limit = math.ceil(current.bound.first_token_ms)
    message = f"{field} asks for {wanted}; the hardware cannot go below {limit} for such a prompt"
    remedy = f"set {field} >= {limit}, lower spec.workload.maxInputTokens, or allow recipes with more GPUs"
    return Missed(message, remedy, str(wanted), str(limit))

"""Predicted performance of a candidate: observed here before published before a roofline estimate, each by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.performance import Performance
from aim_engine.engines import version_of
from aim_engine.selection.types import Assessment, Evidence, Facts, Point, Prediction
from aim_engine.selection.weights import loaded_model, stored_weights
from aim_engine.sizing import estimate, hardware_bound

STEP = 1.15
"""Predicted performance within about 15 % counts as equal: estimates are not better than that."""


def step_of(value: float) -> int:
    """The logarithmic step that a number lies on; only steps are compared."""
    return math.floor(math.log(value, STEP))


@dataclass(frozen=True, slots=True)
class Yardstick:
    """By how many steps estimates are moved, so that they can be compared with evidence.

    A model's estimates err in one direction. Moved by the worst ratio of evidence to estimate among the candidates, an
    estimate beats evidence only if it is higher by the same estimator too: nothing measured is demoted by an optimistic
    estimate. Whole steps leave the order of the estimates among each other as it is.
    """

    rate: int = 0
    latency: int = 0

    def tokens_per_second_and_gpu(self, current: Assessment) -> int | None:
        """Step of the throughput per GPU."""
        if current.rate is None:
            return None
        per_gpu = current.rate.value / current.candidate.spec.hardware.gpu_count
        return step_of(per_gpu) + (0 if current.rate.is_evidence else self.rate)

    def inter_token_latency_ms(self, current: Assessment) -> int | None:
        """Step of the time between two tokens."""
        if current.latency is None:
            return None
        return step_of(current.latency.value) + (0 if current.latency.is_evidence else self.latency)


def yardstick(assessments: Sequence[Assessment]) -> Yardstick:
    """The yardstick for a set of candidates of one model."""
    rates = _ratios(assessments, lambda a: (a.rate, a.estimate.tokens_per_second if a.estimate else None))
    latencies = _ratios(
        assessments, lambda a: (a.latency, a.estimate.inter_token_latency_ms if a.estimate else None)
    )
    return Yardstick(step_of(min([1.0, *rates])), math.ceil(math.log(max([1.0, *latencies]), STEP)))


def line_of(version: str) -> str:
    """The engine line of a version: the first two numbers of `0.32.0`; text without any stands for itself."""
    found = re.search(r"\d+\.\d+", version)
    return found.group() if found else version


def with_performance(facts: Facts, current: Assessment, prompt_tokens: int | None) -> Assessment:
    """The assessment with its numbers. Declared ones are an author's bare claim and are not used."""
    spec = current.candidate.spec
    seen = _observed(current)
    published, others = _published(current)
    points = (*seen, *published)
    model, known = loaded_model(facts, spec), stored_weights(facts, spec)
    guess = limit = None
    if model is not None and current.gpu is not None and current.plan is not None:
        partition = spec.hardware.partition
        guess = estimate(model, known, current.gpu, current.plan, spec.precision, partition=partition)
        limit = hardware_bound(
            model, known, current.gpu, current.plan, spec.precision, partition=partition, prompt_tokens=prompt_tokens or 1,
        )  # fmt: skip
    return replace(
        current,
        rate=_first(
            _best(max, seen, "tokens_per_second"),
            _best(max, published, "tokens_per_second"),
            _guessed(guess.tokens_per_second if guess else None),
        ),
        latency=_first(
            _best(min, seen, "inter_token_latency_ms"),
            _best(min, published, "inter_token_latency_ms"),
            _guessed(guess.inter_token_latency_ms if guess else None),
        ),
        first_token=_first(_best(min, seen, "first_token_ms"), _best(min, published, "first_token_ms")),
        points=points,
        elsewhere=_best(max, others, "tokens_per_second"),
        declared=_declared(spec.performance),
        estimate=guess,
        bound=limit,
    )


def _observed(current: Assessment) -> tuple[Point, ...]:
    """What was seen of this recipe, on the GPU model and engine version it is for."""
    seen, spec = current.candidate.observed, current.candidate.spec
    if seen is None or seen.gpu_model != spec.hardware.gpu_model or seen.engine_version != version_of(spec):
        return ()
    return (
        Point(
            Evidence.OBSERVED, seen.tokens_per_second, seen.inter_token_latency_ms, seen.first_token_ms, None, seen.engine_version,
        ),
    )  # fmt: skip


def _published(current: Assessment) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Published points of the recipe's engine line, and those of other lines. One without a version is the recipe's own."""
    spec = current.candidate.spec
    line = line_of(version_of(spec))
    entries = [entry for entry in spec.performance if entry.provenance.kind is not ProvenanceKind.DECLARED]
    own = [entry for entry in entries if line_of(entry.provenance.engine_version or line) == line]
    return tuple(map(_point, own)), tuple(_point(entry) for entry in entries if entry not in own)


def _declared(entries: Sequence[Performance]) -> int | None:
    claims = (e.tokens_per_second for e in entries if e.provenance.kind is ProvenanceKind.DECLARED)
    return max((claim for claim in claims if claim is not None), default=None)


def _point(entry: Performance) -> Point:
    return Point(
        Evidence.PUBLISHED, entry.tokens_per_second, entry.inter_token_latency_milliseconds,
        entry.time_to_first_token_milliseconds, entry.workload.concurrency if entry.workload else None,
        entry.provenance.engine_version,
    )  # fmt: skip


def _best(choose: Callable[..., Point], points: Sequence[Point], name: str) -> Prediction | None:
    known = [point for point in points if getattr(point, name) is not None]
    if not known:
        return None
    best = choose(known, key=lambda point: getattr(point, name))
    return Prediction(float(getattr(best, name)), best.kind, best.engine_version)


def _first(*found: Prediction | None) -> Prediction | None:
    return next((each for each in found if each is not None), None)


def _guessed(value: float | None) -> Prediction | None:
    return None if value is None else Prediction(value, Evidence.ESTIMATED)


def _ratios(
    assessments: Sequence[Assessment], pair: Callable[[Assessment], tuple[Prediction | None, float | None]]
) -> list[float]:
    pairs = map(pair, assessments)
    return [
        found.value / guess for found, guess in pairs if found is not None and found.is_evidence and guess
    ]

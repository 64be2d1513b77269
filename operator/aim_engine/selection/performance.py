"""Predicted performance of a candidate: observed here before published before a roofline estimate, each by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.recipe import Performance
from aim_engine.engines import version_of
from aim_engine.selection.types import Assessment, Evidence, Facts, Observation, Prediction
from aim_engine.sizing import estimate, hardware_bound


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What estimates are multiplied with, so that they can be compared with evidence.

    A model's estimates err in one direction. Scaled by the worst ratio of evidence to estimate among the candidates, an
    estimate beats evidence only if it is higher by the same estimator too: nothing measured is demoted by an optimistic
    estimate.
    """

    rate: float = 1.0
    latency: float = 1.0

    def tokens_per_second(self, current: Assessment) -> float | None:
        """Comparable throughput of one replica."""
        return _scaled(current.rate, self.rate)

    def inter_token_latency_ms(self, current: Assessment) -> float | None:
        """Comparable time between two tokens."""
        return _scaled(current.latency, self.latency)


def yardstick(assessments: Sequence[Assessment]) -> Yardstick:
    """The scale for a set of candidates of one model."""
    rates = _ratios(assessments, lambda a: (a.rate, a.estimate.tokens_per_second if a.estimate else None))
    latencies = _ratios(
        assessments, lambda a: (a.latency, a.estimate.inter_token_latency_ms if a.estimate else None)
    )
    return Yardstick(min([1.0, *rates]), max([1.0, *latencies]))


def with_performance(facts: Facts, current: Assessment, prompt_tokens: int | None) -> Assessment:
    """The assessment with its numbers. Declared ones are an author's bare claim and are not used."""
    spec = current.candidate.spec
    published = [entry for entry in spec.performance if entry.provenance.kind is not ProvenanceKind.DECLARED]
    seen = _observed(current)
    model, known = facts.model(spec.model_id), facts.checkpoint(spec.source or spec.model_id)
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
            _seen(seen, seen.tokens_per_second if seen else None),
            max(_published(published, "tokens_per_second"), key=_value, default=None),
            _guessed(guess.tokens_per_second if guess else None),
        ),
        latency=_first(
            _seen(seen, seen.inter_token_latency_ms if seen else None),
            min(_published(published, "inter_token_latency_milliseconds"), key=_value, default=None),
            _guessed(guess.inter_token_latency_ms if guess else None),
        ),
        first_token=_first(
            _seen(seen, seen.first_token_ms if seen else None),
            min(_published(published, "time_to_first_token_milliseconds"), key=_value, default=None),
        ),
        estimate=guess,
        bound=limit,
    )


def _observed(current: Assessment) -> Observation | None:
    """What was seen of this recipe, on the GPU model and engine version it is for."""
    seen, spec = current.candidate.observed, current.candidate.spec
    if seen is None or seen.gpu_model != spec.hardware.gpu_model or seen.engine_version != version_of(spec):
        return None
    return seen


def _first(*found: Prediction | None) -> Prediction | None:
    return next((each for each in found if each is not None), None)


def _seen(seen: Observation | None, value: float | None) -> Prediction | None:
    return (
        None if seen is None or value is None else Prediction(value, Evidence.OBSERVED, seen.engine_version)
    )


def _guessed(value: float | None) -> Prediction | None:
    return None if value is None else Prediction(value, Evidence.ESTIMATED)


def _published(entries: Sequence[Performance], name: str) -> Iterator[Prediction]:
    for entry in entries:
        value = getattr(entry, name)
        if value is not None:
            yield Prediction(float(value), Evidence.PUBLISHED, entry.provenance.engine_version)


def _value(prediction: Prediction) -> float:
    return prediction.value


def _scaled(prediction: Prediction | None, scale: float) -> float | None:
    if prediction is None:
        return None
    return prediction.value if prediction.is_evidence else prediction.value * scale


def _ratios(
    assessments: Sequence[Assessment], pair: Callable[[Assessment], tuple[Prediction | None, float | None]]
) -> list[float]:
    pairs = map(pair, assessments)
    return [
        found.value / guess for found, guess in pairs if found is not None and found.is_evidence and guess
    ]

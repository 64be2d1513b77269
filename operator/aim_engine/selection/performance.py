"""Predicted performance of a candidate: what was published for its GPU and engine, and a roofline estimate beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.recipe import Performance
from aim_engine.selection.types import Assessment, Facts
from aim_engine.sizing import estimate


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What estimates are multiplied with, so that they can be compared with published numbers.

    A model's estimates err in one direction. Scaled by the worst ratio of published to estimated among the candidates,
    an estimate beats a published number only if it is higher by the same estimator too: nothing measured is demoted by
    an optimistic estimate.
    """

    rate: float = 1.0
    latency: float = 1.0

    def tokens_per_second(self, current: Assessment) -> float | None:
        """Comparable throughput of one replica."""
        if current.published_tokens_per_second is not None:
            return current.published_tokens_per_second
        guess = current.estimated_tokens_per_second
        return None if guess is None else guess * self.rate

    def inter_token_latency_ms(self, current: Assessment) -> float | None:
        """Comparable time between two tokens."""
        if current.published_inter_token_latency_ms is not None:
            return current.published_inter_token_latency_ms
        guess = current.estimated_inter_token_latency_ms
        return None if guess is None else guess * self.latency


def yardstick(assessments: Sequence[Assessment]) -> Yardstick:
    """The scale for a set of candidates of one model."""
    rates = [
        a.published_tokens_per_second / a.estimated_tokens_per_second
        for a in assessments
        if a.published_tokens_per_second is not None and a.estimated_tokens_per_second
    ]
    latencies = [
        a.published_inter_token_latency_ms / a.estimated_inter_token_latency_ms
        for a in assessments
        if a.published_inter_token_latency_ms is not None and a.estimated_inter_token_latency_ms
    ]
    return Yardstick(min([1.0, *rates]), max([1.0, *latencies]))


def with_performance(facts: Facts, current: Assessment) -> Assessment:
    """The assessment with its numbers. Declared ones are an author's bare claim and are not used."""
    spec = current.candidate.spec
    published = [entry for entry in spec.performance if entry.provenance.kind is not ProvenanceKind.DECLARED]
    model = facts.model(spec.model_id)
    guess = None
    if model is not None and current.gpu is not None and current.plan is not None:
        known = facts.checkpoint(spec.source or spec.model_id)
        guess = estimate(
            model, known, current.gpu, current.plan, spec.precision, partition=spec.hardware.partition
        )
    return replace(
        current,
        published_tokens_per_second=max(_numbers(published, "tokens_per_second"), default=None),
        published_inter_token_latency_ms=min(
            _numbers(published, "inter_token_latency_milliseconds"), default=None
        ),
        time_to_first_token_ms=min(_numbers(published, "time_to_first_token_milliseconds"), default=None),
        estimated_tokens_per_second=guess.tokens_per_second if guess else None,
        estimated_inter_token_latency_ms=guess.inter_token_latency_ms if guess else None,
    )


def _numbers(entries: Iterable[Performance], name: str) -> list[float]:
    return [float(value) for entry in entries if (value := getattr(entry, name)) is not None]

"""Predicted performance of a candidate: published evidence for its GPU and engine, else a roofline estimate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.recipe import Performance
from aim_engine.selection.types import Assessment, Facts
from aim_engine.sizing import estimate


def with_performance(facts: Facts, current: Assessment) -> Assessment:
    """The assessment with its predicted performance.

    A recipe's published number never ranks it below its own estimate, so that a measured recipe is not demoted by an
    optimistic estimate of another one. Declared numbers are an author's bare claim and are not used.
    """
    spec = current.candidate.spec
    published = [entry for entry in spec.performance if entry.provenance.kind is not ProvenanceKind.DECLARED]
    model = facts.model(spec.model_id)
    guess = None
    if model is not None and current.gpu is not None and current.plan is not None:
        guess = estimate(
            model, facts.checkpoint(spec.source or spec.model_id), current.gpu, current.plan, spec.precision
        )
    rates = _numbers(published, "tokens_per_second")
    latencies = _numbers(published, "inter_token_latency_milliseconds")
    first_tokens = _numbers(published, "time_to_first_token_milliseconds")
    if guess is not None:
        rates = [*rates, guess.tokens_per_second]
        latencies = [*latencies, guess.inter_token_latency_ms]
    return replace(
        current,
        tokens_per_second=max(rates, default=None),
        inter_token_latency_ms=min(latencies, default=None),
        time_to_first_token_ms=min(first_tokens, default=None),
        evidence=bool(published),
    )


def _numbers(entries: Iterable[Performance], name: str) -> list[float]:
    return [float(value) for entry in entries if (value := getattr(entry, name)) is not None]

"""Every series a dashboard may name: ours, the engines', AMD's exporter's. A name beyond them fails the generation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from prometheus_client import CollectorRegistry

from aim_engine.catalog.exposition import exposed_series
from aim_engine.telemetry.admission import AdmissionMetrics
from aim_engine.telemetry.families import FAMILIES
from aim_engine.telemetry.metrics import Metrics

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@cache
def known_series() -> frozenset[str]:
    """Names of all series, as queries select them."""
    processes = (Metrics().registry, AdmissionMetrics(lambda: None).registry)
    return frozenset(
        (
            *(name for registry in processes for name in _series(registry)),
            *(family.name for family in FAMILIES),
            *exposed_series(),
        )
    )


def _series(registry: CollectorRegistry) -> Iterator[str]:
    for family in registry.collect():
        yield from (f"{family.name}{suffix}" for suffix in _SUFFIXES.get(family.type, ("",)))

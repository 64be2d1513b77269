"""Every series a dashboard may name: ours, the engines', AMD's exporter's. A name beyond them fails the generation."""

from __future__ import annotations

from functools import cache

from aim_engine.catalog.exposition import exposed_series
from aim_engine.telemetry import names


@cache
def known_series() -> frozenset[str]:
    """Names of all series, as queries select them."""
    return frozenset((*names.series(), *exposed_series()))

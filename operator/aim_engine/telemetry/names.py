"""Names of all metrics that we serve, as Prometheus stores them (of a histogram without its endings)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from aim_engine.telemetry.admission import AdmissionMetrics
from aim_engine.telemetry.families import FAMILIES
from aim_engine.telemetry.metrics import Metrics

_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def served() -> list[str]:
    """Sorted; without the `process_*` that every Python program has."""
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in _processes()}
    return sorted({name for name in names if name.startswith("aim_")} | {family.name for family in FAMILIES})


def series() -> Iterator[str]:
    """Names as queries select them: a histogram by each of its endings."""
    for family in _processes():
        yield from (f"{family.name}{ending}" for ending in _ENDINGS.get(family.type, ("",)))
    yield from (family.name for family in FAMILIES)


def _processes() -> list[Metric]:
    return [*Metrics().registry.collect(), *AdmissionMetrics(lambda: None).registry.collect()]

"""Names of all metrics that we serve, as Prometheus stores them (of a histogram without its endings)."""

from __future__ import annotations

from aim_engine.telemetry.admission import AdmissionMetrics
from aim_engine.telemetry.families import FAMILIES
from aim_engine.telemetry.metrics import Metrics


def served() -> list[str]:
    """Sorted; without the `process_*` that every Python program has."""
    own = [*Metrics().registry.collect(), *AdmissionMetrics(lambda: None).registry.collect()]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in own}
    return sorted({name for name in names if name.startswith("aim_")} | {family.name for family in FAMILIES})

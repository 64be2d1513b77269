"""Colours of series that several boards show."""

from __future__ import annotations

from aim_engine.telemetry.dashboards.panels import coloured
from aim_engine.telemetry.dashboards.style import GREEN, ORANGE, PURPLE, RED, YELLOW, Json

PERCENTILES: tuple[Json, ...] = (coloured("^p50", GREEN), coloured("^p95", YELLOW), coloured("^p99", RED))
SELECTION_RESULTS: tuple[Json, ...] = (
    coloured("^selected$", GREEN), coloured("^fallback$", YELLOW), coloured("^waiting$", ORANGE), coloured("^not_found$", RED),
    coloured("^(error|invalid)$", PURPLE),
)  # fmt: skip

"""Metrics of the validator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class AdmissionMetrics:
    """What the gate does; docs/reference/metrics.md tells each name."""

    def __init__(self, expires: Callable[[], datetime | None]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reviews = Counter(
            "aim_webhook_reviews_total", "Admission reviews by kind and result (allowed, refused).", ("kind", "result"),
            registry=self.registry,
        )  # fmt: skip
        self.warnings = Counter(
            "aim_webhook_warnings_total", "Warnings given.", ("kind",), registry=self.registry
        )
        self.seconds = Histogram(
            "aim_webhook_review_duration_seconds", "Time to judge an object.", ("kind",), buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        expiry = Gauge(
            "aim_webhook_certificate_expiry_timestamp_seconds",
            "End of the served certificate in seconds since the epoch; 0 while there is none.",
            registry=self.registry,
        )
        expiry.set_function(lambda: found.timestamp() if (found := expires()) else 0.0)

"""Metrics of the operator as a process. Label values are closed lists, shown from the start, so that the first event is seen too.

Series of objects are in `families.py` and `store.py`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from aim_engine import __version__
from aim_engine.api.enums import Outcome, Tier
from aim_engine.selection import Decision
from aim_engine.telemetry import scan
from aim_engine.telemetry.families import FAMILIES
from aim_engine.telemetry.store import SeriesStore

SELECTION_RESULTS = ("selected", "fallback", "waiting", "not_found", "invalid", "error")
KINDS = ("AIMDeployment", "AIMRecipe")
REVISION_VARIABLE = "AIM_ENGINE_REVISION"
"""Set by whoever builds an image: the commit it was built from."""
_RECONCILE_RESULTS = ("success", "retry", "error")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_START_BUCKETS = (30, 60, 120, 180, 300, 450, 600, 900, 1200, 1800, 2700, 3600)

disable_created_metrics()  # type: ignore[no-untyped-call]


class Trouble(StrEnum):
    """Why a pass did not succeed."""

    API = "api"
    """The API server refused a request, or did not answer."""
    BLOCKED = "blocked"
    """Something that is not ours stands in the way: a name that is taken, a claim or namespace that is missing."""
    LEFTOVER = "leftover"
    """A child of an earlier object of the same name is still being deleted."""
    FAULT = "fault"
    """A fault of the operator itself, with a traceback in its log."""


class Metrics:
    """All metrics of one operator: the process's on `registry`, those of objects in `objects`."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.objects = SeriesStore(FAMILIES)
        ProcessCollector(registry=registry)
        info = Gauge(
            "aim_operator_build_info", "1; version of the operator and of what it runs on.",
            ["version", "revision", "python_version", "kopf_version"], registry=registry,
        )  # fmt: skip
        revision = os.environ.get(REVISION_VARIABLE, "")
        info.labels(__version__, revision, platform.python_version(), version("kopf")).set(1)
        self.active = Gauge(
            "aim_operator_active", "1 while this replica reconciles, 0 on standby.", registry=registry
        )
        self.measuring = Gauge(
            "aim_operator_measuring", "1 where this replica reads the engines' metrics, 0 where that is switched off.",
            registry=registry,
        )  # fmt: skip
        self._selection = Counter(
            "aim_recipe_selection",
            "Selections by result; one per decision, not per resync. `fallback`: selected, but not the best recipe; `waiting`: its "
            "GPUs are not free; `not_found`: no recipe can serve; `invalid`: the spec cannot work; `error`: a fault of the operator.",
            ["result"],
            registry=registry,
        )
        self._selection_seconds = Histogram(
            "aim_recipe_selection_duration_seconds",
            "Time of one selection.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self._time_to_ready = Histogram(
            "aim_deployment_time_to_ready_seconds",
            "Time from no replica being available, as at the start, to one that answers.",
            ["gpu_type", "backend"],
            registry=registry,
            buckets=_START_BUCKETS,
        )
        self._reconciles = Counter(
            "aim_operator_reconcile", "Passes over objects by result.", ["kind", "result"], registry=registry
        )
        self._reconcile_errors = Counter(
            "aim_operator_reconcile_errors", "Passes that did not succeed, by cause.", ["kind", "reason"], registry=registry
        )  # fmt: skip
        self._reconcile_seconds = Histogram(
            "aim_operator_reconcile_duration_seconds",
            "Time of one pass.",
            ["kind"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._in_progress = Gauge(
            "aim_operator_reconciles_in_progress", "Passes under way.", ["kind"], registry=registry
        )
        self._last_success = Gauge(
            "aim_operator_last_successful_reconcile_timestamp_seconds",
            "When a pass last succeeded, in seconds since the epoch; the start of the process before the first.",
            ["kind"],
            registry=registry,
        )
        self._requests = Counter(
            "aim_operator_kube_requests", "Requests to the API server; code 0 means no answer.", ["verb", "code"],
            registry=registry,
        )  # fmt: skip
        self._request_seconds = Histogram(
            "aim_operator_kube_request_duration_seconds", "Time of one request to the API server.", ["verb"],
            registry=registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._hub = Counter(
            "aim_hub_requests", "Inquiries at the Hub for facts of models.", ["result"], registry=registry
        )
        self._scrape_errors = Counter(
            "aim_performance_scrape_errors",
            "Looks at an engine's metrics that gave no reading, by reason.",
            ["reason"],
            registry=registry,
        )
        for unreadable in scan.Trouble:
            self._scrape_errors.labels(unreadable.value)
        self.queue_depth = Gauge(
            "aim_operator_queue_depth", "Deployments that wait for a pass; 0 on standby.", registry=registry
        )
        self.waiting = Gauge(
            "aim_operator_waiting_deployments",
            "Deployments that would use GPUs if more were free: waiting, short of replicas, or on a fallback.",
            registry=registry,
        )
        self.ghosts = Counter(
            "aim_operator_cache_ghosts",
            "Objects found gone only by comparing with a fresh list.",
            registry=registry,
        )
        for result in SELECTION_RESULTS:
            self._selection.labels(result)
        for kind in KINDS:
            self._in_progress.labels(kind)
            self._last_success.labels(kind).set_to_current_time()
            for result in _RECONCILE_RESULTS:
                self._reconciles.labels(kind, result)
            for trouble in Trouble:
                self._reconcile_errors.labels(kind, trouble.value)

    @contextmanager
    def selecting(self) -> Iterator[None]:
        """Count what is raised as a selection that failed."""
        try:
            yield
        except Exception:
            self._selection.labels("error").inc()
            raise

    def selected(self, decision: Decision, seconds: float, *, changed: bool) -> None:
        """Count a selection; only those that changed something count, so that retries do not look like demand."""
        self._selection_seconds.observe(seconds)
        if changed:
            self._selection.labels(_result(decision)).inc()

    def refused(self) -> None:
        """Count a spec that cannot work."""
        self._selection.labels("invalid").inc()

    def became_ready(self, gpu_model: str, backend: str, seconds: float) -> None:
        """Note how long a deployment took from no available replica to the first."""
        self._time_to_ready.labels(gpu_model, backend).observe(seconds)

    @contextmanager
    def reconciling(self, kind: str) -> Iterator[Pass]:
        """Count one pass: as it says itself in the end, else as a success, or as a fault where it raises."""
        told = Pass()
        started = time.monotonic()
        self._in_progress.labels(kind).inc()
        try:
            yield told
        except Exception:
            told.failed(Trouble.FAULT)
            raise
        finally:
            self._in_progress.labels(kind).dec()
            self._reconciles.labels(kind, told.result).inc()
            self._reconcile_seconds.labels(kind).observe(time.monotonic() - started)
            if told.trouble is None:
                self._last_success.labels(kind).set_to_current_time()
            else:
                self._reconcile_errors.labels(kind, told.trouble.value).inc()

    def requested(self, verb: str, code: int, seconds: float) -> None:
        """Count one request to the API server; code 0 means no answer."""
        self._requests.labels(verb, str(code)).inc()
        self._request_seconds.labels(verb).observe(seconds)

    def hub_asked(self, result: str) -> None:
        """Count one inquiry at the Hub."""
        self._hub.labels(result).inc()

    def scrape_failed(self, reason: str) -> None:
        """Count one look at an engine that gave no reading."""
        self._scrape_errors.labels(reason).inc()


class Pass:
    """What came of one pass."""

    def __init__(self) -> None:
        self.trouble: Trouble | None = None

    def failed(self, trouble: Trouble) -> None:
        """It did not succeed."""
        self.trouble = trouble

    @property
    def result(self) -> str:
        """success, retry, or error for a fault of ours."""
        if self.trouble is None:
            return "success"
        return "error" if self.trouble is Trouble.FAULT else "retry"


def _result(decision: Decision) -> str:
    if decision.choice is not None:
        return "selected" if decision.choice.tier is Tier.PRIMARY else "fallback"
    return "waiting" if decision.outcome is Outcome.WAITING else "not_found"

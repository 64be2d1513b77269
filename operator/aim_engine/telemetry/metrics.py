"""The operator's own metrics. Counters carry closed label values only; per-object series come from a collector, so
that those of deleted objects vanish."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aim_engine import __version__
from aim_engine.api.enums import Outcome, Tier
from aim_engine.selection import Decision
from aim_engine.telemetry.scan import Trouble

SELECTION_RESULTS = ("selected", "fallback", "waiting", "not_found", "error")
_RECONCILE_RESULTS = ("success", "retry", "error")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class DeploymentSample:
    """One AIMDeployment as the collector shows it."""

    namespace: str
    name: str
    model: str
    recipe: str
    gpu_model: str
    gpu_count: int
    precision: str
    backend: str
    replicas: int
    ready: int
    conditions: tuple[tuple[str, str, str], ...]
    """(type, status, reason)."""


@dataclass(frozen=True, slots=True)
class RecipeSample:
    """One AIMRecipe as the collector shows it."""

    name: str
    model: str
    gpu_model: str
    gpu_count: int
    precision: str
    backend: str
    expected_tokens_per_second: int | None
    conditions: tuple[tuple[str, str], ...]
    """(type, status)."""


Samples = Callable[[], tuple[Iterable[DeploymentSample], Iterable[RecipeSample]]]


class Metrics:
    """All metrics on one registry."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        ProcessCollector(registry=registry)
        info = Gauge(
            "aim_operator_build_info", "Version of the operator.", ["version", "python_version", "kopf_version"],
            registry=registry,
        )  # fmt: skip
        info.labels(__version__, platform.python_version(), version("kopf")).set(1)
        self.active = Gauge(
            "aim_operator_active", "1 while this replica reconciles, 0 on standby.", registry=registry
        )
        self._selection = Counter(
            "aim_recipe_selection",
            "Selections by result; one per decision, not per resync.",
            ["result"],
            registry=registry,
        )
        self._selection_seconds = Histogram(
            "aim_recipe_selection_duration_seconds",
            "Time of one selection.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self._reconciles = Counter(
            "aim_operator_reconcile", "Passes over objects by result.", ["kind", "result"], registry=registry
        )
        self._reconcile_seconds = Histogram(
            "aim_operator_reconcile_duration_seconds",
            "Time of one pass.",
            ["kind"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._requests = Counter(
            "aim_operator_kube_requests", "Requests to the API server.", ["verb", "code"], registry=registry
        )
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
        for trouble in Trouble:
            self._scrape_errors.labels(trouble.value)
        self.queue_depth = Gauge(
            "aim_operator_queue_depth", "Deployments that wait for a pass.", registry=registry
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
        for result in _RECONCILE_RESULTS:
            self._reconciles.labels("AIMDeployment", result)

    def selected(self, decision: Decision, seconds: float, *, changed: bool) -> None:
        """Count a selection; only those that changed something count, so that retries do not look like demand."""
        self._selection_seconds.observe(seconds)
        if changed:
            self._selection.labels(_result(decision)).inc()

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """Count one pass."""
        self._reconciles.labels(kind, result).inc()
        self._reconcile_seconds.labels(kind).observe(seconds)

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

    def collect_objects(self, samples: Samples) -> None:
        """Show per-object series from now on."""
        self.registry.register(_Objects(samples))


def _result(decision: Decision) -> str:
    if decision.choice is not None:
        return "selected" if decision.choice.tier is Tier.PRIMARY else "fallback"
    return "waiting" if decision.outcome is Outcome.WAITING else "not_found"


class _Objects(Collector):
    """Series per AIMDeployment and AIMRecipe, read at scrape time."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        deployments, recipes = self._samples()
        yield from _deployment_families(deployments)
        yield from _recipe_families(recipes)


def _deployment_families(samples: Iterable[DeploymentSample]) -> Iterable[Metric]:
    key = ["namespace", "aimdeployment"]
    info = GaugeMetricFamily(
        "aim_deployment_info", "What an AIMDeployment serves and with what.",
        labels=[*key, "model", "aimrecipe", "gpu_type", "gpu_count", "precision", "backend"],
    )  # fmt: skip
    condition = GaugeMetricFamily(
        "aim_deployment_status_condition", "1 for the present status of each condition.",
        labels=[*key, "condition", "status", "reason"],
    )  # fmt: skip
    wanted = GaugeMetricFamily("aim_deployment_spec_replicas", "Replicas asked for.", labels=key)
    ready = GaugeMetricFamily("aim_deployment_status_replicas_ready", "Replicas that answer.", labels=key)
    gpus = GaugeMetricFamily(
        "aim_deployment_gpus_requested", "GPUs of all replicas asked for.", labels=[*key, "gpu_type"]
    )
    for s in samples:
        name = [s.namespace, s.name]
        info.add_metric([*name, s.model, s.recipe, s.gpu_model, str(s.gpu_count), s.precision, s.backend], 1)
        wanted.add_metric(name, s.replicas)
        ready.add_metric(name, s.ready)
        if s.gpu_model:
            gpus.add_metric([*name, s.gpu_model], s.gpu_count * s.replicas)
        for kind, status, reason in s.conditions:
            condition.add_metric([*name, kind, status.lower(), reason], 1)
    return info, condition, wanted, ready, gpus


def _recipe_families(samples: Iterable[RecipeSample]) -> Iterable[Metric]:
    info = GaugeMetricFamily(
        "aim_recipe_info", "A recipe of the catalogue.",
        labels=["aimrecipe", "model", "gpu_type", "gpu_count", "precision", "backend"],
    )  # fmt: skip
    expected = GaugeMetricFamily(
        "aim_recipe_expected_tokens_per_second",
        "First published throughput of a recipe.",
        labels=["aimrecipe"],
    )
    condition = GaugeMetricFamily(
        "aim_recipe_status_condition", "1 for the present status of each condition.",
        labels=["aimrecipe", "condition", "status"],
    )  # fmt: skip
    for s in samples:
        info.add_metric([s.name, s.model, s.gpu_model, str(s.gpu_count), s.precision, s.backend], 1)
        if s.expected_tokens_per_second:
            expected.add_metric([s.name], s.expected_tokens_per_second)
        for kind, status in s.conditions:
            condition.add_metric([s.name, kind, status.lower()], 1)
    return info, expected, condition

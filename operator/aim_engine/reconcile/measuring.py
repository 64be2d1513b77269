"""Measures what deployments deliver, and decides when a new number is worth a write of their status.

The scraper reads engines; here its windows become a deployment's summary. A summary reaches the status with the next pass
once it is *released*: when it changed significantly, not too often per deployment, and within a budget of all writes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aim_engine.api.conditions import ConditionReason, ConditionType
from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import Backend
from aim_engine.api.performance import Measurement, PerformanceStatus
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import engine, version_of
from aim_engine.inventory import Tracker
from aim_engine.reconcile.cache import Cache, Key, StoredDeployment
from aim_engine.reconcile.config import MeasuringConfig
from aim_engine.reconcile.intake import Passes
from aim_engine.reconcile.performance import (
    expectation,
    is_significant,
    judge,
    measurement,
    same_recipe,
    smooth,
    steady,
    summarize,
    without_numbers,
)
from aim_engine.reconcile.pods import PodHealth
from aim_engine.reconcile.revision import Revision
from aim_engine.reconcile.status import NOT_MEASURED, Judgement, wanted
from aim_engine.reconcile.subject import Subject, is_loaded
from aim_engine.reconcile.turns import in_turns
from aim_engine.selection import Candidate, Source, effective_args
from aim_engine.telemetry.scraper import Scraper, Target
from aim_engine.telemetry.window import Window

log = logging.getLogger(__name__)

_NOT_RUNNING = Judgement("Unknown", ConditionReason.NOT_MEASURED, "no replicas run")
_SILENT = Judgement(
    "Unknown", ConditionReason.NOT_MEASURED,
    "the engines' metrics cannot be read; see aim_performance_scrape_errors_total for the reason",
)  # fmt: skip
_OFF = Judgement("Unknown", ConditionReason.MEASURING_DISABLED, "measuring is turned off")
_TICK_SECONDS = 1.0
_DRIVER_LABELS = ("amd.com/gpu.driver-version", "beta.amd.com/gpu.driver-version")
IDENTITY_FIELDS = ("overrides", "workload")


@dataclass(slots=True)
class Measured:
    """One deployment under measurement."""

    subject: Subject
    of: tuple[object, ...]
    """Revision, generation and driver that the subject was made from."""
    since: float
    """Monotonic time of the last window, of the first look before there was one."""
    window: Window | None = None
    performance: PerformanceStatus | None = None
    judgement: Judgement = NOT_MEASURED
    released: tuple[PerformanceStatus | None, Judgement] | None = None
    """What passes publish; None: what is stored."""
    released_at: float = float("-inf")
    last: Measurement | None = None
    """The newest of the windows that do not overlap."""
    last_at: float = float("-inf")
    loaded: Measurement | None = None
    baseline_is_stored: bool = False
    """The status shows a baseline: if it does no more, somebody took it out."""


@dataclass(slots=True)
class Measuring:
    """All deployments under measurement."""

    config: MeasuringConfig
    cache: Cache
    tracker: Tracker
    queue: Passes
    scraper: Scraper
    measured: dict[Key, Measured] = field(default_factory=dict)
    _dirty: dict[Key, None] = field(default_factory=dict)
    _tokens: float = 0.0
    """Writes that may be asked for now."""
    _counted_at: float = 0.0

    def watch(
        self,
        stored: StoredDeployment,
        revision: Revision | None,
        pods: Iterable[PodHealth],
        *,
        settled: bool,
    ) -> None:
        """A pass looked at a deployment. While its pods are being replaced nothing is measured: old and new ones would mix."""
        key = (stored.namespace, stored.name)
        spec = stored.typed.spec if stored.typed else None
        if revision is None or spec is None or not self._is_on(spec) or wanted(spec) == 0:
            self.forget(key)
            return
        ready = [pod for pod in pods if pod.is_replica and pod.ready and not pod.terminating and pod.address]
        backend = Backend(revision.recipe_spec.get("backend", Backend.VLLM.value))
        targets = [Target(f"{pod.uid}/{pod.restarts}", pod.address or "", backend) for pod in ready]
        self.scraper.watch(key, targets if settled else ())
        driver = self._driver(ready)
        known = self.measured.get(key)
        if known is not None and driver is None:
            driver = known.subject.driver_version
        of = (stored.uid, revision.number, revision.recipe_hash, stored.generation, driver)
        if known is not None and known.of == of:
            return
        subject = subject_of(revision, spec, driver)
        if known is not None and known.subject == subject:
            known.of = of
            return
        self._begin(key, subject, of, known, stored.status)

    def _begin(
        self,
        key: Key,
        subject: Subject,
        of: tuple[object, ...],
        known: Measured | None,
        status: Mapping[str, Any],
    ) -> None:
        """Measure another subject. Where only targets or the driver changed, what is known of the same recipe stays."""
        new = Measured(subject, of, self.scraper.clock())
        before = known.performance if known and known.performance else None
        if before is None or before.recipe_hash != subject.recipe_hash:
            before = same_recipe(status, subject.recipe_hash)
        new.performance = before
        if before is not None and before.engine_version == subject.engine_version:
            new.loaded = before.under_load
        if known is not None and known.subject.recipe_hash == subject.recipe_hash:
            new.released, new.released_at = known.released, known.released_at
        self.measured[key] = new
        self._dirty[key] = None

    def forget(self, key: Key) -> None:
        """The deployment is gone, or runs nothing."""
        self.scraper.forget(key)
        self.measured.pop(key, None)
        self._dirty.pop(key, None)

    def told(
        self, stored: StoredDeployment, revision: Revision | None
    ) -> tuple[PerformanceStatus | None, Judgement]:
        """What a pass publishes now: what was released last, else what stands in the status."""
        spec = stored.typed.spec if stored.typed else None
        if revision is None or spec is None:
            return None, NOT_MEASURED
        if not self._is_on(spec):
            return None, _OFF
        if wanted(spec) == 0:
            return without_numbers(same_recipe(stored.status, revision.recipe_hash)), _NOT_RUNNING
        known = self.measured.get((stored.namespace, stored.name))
        if known is not None and known.released is not None:
            return known.released
        kept = same_recipe(stored.status, revision.recipe_hash)
        return (kept, _stored_judgement(stored.status)) if kept else (None, NOT_MEASURED)

    def changed(self, key: Key) -> None:
        """Something new was read of a deployment's engines."""
        if key in self.measured:
            self._dirty[key] = None

    async def run(self) -> None:
        """Evaluate and release until cancelled."""
        swept = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if time.monotonic() - swept > self.scraper.pause:
                swept = time.monotonic()
                self._dirty.update(dict.fromkeys(self.measured))
            async for _ in in_turns(self.look()):
                pass

    def look(self) -> Iterator[Key]:
        """Evaluate what is dirty, one after the other; release what is due, while the budget of writes lasts."""
        now = self.scraper.clock()
        most = self.config.writes_per_second
        self._tokens = min(self._tokens + most * (now - self._counted_at), most)
        self._counted_at = now
        dirty, self._dirty = self._dirty, {}
        for key in dirty:
            self._look_at(key)
            yield key

    def _look_at(self, key: Key) -> None:
        known = self.measured.get(key)
        if known is None:
            return
        try:
            self._evaluate(key, known)
        except Exception:
            known.window = None
            log.exception("measuring %s/%s: a fault of ours; looked at again with its next reading", *key)
            return
        if not self._is_due(key, known):
            return
        if self._tokens < 1:
            self._dirty[key] = None
            return
        self._tokens -= 1
        known.released, known.released_at = (known.performance, known.judgement), self.scraper.clock()
        self.queue.add(key)

    def _evaluate(self, key: Key, known: Measured) -> None:
        window = self.scraper.window(key, self.config.least_window_seconds)
        known.window = window
        if window is None:
            if self.scraper.clock() - known.since > 4 * self.scraper.pause + self.config.least_window_seconds:
                known.performance, known.judgement = without_numbers(known.performance), _SILENT
            return
        known.since = self.scraper.clock()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = None
        if window.at - known.last_at >= window.seconds:
            new = measurement(window, now)
            found = steady(known.last, new)
            known.last, known.last_at = new, window.at
            if is_loaded(window, known.subject):
                known.loaded = smooth(known.loaded, new)
        before = self._baseline_kept(key, known)
        performance = summarize(window, known.subject, before, now, found)
        known.performance = performance.model_copy(
            update={"under_load": known.loaded if known.subject.pristine else None}
        )
        known.judgement = judge(window, known.subject, known.performance)

    def _baseline_kept(self, key: Key, known: Measured) -> PerformanceStatus | None:
        """What is known; without the baseline where somebody took it out of the status, to have a new one taken."""
        stored = self.cache.deployments.get(key)
        is_stored = bool(stored and "baseline" in (stored.status.get("performance") or {}))
        removed = known.baseline_is_stored and not is_stored
        known.baseline_is_stored = is_stored
        if known.performance and removed:
            known.last = None
            return known.performance.model_copy(update={"baseline": None})
        return known.performance

    def _is_due(self, key: Key, known: Measured) -> bool:
        """Whether the summary differs enough from what readers see, and they were not told a moment ago."""
        stored = self.cache.deployments.get(key)
        if stored is None or (known.window is None and known.judgement is NOT_MEASURED):
            return False
        shown = known.released or (
            same_recipe(stored.status, known.subject.recipe_hash),
            _stored_judgement(stored.status),
        )
        since = self.scraper.clock() - known.released_at
        told = (known.judgement.status, known.judgement.reason)
        if told != (shown[1].status, shown[1].reason):
            return since >= self.config.condition_seconds
        return since >= self.config.publish_seconds and is_significant(shown[0], known.performance)

    def _is_on(self, spec: AIMDeploymentSpec) -> bool:
        return self.config.enabled and spec.monitoring.enabled

    def _driver(self, pods: Iterable[PodHealth]) -> str | None:
        """GPU driver of the pods' nodes; several where they differ."""
        nodes = self.tracker.inventory().nodes
        found = set()
        for pod in pods:
            state = nodes.get(pod.node or "")
            labels = state.facts.labels if state else {}
            found.add(next((labels[name] for name in _DRIVER_LABELS if name in labels), ""))
        return ", ".join(sorted(found - {""}))[:100] or None


def subject_of(revision: Revision, spec: AIMDeploymentSpec, driver_version: str | None) -> Subject:
    """What is measured of a deployment that runs a revision."""
    recipe = AIMRecipeSpec.model_validate(revision.recipe_spec)
    version = spec.overrides.image or recipe.image or version_of(recipe)
    told = spec.essence()
    return Subject(
        recipe_hash=revision.recipe_hash,
        engine_version=version,
        driver_version=driver_version,
        targets=spec.targets,
        expected=expectation(recipe, version_of(recipe)),
        max_num_seqs=_max_num_seqs(revision, recipe, spec),
        pristine=not any(told.get(name) for name in IDENTITY_FIELDS),
    )


def _max_num_seqs(revision: Revision, recipe: AIMRecipeSpec, spec: AIMDeploymentSpec) -> int | None:
    gpu = gpu_catalog().get(recipe.hardware.gpu_model)
    if gpu is None:
        return None
    args = effective_args(Candidate(revision.recipe, Source(revision.source), recipe, ""), spec)
    plan = engine(recipe.backend).plan(
        args, recipe.hardware.gpu_count, gpu, recipe.hardware.partition, version_of(recipe)
    )
    return plan.max_num_seqs


def _stored_judgement(status: Mapping[str, Any]) -> Judgement:
    """The condition as it stands in a status."""
    kind = ConditionType.PERFORMANCE_ON_TARGET.value
    found = next((c for c in status.get("conditions") or [] if c.get("type") == kind), None)
    try:
        return (
            Judgement(found["status"], ConditionReason(found["reason"]), found["message"])
            if found
            else NOT_MEASURED
        )
    except (KeyError, ValueError):
        return NOT_MEASURED

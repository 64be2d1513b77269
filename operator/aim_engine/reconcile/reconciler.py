"""One pass over one AIMDeployment: observe, plan, apply, publish. Level-triggered: it never asks what event led here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aim_engine.api.conditions import ConditionReason, ConditionType
from aim_engine.api.configmap_yaml import Faults
from aim_engine.api.deployment import AIMDeployment, AIMDeploymentSpec
from aim_engine.api.enums import RolloutStrategy
from aim_engine.inventory import Freed, Inventory, PodNeed, Tracker, free_on, place
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile import resources
from aim_engine.reconcile.apply import Applier
from aim_engine.reconcile.cache import (
    Cache,
    Key,
    LiveChild,
    NamespaceInfo,
    StoredDeployment,
    read_config_recipe,
)
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.decisions import read_decision
from aim_engine.reconcile.measuring import Measuring
from aim_engine.reconcile.plan import Plan
from aim_engine.reconcile.planner import Planner
from aim_engine.reconcile.queue import WorkQueue
from aim_engine.reconcile.recorder import Recorder, transitions
from aim_engine.reconcile.revision import (
    Record,
    revision_name,
)
from aim_engine.reconcile.status import (
    PREREQUISITES_MET,
    UNJUDGED,
    Judgement,
    Report,
    Workload,
    build,
    by_type,
    is_transition,
    merge_patch,
    time_to_ready,
    wanted,
    with_config_error,
    workload_of,
)
from aim_engine.reconcile.waiters import Order, Waiters
from aim_engine.selection import Candidate
from aim_engine.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

COUNTS_DELAY_SECONDS = 1.0
"""Changes of mere counts and messages are collected this long before they are written."""
RECHECK_SECONDS = 60.0
"""Pause before looking again at something that no watch can tell us about."""

GIVE_WAY_SECONDS = 0.05
"""Pause of a deployment that lets those before it in the line go first."""

_OPEN = NamespaceInfo({}, terminating=False)


@dataclass(slots=True)
class Reconciler:
    """The pass and what it needs."""

    client: KubeClient
    config: OperatorConfig
    cache: Cache
    tracker: Tracker
    waiters: Waiters
    queue: WorkQueue[Key]
    applier: Applier
    recorder: Recorder
    metrics: Metrics
    planner: Planner
    measuring: Measuring
    dirty_recipes: Callable[[Iterable[str] | None], None]
    """Told when the users of recipes may have changed."""
    _deferred: dict[Key, float] = field(default_factory=dict)
    _hoped: dict[Key, tuple[PodNeed, int]] = field(default_factory=dict)
    """What a replica of the recommended recipe takes, and how many had room when it was recommended."""
    _unreadable: dict[Key, str] = field(default_factory=dict)
    """Records that were told to be unreadable."""
    _reviewed: Inventory | None = None

    async def reconcile(self, key: Key) -> None:
        """Bring one deployment a step nearer to its spec. Raises what should be retried."""
        stored = self.cache.deployments.get(key)
        if stored is None or stored.deleting:
            self._forget(key)
            return
        namespace = self.cache.namespaces.get(key[0], _OPEN)
        if stored.typed is None:
            await self._publish_unreadable(stored)
            return
        record = self.cache.newest_revision(stored.uid)
        if record is not None:
            self._read(stored, record)
        if self._gives_way(key, stored.typed.spec, record):
            return
        named = await self._named_config_map(stored.typed)
        await self._named_decision(stored.typed)
        plan = self._plan(key, stored.typed, record, namespace, named)
        prerequisites, later = PREREQUISITES_MET, None
        if namespace.terminating:
            prerequisites = Judgement(
                "False", ConditionReason.NAMESPACE_TERMINATING,
                f"namespace {key[0]} is being deleted; create the deployment in another one",
            )  # fmt: skip
        elif plan.revision is not None:
            prerequisites, later = await self.applier.apply(stored, plan, record)
        if prerequisites.status == "False" and not has_workload(stored, self.cache):
            self.waiters.leave(key)
            self._wake(self.tracker.release(key), key)  # it cannot start, so its GPUs are for who can
        if plan.is_new and later is None and self.queue.urgent:
            self.queue.add(
                key
            )  # others wait for their first pods; what came of this one can be told a moment later
            return
        await self._publish(stored, plan, prerequisites)
        if later is not None:
            raise later

    def _read(self, stored: StoredDeployment, record: Record) -> None:
        """Read the decision in force. Without it nothing may be done, so one that cannot be read is told, once."""
        key = (stored.namespace, stored.name)
        try:
            self.planner.current(key)
        except ValueError as error:
            if self._unreadable.get(key) != record.name:
                self._unreadable[key] = record.name
                told = f"{error}; what runs is left alone: delete it to have the deployment decided anew"
                self.recorder.record(stored, "Warning", "DecisionUnreadable", told)
            raise

    def _gives_way(self, key: Key, spec: AIMDeploymentSpec, record: Record | None) -> bool:
        """Whether others that go before were woken for free GPUs this one might take: then their passes come first."""
        live = self.cache.child(key, "Deployment")
        if record is not None and live is not None and live.replicas >= wanted(spec):
            return False
        before = self.waiters.woken_before(self.cache.rank(key), time.monotonic())
        for other in before:
            self.queue.add(other, urgent=True)
        if before:
            self.queue.add_after(key, GIVE_WAY_SECONDS)
        return bool(before)

    def _forget(self, key: Key) -> None:
        self._pass_on(key)
        self.waiters.leave(key)
        self._deferred.pop(key, None)
        self._hoped.pop(key, None)
        self._unreadable.pop(key, None)
        self.planner.forget(key)
        self.measuring.forget(key)
        self.applier.forget(key)
        self.dirty_recipes(None)
        self._wake(self.tracker.release(key), key)

    def _wake(self, freed: Iterable[Freed], but: Key | None = None, after: Order | None = None) -> None:
        for key in self.waiters.woken(freed, time.monotonic(), after):
            if key != but:
                self.queue.add(key)

    def _pass_on(self, key: Key) -> None:
        """Offer what is still free of what a deployment was woken for to those after it."""
        offer = self.waiters.take_offer(key)
        if offer is not None:
            nodes = self.tracker.inventory().nodes
            free = [freed for name in sorted(offer.nodes) for freed in free_on(nodes.get(name))]
            self._wake(free, key, offer.order)

    def review(self) -> None:
        """What no event brings: nodes are kept for those that waited too long, and advice that is no longer true is
        looked at again."""
        inventory = self.tracker.inventory()
        self._wake(self.waiters.keep_nodes(inventory, time.monotonic(), self.config.patience_seconds))
        if inventory is self._reviewed:
            return
        self._reviewed = inventory
        for key, (need, fitted) in self._hoped.items():
            if place(self.planner.free_for(key), need).fits < fitted:
                self.waiters.nudge(key)
                self.queue.add(key)

    def _plan(
        self, key: Key, deployment: AIMDeployment, record: Record | None, namespace: NamespaceInfo,
        named: tuple[Candidate, ...],
    ) -> Plan:  # fmt: skip
        """Decide and enter the result into the ledger at once: no other pass can be promised the same GPUs."""
        started = time.perf_counter()
        with self.metrics.selecting():
            plan = self.planner.plan(key, deployment, namespace.labels, named, time.time())
        if plan.recommended_need is not None:
            self._hoped[key] = plan.recommended_need, plan.recommended_fits
        elif plan.recommendation is None:
            self._hoped.pop(key, None)
        if plan.look_again_at is not None:
            self.queue.add_after(key, max(0.0, plan.look_again_at - time.time()) + 1)
        if plan.decision is not None:
            self.metrics.selected(
                plan.decision, time.perf_counter() - started, changed=plan.is_new or record is None
            )
        self.waiters.set(
            key, self.cache.rank(key), plan.wants, plan.hopes, time.monotonic(), self.tracker.held(key)
        )
        self.waiters.set_stuck(key, plan.revision is None)
        if plan.revision is None or plan.need is None:
            freed = self.tracker.release(key)
        else:
            surge = int(
                plan.revision.strategy is RolloutStrategy.SURGE
                and (plan.is_new or not _settled(self.cache.child(key, "Deployment")))
            )
            freed = self.tracker.promise(
                key, plan.need, plan.granted + surge, plan.revision.resource, plan.revision.strategy
            )
        self._wake(freed, key)
        self._pass_on(key)
        return plan

    async def _named_config_map(self, deployment: AIMDeployment) -> tuple[Candidate, ...]:
        """A ConfigMap recipe without our label takes part only where it is named. No watch brings it, so it is looked at
        with every pass and now and then."""
        namespace, name = deployment.metadata.namespace, deployment.spec.recipe.config_map
        if name is None or (namespace, name) in self.cache.config_recipes:
            return ()
        self.queue.add_after((namespace, deployment.metadata.name), RECHECK_SECONDS)
        try:
            read = read_config_recipe(
                await self.client.get(resources.CONFIG_MAPS, namespace, name), listed=False
            )
        except ApiError as error:
            if error.code != 404:
                raise
            self.cache.config_errors.pop((namespace, name), None)
            return ()
        if isinstance(read, Faults):
            self.cache.config_errors[(namespace, name)] = read
            return ()
        self.cache.config_errors.pop((namespace, name), None)
        return read

    async def _named_decision(self, deployment: AIMDeployment) -> None:
        """A recorded decision without our label is looked at with every pass and now and then; others are watched."""
        namespace, name = deployment.metadata.namespace, deployment.spec.recipe.decision_config_map
        if name is None or (namespace, name) in self.cache.versions[resources.CONFIG_MAPS]:
            return
        self.queue.add_after((namespace, deployment.metadata.name), RECHECK_SECONDS)
        try:
            self.cache.decisions[(namespace, name)] = read_decision(
                await self.client.get(resources.CONFIG_MAPS, namespace, name)
            )
        except ApiError as error:
            if error.code != 404:
                raise
            self.cache.decisions.pop((namespace, name), None)

    async def _publish(self, stored: StoredDeployment, plan: Plan, prerequisites: Judgement) -> None:
        assert stored.typed is not None  # noqa: S101
        key = (stored.namespace, stored.name)
        live = self.cache.child(key, "Deployment")
        owned = live is not None and live.owner_uid == stored.uid
        workload = workload_of(live.summary if live and owned else None)
        pods = tuple(self.cache.pods.get(key, {}).values())
        self.measuring.watch(stored, plan.revision, pods, settled=workload.updated)
        performance, on_target = self.measuring.told(stored, plan.revision)
        report = Report(
            generation=stored.generation,
            namespace=stored.namespace,
            name=stored.name,
            spec=stored.typed.spec,
            selected=with_config_error(plan.selected, *self._config_error(stored)),
            prerequisites=prerequisites,
            revision=plan.revision,
            revision_name=self._revision_name(stored, plan),
            selection=plan.selection,
            recommendation=plan.recommendation,
            workload=workload,
            pods=pods,
            granted=plan.granted,
            short_of=plan.short_of,
            performance=performance,
            on_target=on_target,
        )
        await self._write_status(stored, report)

    def _revision_name(self, stored: StoredDeployment, plan: Plan) -> str | None:
        if plan.revision is None:
            return None
        record = self.cache.newest_revision(stored.uid)
        if record is not None and record.number == plan.revision.number:
            return record.name
        return revision_name(stored.name, stored.uid, plan.revision)

    def _config_error(self, stored: StoredDeployment) -> tuple[str, Faults | None]:
        """The ConfigMap that a deployment names, and why it cannot be read."""
        name = stored.typed.spec.recipe.config_map if stored.typed else None
        return name or "", self.cache.config_errors.get((stored.namespace, name)) if name else None

    async def _publish_unreadable(self, stored: StoredDeployment) -> None:
        """The stored object passed an older or looser schema than ours."""
        problem = Judgement(
            "False", ConditionReason.INVALID_SPEC, f"the object cannot be read: {stored.error}"
        )
        empty = AIMDeployment.from_object(
            {"apiVersion": "", "kind": "", "metadata": {"name": stored.name, "namespace": stored.namespace}}
        )
        report = Report(
            stored.generation, stored.namespace, stored.name, empty.spec, problem, UNJUDGED,
            None, None, None, None, Workload(), (), 0,
        )  # fmt: skip
        await self._write_status(stored, report)

    async def _write_status(self, stored: StoredDeployment, report: Report) -> None:
        """Write what changed; changes of mere counts are collected for a moment first."""
        key = (stored.namespace, stored.name)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        new = build(report, stored.status, now).wire()
        patch = merge_patch(stored.status, new)
        if not patch:
            self._deferred.pop(key, None)
            return
        if not is_transition(stored.status, new):
            due = self._deferred.setdefault(key, time.monotonic() + COUNTS_DELAY_SECONDS)
            if time.monotonic() < due:
                self.queue.add_after(key, due - time.monotonic() + 0.01)
                return
        self._deferred.pop(key, None)
        self._count(stored.status, new)
        try:
            written = await self.client.merge_status(
                resources.DEPLOYMENTS_AIM, stored.namespace, stored.name, patch
            )
        except ApiError as error:
            if error.code == 404:
                return
            raise
        current = self.cache.deployments.get(key)
        if current is not None and current.uid == written["metadata"]["uid"]:
            self._remember_status(key, current, written)
        if "performance" in patch and report.revision is not None:
            self.dirty_recipes([report.revision.recipe])
        if self.cache.namespaces.get(stored.namespace, _OPEN).terminating:
            return  # nothing can be created there any more, Events neither
        for kind, reason, message in transitions(stored.status, new):
            log.info("%s/%s %s: %s", stored.namespace, stored.name, reason, message)
            self.recorder.record(stored, kind, reason, message)

    def _count(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """What only a comparison of two statuses tells: a spec that cannot work, and how long a start took."""
        before, after = by_type(old), by_type(new)
        selected = after.get(ConditionType.RECIPE_SELECTED, {})
        if (
            selected.get("reason")
            == ConditionReason.INVALID_SPEC
            != before.get(ConditionType.RECIPE_SELECTED, {}).get("reason")
        ):
            self.metrics.refused()
        seconds = time_to_ready(before.get(ConditionType.AVAILABLE), after.get(ConditionType.AVAILABLE))
        recipe = new.get("recipe") or {}
        if seconds is not None and recipe:
            self.metrics.became_ready(recipe["gpuModel"], recipe["backend"], seconds)

    def _remember_status(self, key: Key, current: StoredDeployment, written: Mapping[str, Any]) -> None:
        """Our own write is known at once, so that the next pass does not write it again."""
        status = written.get("status") or {}
        for name, index in (
            (("recipe", "name"), self.cache.by_recipe),
            (("recipe", "modelID"), self.cache.by_model),
        ):
            value = (status.get(name[0]) or {}).get(name[1])
            if value:
                index[value].add(key)
        if written["metadata"].get("generation") != current.generation:
            return  # the user changed the spec meanwhile: the watch must bring this version as news
        self.cache.is_news(resources.DEPLOYMENTS_AIM, written)
        self.cache.deployments[key] = replace(current, status=status)


def _settled(live: LiveChild | None) -> bool:
    """No rollout is under way, so no replica beside the granted ones needs room."""
    return live is None or workload_of(live.summary).updated


def has_workload(stored: StoredDeployment, cache: Cache) -> bool:
    """Whether a Deployment of its own is there, whose pods will come or have come."""
    live = cache.child((stored.namespace, stored.name), "Deployment")
    return live is not None and live.owner_uid == stored.uid

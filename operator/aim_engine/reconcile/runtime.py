"""The running operator: caches, watches, workers, election and the HTTP server, put together and taken down in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aim_engine.hub.store import HubFacts
from aim_engine.inventory import Tracker
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.connection import Connection
from aim_engine.kube.reflector import Reflector
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.access import MetricsAccess
from aim_engine.reconcile.apply import Applier, ForeignStateError, LeftoverError
from aim_engine.reconcile.cache import Cache, Key
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.hub import hub_settings
from aim_engine.reconcile.intake import Intake, decode_pod
from aim_engine.reconcile.lease import Election
from aim_engine.reconcile.measuring import Measuring
from aim_engine.reconcile.namespaces import NamespaceReader
from aim_engine.reconcile.planner import Planner
from aim_engine.reconcile.queue import WorkQueue
from aim_engine.reconcile.recipes import RecipeStatuses
from aim_engine.reconcile.reconciler import RECHECK_SECONDS, Reconciler
from aim_engine.reconcile.recorder import Recorder
from aim_engine.reconcile.series import ObjectSeries
from aim_engine.reconcile.waiters import Waiters
from aim_engine.selection import CatalogueFacts, Facts
from aim_engine.telemetry.metrics import Metrics, Pass, Trouble
from aim_engine.telemetry.scraper import Scraper
from aim_engine.telemetry.server import Pages, serve
from aim_engine.telemetry.store import SeriesStore
from aim_engine.telemetry.tls import Certificate

log = logging.getLogger(__name__)

_RUNNING_PODS = "status.phase!=Succeeded,status.phase!=Failed"
_RELIST_DELAY = 2.0
_RELIST_AGAIN = 30.0
"""Pause after a comparison that failed: what vanished unseen keeps GPUs from others until it is found out."""
_REVIEW_SECONDS = 5.0
"""How often the line of waiters and standing recommendations are looked through; nothing is written unless they change."""


@dataclass(slots=True)
class Runtime:
    """Everything one operator process holds."""

    config: OperatorConfig
    connection: Connection
    metrics: Metrics = field(default_factory=Metrics)
    cache: Cache = field(default_factory=Cache)
    waiters: Waiters = field(default_factory=Waiters)
    queue: WorkQueue[Key] = field(default_factory=WorkQueue)
    tracker: Tracker = field(init=False)
    client: KubeClient = field(init=False)
    intake: Intake = field(init=False)
    recipes: RecipeStatuses = field(init=False)
    planner: Planner = field(init=False)
    scraper: Scraper = field(init=False)
    measuring: Measuring = field(init=False)
    hub: HubFacts | None = field(init=False)
    """None where the Hub is never asked."""
    reconciler: Reconciler = field(init=False)
    recorder: Recorder = field(init=False)
    election: Election = field(init=False)
    series: ObjectSeries = field(init=False)
    synced: bool = False
    _relist: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    _synced: list[asyncio.Event] = field(default_factory=list)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process should end: the Lease was lost, or a part that never ends did."""

    def __post_init__(self) -> None:
        hub = hub_settings(self.config.hub)
        self.hub = HubFacts(hub, self._learned, self.metrics.hub_asked) if hub else None
        facts: Facts = self.hub or CatalogueFacts()
        self.tracker = Tracker(self.config.engine.gpu_labels)
        self.client = KubeClient(self.connection, self.metrics.requested)
        self.recipes = RecipeStatuses(
            self.client,
            self.cache,
            self.tracker,
            facts,
            self.config.recipe_status_seconds,
            self.metrics,
            self._observed,
        )
        self.recorder = Recorder(self.client)
        self.intake = Intake(
            self.cache, self.tracker, self.waiters, self.queue, self.recipes.mark, self._refuse_config_map
        )
        self.planner = Planner(self.config, self.cache, self.tracker, self.waiters, facts)
        settings = self.config.measuring
        self.scraper = Scraper(
            settings.interval_seconds,
            settings.timeout_seconds,
            settings.concurrency,
            settings.window_seconds,
            self.metrics.scrape_failed,
        )
        self.measuring = Measuring(settings, self.cache, self.tracker, self.queue, self.scraper)
        self.scraper.read = self.measuring.changed
        self.reconciler = Reconciler(
            self.client, self.config, self.cache, self.tracker, self.waiters, self.queue,
            Applier(self.client, self.cache, self.recorder), self.recorder,
            self.metrics, self.planner, self.measuring, self.recipes.mark,
        )  # fmt: skip
        # The API server may take long over an object, above all where admission webhooks do; the Lease must not wait for that.
        beside = KubeClient(self.connection, self.metrics.requested, standing=True)
        self.election = Election(beside, self.config.namespace, self.config.lease)
        self.series = ObjectSeries(self.metrics.objects, self.cache, self.tracker, self.measuring.measured)
        self.metrics.queue_depth.set_function(lambda: len(self.queue) if self.election.leading else 0)
        self.metrics.waiting.set_function(lambda: len(self.waiters))
        self.metrics.active.set_function(lambda: float(self.election.leading))
        self.metrics.measuring.set(settings.enabled)

    @property
    def watched(self) -> tuple[Resource, ...]:
        """Kinds that kopf watches. Namespaces are not among them where only some are served: see `namespaces.py`."""
        return tuple(
            each
            for each in resources.WATCHED
            if each is not resources.NAMESPACES or not self.config.watch_namespaces
        )

    def on_event(self, resource: Resource, kind: str | None, obj: dict[str, Any]) -> None:
        """A watch event from kopf; `kind` is None for an object of a list, which after the start means kopf re-listed."""
        if kind == "DELETED":
            self.intake.remove(resource, obj)
            return
        if kind is None and self.synced:
            self._relist.set()
        self.intake.upsert(resource, obj)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, the Lease is lost, or an essential task ends."""
        settings = self.config.metrics
        access = MetricsAccess(self.client).authorize if settings.authenticate else None
        certificate = Certificate(Path(settings.tls_directory)) if settings.tls_directory else None
        pages = Pages(self.metrics.registry, self._unhealthy, self._unready, self._objects, access)
        runner = await serve(self.config.listen, pages, certificate.context if certificate else None)
        if certificate is not None:
            self._spawn(certificate.watch(), "certificate of the metrics port")
        starting = asyncio.create_task(self._start(), name="start")
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(self.lost.wait())]
        try:
            await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # All work is over before the Lease is given back.
            for task in (starting, *self._tasks, *ends):
                task.cancel()
            await asyncio.gather(starting, *self._tasks, *ends, return_exceptions=True)
            await self.election.release()
            await runner.cleanup()

    async def _start(self) -> None:
        self._start_reflectors()
        await self._sync()
        self._spawn(self._resync_forever(), "resync")
        self._spawn(self._lead(), "leader election")

    def _learned(self, source_id: str) -> None:
        self.planner.relearn()
        self.recipes.relearn()
        self.intake.learned(source_id)

    def _observed(self, recipe: str) -> None:
        self.intake.observed(recipe)

    def _refuse_config_map(self, obj: Mapping[str, Any], why: str) -> None:
        where = obj["metadata"]
        log.warning(
            "ConfigMap %s/%s is no recipe and takes no part: %s", where["namespace"], where["name"], why
        )
        if self.election.leading:
            self.recorder.refuse_config_map(obj, why)

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception():
            log.error("%s ended", task.get_name(), exc_info=task.exception())
        self.lost.set()

    def _start_reflectors(self) -> None:
        intake = self.intake
        pods = Reflector(
            self.client, resources.PODS, decode=decode_pod, replace=intake.replace_pods, upsert=intake.upsert_pod,
            remove=intake.remove_pod, field_selector=_RUNNING_PODS,
        )  # fmt: skip
        nodes = Reflector(
            self.client, resources.NODES, decode=lambda obj: obj, replace=intake.replace_nodes,
            upsert=intake.upsert_node, remove=intake.remove_node,
        )  # fmt: skip
        self._synced = [pods.synced, nodes.synced]
        self._spawn(pods.run(), "pod watch")
        self._spawn(nodes.run(), "node watch")
        if self.config.watch_namespaces:
            names = NamespaceReader(
                self.client, self.config.watch_namespaces,
                lambda obj: intake.upsert(resources.NAMESPACES, obj),
                lambda obj: intake.remove(resources.NAMESPACES, obj),
            )  # fmt: skip
            self._synced.append(names.synced)
            self._spawn(names.run(), "namespaces")

    async def _sync(self) -> None:
        """Fill every cache before anything is decided: half a picture would give wrong answers."""
        while not self.synced:
            try:
                for resource in self.watched:
                    await self._list(resource, whole=True)
                for synced in self._synced:
                    await synced.wait()
                self.synced = True
            except ApiError as error:
                log.warning("first sync: %s; again in a second", error)
                await asyncio.sleep(1)
        # What the caches hold stays. Python's collector would look through all of it again whenever a quarter was added, and hold
        # up everything else for a quarter of a second at 5,000 deployments; reference counts free what is replaced.
        gc.collect()
        gc.freeze()
        self._relist.set()  # what ended while the lists were under way was told before they arrived
        log.info(
            "synced: %d deployments, %d recipes, %d nodes with GPUs",
            len(self.cache.deployments), len(self.cache.recipes), len(self.tracker.inventory().nodes),
        )  # fmt: skip

    async def _list(self, resource: Resource, *, whole: bool) -> None:
        """All of a kind. A namespace that is not there any more, and our rights in it neither, has nothing to list."""
        served: Sequence[str | None] = self.config.served if resource.namespaced else [None]
        objects: list[dict[str, Any]] = []
        listed: set[str] = set()
        before = self.intake.versions(resource)
        for namespace in served:
            pages = self.client.pages(
                resource,
                namespace=namespace,
                label_selector=resources.WATCHED[resource],
                metadata_only=not whole,
            )
            try:
                objects += [obj async for page, _ in pages for obj in page]
            except ApiError as error:
                if namespace is None or error.code != 403:
                    raise
                log.warning("listing %s in %s: %s", resource.plural, namespace, error)
                continue
            listed.add(namespace or "")
        ghosts = self.intake.replace(resource, objects, before, listed if None not in served else None)
        if ghosts:
            self.metrics.ghosts.inc(ghosts)
            log.info("%d %s were gone without notice", ghosts, resource.plural)

    async def _resync_forever(self) -> None:
        """Compare with fresh lists now and then, and soon after kopf lost its watch: it does not tell what vanished."""
        again = False
        while True:
            pause = _RELIST_AGAIN if again else self.config.resync_seconds
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):  # noqa: S311
                    await self._relist.wait()
                await asyncio.sleep(_RELIST_DELAY)
            self._relist.clear()
            again = False
            for resource in self.watched:
                try:
                    await self._list(resource, whole=False)
                except ApiError as error:
                    again = True
                    log.warning("comparing %s with a fresh list: %s", resource.plural, error)

    async def _lead(self) -> None:
        if self.config.leader_election:
            await self.election.run(self._work)
        else:
            self.election.leading = True
            await self._work()

    async def _work(self) -> None:
        self._restore_promises()
        workers = [self._worker() for _ in range(self.config.workers)]
        asking = [self.hub.run()] if self.hub else []
        measuring = [self.scraper.run(), self.measuring.run()] if self.config.measuring.enabled else []
        # Whoever serves some namespaces knows only some users of a recipe, and reads recipes only.
        statuses = [] if self.config.watch_namespaces else [self.recipes.run()]
        # Whatever ends one of them ends all, before the Lease is given back.
        async with asyncio.TaskGroup() as group:
            for part in (
                self.recorder.run(), *statuses, self._review_forever(), *measuring, *asking, *workers
            ):  # fmt: skip
                group.create_task(part)

    async def _review_forever(self) -> None:
        while True:
            await asyncio.sleep(_REVIEW_SECONDS)
            self.reconciler.review()

    def _restore_promises(self) -> None:
        """Deployments that run already go first: what they were promised must not be given away after a restart."""
        decided = [
            key for key, stored in self.cache.deployments.items() if self.cache.newest_revision(stored.uid)
        ]
        for key in decided:
            try:
                self.planner.restore(key)
            except ValueError as error:
                log.warning("%s/%s: %s", *key, error)
        for key in sorted(self.cache.deployments, key=self.cache.rank):
            self.queue.add(key)

    async def _worker(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                with self.metrics.reconciling("AIMDeployment") as told:
                    await self._pass(key, told)
            except Exception:
                pause = self.queue.back_off(key, 5)
                log.exception("%s/%s: a fault of ours; again in %.1f s", *key, pause)
            finally:
                self.queue.done(key)

    async def _pass(self, key: Key, told: Pass) -> None:
        """One pass, and when to try again. Raises what is a fault of ours."""
        try:
            await self.reconciler.reconcile(key)
            self.queue.forget(key)
        except ForeignStateError:
            told.failed(Trouble.BLOCKED)
            self.queue.add_after(key, RECHECK_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311
        except LeftoverError:
            told.failed(Trouble.LEFTOVER)
            self.queue.back_off(key, longest=5)
        except ApiError as error:
            told.failed(Trouble.API)
            pause = self.queue.back_off(key, error.retry_after or 0)
            log.warning("%s/%s: %s; again in %.1f s", *key, error, pause)

    def _unhealthy(self) -> str | None:
        ended = [task.get_name() for task in self._tasks if task.done()]
        return f"ended: {', '.join(ended)}" if ended else None

    def _unready(self) -> str | None:
        return None if self.synced else "the caches are not filled yet"

    async def _objects(self) -> SeriesStore | None:
        """Only the leader shows objects: two replicas would show each twice."""
        return await self.series.refresh() if self.election.leading else None

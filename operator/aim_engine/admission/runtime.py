"""The running validator: what it knows of the cluster, and its tasks. It keeps recipes and namespaces, no pods and no nodes."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aim_engine.admission.answer import Answer, Object
from aim_engine.admission.deployments import Scene, judge_deployment
from aim_engine.admission.keeper import Keeper
from aim_engine.admission.recipes import judge_config_map, judge_recipe
from aim_engine.admission.server import AdmissionServer
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.connection import Connection
from aim_engine.kube.reflector import Reflector
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import (
    Cache,
    read_config_recipe,
    read_namespace,
    read_stored_recipe,
    recipe_status,
)
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.namespaces import NamespaceReader
from aim_engine.selection import Candidate, CatalogueFacts, Check, Memo
from aim_engine.telemetry.admission import AdmissionMetrics
from aim_engine.telemetry.server import Pages, serve
from aim_engine.telemetry.tls import server_context

log = logging.getLogger(__name__)

_PART_TO_ASK = 0.5
"""Part of the time in which the API server wants an answer that it may take to tell of a ConfigMap: without one we say what we know."""


@dataclass(slots=True)
class Gate:
    """Judges objects with what it knows; asks the cluster only for a ConfigMap that a deployment names."""

    config: OperatorConfig
    client: KubeClient
    metrics: AdmissionMetrics
    cache: Cache = field(default_factory=Cache)
    facts: CatalogueFacts = field(default_factory=CatalogueFacts)
    _memo: Memo = field(default_factory=Memo)

    @property
    def checks(self) -> frozenset[Check]:
        """The groups of checks that are on."""
        settings = self.config.admission
        switches = {
            Check.RESOURCE_LIMITS: settings.check_resource_limits,
            Check.RECIPE_COMPATIBILITY: settings.check_recipe_compatibility,
            Check.PERFORMANCE_CONSTRAINTS: settings.check_performance_constraints,
        }
        return frozenset(check for check, on in switches.items() if on)

    async def deployment(self, namespace: str, new: Object, old: Object | None) -> Answer:
        """Judge an AIMDeployment."""
        with self._observed("AIMDeployment") as told:
            named = await self._named(namespace, new)
            scene = Scene(
                namespace=namespace,
                namespace_labels=self._labels(namespace),
                candidates=self.cache.candidates(namespace, named),
                statuses={name: recipe_status(stored) for name, stored in self.cache.recipes.items()},
                allowed_images=tuple(self.config.allowed_images),
                facts=self.facts,
                checks=self.checks,
                memo=self._memo,
            )
            return told(judge_deployment(new, old, scene))

    def recipe(self, new: Object, old: Object | None) -> Answer:
        """Judge an AIMRecipe."""
        with self._observed("AIMRecipe") as told:
            return told(judge_recipe(new, old, self.facts, self.checks))

    def config_map(self, namespace: str, new: Object, old: Object | None) -> Answer:
        """Judge a ConfigMap with our label."""
        with self._observed("ConfigMap") as told:
            return told(
                judge_config_map(
                    new, old, self._labels(namespace), self.config.allowed_images, self.facts, self.checks
                )
            )

    def warm(self) -> None:
        """Read the catalogues and check the recipes that there are, so that no request waits for it.

        All of it stays for good, so the garbage collector need not walk through it again and again.
        """
        for each in self.cache.candidates(""):
            self._memo.problems(each, {})
            self.facts.model(each.spec.model_id)
        gc.collect()
        gc.freeze()

    def _labels(self, namespace: str) -> Mapping[str, str]:
        found = self.cache.namespaces.get(namespace)
        return found.labels if found else {}

    async def _named(self, namespace: str, deployment: Object) -> tuple[Candidate, ...]:
        """Recipes of an unlabelled ConfigMap that the deployment names; labelled ones are known."""
        spec = deployment.get("spec")
        wishes = spec.get("recipe") if isinstance(spec, Mapping) else None
        name = wishes.get("configMap") if isinstance(wishes, Mapping) else None
        if not isinstance(name, str) or (namespace, name) in self.cache.config_recipes:
            return ()
        try:
            async with asyncio.timeout(_PART_TO_ASK * self.config.admission.timeout_seconds):
                obj = await self.client.get(resources.CONFIG_MAPS, namespace, name)
        except (ApiError, TimeoutError):
            return ()
        read = read_config_recipe(obj, listed=False)
        return read if isinstance(read, tuple) else ()

    @contextmanager
    def _observed(self, kind: str) -> Iterator[Callable[[Answer], Answer]]:
        started = time.perf_counter()

        def told(answer: Answer) -> Answer:
            self.metrics.reviews.labels(kind, "refused" if answer.refusals else "allowed").inc()
            if answer.warnings:
                self.metrics.warnings.labels(kind).inc(len(answer.warnings))
            return answer

        yield told
        self.metrics.seconds.labels(kind).observe(time.perf_counter() - started)


class Validator:
    """One process of the validator."""

    def __init__(self, config: OperatorConfig, connection: Connection) -> None:
        self.config = config
        self.connection = connection
        client = KubeClient(connection)
        host, _, port = config.admission.listen.rpartition(":")
        tls = server_context()
        self.server = AdmissionServer(host.strip("[]"), int(port), tls)
        self.keeper = Keeper(client, config, tls, self._answers)
        self.metrics = AdmissionMetrics(lambda: self.keeper.expires)
        self.gate = Gate(config, client, self.metrics)
        self._client = client
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def prepare(self) -> None:
        """Know the cluster and have a certificate, before anything is served."""
        watches = self._watches()
        for name, watch in watches.items():
            self._start(name, watch.run())
        synced = asyncio.create_task(_all(watch.synced for watch in watches.values()))
        await asyncio.wait({synced, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        synced.cancel()
        for task in self._tasks.values():
            if task.done():
                await task
        self.gate.warm()
        while self.keeper.problem is not None:
            await self.keeper.look()
            if self.keeper.problem is not None:
                await asyncio.sleep(1)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set or a task ends; then answer a while longer, so that nobody meets a closed door.

        Where nothing is listening there is no door to keep open.
        """
        settings = self.config.admission
        pages = Pages(self.metrics.registry, self._unhealthy, self._unready)
        health = await serve(settings.health_listen, pages)
        self._start("keeper", self.keeper.run())
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({stopped, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
            if self.server.listening.is_set():
                self.server.draining = True
                await asyncio.sleep(settings.drain_seconds)
        finally:
            stopped.cancel()
            await self.end()
            await health.cleanup()

    async def end(self) -> None:
        """End what runs in the background since the preparation began."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[name] = asyncio.create_task(work, name=name)
        task.add_done_callback(_told)

    def _answers(self) -> bool:
        return self.server.listening.is_set() and not self.server.draining

    def _unhealthy(self) -> str | None:
        ended = [name for name, task in self._tasks.items() if task.done()]
        return f"ended: {', '.join(ended)}" if ended else None

    def _unready(self) -> str | None:
        if self.server.draining:
            return "ending"
        if not self.server.listening.is_set():
            return "not listening yet"
        return self.keeper.problem

    def _watches(self) -> dict[str, Reflector | NamespaceReader]:
        cache, served = self.gate.cache, self.config.watch_namespaces
        watches: dict[str, Reflector | NamespaceReader] = {
            "recipes": self._reflector(resources.RECIPES, cache.recipes, _by_name, read_stored_recipe),
            "namespaces": self._reflector(resources.NAMESPACES, cache.namespaces, _by_name, read_namespace),
        }
        for namespace in self.config.served:
            watches[f"configmaps of {namespace or 'all namespaces'}"] = self._reflector(
                resources.CONFIG_MAPS,
                cache.config_recipes,
                _by_key,
                _readable,
                resources.RECIPE_CONFIG_MAPS,
                namespace,
            )
        if served:
            watches["namespaces"] = NamespaceReader(
                self._client, served, lambda obj: cache.namespaces.update({_by_name(obj): read_namespace(obj)}),
                lambda obj: cache.namespaces.pop(_by_name(obj), None),
            )  # fmt: skip
        return watches

    def _reflector(
        self, resource: Resource, store: dict[Any, Any], key: Callable[[Object], Any], read: Callable[[Object], Any],
        label_selector: str | None = None, namespace: str | None = None,
    ) -> Reflector:  # fmt: skip
        def replace(found: Iterable[tuple[Any, Any]]) -> None:
            fresh = dict(found)
            for old in [each for each in store if namespace is None or each[0] == namespace]:
                del store[old]
            store.update(fresh)

        return Reflector(
            self._client,
            resource,
            decode=lambda obj: (key(obj), read(obj)),
            replace=replace,
            upsert=lambda pair: store.update([pair]),
            remove=lambda obj: store.pop(key(obj), None),
            label_selector=label_selector,
            namespace=namespace,
        )


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _told(task: asyncio.Task[None]) -> None:
    """None of these ends by itself, and the process ends with it: its log says why."""
    if not task.cancelled() and task.exception():
        log.error("%s ended", task.get_name(), exc_info=task.exception())


def _by_name(obj: Object) -> str:
    name: str = obj["metadata"]["name"]
    return name


def _by_key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _readable(obj: Object) -> tuple[Candidate, ...]:
    read = read_config_recipe(obj)
    return read if isinstance(read, tuple) else ()

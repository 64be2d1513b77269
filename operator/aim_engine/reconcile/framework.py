"""How kopf is set up, for the operator and for the validator: it watches, logs in and serves, and stores nothing."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import kopf

from aim_engine.kube.connection import Connection
from aim_engine.reconcile import resources

log = logging.getLogger(__name__)

_CANCELLATIONS = 20
_LEFTOVER_SECONDS = 1.0
"""A watch that kopf ends within its first list can leave a task behind, and kopf waits five seconds for those."""


def log_in(registry: kopf.OperatorRegistry, connection: Connection, namespace: str) -> None:
    """Have kopf use our connection. In the event loop: kopf runs handlers that are no coroutines in threads."""

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(
            server=connection.server, aiohttp_session=connection.guest(), default_namespace=namespace
        )


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing: only handlers of changes would need it, and building it copies every object of every event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """Remembers nothing: event handlers have no progress."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class Patience:
    """Pauses of kopf between attempts without end. A namespace that goes takes our rights in it along; when kopf gives up
    over one, it ends, and with it the operator of all others."""

    def __iter__(self) -> Iterator[float]:
        return chain((1, 1, 2, 3, 5, 8, 13, 21), repeat(30))


def configure(settings: kopf.OperatorSettings, *, namespaced: bool = False) -> None:
    """Settings that differ from kopf's defaults, each for a reason given in docs/architecture.md."""
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    if namespaced:
        settings.networking.error_backoffs = Patience()
    settings.queueing.exit_timeout = 2
    settings.queueing.idle_timeout = 1
    settings.watching.server_timeout = 300
    settings.watching.reconnect_backoff = 1
    settings.process.ultimate_exiting_timeout = 20
    selectors: Any = settings.watching.label_selectors
    for resource, selector in resources.WATCHED.items():
        if selector:
            selectors[resource.group, resource.version, resource.plural] = selector


@dataclass(frozen=True, slots=True)
class Running:
    """kopf at work."""

    ended: asyncio.Task[Any]
    """Done when any part of it ended, which none does before :meth:`end`, unless it fails."""
    _parts: Collection[asyncio.Task[Any]]
    _before: Collection[asyncio.Task[Any]]
    _stop: asyncio.Event

    async def beside(self, ours: asyncio.Task[None], stop: asyncio.Event) -> bool:
        """Wait until `stop` is set or one of the two ends, and end both, ours first; False for another cause than `stop`."""
        try:
            await asyncio.wait({ours, self.ended}, return_when=asyncio.FIRST_COMPLETED)
            if ours.done():
                await ours
            return stop.is_set()
        finally:
            stop.set()
            await asyncio.gather(ours, return_exceptions=True)
            await self.end()

    async def end(self) -> None:
        """End it and what it leaves behind. kopf then cancels whatever tasks it finds, so our part has to end first."""
        failed = self.ended.done()
        self._stop.set()
        ending = asyncio.create_task(kopf.run_tasks(self._parts, ignored=self._before), name="kopf")
        await asyncio.wait({ending}, timeout=_LEFTOVER_SECONDS)
        if failed:
            errors = (each.exception() for each in self._parts if each.done() and not each.cancelled())
            cause = next((error for error in errors if error is not None), None)
            log.error("kopf ended: the watch of our objects is over", exc_info=cause)
        await self._cancel_what_is_left()

    async def _cancel_what_is_left(self) -> None:
        """Its watches can swallow a cancellation, or several, and the process would never end."""
        for _ in range(_CANCELLATIONS):
            left = asyncio.all_tasks() - set(self._before) - {asyncio.current_task()}
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=_LEFTOVER_SECONDS / _CANCELLATIONS)
        log.error("kopf left behind: %s", ", ".join(sorted(task.get_name() for task in left)))


async def begin(
    registry: kopf.OperatorRegistry,
    settings: kopf.OperatorSettings,
    take_signals: Callable[[], None],
    namespaces: Collection[str] = (),
) -> Running:
    """Start kopf, in all namespaces or in these.

    kopf takes SIGTERM for itself. `take_signals` takes it back, before the event loop could bring one.
    """
    before, stop = asyncio.all_tasks(), asyncio.Event()
    # Nobody reads it, but kopf's own choice asks for the name of our user, and a container's user has none.
    identity: Any = os.uname().nodename
    parts = await kopf.spawn_tasks(
        registry=registry, settings=settings, clusterwide=not namespaces, namespaces=namespaces, standalone=True,
        stop_flag=stop, identity=identity,
    )  # fmt: skip
    take_signals()
    first = asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    return Running(asyncio.create_task(first, name="kopf"), parts, before, stop)

"""kopf registrations and nothing else: what is watched, and to whom events go.

`on.event` handlers keep no state on objects and no finalizers, so a pass of ours is driven by what is, not by which
edge was seen (docs/architecture.md, "Why kopf is used this way").
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

from aim_engine import CONFIG_VARIABLE
from aim_engine.kube.connection import connect
from aim_engine.kube.resource import Resource
from aim_engine.reconcile.config import OperatorConfig, load
from aim_engine.reconcile.framework import configure, log_in
from aim_engine.reconcile.runtime import Runtime

log = logging.getLogger(__name__)


def register(registry: kopf.OperatorRegistry, runtime: Runtime) -> None:
    """Register the handlers of one running operator."""

    log_in(registry, runtime.connection, runtime.config.namespace)
    for resource in runtime.watched:
        _register_event(registry, runtime, resource)


def _register_event(registry: kopf.OperatorRegistry, runtime: Runtime, resource: Resource) -> None:
    @kopf.on.event(
        resource.group, resource.version, resource.plural, registry=registry, id=f"watch-{resource.plural}"
    )
    async def event(type: str | None, event: Any, **_: Any) -> None:  # noqa: A002
        runtime.on_event(resource, type, event["object"])


async def run(config: OperatorConfig, stop: asyncio.Event, take_signals: Callable[[], None]) -> bool:
    """Run the operator until `stop` is set; False when it ended for another cause.

    kopf takes SIGTERM for itself and cancels whatever tasks it finds when it ends; `take_signals` is called once kopf
    is up, to take them back, so that our part ends first and in order.
    """
    connection = await connect()
    runtime = Runtime(config, connection)
    registry = kopf.OperatorRegistry()
    register(registry, runtime)
    settings = kopf.OperatorSettings()
    configure(settings, namespaced=bool(config.watch_namespaces))
    # Nobody reads it, but kopf's own choice asks for the name of our user, and a container's user has none.
    identity: Any = os.uname().nodename
    kopf_ready, kopf_stop = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry, settings=settings, clusterwide=not config.watch_namespaces,
            namespaces=config.watch_namespaces, standalone=True, ready_flag=kopf_ready, stop_flag=kopf_stop,
            identity=identity,
        ),
        name="kopf",
    )  # fmt: skip
    starting = asyncio.create_task(kopf_ready.wait())
    await asyncio.wait({watching, starting}, return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    take_signals()
    ours = asyncio.create_task(runtime.run(stop), name="runtime")
    try:
        await asyncio.wait({ours, watching}, return_when=asyncio.FIRST_COMPLETED)
        return stop.is_set()
    finally:
        stop.set()
        await asyncio.gather(ours, return_exceptions=True)
        kopf_stop.set()
        await asyncio.gather(watching, return_exceptions=True)
        if not watching.cancelled() and (error := watching.exception()):
            log.error("kopf ended: the watch of our objects is over", exc_info=error)
        await connection.close()


@kopf.on.startup()
async def development(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """`kopf run -A -m aim_engine.handlers`: the same operator inside kopf's own runner, for development."""
    configure(settings, namespaced=False)
    path = os.environ.get(CONFIG_VARIABLE)
    runtime = Runtime(load(Path(path) if path else None), await connect())
    memo.runtime, memo.stop = runtime, asyncio.Event()
    register(kopf.get_default_registry(), runtime)
    memo.task = asyncio.create_task(runtime.run(memo.stop), name="runtime")


@kopf.on.cleanup()
async def end_development(memo: kopf.Memo, **_: Any) -> None:
    """Give the Lease back and close connections."""
    memo.stop.set()
    await memo.task
    await memo.runtime.connection.close()

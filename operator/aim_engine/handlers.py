"""kopf registrations and nothing else: what is watched, and to whom events go.

`on.event` handlers keep no state on objects and no finalizers, so a pass of ours is driven by what is, not by which
edge was seen (docs/architecture.md, "Why kopf is used this way").
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

from aim_engine import CONFIG_VARIABLE
from aim_engine.kube.connection import connect
from aim_engine.kube.resource import Resource
from aim_engine.reconcile.config import OperatorConfig, load
from aim_engine.reconcile.framework import begin, configure, log_in
from aim_engine.reconcile.runtime import Runtime


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
    """Run the operator until `stop` is set; False when it ended for another cause."""
    connection = await connect()
    runtime = Runtime(config, connection)
    registry = kopf.OperatorRegistry()
    register(registry, runtime)
    settings = kopf.OperatorSettings()
    configure(settings, namespaced=bool(config.watch_namespaces))
    watching = await begin(registry, settings, take_signals, config.watch_namespaces)
    try:
        return await watching.beside(asyncio.create_task(runtime.run(stop), name="runtime"), stop)
    finally:
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

"""How the running operator ends, and what it does about a part that ended by itself."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import kopf
import pytest

from aim_engine import handlers
from aim_engine.kube.client import ApiError
from aim_engine.kube.connection import Connection
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import runtime as operator_runtime
from aim_engine.reconcile.config import HubConfig, MeasuringConfig, OperatorConfig
from aim_engine.reconcile.framework import begin
from aim_engine.reconcile.runtime import Runtime
from aim_engine.telemetry.metrics import Metrics
from aim_engine.telemetry.server import Pages, serve
from unit.virtual_time import in_virtual_time

PATIENCE = 30.0
QUIET = OperatorConfig(hub=HubConfig(enabled=False), measuring=MeasuringConfig(enabled=False))
NOBODY = cast(Connection, None)


async def for_ever(*_: object) -> None:
    await asyncio.Event().wait()


async def test_a_part_that_fails_ends_all_work_before_the_lease_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers that went on would write beside the next leader."""
    at_work = 0

    async def worker(_: Runtime) -> None:
        nonlocal at_work
        at_work += 1
        try:
            await for_ever()
        finally:
            at_work -= 1

    async def review(_: Runtime) -> None:
        while at_work < QUIET.workers:  # noqa: ASYNC110
            await asyncio.sleep(0)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Runtime, "_worker", worker)
    monkeypatch.setattr(Runtime, "_review_forever", review)
    runtime = Runtime(QUIET, NOBODY)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            await runtime._work()
    assert at_work == 0


async def test_a_part_that_is_cancelled_by_nobody_of_ours_ends_the_operator() -> None:
    """A library may cancel, too; an operator without its election would stay, and do nothing."""
    runtime = Runtime(QUIET, NOBODY)
    runtime._spawn(for_ever(), "leader election")
    runtime._tasks[0].cancel()
    async with asyncio.timeout(PATIENCE):
        await runtime.lost.wait()


@in_virtual_time
async def test_when_kopf_fails_our_part_ends_first_and_in_order_and_the_cause_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """kopf cancels whatever tasks it finds when it ends, the giving back of the Lease among them."""

    class Unconnected:
        async def close(self) -> None:
            return None

    async def connected() -> Connection:
        return cast(Connection, Unconnected())

    async def failing() -> None:
        await asyncio.sleep(0.1)
        raise PermissionError("ran out of credentials")

    async def spawned(**_: Any) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(failing())]

    endings: list[str] = []

    async def ours(_: Runtime, stop: asyncio.Event) -> None:
        try:
            await stop.wait()
            endings.append("told")
            await asyncio.sleep(0.1)
            endings.append("in order")
        except asyncio.CancelledError:
            endings.append("cancelled")
            raise

    monkeypatch.setattr(handlers, "connect", connected)
    monkeypatch.setattr(kopf, "spawn_tasks", spawned)
    monkeypatch.setattr(Runtime, "run", ours)
    async with asyncio.timeout(4):
        assert not await handlers.run(QUIET, asyncio.Event(), lambda: None)
    assert endings == ["told", "in order"]
    assert "ran out of credentials" in caplog.text


async def test_watches_of_kopf_that_swallow_cancellations_do_not_keep_the_process_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a CRD was removed, the other watches took one cancellation for the end of a request and went on."""
    swallowed = 0

    async def watch() -> None:
        nonlocal swallowed
        while True:
            try:
                await for_ever()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 3:
                    raise

    async def spawned(**_: Any) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(watch())]

    monkeypatch.setattr(kopf, "spawn_tasks", spawned)
    settings = kopf.OperatorSettings()
    running = await begin(kopf.OperatorRegistry(), settings, lambda: None)
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await running.end()
    assert swallowed == 4


async def test_a_comparison_that_failed_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server is in trouble just when a watch was interrupted, and ghosts take GPUs from others."""
    lists: list[str] = []

    async def listed(_: Runtime, resource: Resource, *, whole: bool) -> None:
        lists.append(resource.plural)
        if len(lists) == 1:
            raise ApiError(500, "InternalError", "etcdserver: leader changed")

    monkeypatch.setattr(Runtime, "_list", listed)
    monkeypatch.setattr(operator_runtime, "_RELIST_DELAY", 0.0)
    monkeypatch.setattr(operator_runtime, "_RELIST_AGAIN", 0.01)
    runtime = Runtime(QUIET, NOBODY)
    runtime._relist.set()
    running = asyncio.create_task(runtime._resync_forever())
    try:
        async with asyncio.timeout(PATIENCE):
            while len(lists) < 2 * len(runtime.watched):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(lists) == 2 * len(runtime.watched), "and once it succeeded there is time again"
    finally:
        running.cancel()


async def test_a_client_that_waits_for_its_answer_does_not_hold_up_the_end() -> None:
    runner = await serve(
        "127.0.0.1:0", Pages(Metrics().registry, lambda: None, lambda: None, authorize=cast(Any, for_ever))
    )
    _, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: operator\r\n\r\n")
    await asyncio.sleep(0.1)
    async with asyncio.timeout(PATIENCE):
        await runner.cleanup()
    writer.close()

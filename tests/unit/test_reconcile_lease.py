"""The election, apart from what tests/e2e shows of it: it ends when it is told to, whatever it is at, and nobody leads beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aim_engine.kube.client import ApiError
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import lease as lease_module
from aim_engine.reconcile.config import LeaseConfig
from aim_engine.reconcile.lease import Election
from unit.virtual_time import Clock, in_virtual_time

STEPS = 40
"""Turns of the event loop, more than an attempt and its end take."""
QUICK = LeaseConfig(duration_seconds=3, renew_seconds=1)
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "time", Clock)


class HeldLease:
    """An API server with the Lease of another replica. Its answer comes when the test lets it go."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def get(self, _resource: Resource, _namespace: str, _name: str) -> dict[str, Any]:
        await self.answers.wait()
        return {"spec": {"holderIdentity": "somebody", "renewTime": "x", "leaseDurationSeconds": 3600}}


class FreeLease:
    """An API server with a Lease that nobody holds; it writes at once and answers after `delay` seconds."""

    def __init__(self) -> None:
        self.version, self.spec, self.delay = 1, dict[str, Any](holderIdentity=""), 0.0
        self.delay_of_writes = 0.0
        self.written_at = 0.0

    def obj(self) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": str(self.version)}, "spec": dict(self.spec)}

    @property
    def holder(self) -> str:
        return str(self.spec["holderIdentity"])

    async def get(self, _resource: Resource, _namespace: str, _name: str) -> dict[str, Any]:
        obj = self.obj()
        await asyncio.sleep(self.delay)
        return obj

    async def request(self, _method: str, _path: str, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(409, "Conflict", "the object has been modified")
        self.version, self.spec, self.written_at = self.version + 1, body["spec"], Clock.monotonic()
        obj = self.obj()
        await asyncio.sleep(self.delay + self.delay_of_writes)
        return obj


async def never() -> None:
    raise AssertionError("it leads")


async def for_ever() -> None:
    await asyncio.sleep(3600)


async def leading(lease: FreeLease, config: LeaseConfig = QUICK) -> tuple[Election, asyncio.Task[None]]:
    election = Election(lease, "aim-engine", config)  # type: ignore[arg-type]
    running = asyncio.create_task(election.run(for_ever))
    async with asyncio.timeout(PATIENCE):
        while not election.leading:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return election, running


@pytest.mark.parametrize("turns", range(8))
@in_virtual_time
async def test_a_cancelled_election_ends_though_its_answer_comes_at_that_moment(turns: int) -> None:
    """`asyncio.wait_for` forgets a cancellation that comes just when its result does (before Python 3.12)."""
    lease = HeldLease()
    election = Election(lease, "aim-engine", LeaseConfig())  # type: ignore[arg-type]
    running = asyncio.create_task(election.run(never))
    for _ in range(STEPS):
        await asyncio.sleep(0)
    lease.answers.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    for _ in range(STEPS):
        await asyncio.sleep(0)
    assert running.cancelled()


@in_virtual_time
async def test_nobody_leads_any_more_when_the_last_renewal_that_was_written_has_run_out() -> None:
    """Others count from the write. Its answer came late, and from then on none comes."""
    lease = FreeLease()
    lease.delay = 0.4
    election, running = await leading(lease, LeaseConfig(duration_seconds=3, renew_seconds=2))
    lease.delay = 3600
    async with asyncio.timeout(PATIENCE):
        await running
    assert not election.leading
    assert Clock.monotonic() - lease.written_at < QUICK.duration_seconds


@in_virtual_time
async def test_who_finds_the_lease_taken_by_another_stops_at_once() -> None:
    """Somebody deleted or edited it, and another replica was faster: there are two leaders until one stops."""
    lease = FreeLease()
    _, running = await leading(lease)
    lease.version, lease.spec = lease.version + 1, {**lease.spec, "holderIdentity": "another"}
    taken = Clock.monotonic()
    async with asyncio.timeout(PATIENCE):
        await running
    assert Clock.monotonic() - taken < 1.5 * QUICK.renew_seconds


@in_virtual_time
async def test_the_lease_is_given_back_though_a_renewal_was_broken_off() -> None:
    """The renewal was written, and its answer with the new version never read."""
    lease = FreeLease()
    election, running = await leading(lease)
    written = lease.written_at
    lease.delay_of_writes = 3600
    async with asyncio.timeout(PATIENCE):
        while lease.written_at == written:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    lease.delay_of_writes = 0.0
    assert lease.holder == election.identity
    await election.release()
    assert lease.holder == ""


@in_virtual_time
async def test_an_api_server_that_does_not_answer_keeps_no_process_from_ending() -> None:
    lease = FreeLease()
    election, running = await leading(lease)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    lease.delay = 3600
    began = Clock.monotonic()
    async with asyncio.timeout(PATIENCE):
        await election.release()
    assert Clock.monotonic() - began < 2 * QUICK.renew_seconds

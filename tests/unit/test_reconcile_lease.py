"""The election, apart from what tests/e2e shows of it: it ends when it is told to, whatever it is at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aim_engine.kube.resource import Resource
from aim_engine.reconcile.config import LeaseConfig
from aim_engine.reconcile.lease import Election

STEPS = 40
"""Turns of the event loop, more than an attempt and its end take."""


class HeldLease:
    """An API server with the Lease of another replica. Its answer comes when the test lets it go."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def get(self, _resource: Resource, _namespace: str, _name: str) -> dict[str, Any]:
        await self.answers.wait()
        return {"spec": {"holderIdentity": "somebody", "renewTime": "x", "leaseDurationSeconds": 3600}}


async def never() -> None:
    raise AssertionError("it leads")


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancelled_election_ends_though_its_answer_comes_at_that_moment(turns: int) -> None:
    """`asyncio.wait_for` forgets a cancellation that comes just when its result does (before Python 3.12)."""
    lease = HeldLease()
    lead: Callable[[], Awaitable[None]] = never
    election = Election(lease, "aim-engine", LeaseConfig())  # type: ignore[arg-type]
    running = asyncio.create_task(election.run(lead))
    for _ in range(STEPS):
        await asyncio.sleep(0)
    lease.answers.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    for _ in range(STEPS):
        await asyncio.sleep(0)
    assert running.cancelled()

"""Leader election by a Lease, as client-go does it: one replica works, the others keep their caches warm.

The official client's election loads its whole typed API (some 50 MB) and does not give the Lease back at exit; this
one shares our connection and hands over at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.config import LeaseConfig
from aim_engine.reconcile.resources import LEASES

log = logging.getLogger(__name__)

_LED = 5 / 6
"""Part of the Lease's duration for which a leader trusts in its last renewal; the rest is for its work to end."""
_AGAIN_SECONDS = 1.0
"""Pause before a renewal that failed is tried again."""
_RELEASES = 3


class Election:
    """Runs for a Lease; `leading` is set while this replica holds it."""

    def __init__(self, client: KubeClient, namespace: str, config: LeaseConfig) -> None:
        self._client = client
        self._namespace = namespace
        self._config = config
        self.identity = f"{os.uname().nodename}_{uuid4().hex[:8]}"
        self._seen: tuple[str, float] = ("", 0.0)
        self._lease: dict[str, Any] | None = None
        self._asked = False
        self._renewed = float("-inf")
        """When the last renewal that was granted was asked for: others count from later, when they see it."""
        self.leading = False

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Acquire, run `lead`, renew; returns when the Lease is lost or `lead` ends."""
        while not await self._try(self._config.renew_seconds):  # noqa: ASYNC110 - a Lease has no event to wait for
            await asyncio.sleep(self._config.renew_seconds)
        self.leading = True
        log.info("%s leads", self.identity)
        work = asyncio.ensure_future(lead())
        try:
            await self._renew_until_lost(work)
        finally:
            self.leading = False
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _renew_until_lost(self, work: asyncio.Future[None]) -> None:
        pause: float = self._config.renew_seconds
        while (left := self._left()) > 0:
            done, _ = await asyncio.wait({work}, timeout=min(pause, left))
            if done:
                return work.result()
            if (left := self._left()) <= 0:
                break
            renewed = await self._try(min(self._config.renew_seconds, left))
            if not renewed and (other := self._other()):
                log.error("the Lease is held by %s", other)
                return None
            pause = self._config.renew_seconds if renewed else min(_AGAIN_SECONDS, self._config.renew_seconds)
        log.error("the Lease was not renewed in time; another replica may lead")
        return None

    def _left(self) -> float:
        """Seconds for which this replica may go on without another renewal."""
        return self._renewed + _LED * self._config.duration_seconds - time.monotonic()

    def _other(self) -> str | None:
        """Who else held the Lease when it was last looked at."""
        holder: str | None = self._lease["spec"].get("holderIdentity") if self._lease else None
        return None if holder == self.identity else holder

    async def release(self) -> None:
        """Give the Lease back, so that another replica need not wait for it to run out.

        It is read anew: a renewal that was broken off may have been written, or be written yet. An API server that does not
        answer must not keep the process from ending.
        """
        if not self._asked:
            return
        try:
            async with asyncio.timeout(self._config.renew_seconds):
                await self._give_back()
        except ApiError as error:
            log.info("the Lease was not given back: %s", error)
        except TimeoutError:
            log.info("the Lease was not given back: no answer in %d s", self._config.renew_seconds)

    async def _give_back(self) -> None:
        for attempt in range(_RELEASES):
            self._lease = await self._client.get(LEASES, self._namespace, self._config.name)
            if self._lease["spec"].get("holderIdentity") != self.identity:
                return
            try:
                await self._write({"holderIdentity": "", "leaseDurationSeconds": 1})
                return
            except ApiError as error:
                if error.code != 409 or attempt == _RELEASES - 1:
                    raise

    async def _try(self, seconds: float) -> bool:
        asked = time.monotonic()
        self._asked = True
        try:
            async with asyncio.timeout(seconds):
                held = await self._acquire_or_renew()
        except ApiError as error:
            if error.code != 409:
                log.warning("leader election: %s", error)
            return False
        except TimeoutError:
            log.warning("leader election: the API server did not answer in %.1f s", seconds)
            return False
        if held:
            self._renewed = asked
        return held

    async def _acquire_or_renew(self) -> bool:
        try:
            self._lease = await self._client.get(LEASES, self._namespace, self._config.name)
        except ApiError as error:
            if error.code != 404:
                raise
            self._lease = await self._client.create(LEASES, self._namespace, self._new())
            return True
        spec = self._lease["spec"]
        holder = spec.get("holderIdentity")
        if holder and holder != self.identity and not self._expired(spec):
            return False
        changes: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._config.duration_seconds,
            "renewTime": _now(),
        }
        if holder != self.identity:
            changes |= {"acquireTime": _now(), "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
        await self._write(changes)
        return True

    def _expired(self, spec: dict[str, Any]) -> bool:
        """By our own clock since the Lease last changed: clocks of two machines are never compared."""
        state = f"{spec.get('holderIdentity')}/{spec.get('renewTime')}"
        if state != self._seen[0]:
            self._seen = (state, time.monotonic())
        lasts: float = spec.get("leaseDurationSeconds", self._config.duration_seconds)
        return time.monotonic() - self._seen[1] > lasts

    async def _write(self, changes: dict[str, Any]) -> None:
        """PUT with resourceVersion: of two replicas that try at once, one gets 409."""
        assert self._lease is not None  # noqa: S101
        body = {**self._lease, "spec": {**self._lease["spec"], **changes}}
        self._lease = await self._client.request("PUT", LEASES.path(self._namespace, self._config.name), body)

    def _new(self) -> dict[str, Any]:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._config.name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self._config.duration_seconds,
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

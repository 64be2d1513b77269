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


class Election:
    """Runs for a Lease; `leading` is set while this replica holds it."""

    def __init__(self, client: KubeClient, namespace: str, config: LeaseConfig) -> None:
        self._client = client
        self._namespace = namespace
        self._config = config
        self.identity = f"{os.uname().nodename}_{uuid4().hex[:8]}"
        self._seen: tuple[str, float] = ("", 0.0)
        self._lease: dict[str, Any] | None = None
        self.leading = False

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Acquire, run `lead`, renew; returns when the Lease is lost or `lead` ends."""
        while not await self._try():  # noqa: ASYNC110 - a Lease has no event to wait for
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
        renewed = time.monotonic()
        while time.monotonic() - renewed < self._config.duration_seconds * 2 / 3:
            done, _ = await asyncio.wait({work}, timeout=self._config.renew_seconds)
            if done:
                return work.result()
            if await self._try():
                renewed = time.monotonic()
        log.error("the Lease was not renewed in time; another replica may lead")
        return None

    async def release(self) -> None:
        """Give the Lease back, so that another replica need not wait for it to run out."""
        if not self._lease or self._lease["spec"].get("holderIdentity") != self.identity:
            return
        try:
            await self._write({"holderIdentity": "", "leaseDurationSeconds": 1})
        except ApiError as error:
            log.info("the Lease was not given back: %s", error)

    async def _try(self) -> bool:
        try:
            async with asyncio.timeout(self._config.renew_seconds):
                return await self._acquire_or_renew()
        except ApiError as error:
            if error.code != 409:
                log.warning("leader election: %s", error)
        except TimeoutError:
            log.warning("leader election: the API server did not answer in %d s", self._config.renew_seconds)
        return False

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

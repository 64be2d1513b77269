"""Connections to the API server: neither watches that stay open nor slow answers keep the Lease from being renewed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aim_engine.kube.client import KubeClient
from aim_engine.kube.connection import POOL_LIMIT, Connection, connect
from aim_engine.reconcile.config import LeaseConfig, OperatorConfig
from aim_engine.reconcile.resources import CONFIG_MAPS, LEASES
from aim_engine.reconcile.runtime import Runtime

MANY = POOL_LIMIT + 6
SOON = 120.0


class SlowServer:
    """Answers about Leases at once, and about ConfigMaps never."""

    def __init__(self) -> None:
        self.opened, self._over = 0, asyncio.Event()

    async def config_maps(self, _: web.Request) -> web.Response:
        self.opened += 1
        await self._over.wait()
        return web.json_response({})

    async def lease(self, _: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "leader"}, "spec": {"holderIdentity": "another"}})

    async def busy(self) -> None:
        """Wait until no more requests about ConfigMaps come in."""
        async with asyncio.timeout(SOON):
            while self.opened < POOL_LIMIT:  # noqa: ASYNC110 - the server counts
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def connected(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
        app = web.Application()
        app.router.add_get(CONFIG_MAPS.path("ns"), self.config_maps)
        app.router.add_get(CONFIG_MAPS.path("ns", "slow"), self.config_maps)
        app.router.add_get("/apis/coordination.k8s.io/v1/{rest:.*}", self.lease)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        path.write_text(json.dumps(config))  # noqa: ASYNC240
        monkeypatch.setenv("KUBECONFIG", str(path))
        connection = await connect()
        try:
            yield connection
        finally:
            self._over.set()
            await connection.close()
            await runner.cleanup()


@asynccontextmanager
async def at_once(work: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work()) for _ in range(MANY)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_watches_of_many_namespaces_leave_room_for_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred namespaces may be served. The operator's kinds are watched by kopf, the validator's by ourselves."""
    server = SlowServer()
    async with server.connected(tmp_path / "config", monkeypatch) as connection:
        client, guest = KubeClient(connection), connection.guest()

        async def watch() -> None:
            async for _ in client.watch(CONFIG_MAPS, "1", namespace="ns"):
                pass

        async def kopf() -> None:
            async with guest.get(connection.server + CONFIG_MAPS.path("ns")):
                pass

        async with at_once(watch), at_once(kopf):
            await server.busy()
            async with asyncio.timeout(SOON):
                found = await client.get(LEASES, "ns", "leader")
                while server.opened < 2 * MANY:  # noqa: ASYNC110 - the server counts
                    await asyncio.sleep(0.01)
        await guest.close()
    assert found["metadata"]["name"] == "leader"


async def test_slow_answers_do_not_hold_up_the_renewal_of_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Passes may have more requests under way than there are connections, each for as long as an admission webhook takes."""
    server = SlowServer()
    async with server.connected(tmp_path / "config", monkeypatch) as connection:
        patient = LeaseConfig(duration_seconds=600, renew_seconds=60)
        runtime = Runtime(OperatorConfig(lease=patient), connection)
        async with at_once(lambda: runtime.client.get(CONFIG_MAPS, "ns", "slow")):
            await server.busy()
            asking = asyncio.create_task(runtime.election.run(asyncio.Event().wait))  # type: ignore[arg-type]
            await asyncio.sleep(0.2)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            async with asyncio.timeout(SOON):
                await runtime.election.release()
    assert "leader election" not in caplog.text
    assert "not given back" not in caplog.text

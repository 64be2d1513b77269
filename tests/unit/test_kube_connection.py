"""Connections to the API server: watches that stay open take nothing from the requests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from aim_engine.kube.client import KubeClient
from aim_engine.kube.connection import POOL_LIMIT, connect
from aim_engine.reconcile.resources import LEASES


async def test_watches_of_many_namespaces_leave_room_for_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven kinds in each of a hundred namespaces are watched; the Lease must be renewed all the same."""
    opened, over = 0, asyncio.Event()

    async def watch(_: web.Request) -> web.Response:
        nonlocal opened
        opened += 1
        await over.wait()
        return web.json_response({})

    async def lease(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "leader"}})

    app = web.Application()
    app.router.add_get("/watch", watch)
    app.router.add_get(LEASES.path("ns", "leader"), lease)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": address}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    connection = await connect()
    guest = connection.guest()
    watches = [asyncio.ensure_future(guest.get(f"{address}/watch")) for _ in range(POOL_LIMIT + 6)]
    try:
        async with asyncio.timeout(120):
            while opened < POOL_LIMIT:  # noqa: ASYNC110 - the server counts
                await asyncio.sleep(0.01)
            found = await KubeClient(connection).get(LEASES, "ns", "leader")
            while opened < len(watches):  # noqa: ASYNC110 - the server counts
                await asyncio.sleep(0.01)
        assert found["metadata"]["name"] == "leader"
    finally:
        over.set()
        for each in await asyncio.gather(*watches, return_exceptions=True):
            if not isinstance(each, BaseException):
                each.release()
        await guest.close()
        await connection.close()
        await runner.cleanup()

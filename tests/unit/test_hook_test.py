"""What `helm test` finds of a port: plain, behind TLS, behind a token, behind a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from aim_engine.cli.hooks import test as hook
from aim_engine.telemetry.tls import Certificate
from testbed.certs import certificate_authority, server_certificate
from unit.test_telemetry_server import served

STATUS = {"modelID": "Qwen/Qwen3-32B", "readyReplicas": 1}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "_PAUSE", 0.0)


async def metrics(address: str, ca: Path | None = None, *, guarded: bool = False) -> str | None:
    return await asyncio.to_thread(hook.metrics_problem, f"{address}/metrics", ca, guarded=guarded)


async def test_metrics_are_read() -> None:
    async with served() as address:
        assert await metrics(address) is None
        assert await metrics(address, guarded=True) == "HTTP 200 without a token"


async def test_metrics_behind_tls_are_read_where_the_authority_is_known(tmp_path: Path) -> None:
    authority = certificate_authority("test")
    pair = server_certificate(authority, ["127.0.0.1"])
    for name, content in (("tls.crt", pair.certificate_pem), ("tls.key", pair.key_pem), ("ca.crt", authority.certificate_pem)):  # fmt: skip
        (tmp_path / name).write_bytes(content)
    async with served(tls=Certificate(tmp_path).context) as address:
        assert await metrics(address, tmp_path / "ca.crt") is None
        assert "certificate verify failed" in str(await metrics(address))


async def test_metrics_that_ask_for_a_token_are_as_they_should_be() -> None:
    async def authorize(_: str | None) -> int:
        return 401

    async with served(authorize=authorize) as address:
        assert await metrics(address, guarded=True) is None
        assert await metrics(address) == "HTTP 401"


@asynccontextmanager
async def model(key: str | None) -> AsyncIterator[str]:
    """An OpenAI server, as far as this test asks one."""

    async def chat(request: web.Request) -> web.Response:
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        asked = await request.json()
        return web.json_response({"choices": [{"message": {"content": asked["model"]}}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("key", "guarded", "problem"),
    [(None, False, None), ("secret", True, None), ("secret", False, "HTTP 401"), (None, True, "HTTP 200 without a key")],
)  # fmt: skip
async def test_a_model_with_a_key_must_ask_for_it(key: str | None, guarded: bool, problem: str | None) -> None:  # fmt: skip
    async with model(key) as url:
        assert await asyncio.to_thread(hook.model_problem, url, STATUS, guarded=guarded) == problem

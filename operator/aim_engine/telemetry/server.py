"""One small HTTP server: /metrics, /healthz, /readyz."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from aim_engine.telemetry.store import SeriesStore
from aim_engine.telemetry.tls import ServingError

_END = b"# EOF\n"
_PIECE = 256 * 1024
"""Bytes handed to the socket at once."""
_CLOSING_SECONDS = 2.0
"""So long an answer that is under way may take when the process ends; a client that does not read would take a minute."""


@dataclass(frozen=True, slots=True)
class Pages:
    """What the server answers with."""

    registry: CollectorRegistry
    healthy: Callable[[], str | None]
    """None, or what is wrong, which answers 503."""
    ready: Callable[[], str | None]
    """As `healthy`."""
    objects: Callable[[], Awaitable[SeriesStore | None]] | None = None
    """Brings the series of objects up to date; None shows none."""
    authorize: Callable[[str | None], Awaitable[int]] | None = None
    """From the bearer token to the status that /metrics answers with; 200 lets in. None lets everybody in."""


async def serve(listen: str, pages: Pages, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    """Listen on `host:port`; raises ServingError where that cannot be."""

    async def metrics(request: web.Request) -> web.StreamResponse:
        if pages.authorize is not None:
            status = await pages.authorize(_bearer(request))
            if status != 200:
                headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
                return web.Response(status=status, headers=headers)
        store = await pages.objects() if pages.objects else None
        content_type, parts = exposition(pages.registry, store, request.headers.get("Accept", ""))
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for part in parts:
            for start in range(0, len(part), _PIECE):
                await response.write(part[start : start + _PIECE])
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    def check(judge: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            problem = judge()
            return web.Response(text=problem or "ok", status=503 if problem else 200)

        return answer

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", check(pages.healthy))
    app.router.add_get("/readyz", check(pages.ready))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSING_SECONDS)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port), ssl_context=tls).start()
    except OSError as error:
        await runner.cleanup()
        raise ServingError(
            f"cannot listen on {listen}: {error}; set an address of this machine with a free port"
        ) from error
    return runner


def exposition(
    registry: CollectorRegistry, store: SeriesStore | None, accept: str
) -> tuple[str, Iterator[bytes]]:
    """Content type and body, in pieces, of what the client accepts: OpenMetrics or the text format."""
    encoder, content_type = choose_encoder(accept)

    def parts() -> Iterator[bytes]:
        own = encoder(registry)
        yield own.removesuffix(_END)
        if store is not None:
            yield from store.parts()
        if own.endswith(_END):
            yield _END

    return content_type, parts()


def _bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None

"""A reverse proxy before the API server that fails on command: errors, cut watches, expired versions, silence.

It has a certificate of the plane's authority and passes bearer tokens on (a client certificate ends here). Point a
client at it with ``plane.kubeconfig_for_service_account(namespace, name, server=proxy.url)``.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

from testbed.certs import Pki

T = TypeVar("T")
Match = Callable[[str, str], bool]
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "upgrade",
    "content-length",
    "content-encoding",
}
HALF_AN_EVENT = b'{"type":"MODIFIED","object":{"apiVersion":"v1","kind":"Po'
CALL_TIMEOUT = 60.0


@dataclass
class Rule:
    """Answer matching requests with an error, ``left`` more times (None: for ever)."""

    match: Match
    status: int
    left: int | None
    retry_after: int | None
    message: str
    hits: int = 0

    def take(self, method: str, path: str) -> bool:
        """Whether this request is to fail; counts it if so."""
        if self.left == 0 or not self.match(method, path):
            return False
        self.left = None if self.left is None else self.left - 1
        self.hits += 1
        return True


@dataclass
class OpenWatch:
    """A watch stream on its way through the proxy."""

    copying: asyncio.Task[None]
    mid_line: bool = False
    """Whether it has to end with half an event."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


def everything(_method: str, _path: str) -> bool:
    """Matches all requests."""
    return True


def requested_resource(path: str) -> str:
    """The plural (with "/subresource") that an API path is about, "" for discovery and the like."""
    parts = [part for part in path.split("/") if part]
    rest = parts[2:] if parts[:1] == ["api"] else parts[3:] if parts[:1] == ["apis"] else []
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    if not rest:
        return ""
    return f"{rest[0]}/{rest[2]}" if len(rest) > 2 else rest[0]


def status_object(code: int, message: str, retry_after: int | None = None) -> dict[str, Any]:
    """A failure as the API server words it."""
    details = {"details": {"retryAfterSeconds": retry_after}} if retry_after is not None else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": REASONS.get(code, ""),
        "code": code,
        **details,
    }


def is_watch(request: web.BaseRequest) -> bool:
    """Whether a request opens a watch."""
    return request.query.get("watch") in ("1", "true", "True")


class FaultProxy:
    """Runs in a thread of its own from construction to :meth:`stop`. All methods may be called from any thread."""

    def __init__(self, upstream: str, pki: Pki) -> None:
        self._upstream = upstream
        self._to_server = ssl.create_default_context(cafile=str(pki.ca))
        self._to_clients = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._to_clients.load_cert_chain(pki.server_certificate, pki.server_key)
        self._rules: list[Rule] = []
        self._gone_on_watch = 0
        self._watches: dict[web.StreamResponse, OpenWatch] = {}
        self._server: asyncio.Server | None = None
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._call(self._open())

    @property
    def url(self) -> str:
        """Where clients reach the proxy."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """Requests so far by (method, resource); opening a watch counts as method "WATCH"."""
        with self._lock:
            return Counter(self._counts)

    @property
    def open_watches(self) -> int:
        """Number of watch streams that are open now."""
        return len(self._watches)

    def fail(
        self,
        match: Match = everything,
        *,
        status: int = 500,
        times: int | None = 1,
        retry_after: int | None = None,
        message: str = "fault injected by the testbed",
    ) -> Rule:
        """Answer requests for which ``match(method, path)`` holds with an error Status instead of passing them on.

        ``method`` is "WATCH" for watches and ``path`` has no query. ``times`` is how often (None: until
        :meth:`clear`), ``retry_after`` gives a Retry-After header in seconds. The rule's ``hits`` count.
        """
        rule = Rule(match, status, times, retry_after, message)
        with self._lock:
            self._rules.append(rule)
        return rule

    def gone_on_watch(self, times: int = 1) -> None:
        """Answer the next ``times`` watches with an ERROR event 410 (the resource version is too old)."""
        with self._lock:
            self._gone_on_watch = times

    def clear(self) -> None:
        """Forget all rules; requests pass again."""
        with self._lock:
            self._rules.clear()
            self._gone_on_watch = 0

    def cut_watches(self, *, mid_line: bool = False) -> int:
        """End all open watch streams and return how many there were.

        They end cleanly, as at the server's own time limit, or with ``mid_line`` after half an event by a reset
        connection, as when the server dies.
        """
        return self._call(self._cut(mid_line))

    def block(self) -> None:
        """Refuse connections and reset the open ones, as if no server were there."""
        self._call(self._block())

    def unblock(self) -> None:
        """Listen again, on the same port."""
        self._call(self._listen())

    def stop(self) -> None:
        """End the proxy for good. A second call does nothing."""
        if not self._thread.is_alive():
            return
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT)

    # Inside the proxy's own loop

    async def _open(self) -> None:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._to_server, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        # A handler has to end with its client's connection, or a watch would stay open upstream.
        self._web = web.Server(self._serve, handler_cancellation=True, access_log=None)
        await self._listen()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await self._loop.create_server(
                self._web, "127.0.0.1", self._port, ssl=self._to_clients
            )
            self._port = self._server.sockets[0].getsockname()[1]

    async def _block(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._web.connections:
            if isinstance(connection.transport, asyncio.Transport):
                connection.transport.abort()

    async def _close(self) -> None:
        await self._block()
        await self._web.shutdown(1.0)
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await self._client.close()

    async def _cut(self, mid_line: bool) -> int:
        watches = list(self._watches.values())
        for watch in watches:
            watch.mid_line = mid_line
            watch.copying.cancel()
        if watches:
            await asyncio.wait([asyncio.ensure_future(watch.ended.wait()) for watch in watches])
        return len(watches)

    def _fault(self, method: str, path: str) -> Rule | None:
        with self._lock:
            self._counts[method, requested_resource(path)] += 1
            return next((rule for rule in self._rules if rule.take(method, path)), None)

    def _take_gone(self) -> bool:
        with self._lock:
            self._gone_on_watch, taken = max(0, self._gone_on_watch - 1), self._gone_on_watch > 0
        return taken

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        watch = is_watch(request)
        rule = self._fault("WATCH" if watch else request.method, request.path)
        if rule:
            headers = {"Retry-After": str(rule.retry_after)} if rule.retry_after is not None else {}
            body = status_object(rule.status, rule.message, rule.retry_after)
            return web.json_response(body, status=rule.status, headers=headers)
        if watch and self._take_gone():
            event = {"type": "ERROR", "object": status_object(410, "too old resource version: 1 (2)")}
            return web.Response(text=json.dumps(event) + "\n", content_type="application/json")
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in HOP_BY_HOP | {"host"}
        }
        try:
            async with self._client.request(
                request.method,
                self._upstream + request.raw_path,
                headers=headers,
                data=await request.read() or None,
            ) as answer:
                return await self._pass_on(request, answer, watch)
        except aiohttp.ClientError:
            # Either side is gone; to the client that has to look like what it is, not like an answer.
            if isinstance(request.transport, asyncio.Transport):
                request.transport.abort()
            return web.Response(status=502)

    async def _pass_on(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, watch: bool
    ) -> web.StreamResponse:
        kept = HOP_BY_HOP - {"content-encoding"}
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in kept}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        if not watch:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
        opened = OpenWatch(asyncio.ensure_future(_copy(answer, response)))
        self._watches[response] = opened
        try:
            await asyncio.wait([opened.copying])
            if opened.mid_line:
                await response.write(HALF_AN_EVENT)
            orderly = opened.copying.cancelled() or opened.copying.exception() is None
            if orderly and not opened.mid_line:
                await response.write_eof()
            elif request.transport is not None:
                request.transport.close()
            return response
        finally:
            opened.copying.cancel()
            del self._watches[response]
            opened.ended.set()


async def _copy(answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    async for chunk in answer.content.iter_any():
        await response.write(chunk)

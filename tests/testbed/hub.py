"""A Hub on 127.0.0.1 that answers as the real one does: redirects to its storage, gates, limits, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class _File:
    content: bytes
    commit: str


@dataclass
class LocalHub:
    """``with LocalHub() as hub: hub.serve("acme/model", config={...})``; ``hub.requests`` counts what was asked."""

    requests: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    url: str = ""
    _files: dict[tuple[str, str | None, str], _File] = field(default_factory=dict)
    _behaviours: dict[str, Behaviour] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    def serve(
        self,
        model_id: str,
        config: Any,
        index: Any = None,
        *,
        revision: str | None = None,
        commit: str = COMMIT,
    ) -> None:
        """A repository with a configuration and, for models of several files, an index; at one revision, or at any."""
        self._behaviours.pop(model_id, None)
        for where in (revision, commit) if revision else (None,):
            self._files[model_id, where, "config.json"] = _File(json.dumps(config).encode(), commit)
            if index is not None:
                self._files[model_id, where, "model.safetensors.index.json"] = _File(
                    json.dumps(index).encode(), commit
                )

    def behave(self, model_id: str, behaviour: Behaviour) -> None:
        """Answer everything about a repository in another way."""
        self._behaviours[model_id] = behaviour

    def asked_for(self, model_id: str) -> int:
        """Requests for a repository."""
        return sum(f"/{model_id}/" in path for path in self.requests)

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        if not started.wait(60):
            raise TimeoutError("the local Hub did not start within 60 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread:
            self._thread.join(60)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        started.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/{organisation}/{name}/resolve/{revision}/{file}", self._resolve)
        app.router.add_get("/storage/{organisation}/{name}/{revision}/{file}", self._storage)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        self.headers.append(dict(request.headers))
        part = request.match_info
        model_id = f"{part['organisation']}/{part['name']}"
        if model_id in self._behaviours:
            return await self._behaviours[model_id](request)
        found = self._find(part)
        if found is None:
            return web.json_response(
                {"error": "Entry not found"}, status=404, headers={"X-Error-Code": "EntryNotFound"}
            )
        place = f"{model_id}/{quote(part['revision'], safe='')}/{part['file']}"
        return web.Response(
            status=302, headers={"Location": f"/storage/{place}", "X-Repo-Commit": found.commit}
        )

    def _find(self, part: Mapping[str, str]) -> _File | None:
        model_id = f"{part['organisation']}/{part['name']}"
        revisions = (part["revision"], None)
        return next(
            (found for each in revisions if (found := self._files.get((model_id, each, part["file"])))), None
        )

    async def _storage(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request.match_info)
        return web.Response(body=found.content) if found else web.Response(status=404)


def status(code: int, text: str = "", **headers: str) -> Behaviour:
    """Answer with a status."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            status=code, text=text, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return answer


def slow(seconds: float) -> Behaviour:
    """Answer late."""

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(text="{}")

    return answer


def drip(chunk: bytes, times: int) -> Behaviour:
    """Send a body without saying its length."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(times):
            await response.write(chunk)
        return response

    return answer


def endless_redirects(request_path: str = "/a/b/resolve/main/config.json") -> Behaviour:
    """Send on for ever."""
    return status(302, Location=request_path)

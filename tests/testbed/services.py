"""Services made real on loopback: what kube-proxy does on a node, for one Service, in a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Self

Backend = tuple[str, int]
CALL_TIMEOUT = 60.0


class ServiceForwarder:
    """Listens on a Service's address and connects each client to the next of its backends, as they are at that moment."""

    def __init__(self, address: str, port: int, backends: Callable[[], Sequence[Backend]]) -> None:
        self._backends = backends
        self._turn = 0
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="service", daemon=True)
        self._thread.start()
        opening = asyncio.start_server(self._connect, address, port)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(CALL_TIMEOUT)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backends = self._backends()
        if not backends:
            writer.transport.abort()
            return
        self._turn += 1
        self.connections += 1
        host, port = backends[self._turn % len(backends)]
        try:
            answers, questions = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, questions), _copy(answers, writer))

    def close(self) -> None:
        """End, with all connections."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()

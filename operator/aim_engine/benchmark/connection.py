"""A connection to a server: one HTTP/1.1 request at a time, kept open between them where the server does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from aim_engine.benchmark.wire import LARGEST_HEAD, Body, Endpoint, Fault, Head, RequestError, refusal

CONNECT_SECONDS = 10.0
_READ = 65536
_LONGEST_REFUSAL = 4096

T = TypeVar("T")


@lru_cache(maxsize=1)
def _trust(bundle: str | None) -> ssl.SSLContext:
    """Whom to trust: the system's authorities, or those of `$SSL_CERT_FILE`. Reading them takes long."""
    return ssl.create_default_context(cafile=bundle or None)


@dataclass(slots=True)
class Connection:
    """One connection. It is made when it is needed, and made anew when the server closed it."""

    endpoint: Endpoint
    headers: Mapping[str, str]
    silence: float
    """Seconds without a byte after which a request counts as stalled."""
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, unless that is done. Raises RequestError."""
        if self._streams is not None:
            if not self._streams[0].at_eof():
                return self._streams
            self.close()
        secure = _trust(os.environ.get("SSL_CERT_FILE")) if self.endpoint.scheme == "https" else None
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, self.silence)):
                self._streams = await asyncio.open_connection(
                    self.endpoint.host, self.endpoint.port, ssl=secure, limit=LARGEST_HEAD
                )
        except TimeoutError:
            raise RequestError(
                Fault.REFUSED, f"{self.endpoint.authority} does not answer: no connection in time"
            ) from None
        except ssl.SSLError as error:
            told = getattr(error, "verify_message", "") or error.reason or error
            raise RequestError(Fault.TLS, f"{self.endpoint.authority}: {told}") from None
        except (OSError, UnicodeError) as error:
            told = (
                os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else str(error)
            )
            raise RequestError(Fault.REFUSED, f"{self.endpoint.authority}: {told}") from None
        return self._streams

    def close(self) -> None:
        """End the connection at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def stream(self, method: str, path: str, body: bytes | None = None) -> AsyncGenerator[bytes, None]:
        """Content of a 200 answer, as it comes in. Raises RequestError for anything else.

        The connection is closed unless the whole answer was read.
        """
        whole = False
        try:
            reader, head = await self._sent(self._request(method, path, body))
            framing = Body.of(head)
            if head.status != 200:
                raise refusal(head, await self._rest(reader, framing))
            if head.headers.get("content-encoding", "identity") != "identity":
                raise RequestError(Fault.NOT_OPENAI, "the answer is compressed, which was not asked for")
            while not framing.complete:
                data = await self._in_time(reader.read(_READ))
                if data:
                    yield framing.feed(data)
                else:
                    framing.ended()
            whole = head.keeps
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            told = "the server closed the connection" if isinstance(error, EOFError) else str(error)
            raise RequestError(Fault.DISCONNECTED, told) from None
        finally:
            if not whole:
                self.close()

    async def _sent(self, request: bytes) -> tuple[asyncio.StreamReader, Head]:
        """Send a request; once more where a connection that was kept open turns out to be closed."""
        kept = self._streams is not None
        reader, writer = await self.open()
        try:
            writer.write(request)
            await self._in_time(writer.drain())
            return reader, await self._head(reader)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if not kept or (isinstance(error, asyncio.IncompleteReadError) and error.partial):
                raise
        self.close()
        return await self._sent(request)

    async def _head(self, reader: asyncio.StreamReader) -> Head:
        try:
            raw = await self._in_time(reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            raise RequestError(Fault.NOT_OPENAI, "the server does not speak HTTP/1.1") from None
        except asyncio.IncompleteReadError as error:
            if error.partial and not error.partial.startswith(b"HTTP/1."):
                raise RequestError(
                    Fault.NOT_OPENAI, f"the server does not speak HTTP/1.1: it says {error.partial[:60]!r}"
                ) from None
            raise
        return Head.parse(raw)

    async def _rest(self, reader: asyncio.StreamReader, framing: Body) -> bytes:
        """The beginning of a refusal's body; what is missing of it is no further fault."""
        found = b""
        with contextlib.suppress(RequestError, ConnectionError):
            while not framing.complete and len(found) < _LONGEST_REFUSAL:
                data = await self._in_time(reader.read(_READ))
                if not data:
                    break
                found += framing.feed(data)
        return found[:_LONGEST_REFUSAL]

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.silence):
                return await work
        except TimeoutError:
            raise RequestError(Fault.STALLED, f"nothing came for {self.silence:g} s") from None

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        content = {"Content-Type": "application/json", "Content-Length": str(len(body))} if body else {}
        headers = {
            "Host": self.endpoint.authority,
            "User-Agent": "aim-engine-bench",
            **self.headers,
            **content,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {self.endpoint.base}{path} HTTP/1.1\r\n{lines}\r\n".encode("ascii") + (body or b"")

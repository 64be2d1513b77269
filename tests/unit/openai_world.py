"""Servers on loopback that answer as a test tells them to, byte by byte: good OpenAI servers and bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
MODEL = "example/model"


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json


Answer = Callable[[Asked], AsyncIterator[bytes]]


def head(status: str = "200 OK", **headers: object) -> bytes:
    """Status line and headers; `content_type` is written `content-type`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def whole(body: bytes, status: str = "200 OK", **headers: object) -> bytes:
    """A whole answer."""
    return head(status, content_length=len(body), **headers) + body


def models(*names: str) -> bytes:
    """The list of models of an OpenAI server."""
    return whole(
        json.dumps({"object": "list", "data": [{"id": name} for name in names or (MODEL,)]}).encode()
    )


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(document: object) -> bytes:
    """A server-sent event in a chunk of its own."""
    return chunk(f"data: {json.dumps(document)}\n\n".encode())


def text(content: str = "token ", field: str = "content") -> bytes:
    """A piece of an answer."""
    return event({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {field: content}}]})


def usage(prompt: int, completion: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


STREAM = head(content_type="text/event-stream", transfer_encoding="chunked")
END = chunk(b"data: [DONE]\n\n") + chunk(b"")


def words_of(asked: Asked) -> int:
    """Words of the prompt."""
    return len(asked.body["messages"][0]["content"].split())


async def good(asked: Asked) -> AsyncIterator[bytes]:
    """A quick OpenAI server whose tokens are words, and whose template adds ten."""
    if asked.method == "GET":
        yield models()
        return
    generated = asked.body["max_tokens"]
    yield STREAM + text("", "role")
    for _ in range(generated):
        yield text()
        await asyncio.sleep(0)
    yield usage(words_of(asked) + 10, generated) + END


@dataclass
class Server:
    """A server in a thread of its own."""

    answer: Answer
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                asked = await read(reader)
                self.asked.append(asked)
                async for part in self.answer(asked):
                    if not part:  # the line is cut
                        return writer.transport.abort()
                    writer.write(part)
                    await writer.drain()
        writer.close()
        return None


async def read(reader: asyncio.StreamReader) -> Asked:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = raw[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in raw[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(body) if body else {})


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """A server that answers each request with what `answer` yields; an empty part cuts the line."""
    server = Server(answer)
    with running(server.serve) as port:
        server.url = f"http://127.0.0.1:{port}/v1"
        yield server


@contextlib.contextmanager
def running(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> Iterator[int]:
    """A TCP server in a thread of its own; gives the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)

    async def begin() -> asyncio.Server:
        return await asyncio.start_server(served, "127.0.0.1", 0, **options)

    async def end() -> None:
        listener.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    listener = asyncio.run_coroutine_threadsafe(begin(), loop).result(60)
    try:
        yield int(listener.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()

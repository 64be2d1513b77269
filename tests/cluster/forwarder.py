"""Leads TCP connections made outside of the node's namespaces to the same port of 127.0.0.1 inside.

A socket belongs to the network in which it was created, so this program listens outside, with sockets it was given
open (their numbers are its arguments), while it runs, and connects, inside. Runs with ``python -I -S``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import signal
import socket
import sys

CHUNK = 1 << 16
PR_SET_PDEATHSIG = 1


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction, and its end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def lead(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until both of its directions have ended."""
    try:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))
    finally:
        for end in (writer, far_writer):
            end.close()


LEADING: set[asyncio.Task[None]] = set()
"""The event loop alone would let go of tasks that only wait for each other."""


def accept(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin to serve a new connection."""
    task = asyncio.ensure_future(lead(port, reader, writer))
    LEADING.add(task)
    task.add_done_callback(LEADING.discard)


async def main() -> None:
    """Serve all sockets for ever."""
    servers = []
    for number in map(int, sys.argv[1:]):
        listener = socket.socket(fileno=number)
        accepted = functools.partial(accept, listener.getsockname()[1])
        servers.append(await asyncio.start_server(accepted, sock=listener))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    asyncio.run(main())

"""A small process that owns the programs of one control plane and never outlives the plane's owner.

The owner starts it with a pipe as standard input and sends one JSON object a line; the warden answers each with one
line on standard output that has the same ``id``. The kernel closes the pipe when the owner dies in whatever way, and the warden then kills what
it started. Should the warden itself be killed, its children die with it by their parent-death signal. That signal is
tied to the *thread* that forked, which is why this single-threaded process forks and not the owner, whose threads come
and go.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
OWNER_CHECK_SECONDS = 0.5

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Runs in the child between fork and exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT):  # the warden ignores them, and a child inherits that
        signal.signal(number, signal.SIG_DFL)


def start(children: dict[str, subprocess.Popen[bytes]], request: dict[str, Any]) -> dict[str, Any]:
    """Start ``argv`` as ``name``, appending its output to the file ``log``."""
    with open(request["log"], "ab") as log:
        child = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=request["cwd"],
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    children[request["name"]] = child
    return {"pid": child.pid}


def stop(children: dict[str, subprocess.Popen[bytes]], request: dict[str, Any]) -> dict[str, Any]:
    """Ask ``name`` to end, wait up to ``timeout`` seconds, then kill it. Nothing to do for an unknown name."""
    child = children.pop(request["name"], None)
    if child is None:
        return {"code": None}
    child.terminate()
    try:
        return {"code": child.wait(request["timeout"])}
    except subprocess.TimeoutExpired:
        kill_group(child)
        return {"code": child.wait()}


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child with everything it may have started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def answer(children: dict[str, subprocess.Popen[bytes]], request: dict[str, Any]) -> dict[str, Any]:
    """Do what one request says; errors travel back as ``{"error": text}``."""
    try:
        match request["op"]:
            case "start":
                return start(children, request)
            case "stop":
                return stop(children, request)
            case "poll":
                return {"codes": {name: child.poll() for name, child in children.items()}}
            case other:
                return {"error": f"unknown operation {other}"}
    except OSError as error:
        return {"error": str(error)}


def ignore_signals() -> None:
    """Only the owner's end ends us, not a signal to the terminal's processes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def serve(
    children: dict[str, subprocess.Popen[bytes]],
    owner_lives: Callable[[], bool],
    between: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until standard input ends or the owner is gone; ``between`` is called at least twice a second."""
    buffer = b""
    with contextlib.suppress(BrokenPipeError):
        while owner_lives():
            between()
            # A forked child of the owner may hold the pipe open, so its end is not the only sign of death.
            if not select.select([0], [], [], OWNER_CHECK_SECONDS)[0]:
                continue
            data = os.read(0, 65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                sys.stdout.write(json.dumps({**answer(children, request), "id": request["id"]}) + "\n")
                sys.stdout.flush()


def main() -> None:
    """Serve requests until the owner is gone, then kill all children."""
    owner = os.getppid()
    ignore_signals()
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        serve(children, lambda: os.getppid() == owner)
    finally:
        for child in children.values():
            kill_group(child)
        for child in children.values():
            child.wait()


if __name__ == "__main__":
    main()

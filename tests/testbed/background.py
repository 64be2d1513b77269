"""Planes that outlive the command that started them: a process in the background holds each, in a directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from testbed.cluster import state_file, tail
from testbed.gobuild import say

UP_TIMEOUT = 600.0
DOWN_TIMEOUT = 180.0


def ready_file(directory: Path) -> Path:
    """Exists while the plane in ``directory`` runs with all that was asked for."""
    return directory / "ready"


def hold(directory: Path) -> None:
    """Say that the plane in ``directory`` is ready, and return at SIGTERM or SIGINT."""
    told_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_end.set())
    ready_file(directory).touch()
    told_to_end.wait()
    ready_file(directory).unlink(missing_ok=True)


def up(module: str, directory: Path, options: Sequence[str], timeout: float = UP_TIMEOUT) -> int:
    """Run ``python -m MODULE hold --dir DIRECTORY OPTIONS`` in the background and return when it says it is ready.

    Prints the path of the plane's kubeconfig. 0 is success.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if holder(directory) is not None:
        say(f"a control plane runs in {directory} already")
        return 1
    for stale in (state_file(directory), ready_file(directory)):
        stale.unlink(missing_ok=True)
    source = str(Path(__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    log = directory / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "hold", "--dir", str(directory), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout
    while not ready_file(directory).exists():
        if process.poll() is not None or time.monotonic() >= deadline:
            process.terminate()
            say(f"the control plane did not start; {log} ends with:\n{tail(log, 30)}")
            return 1
        time.sleep(0.05)
    print(json.loads(state_file(directory).read_text())["kubeconfig"])
    return 0


def holder(directory: Path) -> int | None:
    """Process id of the living process that holds the plane in ``directory``."""
    try:
        pid = int(json.loads(state_file(directory).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None
    return pid if holds(pid, directory) else None


def holds(pid: int, directory: Path) -> bool:
    """Whether that process lives and is our holder: the number may have gone to another program since."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"hold" in command and str(directory).encode() in command


def down(directory: Path) -> int:
    """Stop the plane in ``directory`` and wait for its end; fine if there is none."""
    pid = holder(directory)
    if pid is None:
        say(f"no control plane runs in {directory}")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT
    while holds(pid, directory):  # it lives a little longer than the plane
        if time.monotonic() >= deadline:
            say(f"process {pid} did not end within {DOWN_TIMEOUT:g} s")
            return 1
        time.sleep(0.05)
    return 0

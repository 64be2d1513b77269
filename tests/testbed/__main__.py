"""``python -m testbed up|down``: a control plane that outlives the command that started it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from testbed import tools
from testbed.cluster import state_file, tail
from testbed.gobuild import say
from testbed.plane import ControlPlane

UP_TIMEOUT = 180.0
DOWN_TIMEOUT = 60.0


def ready_file(directory: Path) -> Path:
    """Exists while the plane in ``directory`` runs with all its nodes."""
    return directory / "ready"


def hold(directory: Path, nodes: Sequence[str]) -> int:
    """Run a plane in this process until SIGTERM or SIGINT."""
    told_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_end.set())
    with ControlPlane.start(directory) as plane:
        plane.add_nodes(*nodes)
        ready_file(directory).touch()
        told_to_end.wait()
        ready_file(directory).unlink(missing_ok=True)
    return 0


def up(directory: Path, nodes: Sequence[str]) -> int:
    """Start a plane in the background, print its kubeconfig's path, and return."""
    try:
        tools.ensure()
    except tools.ToolUnavailable as error:
        say(str(error))
        return 1
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
            [sys.executable, "-m", "testbed", "hold", "--dir", str(directory), "--nodes", *nodes],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    deadline = time.monotonic() + UP_TIMEOUT
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
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError):
        return None
    # The number may have gone to another program since; ours has the directory on its command line.
    return pid if b"hold" in command and str(directory).encode() in command else None


def down(directory: Path) -> int:
    """Stop the plane in ``directory`` and wait for its end; fine if there is none."""
    pid = holder(directory)
    if pid is None:
        say(f"no control plane runs in {directory}")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT
    while holder(directory) is not None:
        if time.monotonic() >= deadline:
            say(f"process {pid} did not end within {DOWN_TIMEOUT:g} s")
            return 1
        time.sleep(0.05)
    return 0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("up", up), ("down", down), ("hold", hold)):
        command = commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        command.add_argument("--dir", type=Path, required=True, help="where the plane keeps its files")
        if function is not down:
            command.add_argument("--nodes", nargs="*", default=[], metavar="KIND", help="kinds of nodes.yaml")
    options = parser.parse_args()
    directory = options.dir.absolute()
    if options.command == "down":
        return down(directory)
    return (up if options.command == "up" else hold)(directory, options.nodes)


if __name__ == "__main__":
    sys.exit(main())

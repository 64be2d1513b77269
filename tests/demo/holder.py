"""The detached process that holds the demo's operator and engines: they live as long as it does, and not longer."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from demo.place import MARK, Place
from testbed.addresses import free_port
from testbed.processes import Processes
from testbed.product import LEASE

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT = 240.0
SOURCES = os.pathsep.join(str(ROOT / part) for part in ("operator", "tests"))


class HolderError(RuntimeError):
    """The operator did not come up."""


def start(place: Place, *, engines_kubeconfig: Path | None) -> str:
    """Start the holder in the background and return the operator's address when it leads."""
    listen = f"127.0.0.1:{free_port()}"
    place.logs.mkdir(parents=True, exist_ok=True)
    place.operator_config.write_text(
        yaml.safe_dump({"listen": listen, "recipeStatusSeconds": 1, "lease": LEASE})
    )
    engines = ["--engines-kubeconfig", str(engines_kubeconfig)] if engines_kubeconfig else []
    command = [sys.executable, "-m", "demo", "hold", "--mark", MARK, "--dir", str(place.directory), *engines]
    with place.holder_log.open("a") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"PYTHONPATH": SOURCES},
        )  # fmt: skip
    deadline = time.monotonic() + READY_TIMEOUT
    while "aim_operator_active 1.0" not in fetch(listen, "/metrics"):
        if process.poll() is not None:
            raise HolderError(f"the operator's process ended with {process.returncode}")
        if time.monotonic() >= deadline:
            raise HolderError(f"the operator does not lead after {READY_TIMEOUT:g} s")
        time.sleep(0.1)
    return listen


def fetch(listen: str, path: str) -> str:
    """Body of a GET; empty while nobody answers."""
    connection = http.client.HTTPConnection(listen, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def hold(place: Place, engines_kubeconfig: Path | None) -> int:
    """Run operator and engines until SIGTERM, or until one of them ends by itself."""
    told_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_end.set())
    place.holder_file.write_text(json.dumps({"pid": os.getpid()}))
    processes = Processes(place.logs)
    code = 0
    try:
        processes.start("operator", _operator(place))
        if engines_kubeconfig:
            processes.start("engines", _python("testbed.engines", "--kubeconfig", str(engines_kubeconfig)))
        while not told_to_end.wait(1):
            ended = {name: value for name, value in processes.exit_codes().items() if value is not None}
            if ended:
                print(f"ended by itself: {ended}; its log is in {place.logs}", flush=True)
                code = 1
                break
        processes.stop("operator")
    finally:
        processes.close()  # kills the engines, which have nothing to finish
        place.holder_file.unlink(missing_ok=True)
    return code


def _operator(place: Place) -> list[str]:
    return _python(
        "aim_engine", "operator", "--config", str(place.operator_config),
        environment=(f"KUBECONFIG={place.operator_kubeconfig}",),
    )  # fmt: skip


def _python(module: str, *arguments: str, environment: Sequence[str] = ()) -> list[str]:
    return ["/usr/bin/env", f"PYTHONPATH={SOURCES}", *environment, sys.executable, "-m", module, *arguments]

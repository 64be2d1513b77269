"""The owner's side of the warden: start, stop and watch programs that never outlive this process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed import warden

STOP_TIMEOUT = 20.0
WARDEN = (sys.executable, "-I", "-S", warden.__file__)


class ProcessError(RuntimeError):
    """A program could not be started, or the warden is gone."""


class Processes:
    """Programs of one plane by name, with their output in ``<directory>/<name>.log``. Safe to use from any thread."""

    def __init__(
        self, directory: Path, warden_command: Sequence[str] = WARDEN, *, errors: Path | None = None
    ) -> None:
        """``warden_command`` speaks the warden's protocol; what it complains about goes to the file ``errors``."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.pids: dict[str, int] = {}
        self._lock = threading.Lock()
        self._asked = 0
        with errors.open("a") if errors else contextlib.nullcontext() as complaints:
            self._warden = subprocess.Popen(
                warden_command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
                text=True,
            )

    @property
    def warden_pid(self) -> int:
        """Process id of the warden."""
        return self._warden.pid

    def log_file(self, name: str) -> Path:
        """File with everything the program has written."""
        return self.directory / f"{name}.log"

    def start(self, name: str, argv: Sequence[str]) -> int:
        """Start a program and return its process id; its output is appended to its log."""
        if name in self.running():
            raise ProcessError(f"{name} is running already")
        reply = self._ask(
            op="start", name=name, argv=list(argv), log=str(self.log_file(name)), cwd=str(self.directory)
        )
        self.pids[name] = int(reply["pid"])
        return self.pids[name]

    def stop(self, name: str, timeout: float = STOP_TIMEOUT) -> int | None:
        """End a program (SIGTERM, after ``timeout`` seconds SIGKILL) and return its exit code, None if not running."""
        code: int | None = self._ask(op="stop", name=name, timeout=timeout)["code"]
        self.pids.pop(name, None)
        return code

    def exit_codes(self) -> dict[str, int | None]:
        """Exit code of every started and not stopped program; None while it runs."""
        codes: dict[str, int | None] = self._ask(op="poll")["codes"]
        return codes

    def running(self) -> set[str]:
        """Names of the programs that run now."""
        return {name for name, code in self.exit_codes().items() if code is None}

    def close(self) -> None:
        """Kill what still runs and end the warden."""
        assert self._warden.stdin is not None
        assert self._warden.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._warden.stdin.close()
        self._warden.wait()
        self._warden.stdout.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._warden.stdin is not None
        assert self._warden.stdout is not None
        with self._lock:
            self._asked += 1
            reply: dict[str, Any] = {}
            try:
                self._warden.stdin.write(json.dumps({**request, "id": self._asked}) + "\n")
                self._warden.stdin.flush()
                # An interrupted call (Ctrl-C) leaves its answer in the pipe.
                while reply.get("id") != self._asked:
                    reply = json.loads(self._warden.stdout.readline())
            except (OSError, ValueError) as error:
                raise ProcessError(f"the testbed's warden is gone: {error}") from error
        if "error" in reply:
            raise ProcessError(f"{request['op']} {request.get('name', '')}: {reply['error']}")
        return reply

"""Where the demo keeps its files, what it remembers between `up` and `down`, and which processes are its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

END_TIMEOUT = 180.0
MARK = "demo-hold"
"""On the command line of the holder, with the directory: a process number alone may have gone to somebody else."""


@dataclass(frozen=True)
class Place:
    """The demo's directory."""

    directory: Path

    @property
    def plane(self) -> Path:
        """The simulated cluster's files."""
        return self.directory / "plane"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def holder_log(self) -> Path:
        return self.logs / "holder.log"

    @property
    def operator_kubeconfig(self) -> Path:
        return self.directory / "operator-kubeconfig.yaml"

    @property
    def operator_config(self) -> Path:
        return self.directory / "operator-config.yaml"

    @property
    def state_file(self) -> Path:
        return self.directory / "demo.json"

    @property
    def holder_file(self) -> Path:
        return self.directory / "holder.json"

    def holder(self) -> int | None:
        """Process id of the living holder of the operator and the engines."""
        try:
            pid = int(json.loads(self.holder_file.read_text())["pid"])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, KeyError):
            return None
        return pid if MARK.encode() in command and str(self.directory).encode() in command else None

    def end_holder(self) -> None:
        """End the operator and the engines; TimeoutError when they do not go."""
        pid = self.holder()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_TIMEOUT
        while self.holder() is not None:
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"process {pid} did not end within {END_TIMEOUT:g} s; see {self.holder_log}"
                )
            time.sleep(0.05)

    def forget(self) -> None:
        """Remove the files of a demo that has ended; its logs stay."""
        for file in (self.state_file, self.holder_file, self.operator_kubeconfig, self.operator_config):
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove everything an earlier demo left here; nothing else in the directory is touched."""
        self.forget()
        for directory in (self.plane, self.logs):
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class State:
    """What a running demo must remember."""

    kubeconfig: str
    """The administrator's."""
    own_cluster: bool
    """The cluster is the user's, not one of ours."""

    @classmethod
    def read(cls, place: Place) -> Self | None:
        try:
            return cls(**json.loads(place.state_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, place: Place) -> None:
        place.state_file.write_text(json.dumps(asdict(self)))

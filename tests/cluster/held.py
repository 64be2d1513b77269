"""The owner's side of the keeper: the programs of one real node, and the way into its namespaces."""

from __future__ import annotations

import dataclasses
import json
import select
import sys
import time
from pathlib import Path

from cluster import keeper
from testbed.cluster import tail
from testbed.gobuild import say
from testbed.processes import ProcessError, Processes

TURN_SECONDS = 1800.0
REPORT_SECONDS = 15.0


class NodeProcesses(Processes):
    """Programs inside the namespaces that a keeper makes. They end, whatever happens, with this process."""

    _running = 0
    _closed = False

    def __init__(self, directory: Path, plan: keeper.Plan) -> None:
        """Return when the namespaces are there; another node of this machine has to end first."""
        if NodeProcesses._running:
            raise ProcessError(
                "this process runs a real node already, and only one can run on a machine; stop it first"
            )
        directory.mkdir(parents=True, exist_ok=True)
        plan_file = directory / "keeper.json"
        plan_file.write_text(json.dumps(dataclasses.asdict(plan), indent=2))
        errors = directory / "keeper.log"
        super().__init__(
            directory, [sys.executable, "-I", "-S", keeper.__file__, str(plan_file)], errors=errors
        )
        NodeProcesses._running += 1
        try:
            self.node_pid = self._await_namespaces()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill everything inside and wait until the keeper has cleaned up. A second call does nothing."""
        if not self._closed:
            self._closed = True
            NodeProcesses._running -= 1
            super().close()

    def _await_namespaces(self) -> int:
        """Process id, outside, of the first process inside."""
        assert self._warden.stdout is not None
        started = time.monotonic()
        while not select.select([self._warden.stdout], [], [], REPORT_SECONDS)[0]:
            waited = time.monotonic() - started
            if waited > TURN_SECONDS:
                raise ProcessError(f"another real node runs on this machine for more than {TURN_SECONDS:g} s")
            say(f"waiting for another real node of this machine to end ({waited:.0f} s)")
        greeting = self._warden.stdout.readline()
        if not greeting:
            self._warden.wait()
            raise ProcessError(
                f"the node's namespaces could not be made:\n{tail(self.log_file('keeper'), 15)}"
            )
        return int(json.loads(greeting)["pid"])

#!/usr/bin/python3
"""`vllm serve MODEL [--host H] [--port P] ...`: the testbed's simulated engine under the real one's name.

Every flag of the real engine is accepted and most are ignored. TESTBED_LOAD, a JSON object with fields of
testbed.vllm_metrics.Load, is the load it reports; TESTBED_LOADING_SECONDS is how long the model takes to load.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping

sys.path.insert(0, "/opt/engine")

from aiohttp import web

from testbed.engine_server import DEFAULT_PORT, Engine, engine_application, flag_values, served_models
from testbed.vllm_metrics import EngineState, Load


class OneEngine(Mapping[tuple[str, int], Engine]):
    """The only engine of this program, whichever address a connection came to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __getitem__(self, address: tuple[str, int]) -> Engine:
        return self.engine

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(())

    def __len__(self) -> int:
        return 1


def main(words: list[str]) -> int:
    """Serve until told to end."""
    if words[:1] != ["serve"]:
        print(f"vllm: only `vllm serve` is simulated, not `vllm {' '.join(words)}`", file=sys.stderr)
        return 2
    load = Load(**json.loads(os.environ.get("TESTBED_LOAD", "{}")))
    models = served_models({"command": ["vllm"], "args": words, "env": environment()})
    host = (flag_values(words, "--host") or ["0.0.0.0"])[0]
    port = int((flag_values(words, "--port") or [str(DEFAULT_PORT)])[0])
    print(f"loading {models[0]} (simulated)", flush=True)
    time.sleep(float(os.environ.get("TESTBED_LOADING_SECONDS", "0")))
    engine = Engine(models, EngineState(time.time(), load))
    print(f"serving {', '.join(models)} on {host}:{port}", flush=True)
    web.run_app(engine_application(OneEngine(engine)), host=host, port=port, print=None, access_log=None)
    return 0


def environment() -> list[dict[str, str]]:
    """Our environment as a pod's specification has it."""
    return [{"name": name, "value": value} for name, value in os.environ.items()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

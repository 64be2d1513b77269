"""What a cluster full of other people's pods costs the operator. Prints, never fails.

    python tests/bench/many_pods.py --pods 20000

No scheduler and no kubelet: pods are created bound to a node and stay as they are, so that what is measured is the
operator's list, its watch and its memory.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import time
from typing import Any

from testbed.plane import ControlPlane
from testbed.product import Operator, install

NODES = 100


def pod(index: int) -> dict[str, Any]:
    """A plain web pod of some 3 kB, as most pods of a cluster are."""
    env = [{"name": f"SETTING_{i}", "value": "x" * 40} for i in range(20)]
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    return {
        "metadata": {"name": f"web-{index}", "labels": {"app": "web", "pod-template-hash": "abcdef"}},
        "spec": {
            "nodeName": f"node-{index % NODES}",
            "automountServiceAccountToken": False,
            "containers": [
                {"name": "web", "image": "registry.example.com/web:1", "env": env, "resources": resources}
            ],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=20_000)
    options = parser.parse_args()
    with ControlPlane.start(scheduler=False, kwok=False) as plane, Operator.start(_ready(plane)) as operator:
        empty = operator.metric("process_resident_memory_bytes")
        mark = operator.metric("process_cpu_seconds_total")
        _create(plane, range(options.pods))
        time.sleep(5)
        used = operator.metric("process_cpu_seconds_total") - mark
        print(f"watch: {used / options.pods * 1e6:.0f} us CPU per added pod, over {options.pods} pods")
        full = operator.metric("process_resident_memory_bytes")
        print(
            f"memory: {empty / 2**20:.0f} MiB without, {full / 2**20:.0f} MiB with them "
            f"= {(full - empty) / options.pods:.0f} bytes per pod"
        )
        operator.stop()
        started = time.monotonic()
        operator.run()
        cpu = operator.metric("process_cpu_seconds_total")
        print(
            f"restart with {options.pods} pods: leads after {time.monotonic() - started:.1f} s, {cpu:.1f} s CPU, "
            f"{operator.metric('process_resident_memory_bytes') / 2**20:.0f} MiB"
        )
        mark = operator.metric("process_cpu_seconds_total")
        time.sleep(20)
        print(f"at rest: {(operator.metric('process_cpu_seconds_total') - mark) / 20 * 100:.2f} % of a core")


def _ready(plane: ControlPlane) -> ControlPlane:
    install(plane)
    plane.add_nodes(*["cpu-only"] * NODES, names=[f"node-{i}" for i in range(NODES)])
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "web"}})
    plane.wait_for(
        lambda: plane.request("GET", "/api/v1/namespaces/web/serviceaccounts/default"),
        20,
        "the ServiceAccount",
    )
    return plane


def _create(plane: ControlPlane, indices: range) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: plane.request("POST", "/api/v1/namespaces/web/pods", pod(i)), indices))


if __name__ == "__main__":
    main()

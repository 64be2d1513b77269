"""What a big cluster full of other people's pods costs the operator. Prints, never fails.

No scheduler and no kubelet: pods are created bound to a node and stay as they are, so that what is measured is the
operator's list, its watch and its memory.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

from testbed.plane import ControlPlane
from testbed.product import GROUP, Operator, install

KINDS = ("mi300x-8", "mi325x-8", "mi355x-8", "mi210-4", "cpu-only")


def pod(index: int, nodes: int) -> dict[str, Any]:
    """A plain web pod of some 3 kB, as most pods of a cluster are."""
    env = [{"name": f"SETTING_{i}", "value": "x" * 40} for i in range(20)]
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    return {
        "metadata": {"name": f"web-{index}", "labels": {"app": "web", "pod-template-hash": "abcdef"}},
        "spec": {
            "nodeName": f"node-{index % nodes}",
            "automountServiceAccountToken": False,
            "containers": [
                {"name": "web", "image": "registry.example.com/web:1", "env": env, "resources": resources}
            ],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=40_000)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--recipes", type=int, default=500, help="recipes beside the shipped ones")
    options = parser.parse_args()
    with (
        ControlPlane.start(scheduler=False, kwok=False) as plane,
        Operator.start(_ready(plane, options.nodes, options.recipes)) as operator,
    ):
        empty = operator.metric("process_resident_memory_bytes")
        mark = operator.metric("process_cpu_seconds_total")
        _create(plane, options.pods, options.nodes)
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


def _ready(plane: ControlPlane, nodes: int, recipes: int) -> ControlPlane:
    install(plane)
    plane.add_nodes(*(KINDS[i % len(KINDS)] for i in range(nodes)), names=[f"node-{i}" for i in range(nodes)])
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "web"}})
    plane.wait_for(
        lambda: plane.request("GET", "/api/v1/namespaces/web/serviceaccounts/default"),
        20,
        "the ServiceAccount",
    )
    _together(lambda i: plane.request("POST", f"{GROUP}/aimrecipes", recipe(i)), recipes)
    return plane


def recipe(index: int) -> dict[str, Any]:
    """A recipe of one of twenty models."""
    hardware = {"gpuModel": ("MI300X", "MI325X", "MI355X", "MI210")[index % 4], "gpuCount": 2 ** (index % 3)}
    return {
        "apiVersion": "aim.engine.amd.com/v1alpha1",
        "kind": "AIMRecipe",
        "metadata": {"name": f"made-{index}"},
        "spec": {"modelID": f"example/model-{index % 20}", "hardware": hardware, "precision": "bf16"},
    }


def _create(plane: ControlPlane, pods: int, nodes: int) -> None:
    _together(lambda i: plane.request("POST", "/api/v1/namespaces/web/pods", pod(i, nodes)), pods)


def _together(act: Callable[[int], Any], count: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(count)))


if __name__ == "__main__":
    main()

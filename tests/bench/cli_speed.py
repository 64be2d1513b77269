"""Speed of the command line: start, a selection, and the reading of a big snapshot. Prints, never fails.

    make bench

Whole processes are timed, with compiled modules, as an installed package has them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from aim_engine.cli import COMMANDS
from aim_engine.cli.snapshot_file import read_snapshot, write_snapshot
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.facts import Place
from aim_engine.reconcile.world import build_world
from aim_engine.selection import CatalogueFacts

REPEATS = 15
PROGRAM = ["-m", "aim_engine"]
PODS = 50_000
MODEL = "Qwen/Qwen3-32B"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        small, big = Path(folder) / "small.yaml", Path(folder) / "big.yaml"
        write(small, nodes=4, pods=40)
        write(big, nodes=5_000, pods=PODS)
        print(f"python alone: {timed(['-c', 'pass']):.0f} ms")
        print(f"--help: {timed([*PROGRAM, '--help']):.0f} ms")
        for command in COMMANDS:
            print(f"{command} --help: {timed([*PROGRAM, command, '--help']):.0f} ms")
        select = [*PROGRAM, "select", MODEL, "--cluster", str(small)]
        print(f"select on a small snapshot, shipped recipes: {timed(select):.0f} ms")
        plain = Path(folder) / "plain.yaml"
        megabytes = write_plain(plain, nodes=400)
        reading = timed([*PROGRAM, "select", MODEL, "--nodes", str(plain)], repeats=3) / 1000
        print(f"select on {megabytes:.0f} MB of kubectl get nodes -o yaml: {reading:.1f} s")
        started = time.perf_counter()
        snapshot = read_snapshot(big, 0.0)
        read = time.perf_counter()
        objects = (each.obj for each in snapshot.objects)
        build_world(objects, snapshot.config, snapshot.facts, snapshot.clock)
        built = time.perf_counter()
        size = big.stat().st_size / 2**20
        print(
            f"snapshot of {PODS} pods on 5000 nodes ({size:.0f} MiB): read in {read - started:.2f} s, "
            f"caches filled in {built - read:.2f} s"
        )


def timed(words: list[str], repeats: int = REPEATS) -> float:
    """Median wall-clock milliseconds of a process, after one that leaves compiled modules behind."""
    times = []
    compiling = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *words], capture_output=True, check=True, env=compiling)
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def write(path: Path, *, nodes: int, pods: int) -> None:
    objects = [("Node", node(i)) for i in range(nodes)] + [("Pod", pod(i, nodes)) for i in range(pods)]
    lines = write_snapshot(
        objects, OperatorConfig(), CatalogueFacts(), [Place(MODEL)], datetime.now(UTC), "0"
    )
    path.write_text("".join(lines))


def write_plain(path: Path, *, nodes: int) -> float:
    """Nodes as kubectl exports them, with the images that real nodes list; returns megabytes."""
    images = [
        {"names": [f"registry.example.com/image@sha256:{i:064}"], "sizeBytes": 10**9} for i in range(300)
    ]
    items = [{"kind": "Node", **node(i)} for i in range(nodes)]
    for item in items:
        item["status"] = {**item["status"], "images": images}
    path.write_text(to_yaml({"apiVersion": "v1", "kind": "List", "items": items}))
    return path.stat().st_size / 1e6


def to_yaml(document: Any) -> str:
    class Whole(yaml.CSafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    text: str = yaml.dump(document, Dumper=Whole)
    return text


def node(index: int) -> dict[str, Any]:
    amounts = {"amd.com/gpu": "8", "cpu": "96", "memory": "1Ti", "pods": "110"}
    return {
        "apiVersion": "v1",
        "metadata": {"name": f"node-{index}", "labels": {"amd.com/gpu.device-id": "74a1", "zone": "a"}},
        "status": {
            "allocatable": amounts, "capacity": amounts, "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip


def pod(index: int, nodes: int) -> dict[str, Any]:
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    return {
        "apiVersion": "v1",
        "metadata": {
            "name": f"web-{index}",
            "namespace": "web",
            "uid": f"00000000-0000-0000-0000-{index:012}",
        },
        "spec": {
            "nodeName": f"node-{index % nodes}",
            "containers": [{"name": "web", "resources": resources}],
        },
        "status": {"phase": "Running"},
    }


if __name__ == "__main__":
    main()

"""The size that the real node claims to have: that of a GPU server, since engines ask for one.

The kubelet counts processors and memory in files of the kernel; it is shown others. Nothing else on the machine sees them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

CPUS = 192
MEMORY_KIB = 2 << 30
"""As the simulated nodes of testbed/nodes.yaml: 2 TiB."""
MEMORY_NODES = "/sys/devices/system/node"
MEMORY_FIELDS = ("MemTotal", "MemFree", "MemAvailable")


def meminfo() -> str:
    """What /proc/meminfo shall say."""
    pattern = rf"(?m)^({'|'.join(MEMORY_FIELDS)}):\s+\d+ kB$"
    return re.sub(pattern, rf"\1: {MEMORY_KIB} kB", Path("/proc/meminfo").read_text())


def write_memory_nodes(directory: Path) -> None:
    """Write what belongs over /sys/devices/system/node, from which the kubelet counts processors.

    It also writes their numbers to cgroups, and so may only know those that there are: the machine's own are repeated in as
    many memory nodes as give the number we want.
    """
    own = sorted(os.sched_getaffinity(0))
    count = max(1, CPUS // len(own))
    for number in range(count):
        node = directory / f"node{number}"
        (node / "hugepages").mkdir(parents=True)
        (node / "meminfo").write_text(f"Node {number} MemTotal: {MEMORY_KIB // count} kB\n")
        (node / "distance").write_text(" ".join(["10"] * count) + "\n")
        for cpu in own:
            topology = node / f"cpu{cpu}" / "topology"
            topology.mkdir(parents=True)
            (topology / "core_id").write_text(f"{cpu}\n")
            (topology / "physical_package_id").write_text("0\n")

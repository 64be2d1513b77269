"""Ends well where a real node can run, else with a last line that says what was refused. Everything it makes ends with it.

Runs with ``python -I -S``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import keeper, namespaces

CGROUP = f"aim-engine-probe-{os.getpid()}"


def main() -> None:
    """Make one of each: cgroups, namespaces, an overlay, a bridge, a veth pair."""
    try:
        for directory in keeper.cgroup_directories(CGROUP):
            directory.mkdir()
    finally:
        keeper.remove_cgroups(CGROUP)
    namespaces.private_mounts()
    namespaces.unshare(namespaces.CLONE_NEWNET)
    with tempfile.TemporaryDirectory() as empty:
        namespaces.lay_over_usr(empty)
    for arguments in (("br0", "type", "bridge"), ("veth0", "type", "veth", "peer", "name", "veth1")):
        if shutil.which("ip"):  # else it comes with our packages
            subprocess.run(["ip", "link", "add", *arguments], check=True)
    namespaces.unshare(namespaces.CLONE_NEWPID)


if __name__ == "__main__":
    main()

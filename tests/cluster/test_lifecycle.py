"""A real node leaves nothing, however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import components, configuration, images, keeper, network
from cluster.real import RealCluster
from testbed.processes import ProcessError

pytestmark = pytest.mark.real_node
TESTS = Path(__file__).parent.parent
PLACES = (
    *(
        "/etc/cni",
        "/etc/containerd",
        "/etc/kubernetes",
        "/opt/cni",
        "/opt/containerd",
        "/run/containerd",
        "/run/cni",
    ),
    *("/run/netns", "/var/lib/cni", "/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet"),
    *("/var/log/containers", "/var/log/pods", "/usr/libexec/kubernetes"),
)
"""Where such programs leave things."""
ENDING_SECONDS = 120.0
TURN_SECONDS = 1800.0
HOLDER = """
import sys, time
from pathlib import Path
from cluster.real import RealCluster
from cluster.test_lifecycle import run_a_pod
cluster = RealCluster.start(Path(sys.argv[1]))
run_a_pod(cluster)
print("up", flush=True)
time.sleep(600)
"""


def run_a_pod(cluster: RealCluster) -> None:
    """A pod with a volume in memory, so that there are containers, cgroups and mounts to leave behind."""
    container = {
        "name": "pause",
        "image": images.pause_image().name,
        "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "held", "namespace": "default"},
        "spec": spec,
    }
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    cluster.wait_for(lambda: cluster.request("GET", account), 240, "the default ServiceAccount")
    cluster.apply(pod)
    cluster.wait_pod("default", "held")


def machine_settings() -> dict[str, str]:
    """The machine-wide settings that kubelets change."""
    paths = {name: Path("/proc/sys", name) for name in (*network.KUBELET_SYSCTLS, "net/ipv4/ip_forward")}
    return {name: path.read_text() for name, path in paths.items() if path.exists()}


def traces() -> dict[str, object]:
    """What a node could leave on the machine."""
    return {
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "places": {place: sorted(os.listdir(place)) for place in PLACES if os.path.isdir(place)},
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "cgroups": [str(path) for path in keeper.cgroup_directories(configuration.CGROUP) if path.exists()],
        "scratch": components.scratch().exists(),
        "settings": machine_settings(),
    }


@contextmanager
def nobody_runs() -> Iterator[None]:
    """No node is there, not even of another checkout on this machine, while the block lasts."""
    deadline = time.monotonic() + TURN_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while True:
            try:
                lock.bind(keeper.LOCK)
                break
            except OSError:
                assert time.monotonic() < deadline, "another node does not end"
                time.sleep(0.05)
        yield


def undisturbed_traces() -> dict[str, object]:
    """What is on the machine when no node runs. The lock is free only when a keeper has cleaned up."""
    with nobody_runs():
        return traces()


def inhabitants(kind: str) -> dict[str, list[int]]:
    """Namespace of a kind -> processes in it."""
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.setdefault(os.readlink(entry / "ns" / kind), []).append(int(entry.name))
            except OSError:
                continue  # it ended, or is not ours to look at
    return found


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for the end of what ends by itself."""
    deadline = time.monotonic() + ENDING_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_stopped_node_leaves_no_process_no_mount_no_cgroup_and_no_changed_setting(tmp_path: Path) -> None:
    before = undisturbed_traces()
    with RealCluster.start(tmp_path / "cluster") as cluster:
        run_a_pod(cluster)
        inside = inhabitants("pid")[os.readlink(f"/proc/{cluster.node_pid}/ns/pid")]
        assert len(inside) > 10
        assert any(path.exists() for path in keeper.cgroup_directories(configuration.CGROUP))
        # The kubelet was shown its settings; the machine kept its own meanwhile, and its mounts and interfaces.
        during = traces()
        assert during["settings"] == before["settings"]
        assert during["mounts"] == before["mounts"]
        assert during["interfaces"] == before["interfaces"]
        shown = cluster.run(
            ["cat", *(f"/proc/sys/{name}" for name in ("kernel/panic", "vm/overcommit_memory"))]
        )
        assert shown.stdout.split() == ["10", "1"]
        own_network = os.readlink(f"/proc/{cluster.node_pid}/ns/net")
        keeper_pid = cluster.pids["keeper"]
    assert not [pid for pid in (*inside, keeper_pid) if Path(f"/proc/{pid}").exists()]
    assert own_network not in inhabitants("net")
    assert undisturbed_traces() == before


def start_holder(directory: Path) -> subprocess.Popen[str]:
    """Another process that runs a node with a pod."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, directory],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "up\n":
        process.kill()
        pytest.fail("the other process could not start a node")
    return process


def test_a_node_whose_owner_is_killed_leaves_nothing(tmp_path: Path) -> None:
    before = undisturbed_traces()
    holder = start_holder(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    inside = inhabitants("pid")[os.readlink(f"/proc/{state['node_pid']}/ns/pid")]
    os.killpg(holder.pid, signal.SIGKILL)
    holder.communicate()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), "processes stay")
    assert undisturbed_traces() == before


def test_what_a_killed_keeper_left_is_removed_by_the_next_node(tmp_path: Path) -> None:
    before = undisturbed_traces()
    first = RealCluster.start(tmp_path / "first")
    try:
        run_a_pod(first)
        inside = inhabitants("pid")[os.readlink(f"/proc/{first.node_pid}/ns/pid")]
        os.kill(first.pids["keeper"], signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), "processes stay")
        assert machine_settings() == before["settings"]
    finally:
        first.stop()
    with RealCluster.start(tmp_path / "second") as second:
        run_a_pod(second)
    assert undisturbed_traces() == before


def test_a_second_node_of_one_process_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    with RealCluster.start(tmp_path / "first"), pytest.raises(ProcessError, match="runs a real node already"):
        RealCluster.start(tmp_path / "second")

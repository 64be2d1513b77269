"""Start and stop a cluster with one real node."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from cluster import claims, components, configuration, images, network
from cluster.held import NodeProcesses
from cluster.host import ensure_host_packages
from cluster.inside import InsideCluster
from cluster.keeper import Plan
from testbed.addresses import Slot
from testbed.certs import write_pki
from testbed.components import Layout, Ports
from testbed.plane import COMPONENT_USERS, ControlPlane
from testbed.processes import Processes

NODE_READY_TIMEOUT = 480.0
IMAGES_IN_MEMORY_KIB = 6 << 20
"""Memory that must be available for keeping images in it; ours need about a sixth of that."""
ON_NODE = ("coredns", "kube-proxy", "kubelet")


class RealCluster(InsideCluster, ControlPlane):
    """A control plane and a node on which containers run, in namespaces of their own. One at a time on a machine.

    Its API server answers on 127.0.0.1 outside, too, with the same port, so ``kubeconfig`` is good on both sides. Everything
    ends with :meth:`stop`, the ``with`` block or this process, and leaves nothing.
    """

    arguments = components.ARGUMENTS
    users: ClassVar[Mapping[str, tuple[str, tuple[str, ...]]]] = {
        **COMPONENT_USERS,
        "kubelet": (f"system:node:{network.NODE}", ("system:nodes",)),
        "kube-proxy": ("system:kube-proxy", ()),
        "coredns": ("testbed-coredns", ("system:masters",)),
    }
    needed: ClassVar[Sequence[str]] = (*ControlPlane.needed, *ON_NODE)

    @classmethod
    def start(
        cls,
        workdir: Path | None = None,
        *,
        scheduler: bool = True,
        controller_manager: bool = True,
        kwok: bool = True,
    ) -> Self:
        """Start and return when the node is Ready, after another real node of this machine, if there is one, has ended.

        Raises HostUnfitError where no real node can run, else as :meth:`testbed.plane.ControlPlane.start`.
        """
        ensure_host_packages()
        images.pause_image()
        return super().start(workdir, scheduler=scheduler, controller_manager=controller_manager, kwok=kwok)

    @classmethod
    def _lay_out(cls, workdir: Path, slot: Slot) -> Layout:
        ports = Ports(*slot.free_ports(6))
        pki = write_pki(workdir / "pki", (network.NODE_ADDRESS, network.API_SERVICE_ADDRESS))
        return Layout(workdir, ports, pki, network.SIMULATED_PODS, network.SERVICES)

    @classmethod
    def _hold_processes(cls, layout: Layout) -> Processes:
        configuration.write(components.node_files(layout), layout, images.pause_image().name)
        return NodeProcesses(layout.workdir / "logs", plan(layout))

    def _start_all(self, followers: list[str]) -> None:
        assert isinstance(self._processes, NodeProcesses)
        self.node_pid = self._processes.node_pid
        files = components.node_files(self.layout)
        self._processes.start("containerd", ["containerd", f"--config={files.file('containerd.toml')}"])
        super()._start_all(followers)
        self.load(images.pause_image())
        for name in ON_NODE:
            self._start_component(name)
        self.wait_for(self.node_ready, NODE_READY_TIMEOUT, "the real node to be Ready")

    def node_ready(self) -> bool:
        """Whether the real node takes pods."""
        node = self.request("GET", f"/api/v1/nodes/{self.node}")
        conditions = {entry["type"]: entry["status"] for entry in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    @property
    def pids(self) -> dict[str, int]:
        """Process ids outside: of the keeper, and of the first process inside, with which everything ends."""
        return {"keeper": self._processes.warden_pid, "node": self.node_pid}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "node_pid": self.node_pid}

    def _end_processes(self) -> None:
        # At once: etcd's data goes with the cluster, and the kernel ends containers, mounts and network as a whole.
        self._processes.close()
        self._slot.release()


def roomy() -> bool:
    """Whether images may be kept in memory, where they are loaded and removed in a fraction of the time."""
    available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return available is not None and int(available[1]) > IMAGES_IN_MEMORY_KIB


def plan(layout: Layout) -> Plan:
    """What the keeper of a cluster has to make."""
    files = components.node_files(layout)
    return Plan(
        usr=str(ensure_host_packages().usr),
        binds={
            str(files.kubelet_root): "/var/lib/kubelet",
            str(files.pod_logs): "/var/log/pods",
            str(files.memory_nodes): claims.MEMORY_NODES,
            str(files.file("resolv-inside.conf")): "/etc/resolv.conf",
        },
        empty=["/run", "/var/lib/cni", "/var/log/containers", *([str(files.images)] if roomy() else [])],
        commands=[list(command) for command in network.SET_UP],
        sysctls=network.SYSCTLS,
        shadows={**configuration.kubelet_settings(), "/proc/meminfo": claims.meminfo()},
        cgroup=configuration.CGROUP,
        scratch=str(files.scratch),
        ports=[
            getattr(layout.ports, name)
            for name in ("etcd", "apiserver", "controller_manager", "scheduler", "kwok")
        ],
    )

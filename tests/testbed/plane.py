"""Start and stop a control plane: etcd, API server, controllers, scheduler and simulated kubelets, all on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from testbed import components, tools
from testbed.addresses import Slot, acquire_slot
from testbed.certs import write_pki
from testbed.cluster import ADMIN, ADMIN_GROUP, Cluster, state_file, tail
from testbed.components import Layout, Ports, answers_ok
from testbed.fault_proxy import FaultProxy
from testbed.processes import STOP_TIMEOUT, ProcessError, Processes

START_TIMEOUT = 240.0
START_ATTEMPTS = 3
APISERVER_STOP_TIMEOUT = 1.0
"""Seconds. With watches open it lingers; killing it is safe, since all state is in etcd."""

COMPONENT_USERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kwok": ("testbed-kwok", (ADMIN_GROUP,)),
    "admin": (ADMIN, (ADMIN_GROUP,)),
}
ARGUMENTS: Mapping[str, Callable[[Layout], list[str]]] = {
    "etcd": components.etcd_arguments,
    "kube-apiserver": components.apiserver_arguments,
    "kube-controller-manager": components.controller_manager_arguments,
    "kube-scheduler": components.scheduler_arguments,
    "kwok": components.kwok_arguments,
}
"""Components by the functions that give their arguments."""


class StartError(RuntimeError):
    """A component did not start; the message ends with its last output."""


class PortTakenError(StartError):
    """Another program took a port between our look and the component's bind."""


class ControlPlane(Cluster):
    """A control plane that this process runs. It ends with :meth:`stop`, the ``with`` block or this process."""

    arguments: ClassVar[Mapping[str, Callable[[Layout], list[str]]]] = ARGUMENTS
    users: ClassVar[Mapping[str, tuple[str, tuple[str, ...]]]] = COMPONENT_USERS
    """Component -> the user (and groups) of the kubeconfig that is written for it."""
    needed: ClassVar[Sequence[str]] = ("etcd", "kube-apiserver", "kubectl")
    """Programs that every start needs."""

    def __init__(self, layout: Layout, slot: Slot, processes: Processes, *, temporary: bool) -> None:
        super().__init__(layout.workdir, f"https://127.0.0.1:{layout.ports.apiserver}")
        self.layout = layout
        self._slot = slot
        self._processes = processes
        self._temporary = temporary
        self._proxies: list[FaultProxy] = []
        self._stopped = False

    @classmethod
    def start(
        cls,
        workdir: Path | None = None,
        *,
        scheduler: bool = True,
        controller_manager: bool = True,
        kwok: bool = True,
    ) -> Self:
        """Start a plane and return when all its components are ready.

        ``workdir`` must not hold a plane already; without it a temporary directory is used and removed at the end
        (unless AIM_TESTBED_KEEP is set). Raises ToolUnavailable, NoFreeAddressesError or StartError.
        """
        optional = {"kube-controller-manager": controller_manager, "kube-scheduler": scheduler, "kwok": kwok}
        followers = [name for name, wanted in optional.items() if wanted]
        tools.ensure((*cls.needed, *followers))
        if workdir and state_file(workdir).exists():
            raise StartError(
                f"{workdir} holds a control plane already; use another directory or stop that one"
            )
        temporary = workdir is None
        directory = (workdir or Path(tempfile.mkdtemp(prefix="aim-testbed-"))).absolute()
        try:
            for _ in range(START_ATTEMPTS - 1):
                with contextlib.suppress(PortTakenError):
                    return cls._launch(directory, followers, temporary=temporary)
            return cls._launch(directory, followers, temporary=temporary)
        except BaseException:
            if temporary:
                remove_temporary(directory)
            raise

    @classmethod
    def _launch(cls, workdir: Path, followers: list[str], *, temporary: bool) -> Self:
        slot = acquire_slot()
        try:
            layout = cls._lay_out(workdir, slot)
            plane = cls(layout, slot, cls._hold_processes(layout), temporary=temporary)
        except BaseException:
            slot.release()
            raise
        try:
            for name, (user, groups) in cls.users.items():
                plane.write_certificate_kubeconfig(layout.component_kubeconfig(name), user, groups)
            plane._start_all(followers)
        except BaseException:
            plane._end_processes()
            shutil.rmtree(workdir / "etcd", ignore_errors=True)
            raise
        plane._write_state()
        return plane

    @classmethod
    def _lay_out(cls, workdir: Path, slot: Slot) -> Layout:
        """Choose addresses and make certificates."""
        ports = Ports(*slot.free_ports(6))
        return Layout(workdir, ports, write_pki(workdir / "pki"), slot.pod_cidr, slot.service_cidr)

    @classmethod
    def _hold_processes(cls, layout: Layout) -> Processes:
        """What will run the components."""
        return Processes(layout.workdir / "logs")

    # Components

    def _start_all(self, followers: list[str]) -> None:
        ports = self.layout.ports
        self._start_component("etcd")
        self._await_component("etcd", lambda: answers_ok(ports.etcd, "/health", tls=False))
        self.start_apiserver()
        for name in followers:
            self._start_component(name)
        for name in followers:
            self._await_follower(name)

    def _await_follower(self, name: str) -> None:
        ports = self.layout.ports
        port = {
            "kube-controller-manager": ports.controller_manager,
            "kube-scheduler": ports.scheduler,
            "kwok": ports.kwok,
        }[name]
        self._await_component(name, lambda: answers_ok(port, "/healthz", tls=name != "kwok"))

    def _start_component(self, name: str) -> None:
        self._processes.start(name, [str(tools.tool(name)), *self.arguments[name](self.layout)])

    def _await_component(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            # In this order: somebody else may answer on a port that ours could not get.
            answers = ready()
            code = self._processes.exit_codes().get(name)
            if answers and code is None:
                return
            if code is not None or time.monotonic() >= deadline:
                log = tail(self._processes.log_file(name), 25)
                kind = PortTakenError if "address already in use" in log else StartError
                problem = "is not ready" if code is None else f"ended with code {code}"
                raise kind(f"{name} {problem}; its last output:\n{log}")
            time.sleep(0.02)

    def start_apiserver(self) -> None:
        """Start the API server on the plane's port and return when it is ready."""
        self._start_component("kube-apiserver")
        port = self.layout.ports.apiserver
        self._await_component("kube-apiserver", lambda: answers_ok(port, "/readyz", tls=True))
        if state_file(self.workdir).exists():
            self._write_state()

    def stop_apiserver(self) -> None:
        """End the API server; etcd and the other components stay and wait for it."""
        self._processes.stop("kube-apiserver", APISERVER_STOP_TIMEOUT)

    def restart_apiserver(self) -> None:
        """End the API server and start it again with all its data."""
        self.stop_apiserver()
        self.start_apiserver()

    def stop_kubelets(self) -> None:
        """Let the simulated kubelets do nothing: scheduled pods stay Pending until a test writes their status."""
        self._processes.stop("kwok")

    def start_kubelets(self) -> None:
        """Let the simulated kubelets work again; pods without a status from a test start now."""
        # New kubelets have a new identity, and would wait for the old ones' leases to expire.
        self.request("DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
        self._start_component("kwok")
        self._await_follower("kwok")
        self._write_state()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running components and of the warden that holds them."""
        return {**self._processes.pids, "warden": self._processes.warden_pid}

    # Faults

    def fault_proxy(self) -> FaultProxy:
        """A new proxy before this API server that can be told to fail; it ends with the plane."""
        proxy = FaultProxy(self.url, self.layout.pki)
        self._proxies.append(proxy)
        return proxy

    # The end

    def _state(self) -> dict[str, Any]:
        """What other processes may want to know."""
        return {
            "pid": os.getpid(),
            "pids": self.pids,
            "url": self.url,
            "kubeconfig": str(self.kubeconfig),
            "workdir": str(self.workdir),
        }

    def _write_state(self) -> None:
        partial = state_file(self.workdir).with_suffix(".partial")
        partial.write_text(json.dumps(self._state(), indent=2))
        partial.replace(state_file(self.workdir))

    def stop(self) -> None:
        """End everything in reverse order of its start. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        for proxy in self._proxies:
            proxy.stop()
        self._end_processes()
        state_file(self.workdir).unlink(missing_ok=True)
        if self._temporary:
            remove_temporary(self.workdir)

    def _end_processes(self) -> None:
        try:
            # Without its warden nothing runs any more: the kernel has ended the components.
            with contextlib.suppress(ProcessError):
                for name in reversed(list(self._processes.pids)):
                    self._processes.stop(
                        name, APISERVER_STOP_TIMEOUT if name == "kube-apiserver" else STOP_TIMEOUT
                    )
        finally:
            self._processes.close()
            self._slot.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def remove_temporary(directory: Path) -> None:
    """Delete a plane's temporary directory, unless the user wants to look into it."""
    if not os.environ.get("AIM_TESTBED_KEEP"):
        shutil.rmtree(directory, ignore_errors=True)

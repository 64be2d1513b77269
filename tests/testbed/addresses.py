"""Loopback addresses and ports of one control plane, so that several run side by side on one machine.

Every plane holds one of 32 *slots*. A slot owns a slice of the pod addresses, a slice of the Service addresses and
a range of ports below the range from which the kernel picks ports by itself, so nothing of one plane can meet another.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

POD_NETWORKS = list(ipaddress.ip_network("127.64.0.0/11").subnets(new_prefix=16))
SERVICE_NETWORKS = list(ipaddress.ip_network("127.96.0.0/11").subnets(new_prefix=16))
SLOTS = len(POD_NETWORKS)
FIRST_PORT = 20000
SINGLE_PORTS = range(12000, FIRST_PORT)
"""Ports of programs beside the planes, below the range of the kernel, too."""
PORTS_PER_SLOT = 200


class NoFreeAddressesError(RuntimeError):
    """All slots are held by running planes, or a slot has no free port left."""


_held: list[socket.socket] = []
"""Locks of the ports that were given away."""


@dataclass
class Slot:
    """The addresses of one plane; they stay ours until :meth:`release` or the end of the process."""

    index: int
    _lock: socket.socket

    @property
    def pod_cidr(self) -> str:
        """Addresses of pods: 127.64.0.0/16 to 127.95.0.0/16."""
        return str(POD_NETWORKS[self.index])

    @property
    def service_cidr(self) -> str:
        """Addresses of Services: 127.96.0.0/16 to 127.127.0.0/16."""
        return str(SERVICE_NETWORKS[self.index])

    def free_ports(self, count: int, avoid: Sequence[int] = ()) -> list[int]:
        """``count`` ports of this slot on which nobody listens now, none of them in ``avoid``."""
        first = FIRST_PORT + self.index * PORTS_PER_SLOT
        free: list[int] = []
        for port in range(first, first + PORTS_PER_SLOT):
            if port not in avoid and is_free(port):
                free.append(port)
                if len(free) == count:
                    return free
        raise NoFreeAddressesError(
            f"ports {first} to {first + PORTS_PER_SLOT - 1} have fewer than {count} free ones"
        )

    def release(self) -> None:
        """Let another plane have the slot."""
        self._lock.close()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now, and that no other test is given as long as this process lives.

    A program takes seconds to start and listen, and a busy machine uses many ports meanwhile.
    """
    for port in SINGLE_PORTS:
        lock = _lock(f"port-{port}")
        if lock is None:
            continue
        _held.append(lock)
        if is_free(port):
            return port
    raise NoFreeAddressesError(f"ports {SINGLE_PORTS.start} to {SINGLE_PORTS.stop - 1} are all taken")


def _lock(name: str) -> socket.socket | None:
    """The lock of a name, held until it is closed or the process ends; None while somebody else holds it.

    An abstract socket: its scope is the network namespace, as is that of loopback addresses, and the kernel frees it.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0aim-engine-testbed-{name}")
    except OSError:
        lock.close()
        return None
    return lock


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:``port`` at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def acquire_slot() -> Slot:
    """Take a free slot. NoFreeAddressesError when all are taken."""
    for index in range(SLOTS):
        lock = _lock(str(index))
        if lock is not None:
            return Slot(index, lock)
    raise NoFreeAddressesError(
        f"{SLOTS} planes are running already; stop one (python -m testbed down --dir DIR)"
    )

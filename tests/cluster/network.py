"""Addresses of the cluster. They exist in the network namespace that the node makes for itself, and nowhere else."""

from __future__ import annotations

NODE = "node1"
NODE_ADDRESS = "10.243.0.1"
NODE_NETWORK_PREFIX = 24
NODE_INTERFACE = "node0"
PODS = "10.244.0.0/24"
SIMULATED_PODS = "10.245.0.0/16"
"""Addresses of pods on simulated nodes: the API takes them, and nobody answers there."""
SERVICES = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
CLUSTER_DOMAIN = "cluster.local"

SET_UP = (
    ("ip", "link", "set", "lo", "up"),
    # Dummy devices are not in every kernel; a bridge without ports does as well.
    ("ip", "link", "add", NODE_INTERFACE, "type", "bridge"),
    ("ip", "address", "add", f"{NODE_ADDRESS}/{NODE_NETWORK_PREFIX}", "dev", NODE_INTERFACE),
    ("ip", "link", "set", NODE_INTERFACE, "up"),
    # Service addresses are reached by a route before they are translated. This one leads nowhere, so that nothing leaves
    # the namespace.
    ("ip", "route", "add", "default", "dev", NODE_INTERFACE),
)
SYSCTLS = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

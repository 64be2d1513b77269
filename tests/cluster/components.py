"""Command lines of the cluster's programs: the testbed's, changed where a real node needs it, and the node's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster import network
from cluster.configuration import NodeFiles
from testbed import components, tools
from testbed.components import Layout


def scratch() -> Path:
    """Where the node keeps what is bulky. In the user cache, since it has to be on a disk that overlays can stand on,
    and always the same, so that the next node finds and removes what a killed one left."""
    return tools.cache_root() / "node"


def node_files(layout: Layout) -> NodeFiles:
    """The node's files of a cluster."""
    return NodeFiles(layout.workdir, scratch())


def changed(arguments: Sequence[str], changes: Mapping[str, str | None]) -> list[str]:
    """``--flag=value`` arguments with flags replaced or added; None removes one."""
    kept = [argument for argument in arguments if argument.partition("=")[0] not in changes]
    return kept + [f"{flag}={value}" for flag, value in changes.items() if value is not None]


def apiserver_arguments(layout: Layout) -> list[str]:
    """Reached by pods through its Service; it reaches kubelets, and webhooks through theirs."""
    files = node_files(layout)
    return changed(
        components.apiserver_arguments(layout),
        {
            "--bind-address": "0.0.0.0",
            "--advertise-address": network.NODE_ADDRESS,
            "--endpoint-reconciler-type": None,
            "--disable-admission-plugins": None,
            "--enable-admission-plugins": "NodeRestriction",
            "--kubelet-certificate-authority": str(layout.pki.ca),
            "--kubelet-client-certificate": str(files.file("kubelet-client.crt")),
            "--kubelet-client-key": str(files.file("kubelet-client.key")),
            "--kubelet-preferred-address-types": "InternalIP",
        },
    )


def controller_manager_arguments(layout: Layout) -> list[str]:
    """With the controllers of endpoints: pods have addresses that may stand there."""
    return components.controller_manager_arguments(layout, components.CLOUD_CONTROLLERS)


def kubelet_arguments(layout: Layout) -> list[str]:
    """The real node's."""
    return [
        f"--config={node_files(layout).file('kubelet.yaml')}",
        f"--kubeconfig={layout.component_kubeconfig('kubelet')}",
        f"--hostname-override={network.NODE}",
        f"--node-ip={network.NODE_ADDRESS}",
    ]


def kube_proxy_arguments(layout: Layout) -> list[str]:
    """The real node's."""
    return [f"--config={node_files(layout).file('kube-proxy.yaml')}"]


def coredns_arguments(layout: Layout) -> list[str]:
    """The cluster's DNS, a process of the node."""
    return [f"-conf={node_files(layout).file('Corefile')}"]


ARGUMENTS: Mapping[str, Callable[[Layout], list[str]]] = {
    "etcd": components.etcd_arguments,
    "kube-apiserver": apiserver_arguments,
    "kube-controller-manager": controller_manager_arguments,
    "kube-scheduler": components.scheduler_arguments,
    "kwok": components.kwok_arguments,
    "coredns": coredns_arguments,
    "kube-proxy": kube_proxy_arguments,
    "kubelet": kubelet_arguments,
}

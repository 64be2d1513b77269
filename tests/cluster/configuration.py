"""Configuration files of what runs on the real node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster import claims, network
from testbed import certs
from testbed.components import Layout

CGROUP = "aim-engine-testbed-node"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_PLUGINS = "/usr/lib/cni"
DNS_READY_PORT = 8181


@dataclass(frozen=True)
class NodeFiles:
    """Where the node keeps what: configuration in the plane's directory, everything bulky in the scratch directory."""

    workdir: Path
    scratch: Path

    @property
    def directory(self) -> Path:
        """Configuration files."""
        return self.workdir / "node"

    def file(self, name: str) -> Path:
        """One configuration file."""
        return self.directory / name

    @property
    def images(self) -> Path:
        """containerd's images and containers."""
        return self.scratch / "containerd"

    @property
    def kubelet_root(self) -> Path:
        """What is /var/lib/kubelet inside."""
        return self.scratch / "kubelet"

    @property
    def memory_nodes(self) -> Path:
        """What is /sys/devices/system/node inside."""
        return self.directory / "memory-nodes"

    @property
    def pod_logs(self) -> Path:
        """What is /var/log/pods inside."""
        return self.scratch / "pod-logs"


def write_certificates(files: NodeFiles, pki: Path) -> None:
    """The kubelet's serving certificate and the API server's client certificate for kubelets."""
    authority = certs.load_authority(pki)
    pairs = {
        "kubelet": certs.server_certificate(authority, (network.NODE, network.NODE_ADDRESS)),
        "kubelet-client": certs.client_certificate(
            authority, "kube-apiserver-kubelet-client", ("system:masters",)
        ),
    }
    for name, pair in pairs.items():
        files.file(f"{name}.crt").write_bytes(pair.certificate_pem)
        files.file(f"{name}.key").touch(mode=0o600)
        files.file(f"{name}.key").write_bytes(pair.key_pem)


def kubelet(files: NodeFiles, client_ca: Path) -> dict[str, Any]:
    """A kubelet that works without systemd, with any cgroup version, in a cgroup of its own."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(client_ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(files.file("kubelet.crt")),
        "tlsPrivateKeyFile": str(files.file("kubelet.key")),
        "rotateCertificates": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [network.NODE_ADDRESS],
        "clusterDomain": network.CLUSTER_DOMAIN,
        "resolvConf": str(files.file("resolv.conf")),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
        # Our images come from no registry: one that is removed would not come back.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
    }


def kubelet_settings() -> dict[str, str]:
    """The machine-wide settings that a kubelet insists on, as files. It is shown them; the machine keeps its own."""
    return {f"/proc/sys/{name}": f"{value}\n" for name, value in network.KUBELET_SYSCTLS.items()}


def kube_proxy(kubeconfig: Path) -> dict[str, Any]:
    """Services by iptables, without touching the machine's connection tracking limits."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": network.PODS,
        "hostnameOverride": network.NODE,
        "iptables": {"minSyncPeriod": "100ms"},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
        },
    }


def containerd(files: NodeFiles, pause: str) -> str:
    """containerd 1.6 or later, without a registry and without AppArmor."""
    return f"""
version = 2
root = "{files.images}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "{files.scratch}/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
# Without CAP_SYS_RESOURCE, as in many containers, runc could not set the scores that kubelet asks for.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{files.directory}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
SystemdCgroup = false
"""


def pod_network() -> dict[str, Any]:
    """A bridge with our pods' addresses, and ports of the node."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": network.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {**bridge, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def corefile(kubeconfig: Path) -> str:
    """Names of the cluster. Every other name is refused at once, as there is no outside."""
    return f""".:53 {{
    bind {network.NODE_ADDRESS}
    errors
    ready 127.0.0.1:{DNS_READY_PORT}
    kubernetes {network.CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 5
    }}
}}
"""


def resolv_conf(*search: str) -> str:
    """Ask our DNS."""
    return f"nameserver {network.NODE_ADDRESS}\n" + (f"search {' '.join(search)}\n" if search else "")


def write(files: NodeFiles, layout: Layout, pause: str) -> None:
    """Write everything that kubelet, kube-proxy, containerd and CoreDNS read."""
    (files.directory / "cni").mkdir(parents=True, exist_ok=True)
    claims.write_memory_nodes(files.memory_nodes)
    write_certificates(files, layout.pki.ca.parent)
    texts = {
        "kubelet.yaml": yaml.safe_dump(kubelet(files, layout.pki.ca), sort_keys=False),
        "kube-proxy.yaml": yaml.safe_dump(
            kube_proxy(layout.component_kubeconfig("kube-proxy")), sort_keys=False
        ),
        "containerd.toml": containerd(files, pause),
        "cni/pods.conflist": json.dumps(pod_network(), indent=2),
        "Corefile": corefile(layout.component_kubeconfig("coredns")),
        "resolv.conf": resolv_conf(),
        "resolv-inside.conf": resolv_conf(f"svc.{network.CLUSTER_DOMAIN}", network.CLUSTER_DOMAIN),
    }
    for name, text in texts.items():
        files.file(name).write_text(text)

"""Working with a cluster that has a real node: commands inside its network, images, GPUs, simulated nodes, volumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster import components, network
from cluster.commands import CommandCluster
from cluster.images import Image
from testbed.cluster import state_file
from testbed.nodes import GPU_RESOURCE, gpu_labels

GPU_TAINT = {"key": GPU_RESOURCE, "value": "present", "effect": "NoSchedule"}
CONTAINERD_NAMESPACE = "k8s.io"
JSON_PATCH = "application/json-patch+json"


class InsideCluster(CommandCluster):
    """A cluster with a real node, whichever process started it. Commands run on the node, as administrator.

    There they see the machine's files and reach pods, Services and their names (``http://NAME.NAMESPACE.svc:PORT/``); ports of
    ``localhost`` are the node's.
    """

    node = network.NODE
    node_pid: int
    """Process id of the first process of the node's namespaces."""

    @classmethod
    def open(cls, workdir: Path) -> InsideCluster:
        """The cluster that another process runs in ``workdir``."""
        state = json.loads(state_file(workdir).read_text())
        cluster = InsideCluster(workdir, state["url"])
        cluster.node_pid = int(state["node_pid"])
        return cluster

    def enter(self, directory: Path) -> list[str]:
        """Into the node's namespaces, with which the command ends."""
        target = [f"--target={self.node_pid}", "--net", "--mount", "--pid"]
        return ["nsenter", *target, "--", *super().enter(directory)]

    def load(self, image: Image, *names: str) -> str:
        """Put an image on the node, also under other ``names`` that manifests may use, and return its own name.

        Pods need a pull policy other than Always, which is the default of the tag ``latest``.
        """
        ctr = ["ctr", f"--namespace={CONTAINERD_NAMESPACE}", "images"]
        self.run([*ctr, "import", image.archive])
        for name in names:
            self.run([*ctr, "tag", "--force", image.name, full_name(name)])
        return image.name

    def add_nodes(self, *kinds: str, names: Sequence[str] | None = None, **overrides: Any) -> list[str]:
        """Create simulated nodes beside the real one, see :meth:`testbed.cluster.Cluster.add_nodes`.

        They carry the usual taint of GPU nodes, which engine pods tolerate, so that every other pod runs on the real node.
        """
        return super().add_nodes(*kinds, names=names, **{"taints": [GPU_TAINT], **overrides})

    def set_gpus(self, count: int, *, model: str = "mi300x", partition: str | None = None) -> None:
        """Let the real node have so many GPUs of a model of testbed/nodes.yaml, as labeller and device plugin would say.

        Pods that ask for them run there, without devices. 0 takes them away again.
        """
        group = {"model": model, "count": count, **({"partition": partition} if partition else {})}
        labels: dict[str, str | None] = dict.fromkeys(self._gpu_labels())
        labels |= gpu_labels([group]) if count else {}
        path = f"/api/v1/nodes/{self.node}"
        self.request("PATCH", path, {"metadata": {"labels": labels}})
        changes = [
            {"op": "add", "path": f"/status/{kind}/{GPU_RESOURCE.replace('/', '~1')}", "value": str(count)}
            for kind in ("capacity", "allocatable")
        ]
        self.request("PATCH", f"{path}/status", changes, content_type=JSON_PATCH)

    def _gpu_labels(self) -> list[str]:
        found = self.request("GET", f"/api/v1/nodes/{self.node}")["metadata"]["labels"]
        return [name for name in found if name.startswith((f"{GPU_RESOURCE}.", f"beta.{GPU_RESOURCE}."))]

    def add_volume(self, name: str, size: str = "1Gi", storage_class: str = "") -> Path:
        """Create a PersistentVolume on the real node, writable by everybody, and return its directory.

        There is no StorageClass and no provisioner: a claim is bound when it asks for no class, or the same one, and no more.
        """
        directory = components.scratch() / "volumes" / name
        directory.mkdir(parents=True)
        directory.chmod(0o777)  # kubelet does not change the owner of such a volume
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name},
                "spec": {
                    "capacity": {"storage": size},
                    "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
                    "storageClassName": storage_class,
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": str(directory)},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
                },
            }
        )
        return directory


def full_name(name: str) -> str:
    """An image's name as the runtime completes it: Docker's registry unless another is named, ``latest`` without a tag."""
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"

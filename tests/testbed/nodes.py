"""Simulated nodes as plain objects: what an AMD GPU node looks like to the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from testbed.tools import module_version

CATALOGUE = Path(__file__).with_name("nodes.yaml")
GPU_RESOURCE = "amd.com/gpu"
SIMULATED = {"kwok.x-k8s.io/node": "fake"}
"""The annotation by which the simulator takes a node as its own; a node without it has no kubelet."""


@cache
def catalogue() -> dict[str, Any]:
    """The parsed nodes.yaml: ``defaults``, ``models`` and ``kinds``."""
    loaded: dict[str, Any] = yaml.safe_load(CATALOGUE.read_text())
    return loaded


def kinds() -> list[str]:
    """Names that :func:`make_node` accepts."""
    return list(catalogue()["kinds"])


def gpu_properties(group: Mapping[str, Any]) -> dict[str, str]:
    """What the labeller finds out about a group of equal GPUs: label kind -> value."""
    model = catalogue()["models"][group["model"]]
    partitionable = str(model["partitionable"]).lower()
    properties = {
        "device-id": str(model["device-id"]),
        "product-name": model["product-name"],
        "vram": model["vram"],
        "family": "AI",
        "cu-count": str(model["cu-count"]),
        "simd-count": str(4 * model["cu-count"]),
        "driver-version": "6.16.6",
        "compute-partitioning-supported": partitionable,
        "memory-partitioning-supported": partitionable,
    }
    if "partition" in group:
        properties["compute-memory-partition"] = group["partition"]
    return properties


def gpu_labels(groups: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Labels as the AMD node labeller writes them.

    A property that all GPUs share gives the plain labels ``amd.com/gpu.KIND`` and ``beta.amd.com/gpu.KIND`` and the
    counted beta label; one that differs gives counted labels ``KIND.VALUE = COUNT`` only.
    """
    counts: dict[str, dict[str, int]] = {}
    for group in groups:
        for kind, value in gpu_properties(group).items():
            values = counts.setdefault(kind, {})
            values[value] = values.get(value, 0) + group["count"]
    labels: dict[str, str] = {}
    for kind, values in counts.items():
        for value, count in values.items():
            labels[f"beta.amd.com/gpu.{kind}.{value}"] = str(count)
            if len(values) == 1:
                labels[f"amd.com/gpu.{kind}"] = value
                labels[f"beta.amd.com/gpu.{kind}"] = value
            else:
                labels[f"amd.com/gpu.{kind}.{value}"] = str(count)
    return labels


def gpu_resources(groups: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Extended resources as the AMD device plugin advertises them."""
    totals: dict[str, int] = {}
    for group in groups:
        resource = group.get("resource", GPU_RESOURCE)
        totals[resource] = totals.get(resource, 0) + group["count"]
    return {resource: str(total) for resource, total in totals.items()}


def ready_conditions() -> list[dict[str, str]]:
    """Conditions of a healthy node."""
    healthy = {
        "Ready": ("True", "KubeletReady"),
        "MemoryPressure": ("False", "KubeletHasSufficientMemory"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID"),
    }
    return [{"type": kind, "status": status, "reason": reason} for kind, (status, reason) in healthy.items()]


def make_node(
    kind: str,
    name: str,
    *,
    labels: Mapping[str, str | None] | None = None,
    annotations: Mapping[str, str | None] | None = None,
    allocatable: Mapping[str, str] | None = None,
    taints: Iterable[Mapping[str, str]] = (),
    unschedulable: bool = False,
    ready: bool = True,
) -> dict[str, Any]:
    """A Node object of a kind of the catalogue, with a status that the API keeps when it is created.

    ``labels`` and ``annotations`` are merged in, None removes one. ``allocatable`` overrides amounts that can be
    given out, for example fewer GPUs than the capacity when some are unhealthy. ``ready=False`` makes a node that no
    kubelet serves. Raises KeyError for an unknown kind.
    """
    known = catalogue()
    if kind not in known["kinds"]:
        raise KeyError(f"unknown kind of node {kind!r}; known: {', '.join(kinds())}")
    spec = known["defaults"] | known["kinds"][kind]
    capacity = {
        "cpu": str(spec["cpu"]),
        "memory": spec["memory"],
        "ephemeral-storage": spec["ephemeralStorage"],
        "pods": str(spec["pods"]),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        **gpu_resources(spec["gpus"]),
    }
    base_labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        **gpu_labels(spec["gpus"]),
    }
    conditions = ready_conditions()
    if not ready:
        conditions[0] |= {"status": "False", "reason": "KubeletNotReady"}
    node_spec: dict[str, Any] = {"taints": [dict(taint) for taint in taints]} if taints else {}
    if unschedulable:
        node_spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": _merged(base_labels, labels),
            "annotations": _merged(SIMULATED if ready else {}, annotations),
        },
        "spec": node_spec,
        "status": {
            "capacity": capacity,
            "allocatable": capacity | dict(allocatable or {}),
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "osImage": "Ubuntu 24.04 LTS",
                "kernelVersion": "6.8.0-generic",
                "kubeletVersion": module_version("kubernetes", "k8s.io/kubernetes"),
                "kubeProxyVersion": "",
                "containerRuntimeVersion": "containerd://2.1.4",
                "bootID": "",
                "machineID": "",
                "systemUUID": "",
            },
        },
    }


def _merged(base: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    return {key: value for key, value in {**base, **(changes or {})}.items() if value is not None}

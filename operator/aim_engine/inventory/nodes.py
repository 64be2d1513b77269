"""Node objects -> facts about their GPUs. Never raises: what cannot be read becomes a note in `problems`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.deployment import Toleration
from aim_engine.catalog.gpus import GPU, gpu_by_device_id, gpu_by_product_name, gpu_catalog
from aim_engine.inventory.quantities import CPU, MEMORY, amount, items, mapping

AMD_DOMAIN = "amd.com/"
GPU_RESOURCE = "amd.com/gpu"
GPU_TAINT = "amd.com/gpu"
WHOLE_GPUS = "spx_nps1"
LABEL_PREFIXES = ("amd.com/gpu.", "beta.amd.com/gpu.")
PARTITION_LABELS = (
    "amd.com/gpu.compute-memory-partition",
    "beta.amd.com/gpu.compute-memory-partition",
    "amd.com/compute-memory-partition",
)
NFD_PREFIX = "feature.node.kubernetes.io/amd-gpu-"
_PARTITION = re.compile(r"^(spx|dpx|tpx|qpx|cpx)_nps[1248]$")
_BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint that keeps pods off a node unless they tolerate it."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, slots=True)
class GPUGroup:
    """GPUs of one node that share an extended resource name."""

    gpu_model: str | None
    """None when the node's GPUs could not be recognised."""
    partition: str | None
    """None for whole GPUs."""
    resource: str
    capacity: int
    allocatable: int
    """Less than `capacity` when the device plugin reports unhealthy GPUs."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node offers, before anything is subtracted."""

    name: str
    labels: Mapping[str, str]
    gpu_model: str | None
    device_id: str | None
    groups: tuple[GPUGroup, ...]
    """Empty for a node without AMD GPUs."""
    cpu_milli: int
    memory_bytes: int
    max_pods: int
    ready: bool
    unschedulable: bool
    deleting: bool
    taints: tuple[Taint, ...]
    """Only taints that block scheduling."""
    problems: tuple[str, ...]


def read_node(obj: Mapping[str, Any], gpu_models: Mapping[str, str] | None = None) -> NodeFacts:
    """Facts of a Node object; `gpu_models` is the admin's map from `label=value` to a GPU model."""
    metadata, spec, status = (mapping(obj.get(part)) for part in ("metadata", "spec", "status"))
    labels = {str(key): str(value) for key, value in mapping(metadata.get("labels")).items()}
    problems: list[str] = []
    allocatable = mapping(status.get("allocatable"))
    capacity = mapping(status.get("capacity"))
    resources = sorted(
        name for name in {**capacity, **allocatable} if _partition_of_resource(name) is not None
    )
    model, device_id = _gpu_model(labels, gpu_models or {}, problems) if resources else (None, None)
    partition = _partition_of_labels(labels, problems) if resources else None
    groups = tuple(
        GPUGroup(
            gpu_model=model,
            partition=partition if name == GPU_RESOURCE else whole_partition(_partition_of_resource(name)),
            resource=name,
            capacity=amount(name, capacity.get(name, allocatable.get(name)), problems),
            allocatable=amount(name, allocatable.get(name, 0), problems),
        )
        for name in resources
    )
    return NodeFacts(
        name=str(metadata.get("name", "")),
        labels=labels,
        gpu_model=model,
        device_id=device_id,
        groups=tuple(group for group in groups if group.capacity or group.allocatable),
        cpu_milli=amount(CPU, allocatable.get(CPU, 0), problems),
        memory_bytes=amount(MEMORY, allocatable.get(MEMORY, 0), problems),
        max_pods=amount("pods", allocatable.get("pods", 110), problems),
        ready=any(
            c.get("type") == "Ready" and c.get("status") == "True" for c in items(status.get("conditions"))
        ),
        unschedulable=spec.get("unschedulable") is True,
        deleting=metadata.get("deletionTimestamp") is not None,
        taints=tuple(_taints(spec)),
        problems=tuple(problems),
    )


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether pods with these tolerations may run beside the taint. The GPU taint is tolerated always."""
    return taint.key == GPU_TAINT or any(_matches(toleration, taint) for toleration in tolerations)


def whole_partition(partition: str | None) -> str | None:
    """A partition name in one spelling: None for whole GPUs, however they are written."""
    lowered = partition.lower() if partition else None
    return None if lowered == WHOLE_GPUS else lowered


def _matches(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect not in (None, taint.effect):
        return False
    exists = toleration.operator == "Exists"
    if not toleration.key:
        return exists
    return toleration.key == taint.key and (exists or (toleration.value or "") == taint.value)


def _taints(spec: Mapping[str, Any]) -> Iterator[Taint]:
    for entry in items(spec.get("taints")):
        effect = str(entry.get("effect", ""))
        if effect in _BLOCKING_EFFECTS:
            yield Taint(str(entry.get("key", "")), str(entry.get("value") or ""), effect)


def _partition_of_resource(name: str) -> str | None:
    """Partition that an extended resource name stands for; None when it does not count AMD GPUs."""
    if name == GPU_RESOURCE:
        return WHOLE_GPUS
    suffix = name.removeprefix(AMD_DOMAIN)
    return suffix if suffix != name and _PARTITION.match(suffix) else None


def _partition_of_labels(labels: Mapping[str, str], problems: list[str]) -> str | None:
    for label in PARTITION_LABELS:
        if value := labels.get(label):
            if not _PARTITION.match(value.lower()):
                problems.append(
                    f"partition mode '{value}' (label {label}) is unknown; no recipe is placed on these GPUs"
                )
            return whole_partition(value)
    return None


def _gpu_model(
    labels: Mapping[str, str], gpu_models: Mapping[str, str], problems: list[str]
) -> tuple[str | None, str | None]:
    """(GPU model, device id), from the most exact kind of label to the least."""
    ids = _values(labels, "device-id")
    names = _values(labels, "product-name")
    for kind, values, lookup in (
        ("device id", ids, gpu_by_device_id),
        ("product name", names, gpu_by_product_name),
    ):
        found: dict[str, GPU | None] = {value: lookup(value) for value in values}
        models = {gpu.model if gpu else None for gpu in found.values()}
        if len(models) > 1:
            problems.append(
                f"GPUs of several kinds share one resource name ({kind}s {', '.join(values)}); no recipe is placed on this node"
            )
            return None, None
        if models and (model := models.pop()):
            return model, ids[0] if ids else None
        if values:
            problems.append(f"{kind} '{values[0]}' is unknown to the catalogue")
    model = _nfd_model(labels) or next(
        (
            name
            for pair, name in gpu_models.items()
            if labels.get(pair.partition("=")[0]) == pair.partition("=")[2]
        ),
        None,
    )
    if model is None and not ids and not names:
        problems.append(
            f"no label tells the GPU model; run AMD's node labeller (label {LABEL_PREFIXES[0]}device-id)"
        )
    return model, ids[0] if ids else None


def _values(labels: Mapping[str, str], kind: str) -> tuple[str, ...]:
    """Values of one kind of label: the plain form when there is one, else all counted forms above zero."""
    for prefix in LABEL_PREFIXES:
        if value := labels.get(prefix + kind):
            return (value,)
    counted = {
        label[len(prefix) + len(kind) + 1 :]
        for prefix in LABEL_PREFIXES
        for label, count in labels.items()
        if label.startswith(f"{prefix}{kind}.") and count != "0"
    }
    return tuple(sorted(value for value in counted if value))


def _nfd_model(labels: Mapping[str, str]) -> str | None:
    return next((model for model in gpu_catalog() if labels.get(NFD_PREFIX + model.lower()) == "true"), None)

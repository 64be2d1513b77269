"""Node objects -> facts about their GPUs. Never raises: what cannot be read becomes a note in `problems`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.deployment import Toleration
from aim_engine.catalog.gpus import (
    WHOLE_GPUS,
    gpu_by_device_id,
    gpu_by_product_name,
    gpu_catalog,
    whole_partition,
)
from aim_engine.inventory.labels import (
    DEVICE_ID,
    DOCUMENTED_PARTITION_LABEL,
    LABEL_PREFIXES,
    PARTITION_LABEL,
    PRODUCT_NAME_LABEL,
    admin_label,
    nfd_label,
    product_name_values,
)
from aim_engine.inventory.quantities import CPU, MEMORY, amount, items, mapping

AMD_DOMAIN = "amd.com/"
GPU_RESOURCE = "amd.com/gpu"
GPU_TAINT = "amd.com/gpu"
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
    for label in (PARTITION_LABEL, DOCUMENTED_PARTITION_LABEL):
        if value := labels.get(label):
            if not _PARTITION.match(value):
                problems.append(
                    f"partition mode '{value}' (label {label}) is unknown; no recipe is placed on these GPUs"
                )
                return value
            return whole_partition(value)
    return None


def _gpu_model(
    labels: Mapping[str, str], gpu_models: Mapping[str, str], problems: list[str]
) -> tuple[str | None, str | None]:
    """(GPU model, device id), from the most exact kind of label to the least."""
    ids = _device_ids(labels)
    models = {_model_of_device_id(device_id) for device_id in ids}
    if len(models) > 1:
        problems.append(
            f"GPUs of several kinds share one resource name (device ids {', '.join(ids)}); no recipe is placed on this node"
        )
        return None, None
    device_id = ids[0] if ids else None
    if models and (model := models.pop()):
        return model, device_id
    if ids:
        problems.append(
            f"device id '{device_id}' is unknown to the catalogue; map a label of the node with engine.gpuLabels, or update the operator"
        )
    model = (
        _model_of_product_name(labels, problems)
        or _model_of_nfd(labels)
        or _model_of_admin(labels, gpu_models)
    )
    if model is None and not problems:
        problems.append(
            f"no label tells the GPU model; run AMD's node labeller (label {LABEL_PREFIXES[0]}{DEVICE_ID})"
        )
    return model, device_id


def _model_of_device_id(device_id: str) -> str | None:
    gpu = gpu_by_device_id(device_id)
    return gpu.model if gpu and device_id in gpu.device_ids else None


def _device_ids(labels: Mapping[str, str]) -> tuple[str, ...]:
    """The plain label's id when there is one (all GPUs alike), else the ids of all counted labels."""
    for prefix in LABEL_PREFIXES:
        if value := labels.get(prefix + DEVICE_ID):
            return (value,)
    counted = {
        label[len(start) :]
        for start in (f"{prefix}{DEVICE_ID}." for prefix in LABEL_PREFIXES)
        for label in labels
        if label.startswith(start)
    }
    return tuple(sorted(value for value in counted if value))


def _model_of_product_name(labels: Mapping[str, str], problems: list[str]) -> str | None:
    name = labels.get(PRODUCT_NAME_LABEL)
    if not name:
        return None
    gpu = gpu_by_product_name(name)
    if gpu is None:
        problems.append(
            f"product name '{name}' is unknown to the catalogue; map a label of the node with engine.gpuLabels, or update the operator"
        )
        return None
    if name not in product_name_values(gpu):
        problems.append(
            f"product name '{name}' is a spelling of {gpu.model} that pods cannot select; add a label to the operator's GPU label map"
        )
        return None
    return gpu.model


def _model_of_nfd(labels: Mapping[str, str]) -> str | None:
    return next((model for model in gpu_catalog() if labels.get(nfd_label(model)) == "true"), None)


def _model_of_admin(labels: Mapping[str, str], gpu_models: Mapping[str, str]) -> str | None:
    for pair, model in gpu_models.items():
        label, value = admin_label(pair)
        if labels.get(label) == value:
            return model
    return None

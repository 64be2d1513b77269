"""Node affinity that selects exactly one GPU model in one partition mode, whichever way its nodes are labelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.catalog.gpus import GPU, WHOLE_GPUS, whole_partition
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
from aim_engine.inventory.nodes import GPU_RESOURCE

Expression = dict[str, Any]


def node_affinity(
    gpu: GPU, partition: str | None, resource: str, gpu_labels: Mapping[str, str]
) -> dict[str, Any]:
    """Required terms, one per form of label and state of partitioning. Terms are alternatives.

    A node whose GPUs are of several models carries the counted label of each and cannot be told apart here;
    the inventory never counts such a node, and its administrator should taint it.
    """
    terms = [
        {"matchExpressions": [model, *state]}
        for model in _model_expressions(gpu, gpu_labels)
        for state in _partition_states(gpu, partition, resource)
    ]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _model_expressions(gpu: GPU, gpu_labels: Mapping[str, str]) -> list[Expression]:
    device_ids = sorted(gpu.device_ids)
    expressions = [_in(prefix + DEVICE_ID, *device_ids) for prefix in LABEL_PREFIXES if device_ids]
    expressions += [
        _exists(f"{prefix}{DEVICE_ID}.{value}") for prefix in LABEL_PREFIXES for value in device_ids
    ]
    expressions.append(_in(PRODUCT_NAME_LABEL, *sorted(product_name_values(gpu))))
    expressions.append(_in(nfd_label(gpu.model), "true"))
    expressions += [
        _in(*admin_label(pair)) for pair, model in sorted(gpu_labels.items()) if model == gpu.model
    ]
    return expressions


def _partition_states(gpu: GPU, partition: str | None, resource: str) -> list[list[Expression]]:
    """Under the mixed strategy the resource name itself tells the partition, and old GPUs have none."""
    if resource != GPU_RESOURCE:
        return [[]]
    asked = whole_partition(partition)
    if asked is not None:
        return [[_in(PARTITION_LABEL, asked)], [_in(DOCUMENTED_PARTITION_LABEL, asked)]]
    if len(gpu.partitions) <= 1:
        return [[]]
    return [[{"key": PARTITION_LABEL, "operator": "DoesNotExist"}], [_in(PARTITION_LABEL, WHOLE_GPUS)]]


def _in(key: str, *values: str) -> Expression:
    return {"key": key, "operator": "In", "values": list(values)}


def _exists(key: str) -> Expression:
    return {"key": key, "operator": "Exists"}

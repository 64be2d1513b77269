"""AMD GPU models: how to recognise them and what they can hold and run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from aim_engine.api.enums import Precision
from aim_engine.catalog.data import read_yaml

GIB = 2**30
_TERA = 10**12


@dataclass(frozen=True, slots=True)
class GPU:
    """One GPU as Kubernetes counts it: for MI250 and MI250X that is one of the module's two dies."""

    model: str
    architecture: str
    device_ids: tuple[str, ...]
    product_names: tuple[str, ...]
    vram_bytes: int
    memory_bandwidth_bytes_per_s: float
    tflops: Mapping[Precision, float]
    """Dense peak per precision; a precision without a published figure is absent."""
    hardware_precisions: frozenset[Precision]
    runnable_precisions: frozenset[Precision]
    """What an engine can serve: `hardware_precisions` and formats that are dequantised while computing."""
    refused_kv_cache_precisions: frozenset[Precision]
    """Formats that no kernel of the architecture reads a KV cache in."""
    gpus_per_node: int
    """Of a usual board."""
    most_gpus_per_node: int
    """Of the largest node there is."""
    generation: int
    """Orders GPU models from the oldest and smallest to the newest and largest."""
    partitions: Mapping[str, int]
    """Compute partition mode (`spx`, `cpx`, ...) to the number of devices one GPU is cut into."""
    source: str


@cache
def gpu_catalog() -> Mapping[str, GPU]:
    """All known GPU models by name."""
    content = read_yaml("gpus.yaml")
    architectures = content["architectures"]
    gpus = (_gpu(row, architectures[row["architecture"]]) for row in content["gpus"])
    return MappingProxyType({gpu.model: gpu for gpu in gpus})


def gpu_by_device_id(device_id: str) -> GPU | None:
    """GPU of a PCI device id as the node labeller writes it (`74a1`), in any case, with or without `0x`."""
    return _by_device_id().get(device_id.strip().lower().removeprefix("0x"))


def gpu_by_product_name(name: str) -> GPU | None:
    """GPU named by a product name in any spelling (`AMD_Instinct_MI300X_OAM`, `AMD Instinct MI300X`)."""
    tokens = name.upper().replace("_", " ").replace("-", " ").split()
    return next((gpu for token in tokens if (gpu := _by_product_name().get(token))), None)


WHOLE_GPUS = "spx_nps1"


def whole_partition(partition: str | None) -> str | None:
    """A partition name in one spelling: None for whole GPUs, however they are written."""
    lowered = partition.lower() if partition else None
    return None if lowered == WHOLE_GPUS else lowered


def devices(count: int, gpu_model: str, partition: str | None) -> str:
    """The GPUs of one replica in one word: `4xMI300X`, or `8xMI300X/cpx_nps4` of partitions."""
    mode = whole_partition(partition)
    return f"{count}x{gpu_model}" + (f"/{mode}" if mode else "")


def partition_divisor(gpu: GPU, partition: str | None) -> int | None:
    """Devices one GPU is cut into under a partition such as `cpx_nps4`; None for a mode the GPU lacks."""
    if partition is None:
        return 1
    return gpu.partitions.get(partition.lower().split("_", 1)[0])


def partition_vram_bytes(gpu: GPU, partition: str | None) -> int | None:
    """Memory of one schedulable device; None for a partition mode the GPU does not have."""
    divisor = partition_divisor(gpu, partition)
    return None if divisor is None else gpu.vram_bytes // divisor


def most_devices(gpu: GPU, partition: str | None) -> int:
    """Schedulable devices of the largest node there is: of partitioned GPUs, each partition counts."""
    return gpu.most_gpus_per_node * (partition_divisor(gpu, partition) or 1)


@cache
def _by_device_id() -> Mapping[str, GPU]:
    return {device_id: gpu for gpu in gpu_catalog().values() for device_id in gpu.device_ids}


@cache
def _by_product_name() -> Mapping[str, GPU]:
    return {name: gpu for gpu in gpu_catalog().values() for name in gpu.product_names}


def _gpu(row: dict[str, Any], architecture: dict[str, Any]) -> GPU:
    hardware = frozenset(Precision(name) for name in architecture["hardwarePrecisions"])
    emulated = frozenset(Precision(name) for name in architecture["emulatedPrecisions"])
    return GPU(
        model=row["model"],
        architecture=row["architecture"],
        device_ids=tuple(row["deviceIDs"]),
        product_names=tuple(row["productNames"]),
        vram_bytes=row["vramGiB"] * GIB,
        memory_bandwidth_bytes_per_s=row["memoryBandwidthTBps"] * _TERA,
        tflops=MappingProxyType({Precision(name): float(value) for name, value in row["tflops"].items()}),
        hardware_precisions=hardware,
        runnable_precisions=hardware | emulated,
        refused_kv_cache_precisions=frozenset(
            Precision(name) for name in architecture.get("refusedKVCachePrecisions", ())
        ),
        gpus_per_node=row["gpusPerNode"],
        most_gpus_per_node=row.get("mostGPUsPerNode", row["gpusPerNode"]),
        generation=row["generation"],
        partitions=MappingProxyType(dict(row["partitions"])),
        source=row["source"],
    )

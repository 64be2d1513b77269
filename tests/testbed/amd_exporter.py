"""A stand-in of AMD's device metrics exporter: the GPUs of all nodes, with the load that their pods' engines report.

Names, labels and units are those of ROCm/device-metrics-exporter 1.5 (docs/configuration/metricslist.md): power in
watts, memory in MB, activity in percent; `pod`, `namespace` and `container` are empty for a GPU nobody holds. One page
tells of all nodes, which the real one, a DaemonSet, does node by node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

IDLE_WATTS, BUSY_WATTS = 140.0, 720.0
AMBIENT, HEATING = 38.0, 42.0


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, and the container that holds it ("" for none)."""

    hostname: str
    gpu_id: int
    model: str
    vram_mb: int
    namespace: str = ""
    pod: str = ""
    activity: float = 0.0
    """0 to 1."""
    memory: float = 0.0
    """Share of the memory in use, 0 to 1."""
    uncorrectable: int = 0
    healthy: bool = True


def labels_of(device: Device) -> Mapping[str, str]:
    """The labels that every series of a GPU carries."""
    return {
        "card_model": "102-G30211-0C",
        "card_series": f"AMD Instinct {device.model} OAM",
        "card_vendor": "AMD",
        "container": "engine" if device.pod else "",
        "deployment_mode": "baremetal",
        "driver_version": "6.14.14",
        "gpu_compute_partition_type": "spx",
        "gpu_id": str(device.gpu_id),
        "gpu_memory_partition_type": "nps1",
        "gpu_partition_id": "0",
        "hostname": device.hostname,
        "job_id": "",
        "job_partition": "",
        "job_user": "",
        "namespace": device.namespace,
        "pod": device.pod,
        "serial_number": f"{device.hostname}-{device.gpu_id}",
    }


def readings(device: Device) -> Mapping[str, float]:
    """What the exporter tells of a GPU, by name."""
    power = IDLE_WATTS + (BUSY_WATTS - IDLE_WATTS) * device.activity
    heat = AMBIENT + HEATING * device.activity
    used = round(device.vram_mb * device.memory)
    return {
        "gpu_health": float(device.healthy),
        "gpu_gfx_activity": round(100 * device.activity),
        "gpu_umc_activity": round(70 * device.activity),
        "gpu_total_vram": device.vram_mb,
        "gpu_used_vram": used,
        "gpu_free_vram": device.vram_mb - used,
        "gpu_package_power": round(power),
        "gpu_power_usage": round(power),
        "gpu_junction_temperature": round(heat),
        "gpu_memory_temperature": round(heat - 6),
        "gpu_ecc_correct_total": 0,
        "gpu_ecc_uncorrect_total": device.uncorrectable,
    }


def page(devices: Iterable[Device], prefix: str = "") -> str:
    """The text of /metrics."""
    return "".join(f"{line}\n" for line in _lines(list(devices), prefix))


def _lines(devices: list[Device], prefix: str) -> Iterator[str]:
    yield from (f"# TYPE {prefix}gpu_nodes_total gauge", f"{prefix}gpu_nodes_total {len({d.hostname for d in devices})}")  # fmt: skip
    told = [(labels_of(device), readings(device)) for device in devices]
    for name in told[0][1] if told else ():
        yield f"# TYPE {prefix}{name} gauge"
        for labels, values in told:
            pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
            yield f"{prefix}{name}{{{pairs}}} {values[name]:g}"

"""What AMD's device metrics exporter tells of the GPUs of one deployment."""

from __future__ import annotations

from aim_engine.telemetry.dashboards.panels import Panel, Target, coloured, timeline, timeseries
from aim_engine.telemetry.dashboards.series import EXPORTER, RATE
from aim_engine.telemetry.dashboards.style import HEALTH, PER_MINUTE, RATIO, RED

_GPU = 'namespace="$namespace",pod=~"$pod"'
_NO_EXPORTER = "Needs AMD's device metrics exporter; see the monitoring guide."


def gpu_panels() -> list[Panel]:
    """Activity, memory, power, temperature, errors and health of each GPU of the board's pods."""

    def gpu(name: str) -> str:
        return f"{EXPORTER}{name}{{{_GPU}}}"

    legend = "GPU {{gpu_id}} of {{pod}}"
    by = "pod, gpu_id"
    memory = f"max by ({by}) ({gpu('gpu_used_vram')}) / max by ({by}) ({gpu('gpu_total_vram')})"
    power = f"{gpu('gpu_package_power')} or {gpu('gpu_average_package_power')}"
    heat = f"{gpu('gpu_junction_temperature')} or {gpu('gpu_edge_temperature')}"
    return [
        timeseries(
            "GPU activity", f"Share of time in which the graphics engine computed. On a partitioned GPU only the first partition tells. {_NO_EXPORTER}",
            Target(expr=f"max by ({by}) ({gpu('gpu_gfx_activity')})", legend=legend), unit="percent", top=100, fill=False, size=(8, 8),
        ),
        timeseries(
            "GPU memory", f"Share of the GPU's memory in use. vLLM takes its share at the start and keeps it. {_NO_EXPORTER}",
            Target(expr=memory, legend=legend), unit=RATIO, top=1, fill=False, size=(8, 8),
        ),
        timeseries(
            "GPU power", f"Power of the package: present on MI300 and later, mean on MI200. {_NO_EXPORTER}",
            Target(expr=f"max by ({by}) ({power})", legend=legend), unit="watt", fill=False, size=(8, 8),
        ),
        timeseries(
            "GPU temperature", f"Hottest place of the die on MI300 and later, its edge on MI200. {_NO_EXPORTER}",
            Target(expr=f"max by ({by}) ({heat})", legend=legend), unit="celsius", fill=False, size=(8, 8),
        ),
        timeseries(
            "GPU memory errors a minute", f"Errors of the GPUs' memory that could be corrected, and that could not. One that could not ends the engine. {_NO_EXPORTER}",
            Target(expr=f"sum by (pod) (rate({gpu('gpu_ecc_uncorrect_total')}[{RATE}])) * 60", legend="uncorrectable {{pod}}"),
            Target(expr=f"sum by (pod) (rate({gpu('gpu_ecc_correct_total')}[{RATE}])) * 60", legend="correctable {{pod}}"),
            unit=PER_MINUTE, overrides=[coloured("^uncorrectable", RED)], calcs=("max", "lastNotNull"), size=(8, 8),
        ),
        timeline(
            "GPU health", f"What the exporter says of each GPU. {_NO_EXPORTER}",
            Target(expr=f"min by ({by}) ({gpu('gpu_health')})", legend=legend), mappings=[HEALTH], size=(8, 8),
        ),
    ]  # fmt: skip

"""Constants of the memory and speed models. They are assumptions, so they are data with a source too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from aim_engine.api.enums import Precision
from aim_engine.catalog.data import read_yaml


@dataclass(frozen=True, slots=True)
class MemoryAssumptions:
    """What the memory model takes for granted."""

    bytes_per_parameter: Mapping[Precision, float]
    reserve_bytes: int
    activation_bytes: int
    """Peak of a forward pass, per token of the batch and hidden unit."""
    minimum_overhead_bytes: int


@dataclass(frozen=True, slots=True)
class SpeedCalibration:
    """Fitted constants of the decode speed model."""

    bandwidth_efficiency: float
    launch_ms_per_layer: float
    communication_ms_per_layer: float
    """Of tensor parallelism over 8 GPUs."""
    compute_efficiency: float
    concurrency: int
    context_tokens: int


@cache
def memory_assumptions() -> MemoryAssumptions:
    """Constants of the memory model."""
    content = read_yaml("sizing.yaml")
    per_parameter = {Precision(name): float(value) for name, value in content["bytesPerParameter"].items()}
    return MemoryAssumptions(
        bytes_per_parameter=MappingProxyType(per_parameter),
        reserve_bytes=content["reserveGiB"] * 2**30,
        activation_bytes=content["activationBytes"],
        minimum_overhead_bytes=content["minimumOverheadGiB"] * 2**30,
    )


@cache
def speed_calibration() -> SpeedCalibration:
    """Constants of the speed model."""
    content = read_yaml("calibration.yaml")
    return SpeedCalibration(
        bandwidth_efficiency=content["bandwidthEfficiency"],
        launch_ms_per_layer=content["launchMillisecondsPerLayer"],
        communication_ms_per_layer=content["communicationMillisecondsPerLayer"],
        compute_efficiency=content["computeEfficiency"],
        concurrency=content["concurrency"],
        context_tokens=content["contextTokens"],
    )

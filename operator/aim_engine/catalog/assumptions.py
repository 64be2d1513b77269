"""Constants of the memory and speed models. They are assumptions, so they are data with a source too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from aim_engine.api.enums import Precision
from aim_engine.catalog.data import read_yaml


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """What one weight takes in a number format."""

    bytes: float
    scale_bytes: float
    """Of the scale that the weights of a block share; 0 without scales."""
    block_dimensions: int
    """1: a block is a row of weights; 2: a square."""
    default_block: int | None
    """Edge of a block where the checkpoint's is not known; None: one scale for a whole tensor."""
    experts_only: bool
    """Models with experts keep all other weights in 16 bit."""

    def bytes_per_weight(self, block: int | None) -> float:
        """With its part of the scale. `block` is the checkpoint's, None where it is not known."""
        edge = block or self.default_block
        return self.bytes + (self.scale_bytes / edge**self.block_dimensions if edge else 0.0)


@dataclass(frozen=True, slots=True)
class MemoryAssumptions:
    """What the memory model takes for granted."""

    formats: Mapping[Precision, WeightFormat]
    context_bytes: int
    """HIP context and RCCL buffers of one GPU."""
    graph_bytes: int
    """Captured graphs of one GPU."""
    hidden_bytes: int
    """Live at the peak of a forward pass, per token and hidden unit."""
    assumed_mlp_ratio: int
    """Width of a dense MLP in hidden sizes, where it is not known."""
    latent_workspace_tokens: int
    """Tokens of latent cache that MLA unpacks at once."""
    logit_bytes: int
    """Of one sequence, per entry of the vocabulary."""


@dataclass(frozen=True, slots=True)
class SpeedCalibration:
    """Fitted constants of the decode speed model."""

    bandwidth_efficiency: float
    overhead_ms_per_layer: float
    """Launches, and waiting for one another: the same on one GPU and on eight, by the points it was fitted on."""
    compute_efficiency: float
    link_bytes_per_s: float
    """Effective rate at which one GPU exchanges hidden states of a tensor parallel group."""
    concurrency: int
    context_tokens: int


@cache
def memory_assumptions() -> MemoryAssumptions:
    """Constants of the memory model."""
    content = read_yaml("sizing.yaml")
    overhead = content["overhead"]
    rows = {Precision(name): row for name, row in content["formats"].items() if name != "source"}
    return MemoryAssumptions(
        formats=MappingProxyType({precision: _format(row) for precision, row in rows.items()}),
        context_bytes=overhead["contextGiB"] * 2**30,
        graph_bytes=overhead["graphsGiB"] * 2**30,
        hidden_bytes=overhead["hiddenBytes"],
        assumed_mlp_ratio=overhead["assumedMLPRatio"],
        latent_workspace_tokens=overhead["latentWorkspaceTokens"],
        logit_bytes=overhead["logitBytes"],
    )


def _format(row: Mapping[str, Any]) -> WeightFormat:
    return WeightFormat(
        bytes=row["bytes"],
        scale_bytes=row.get("scaleBytes", 0),
        block_dimensions=2 if row.get("block") == "square" else 1,
        default_block=row.get("defaultBlock"),
        experts_only=row.get("expertsOnly", False),
    )


@dataclass(frozen=True, slots=True)
class RemedySettings:
    """Values that a remedy may propose."""

    context_step: int
    gpu_memory_utilization: float
    max_num_batched_tokens: int


@cache
def remedy_settings() -> RemedySettings:
    """Values that a remedy may propose."""
    row = read_yaml("sizing.yaml")["remedies"]
    return RemedySettings(row["contextStep"], row["gpuMemoryUtilization"], row["maxNumBatchedTokens"])


@dataclass(frozen=True, slots=True)
class StateBlocks:
    """How a KV cache that also holds recurrent states is divided into blocks."""

    token_step: int
    """Tokens of a block are a multiple of it."""
    group_tolerance: float
    """Kinds of layers whose numbers differ by less than this factor make groups as large as the larger number."""


@cache
def state_blocks() -> StateBlocks:
    """Constants of the division into blocks."""
    row = read_yaml("sizing.yaml")["stateBlocks"]
    return StateBlocks(row["tokenStep"], row["groupTolerance"])


@cache
def speed_calibration() -> SpeedCalibration:
    """Constants of the speed model."""
    content = read_yaml("calibration.yaml")
    return SpeedCalibration(
        bandwidth_efficiency=content["bandwidthEfficiency"],
        overhead_ms_per_layer=content["overheadMillisecondsPerLayer"],
        compute_efficiency=content["computeEfficiency"],
        link_bytes_per_s=content["linkGBps"] * 1e9,
        concurrency=content["concurrency"],
        context_tokens=content["contextTokens"],
    )


@dataclass(frozen=True, slots=True)
class DivisionRule:
    """A rule on how a model may be divided over GPUs."""

    rule: str
    """Names the check."""
    text: str
    source: str


@cache
def division_rules() -> tuple[DivisionRule, ...]:
    """Rules in the order they are tried."""
    return tuple(DivisionRule(**row) for row in read_yaml("parallelism.yaml")["rules"])


@cache
def division_sizes() -> tuple[int, ...]:
    """Group sizes that a remedy may propose."""
    return tuple(read_yaml("parallelism.yaml")["sizesTried"])

"""How many GPUs there are, and who holds them, by GPU model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aim_engine.inventory.hurdles import standing
from aim_engine.inventory.state import NodeState

UNKNOWN = "unknown"
"""Stands for GPUs whose model nobody recognised."""


@dataclass(frozen=True, slots=True)
class GPUTotals:
    """Counts of GPUs of one model; a partition of a GPU counts as one."""

    allocatable: int = 0
    ours: int = 0
    """Held by pods of AIMDeployments."""
    others: int = 0
    """Held by pods of anybody else."""
    free: int = 0
    """Neither held nor promised, on nodes that take pods."""


def gpu_totals(states: Iterable[NodeState], ours: Mapping[str, Mapping[str, int]]) -> dict[str, GPUTotals]:
    """Totals by GPU model; `ours`: GPUs of AIMDeployments' pods by node and extended resource."""
    totals: dict[str, GPUTotals] = {}
    for state in states:
        held = ours.get(state.facts.name, {})
        takes_pods = not standing(state.facts)
        for group in state.facts.groups:
            model = group.gpu_model or UNKNOWN
            before = totals.get(model, GPUTotals())
            mine = held.get(group.resource, 0)
            totals[model] = GPUTotals(
                before.allocatable + group.allocatable,
                before.ours + mine,
                before.others + max(0, state.used.gpus.get(group.resource, 0) - mine),
                before.free + (state.free_gpus(group.resource) if takes_pods else 0),
            )
    return totals

"""Node and Pod objects -> GPU pools and free slots. Pure: values in, values out, no watch and no clock."""

from __future__ import annotations

from aim_engine.catalog.gpus import whole_partition
from aim_engine.inventory.hurdles import Cause, Hurdle, standing
from aim_engine.inventory.hypothetical import every_gpu
from aim_engine.inventory.nodes import GPUGroup, NodeFacts, Taint, read_node, tolerates
from aim_engine.inventory.placement import Blocked, Placement, Shortage, best_fit, nearest_node, place
from aim_engine.inventory.pods import Owner, PodUsage, read_pod
from aim_engine.inventory.state import (
    EMPTY,
    Inventory,
    NodeState,
    PodNeed,
    PoolKey,
    Usage,
    Withheld,
    build_inventory,
    only,
    revise_inventory,
    withhold,
)
from aim_engine.inventory.totals import GPUTotals
from aim_engine.inventory.tracker import Freed, Tracker, free_on

__all__ = [
    "EMPTY",
    "Blocked",
    "Cause",
    "Freed",
    "GPUGroup",
    "GPUTotals",
    "Hurdle",
    "Inventory",
    "NodeFacts",
    "NodeState",
    "Owner",
    "Placement",
    "PodNeed",
    "PodUsage",
    "PoolKey",
    "Shortage",
    "Taint",
    "Tracker",
    "Usage",
    "Withheld",
    "best_fit",
    "build_inventory",
    "every_gpu",
    "free_on",
    "nearest_node",
    "only",
    "place",
    "read_node",
    "read_pod",
    "revise_inventory",
    "standing",
    "tolerates",
    "whole_partition",
    "withhold",
]

"""A cluster that has everything, to ask whether any could serve."""

from __future__ import annotations

from functools import cache

from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.inventory.labels import nfd_label
from aim_engine.inventory.nodes import GPU_RESOURCE, read_node
from aim_engine.inventory.state import Inventory, NodeState, build_inventory


@cache
def every_gpu() -> Inventory:
    """One empty node of every GPU model, with as many GPUs as nodes of it have."""
    return build_inventory(
        NodeState(
            read_node(
                {
                    "metadata": {
                        "name": gpu.model.lower(),
                        "labels": {nfd_label(gpu.model): "true"},
                    },
                    "status": {
                        "allocatable": {
                            GPU_RESOURCE: str(gpu.gpus_per_node),
                            "cpu": "512",
                            "memory": "8Ti",
                            "pods": "250",
                        },
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                }
            )
        )
        for gpu in gpu_catalog().values()
    )

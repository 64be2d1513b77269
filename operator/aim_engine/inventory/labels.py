"""The node labels that tell GPU model and partition, as AMD's node labeller, NFD and administrators write them.

One vocabulary for reading nodes (`inventory.nodes`) and for selecting them (`render.affinity`): a node must never be
counted as capacity that the pod's affinity cannot select.
"""

from __future__ import annotations

from aim_engine.catalog.gpus import GPU

LABEL_PREFIXES = ("amd.com/gpu.", "beta.amd.com/gpu.")
DEVICE_ID = "device-id"
PRODUCT_NAME_LABEL = "amd.com/gpu.product-name"
PARTITION_LABEL = "amd.com/gpu.compute-memory-partition"
DOCUMENTED_PARTITION_LABEL = "amd.com/compute-memory-partition"
"""What AMD's documentation writes; its labeller uses `PARTITION_LABEL`."""
NFD_PREFIX = "feature.node.kubernetes.io/amd-gpu-"
_PRODUCT_NAMES = (
    "AMD_Instinct_{}",
    "AMD_Instinct_{}_OAM",
    "AMD_Instinct_{}_HF",
    "AMD_Instinct_{}_VF",
    "AMD_Instinct_{}_HF_VF",
    "AMD_INSTINCT_{}_MCM_OAM_AC_MBA",
)


def product_name_values(gpu: GPU) -> tuple[str, ...]:
    """Values of the product-name label for a GPU model. Affinity compares whole values, so spellings are listed."""
    return tuple(spelling.format(name) for name in gpu.product_names for spelling in _PRODUCT_NAMES)


def nfd_label(gpu_model: str) -> str:
    """Label that the GPU operator's NFD rule sets to `true`."""
    return NFD_PREFIX + gpu_model.lower()


def admin_label(pair: str) -> tuple[str, str]:
    """Label and value of an entry `label=value` of the admin's map."""
    label, _, value = pair.partition("=")
    return label, value

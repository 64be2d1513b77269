"""Closed vocabularies of the API. Values are what users write and read; never renumber or rename one that was released."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

_BACKENDS = sorted(
    path.stem
    for path in (Path(__file__).parents[1] / "engines" / "backends").glob("*.py")
    if path.stem not in ("__init__", "vllm")
)


class Precision(StrEnum):
    """Numeric format of the weights that a recipe loads."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    MXFP4 = "mxfp4"


class Backend(StrEnum):
    """Inference engine that serves the model: one member for each module in `engines/backends`.

    The names are read from the folder, without importing what is above this layer: a new engine is a new file, and nothing else.
    """

    _ignore_ = ["_name"]
    VLLM = "vllm"
    """The default."""
    for _name in _BACKENDS:
        vars()[_name.upper()] = _name


class Maturity(StrEnum):
    """How far a recipe has been tuned, best first."""

    OPTIMIZED = "optimized"
    GENERAL = "general"
    PREVIEW = "preview"
    UNOPTIMIZED = "unoptimized"

    @property
    def rank(self) -> int:
        """0 for the most mature."""
        return _MATURITY_RANKS[self]


_MATURITY_RANKS = {maturity: rank for rank, maturity in enumerate(Maturity)}


class Objective(StrEnum):
    """What a configuration is tuned for."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


class ProvenanceKind(StrEnum):
    """Who stands behind a performance number, strongest first. `declared` is an author's bare claim: shown, never ranked."""

    MEASURED = "measured"
    VENDOR = "vendor"
    THIRD_PARTY = "third-party"
    DECLARED = "declared"


class Tier(StrEnum):
    """How near the chosen recipe is to the best one for the user's wishes."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    TERTIARY = "Tertiary"
    DEFAULT = "Default"


class GainKind(StrEnum):
    """What is better about a recommended recipe, the first that holds."""

    THROUGHPUT = "Throughput"
    """More predicted tokens per second per GPU."""
    LATENCY = "Latency"
    """Less predicted time between tokens."""
    TIER = "Tier"
    """It is the best recipe for the wishes, and the one in use is a fallback."""
    OTHER = "Other"
    """What `gain` says in words: an edited recipe, maturity, precision, GPU generation, fewer GPUs."""


class Outcome(StrEnum):
    """Result of one selection."""

    SELECTED = "Selected"
    WAITING = "Waiting"
    NO_RECIPE = "NoRecipe"


class Reason(StrEnum):
    """Why a candidate recipe was chosen or not: the first stage it failed, in the order of the stages."""

    CHOSEN = "Chosen"
    OUTRANKED = "Outranked"
    RECIPE_INVALID = "RecipeInvalid"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    GPU_MODEL_MISMATCH = "GPUModelMismatch"
    GPU_COUNT_MISMATCH = "GPUCountMismatch"
    PRECISION_MISMATCH = "PrecisionMismatch"
    BACKEND_MISMATCH = "BackendMismatch"
    MATURITY_TOO_LOW = "MaturityTooLow"
    PRECISION_UNSUPPORTED = "PrecisionUnsupported"
    PARALLELISM_INVALID = "ParallelismInvalid"
    GPU_MODEL_NOT_IN_CLUSTER = "GPUModelNotInCluster"
    PARTITION_MISMATCH = "PartitionMismatch"
    MEMORY_INSUFFICIENT = "MemoryInsufficient"
    CONTEXT_TOO_LONG = "ContextTooLong"
    TARGET_NOT_REACHABLE = "TargetNotReachable"
    NODE_NOT_USABLE = "NodeNotUsable"
    NODE_RESOURCES_INSUFFICIENT = "NodeResourcesInsufficient"
    CAPACITY_INSUFFICIENT = "CapacityInsufficient"


class UpdatePolicy(StrEnum):
    """Whether a running deployment follows better recipes."""

    PINNED = "Pinned"
    AUTOMATIC = "Automatic"


class WhenNoCapacity(StrEnum):
    """What to do while the GPUs are not free."""

    WAIT = "Wait"
    CREATE_PENDING = "CreatePending"


class RolloutStrategy(StrEnum):
    """How pods are replaced when the pod template changes."""

    AUTO = "Auto"
    SURGE = "Surge"
    RECREATE = "Recreate"


class ServiceType(StrEnum):
    """Types of Service the operator makes."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class AccessMode(StrEnum):
    """Access modes of the cache volume."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"

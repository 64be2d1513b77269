"""Memory and speed bounds of a model on GPUs. Pure arithmetic over catalogue facts."""

from aim_engine.sizing.bound import Bound, hardware_bound
from aim_engine.sizing.explain import Step, concurrency, explain
from aim_engine.sizing.fit import Fit, FitVerdict, fit, most_sequences, smallest_gpu_count
from aim_engine.sizing.memory import MemoryModel
from aim_engine.sizing.remedy import Remedy, hopeless, remedies, told
from aim_engine.sizing.roofline import Estimate, estimate
from aim_engine.sizing.weights import weight_format

__all__ = [
    "Bound",
    "Estimate",
    "Fit",
    "FitVerdict",
    "MemoryModel",
    "Remedy",
    "Step",
    "concurrency",
    "estimate",
    "explain",
    "fit",
    "hardware_bound",
    "hopeless",
    "most_sequences",
    "remedies",
    "smallest_gpu_count",
    "told",
    "weight_format",
]

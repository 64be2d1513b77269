from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aim_engine.api.enums import Precision, Reason
from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.memory import MemoryModel


class FitVerdict(StrEnum):
    """Whether a model fits; `Unknown` is said where facts are missing and never excludes."""

    FITS = "Fits"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Fit:
    """Verdict with the numbers behind it and the smallest change that would help."""

    verdict: FitVerdict
    message: str
    reason: Reason | None = None
    remedy: str | None = None
    needed: str | None = None
    has: str | None = None
    memory: MemoryModel | None = None


def fit(
    model: ModelFacts | None,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    required_context: int | None = None,
) -> Fit:
    return Fit(FitVerdict.UNKNOWN, "not sized yet")


def smallest_gpu_count(
    model: ModelFacts,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    required_context: int | None = None,
) -> int | None:
    return None

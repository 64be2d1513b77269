from __future__ import annotations

from dataclasses import dataclass

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted decode speed of one engine replica. An estimate, never a measurement."""

    tokens_per_second: float
    inter_token_latency_ms: float


def estimate(
    model: ModelFacts, checkpoint: Checkpoint | None, gpu: GPU, plan: EnginePlan, precision: Precision
) -> Estimate:
    return Estimate(tokens_per_second=0.0, inter_token_latency_ms=0.0)

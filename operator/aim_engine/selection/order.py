"""The total order of eligible candidates: one key, compared from left to right, smaller is better.

docs/concepts/selection.md gives the reason of each place. Names are unique, so no two candidates are ever equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aim_engine.api.deployment import Targets
from aim_engine.api.enums import Objective, Precision
from aim_engine.selection.performance import Yardstick, step_of, yardstick
from aim_engine.selection.targets import known_to_meet
from aim_engine.selection.types import Assessment, Facts, Request, Source

_SOURCE = {Source.CUSTOM: 0, Source.CATALOGUE: 1, Source.GENERATED: 2}
_PREFERENCE = (Precision.FP8, Precision.BF16, Precision.FP16, Precision.INT8, Precision.MXFP4, Precision.INT4)
_FOUR_BIT = (Precision.MXFP4, Precision.INT4)
_UNKNOWN = -10_000

Preference = tuple[int, int, int]
Key = tuple[int, int, int, int, int, int, int, int, Preference, int, str]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates in their order, with what it was made from."""

    order: list[Assessment]
    """Best first."""
    scale: Yardstick
    keys: Mapping[str, Key]
    """By the candidate's name."""


def ranking(request: Request, facts: Facts, assessments: Iterable[Assessment]) -> Ranking:
    """The order of the assessments, whatever order they came in."""
    candidates = list(assessments)
    scale = yardstick(candidates)
    keyed = sorted(
        ((rank_key(request, facts, scale, current), current) for current in candidates),
        key=lambda pair: pair[0],
    )
    return Ranking(
        [current for _, current in keyed], scale, {current.candidate.name: key for key, current in keyed}
    )


def ranked(request: Request, facts: Facts, assessments: Iterable[Assessment]) -> list[Assessment]:
    """The assessments, best first."""
    return ranking(request, facts, assessments).order


def outranks(request: Request, facts: Facts, one: Assessment, other: Assessment) -> bool:
    """Whether one candidate goes before another."""
    return ranked(request, facts, (one, other))[0] is one


def rank_key(request: Request, facts: Facts, scale: Yardstick, current: Assessment) -> Key:
    """The place of one candidate in the order."""
    spec, wishes = current.candidate.spec, request.spec.recipe
    return (
        int(current.candidate.source is Source.GENERATED),
        _target_rank(request.spec.targets, current),
        _four_bit(request, facts, current),
        _SOURCE[current.candidate.source],
        spec.maturity.rank,
        int(spec.objective is not wishes.objective),
        -_step(wishes.objective, scale, current),
        _first_token(wishes.objective, current),
        preference(facts, current),
        spec.hardware.gpu_count,
        current.candidate.name,
    )


def _target_rank(targets: Targets, current: Assessment) -> int:
    """0 when evidence says that all targets are met, 1 when nobody knows. Who is known to miss one is not eligible."""
    return int(not known_to_meet(targets, current.points))


def _four_bit(request: Request, facts: Facts, current: Assessment) -> int:
    """4-bit weights cost quality: 1 unless the model is natively so or the user asks."""
    precision = current.candidate.spec.precision
    if precision not in _FOUR_BIT or request.spec.recipe.precision is precision:
        return 0
    model = facts.model(current.candidate.spec.model_id)
    return int(model is None or model.native_precision is not precision)


def _step(objective: Objective, scale: Yardstick, current: Assessment) -> int:
    """Step of the predicted performance, greater is better; unknown is the worst."""
    if objective is Objective.LATENCY:
        latency = scale.inter_token_latency_ms(current)
        return _UNKNOWN if latency is None else -latency
    rate = scale.tokens_per_second_and_gpu(current)
    return _UNKNOWN if rate is None else rate


def _first_token(objective: Objective, current: Assessment) -> int:
    """For the latency objective, the step of the measured time to first token; unknown is the worst."""
    if objective is not Objective.LATENCY:
        return 0
    first = current.first_token
    return step_of(first.value) if first else -_UNKNOWN


def preference(facts: Facts, current: Assessment) -> Preference:
    """Formats the GPU computes in hardware first, then the model's native format, then the preferred ones, then newer GPUs."""
    spec = current.candidate.spec
    model = facts.model(spec.model_id)
    native = model is not None and model.native_precision is spec.precision
    hardware = current.gpu is not None and spec.precision in current.gpu.hardware_precisions
    generation = current.gpu.generation if current.gpu else 0
    return int(not hardware), 0 if native else _PREFERENCE.index(spec.precision) + 1, -generation

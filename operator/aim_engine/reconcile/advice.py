"""What a better recipe would bring and what taking it would cost, in words for `status.recommendation`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from aim_engine.api.deployment_status import Recommendation
from aim_engine.api.enums import GainKind, Objective, RolloutStrategy, Tier
from aim_engine.engines import engine
from aim_engine.reconcile.revision import Revision
from aim_engine.selection import (
    Assessment,
    Choice,
    Decision,
    Facts,
    Request,
    Source,
    difference,
    outranks,
    preference,
)

_LONGEST = 1024


def improves(
    request: Request, facts: Facts, current: Revision, running: Choice | None, other: Assessment
) -> bool:
    """Whether another recipe is better than the one in use: it goes before it, or is what its author made of it since.

    What we made from facts is no better for being made anew, unless its arguments differ.
    """
    if other.candidate.hash == current.recipe_hash:
        return False
    if running is None:
        return True
    if other.candidate.name == current.recipe:
        return other.candidate.source is not Source.GENERATED or other.args != running.assessment.args
    return outranks(request, facts, other, running.assessment)


def recommend(
    request: Request, current: Revision, running: Choice | None, better: Choice, decision: Decision, facts: Facts,
    strategy: RolloutStrategy, followed_at: float | None,
) -> Recommendation:  # fmt: skip
    """The better choice, how to take it, its gain and its cost. `followed_at`: when the policy will take it by itself,
    in seconds since the epoch; None when the user has to."""
    if followed_at is None:
        how = "take it with spec.recipe.updatePolicy: Automatic"
    else:
        at = datetime.fromtimestamp(followed_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        how = f"it is followed at {at}, one cool-down after the last move"
    chosen, old = better.assessment.candidate, running.assessment if running else None
    gains = list(_gains(request, current, old, better, facts))
    percent = _percent(request.spec.recipe.objective, old, better.assessment) if old is not None else None
    if not gains and old is not None:
        gains = [difference(request, facts, old, better.assessment)]
    return Recommendation(
        recipe=chosen.name,
        hash=chosen.hash,
        message=f"{decision.message}; {how}"[:_LONGEST],
        gain=", ".join(gains)[:_LONGEST],
        gain_kind=_kind(request.spec.recipe.objective, current, percent, better),
        gain_percent=percent,
        cost=", ".join(_costs(request, current, better.assessment, facts, strategy))[:_LONGEST],
    )


def _gains(
    request: Request, current: Revision, old: Assessment | None, better: Choice, facts: Facts
) -> Iterator[str]:
    """What is better, and nothing that is only different."""
    new = better.assessment
    before, after = current.recipe_spec, new.candidate.spec
    if new.candidate.name == current.recipe:
        yield "the recipe as it is now"
    if better.tier is Tier.PRIMARY and current.tier is not Tier.PRIMARY:
        yield f"the best recipe for the wishes instead of a {current.tier} one"
    if old is None:
        yield "the recipe in use no longer meets the wishes"
        return
    if faster := _faster(request.spec.recipe.objective, old, new):
        yield faster
    tuned = old.candidate.spec.maturity
    if after.maturity.rank < tuned.rank:
        yield f"maturity {after.maturity} instead of {tuned}"
    if (
        preference(facts, new) < preference(facts, old)
        and after.precision is not old.candidate.spec.precision
    ):
        yield f"precision {after.precision} instead of {old.candidate.spec.precision}"
    if old.gpu and new.gpu and new.gpu.generation > old.gpu.generation:
        yield f"GPU {new.gpu.model} instead of {old.gpu.model}"
    if after.hardware.gpu_count < before["hardware"]["gpuCount"]:
        yield f"{after.hardware.gpu_count} instead of {before['hardware']['gpuCount']} GPUs per replica"


def _faster(objective: Objective, old: Assessment, new: Assessment) -> str | None:
    """The two predictions with their kinds, where both are known and the new one is better."""
    if objective is Objective.LATENCY:
        was, now = old.latency, new.latency
        if was is None or now is None or now.value >= was.value:
            return None
        return f"{now.value:.1f} ms ({now}) between tokens against {was.value:.1f} ms ({was})"
    before, after = old.rate_per_gpu, new.rate_per_gpu
    if before is None or after is None or after <= before:
        return None
    return f"{after:.0f} tok/s per GPU ({new.rate}) against {before:.0f} ({old.rate})"


def _kind(objective: Objective, current: Revision, percent: int | None, better: Choice) -> GainKind:
    if percent:
        return GainKind.LATENCY if objective is Objective.LATENCY else GainKind.THROUGHPUT
    if better.tier is Tier.PRIMARY and current.tier is not Tier.PRIMARY:
        return GainKind.TIER
    return GainKind.OTHER


def _percent(objective: Objective, old: Assessment, new: Assessment) -> int | None:
    """How much better the new prediction is: a latency that is halved is 100 % better. None where it is not, or one is unknown."""
    if objective is Objective.LATENCY:
        was, now = old.latency, new.latency
        ratio = was.value / now.value if was and now and now.value else 0.0
    else:
        rate, better = old.rate_per_gpu, new.rate_per_gpu
        ratio = better / rate if rate and better else 0.0
    return round((ratio - 1) * 100) if ratio > 1 else None


def _costs(
    request: Request, current: Revision, new: Assessment, facts: Facts, strategy: RolloutStrategy
) -> Iterator[str]:
    spec = new.candidate.spec
    known = facts.checkpoint(spec.source or spec.model_id)
    loading = engine(spec.backend).startup_budget_seconds(known.bytes if known else None) // 60
    replicas = f"{request.replicas} replica{'' if request.replicas == 1 else 's'}"
    yield f"a restart of {replicas}, each loading for up to {loading} minutes"
    if strategy is RolloutStrategy.SURGE:
        yield "beside the running ones, so that the model keeps answering"
    else:
        yield "in place, so that the model does not answer meanwhile"
    more = spec.hardware.gpu_count - current.recipe_spec["hardware"]["gpuCount"]
    if more > 0:
        yield f"{more} more GPU{'' if more == 1 else 's'} per replica"

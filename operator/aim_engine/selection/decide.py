"""From a request, recipes, the inventory and facts to one explained decision. Pure: the operator, the admission
webhook and the command line all decide with this function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aim_engine.api.configmap import is_recipe_of
from aim_engine.api.deployment import Targets
from aim_engine.api.enums import Objective, Outcome, Reason, Tier
from aim_engine.catalog.gpus import devices, gpu_catalog, whole_partition
from aim_engine.inventory import EMPTY, Inventory, every_gpu
from aim_engine.selection.absent import nothing_known
from aim_engine.selection.capacity import capacity_verdict, never_here
from aim_engine.selection.difference import difference
from aim_engine.selection.generate import GENERATED_PREFIX, generated
from aim_engine.selection.order import Ranking, ranked, ranking
from aim_engine.selection.stages import STAGES, Context, Memo, assess
from aim_engine.selection.targets import known_to_meet
from aim_engine.selection.types import (
    Assessment,
    Candidate,
    Choice,
    Decision,
    Facts,
    Request,
    Source,
    Verdict,
    Want,
)

_PROGRESS = {
    reason: place
    for place, reason in enumerate(
        (
            Reason.CAPACITY_INSUFFICIENT, Reason.NODE_RESOURCES_INSUFFICIENT, Reason.NODE_NOT_USABLE,
            Reason.TARGET_NOT_REACHABLE, Reason.CONTEXT_TOO_LONG, Reason.MEMORY_INSUFFICIENT, Reason.PARTITION_MISMATCH,
            Reason.GPU_MODEL_NOT_IN_CLUSTER, Reason.PARALLELISM_INVALID, Reason.PRECISION_UNSUPPORTED,
            Reason.MATURITY_TOO_LOW, Reason.BACKEND_MISMATCH, Reason.PRECISION_MISMATCH, Reason.GPU_COUNT_MISMATCH,
            Reason.GPU_MODEL_MISMATCH, Reason.NAMESPACE_NOT_ALLOWED, Reason.RECIPE_INVALID,
        )
    )
}  # fmt: skip
_HARDWARE_MAY_COME = (
    Reason.GPU_MODEL_NOT_IN_CLUSTER, Reason.PARTITION_MISMATCH, Reason.CAPACITY_INSUFFICIENT,
    Reason.NODE_RESOURCES_INSUFFICIENT,
)  # fmt: skip


def relevant(request: Request, candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that are about this request at all: its model, or the one it names."""
    pinned = request.pinned_name
    if pinned is not None:
        asked = request.model_id
        return [
            c for c in candidates if _is_named(c, pinned) and asked in (None, c.spec.model_id, c.spec.source)
        ]
    return [c for c in candidates if c.listed and c.spec.model_id == request.model_id]


def _is_named(each: Candidate, pinned: str) -> bool:
    """A ConfigMap may hold several recipes, the cluster's names stand for one."""
    return each.name == pinned or (pinned.startswith("configmap/") and is_recipe_of(each.name, pinned))


def decide(
    request: Request,
    candidates: Iterable[Candidate],
    inventory: Inventory,
    facts: Facts,
    memo: Memo | None = None,
) -> Decision:
    """Choose the best recipe that the cluster can run now, and say why not the others.

    A `memo` kept from decision to decision makes the next one cheaper and changes nothing in it; it belongs to one
    `facts`.
    """
    context = Context(request, inventory, facts, memo or Memo())
    known = list(candidates)
    pool = relevant(request, known)
    if request.recorded and request.recorded.recipe.startswith(GENERATED_PREFIX):
        pool = [*pool, *generated(request, inventory, facts)]
    elif not pool or all(c.source is Source.GENERATED for c in pool):
        pool = [*pool, *generated(request, inventory, facts)]
        if not pool:
            named = next(
                (c for c in known if request.pinned_name and _is_named(c, request.pinned_name)), None
            )
            return nothing_known(request, named, known, facts)
    found = [_judge(context, pool)]
    choice = _choose(request, found[-1].order)
    if choice is None and request.fallback and not any(c.source is Source.GENERATED for c in pool):
        extra = _last_resort(found[0], generated(request, inventory, facts))
        if extra:
            found.append(_judge(context, [*pool, *extra]))
            choice = _choose(request, found[-1].order)
    if choice is None and request.create_pending:
        pending = next((made for each in found if (made := _pending(context, each))), None)
        if pending is not None:
            return _selected(context, *pending)
    return _told(context, found[-1], choice)


def eligible_anywhere(
    request: Request, candidates: Iterable[Candidate], facts: Facts, memo: Memo | None = None
) -> tuple[list[Assessment], tuple[Verdict, ...]]:
    """As if every GPU there is were in the cluster: the candidates that could serve, best first, and why not the others."""
    context = Context(request, EMPTY, facts, memo or Memo())
    judged = [assess(context, each, any_hardware=True) for each in candidates]
    order = ranked(request, facts, [assessment for assessment, verdict in judged if verdict is None])
    failed = [(assessment, verdict) for assessment, verdict in judged if verdict is not None]
    return order, _by_progress(failed, EMPTY)


def can_ever_serve(request: Request, candidates: Iterable[Candidate], facts: Facts) -> bool:
    """Whether some cluster could serve the request with the recipes there are, or with a generated one."""
    known = list(candidates)
    if eligible_anywhere(request, relevant(request, known), facts)[0]:
        return True
    return request.fallback and bool(
        eligible_anywhere(request, generated(request, every_gpu(), facts), facts)[0]
    )


def hold(
    request: Request, held: Candidate, inventory: Inventory, facts: Facts, *, any_capacity: bool
) -> Choice | None:
    """The recipe in use under changed wishes; None when it cannot serve them. `any_capacity`: it runs already."""
    assessment, verdict = assess(Context(request, inventory, facts, Memo()), held, any_hardware=any_capacity)
    fits = assessment.placement.fits if assessment.placement else 0
    if verdict is not None or not (any_capacity or fits):
        return None
    return Choice(assessment, Tier.PRIMARY, min(fits, request.replicas))


@dataclass(frozen=True, slots=True)
class _Judged:
    """Every candidate with what became of it."""

    ranking: Ranking
    """The eligible ones."""
    failed: list[tuple[Assessment, Verdict]]

    @property
    def order(self) -> list[Assessment]:
        """Best first."""
        return self.ranking.order


def _judge(context: Context, pool: list[Candidate]) -> _Judged:
    eligible: list[Assessment] = []
    failed: list[tuple[Assessment, Verdict]] = []
    for each in pool:
        assessment, verdict = assess(context, each)
        if verdict is None:
            verdict = never_here(assessment)
        if verdict is None:
            eligible.append(assessment)
        else:
            failed.append((assessment, verdict))
    return _Judged(ranking(context.request, context.facts, eligible), failed)


def _last_resort(found: _Judged, generated: list[Candidate]) -> list[Candidate]:
    """Without those whose hardware is known, by a recipe written for it, to miss a target: nobody tuned them."""
    missed = [
        _hardware(each.candidate)
        for each, verdict in found.failed
        if verdict.reason is Reason.TARGET_NOT_REACHABLE
    ]
    return [each for each in generated if _hardware(each) not in missed]


def _hardware(each: Candidate) -> tuple[object, ...]:
    hardware = each.spec.hardware
    return hardware.gpu_model, hardware.partition, hardware.gpu_count, each.spec.precision


def _pending(context: Context, found: _Judged) -> tuple[_Judged, Choice] | None:
    """The best candidate although it has no room, or the best of those that lack nothing but hardware."""
    hopeful = found.ranking
    if not hopeful.order:
        every = ranking(context.request, context.facts, _hopeful(context, found.failed))
        hopeful = replace(every, order=every.order[:1])
    if not hopeful.order:
        return None
    best = hopeful.order[0]
    failed = [(each, verdict) for each, verdict in found.failed if each.candidate is not best.candidate]
    return _Judged(hopeful, failed), Choice(best, _tier(hopeful.order, best), 0)


def _told(context: Context, found: _Judged, choice: Choice | None) -> Decision:
    if choice is not None:
        return _selected(context, found, choice)
    rejected = _by_progress(found.failed, context.inventory)
    return _waiting(context.request, found.order, rejected) if found.order else _none_eligible(rejected)


def _hopeful(context: Context, failed: list[tuple[Assessment, Verdict]]) -> list[Assessment]:
    """Candidates that lack nothing but hardware, which a cluster autoscaler may bring."""
    found = []
    for assessment, verdict in failed:
        if verdict.reason in _HARDWARE_MAY_COME:
            again, other = assess(context, assessment.candidate, any_hardware=True)
            if other is None:
                found.append(again)
    return found


def _choose(request: Request, order: list[Assessment]) -> Choice | None:
    """The recorded one, else the best with room for all replicas; failing that, with room for one."""
    recorded = [each for each in order if request.recorded and request.recorded.is_of(each.candidate)]
    allowed = [*recorded, *order] if request.fallback else recorded or order[:1]
    for replicas in dict.fromkeys((request.replicas, 1)):
        for current in allowed:
            fits = current.placement.fits if current.placement else 0
            if fits >= replicas:
                return Choice(current, _tier(order, current), min(fits, request.replicas))
    return None


def _tier(order: list[Assessment], chosen: Assessment) -> Tier:
    if chosen.candidate.source is Source.GENERATED:
        return Tier.DEFAULT
    if chosen is order[0]:
        return Tier.PRIMARY
    counts = [
        a.candidate.spec.hardware.gpu_count for a in order if a.candidate.source is not Source.GENERATED
    ]
    count = chosen.candidate.spec.hardware.gpu_count
    fewest = count == min(counts) and count < order[0].candidate.spec.hardware.gpu_count
    return Tier.TERTIARY if fewest else Tier.SECONDARY


def _selected(context: Context, found: _Judged, choice: Choice) -> Decision:
    request, order, chosen = context.request, found.order, choice.assessment
    why = _why(request, choice, order)
    verdicts = [Verdict(chosen.candidate.name, Reason.CHOSEN, why)]
    place = next(i for i, current in enumerate(order) if current is chosen)
    verdicts += [
        _loser(context, found.ranking, current, choice, before=i < place)
        for i, current in enumerate(order)
        if i != place
    ]
    ahead = [each for each in order[:place] if each.candidate.source is not Source.GENERATED]
    wants = wants_of([chosen] if choice.fits < request.replicas else ahead)
    name, hardware = chosen.candidate.name, chosen.candidate.spec.hardware
    taken = devices(hardware.gpu_count, hardware.gpu_model, hardware.partition)
    message = f"{name} ({taken}, {chosen.candidate.spec.precision}): {why}"
    remedy = None
    if choice.tier is not Tier.PRIMARY and chosen is not order[0]:
        blocked = capacity_verdict(order[0], request.replicas)
        message += (
            f"; the best one, {order[0].candidate.name}, {blocked.message if blocked else 'is not free'}"
        )
        remedy = blocked.remedy if blocked else None
    elif lacking := capacity_verdict(chosen, request.replicas):
        remedy = lacking.remedy
    message += _not_followed(request, choice, verdicts, found)
    return Decision(
        Outcome.SELECTED,
        (*verdicts, *_by_progress(found.failed, context.inventory)),
        message,
        remedy,
        choice,
        order[0].candidate.name,
        wants,
        tuple(ahead),
    )


def _not_followed(request: Request, choice: Choice, eligible: list[Verdict], found: _Judged) -> str:
    """Why a recorded decision is not what was taken; empty where it is, or where there is none."""
    recorded = request.recorded
    if recorded is None or recorded.is_of(choice.assessment.candidate):
        return ""
    every = [each.candidate for each in (*found.order, *(failed for failed, _ in found.failed))]
    known = next((each for each in every if each.name == recorded.recipe), None)
    verdicts = (*eligible, *(verdict for _, verdict in found.failed))
    verdict = next((each for each in verdicts if each.recipe == recorded.recipe), None)
    if known is None:
        why = "it no longer exists"
    elif known.hash != recorded.hash:
        why = f"it was edited since ({recorded.hash} then, {known.hash} now)"
    else:
        why = verdict.message if verdict else "it cannot serve"
    return f"; the recorded decision, {recorded.recipe}, was not followed: {why}"


def _why(request: Request, choice: Choice, order: list[Assessment]) -> str:
    chosen = choice.assessment
    if request.recorded and request.recorded.is_of(chosen.candidate):
        parts = ["as recorded"]
    else:
        parts = ["best under the wishes" if chosen is order[0] else "best of those whose GPUs are free"]
    if request.spec.recipe.objective is Objective.LATENCY and chosen.latency:
        parts.append(f"{chosen.latency.kind} {chosen.latency.value:.3g} ms between tokens")
    if chosen.rate and chosen.rate_per_gpu:
        version = f" (engine {chosen.rate.engine_version})" if chosen.rate.engine_version else ""
        device = "partition" if whole_partition(chosen.candidate.spec.hardware.partition) else "GPU"
        parts.append(f"{chosen.rate.kind} {chosen.rate_per_gpu:.0f} tok/s per {device}{version}")
    if chosen.elsewhere and not (chosen.rate and chosen.rate.is_evidence):
        per_gpu = chosen.elsewhere.value / chosen.candidate.spec.hardware.gpu_count
        parts.append(f"another engine version reached {per_gpu:.0f} ({chosen.elsewhere})")
    if chosen.declared and not (chosen.rate and chosen.rate.is_evidence):
        parts.append(f"its author claims {chosen.declared / chosen.candidate.spec.hardware.gpu_count:.0f}")
    if request.spec.targets != Targets():
        met = known_to_meet(request.spec.targets, chosen.points)
        parts.append(
            "known to meet spec.targets" if met else "not known to meet spec.targets: nobody measured it"
        )
    if chosen.fit and chosen.fit.memory:
        parts.append(f"room for {chosen.fit.memory.kv_tokens // 1000}k tokens of KV cache")
    return ", ".join(parts)


def _loser(
    context: Context, ranking: Ranking, current: Assessment, choice: Choice, *, before: bool
) -> Verdict:
    """Why an eligible candidate was not taken; `before`: it stands before the chosen one in the order."""
    request = context.request
    blocked = capacity_verdict(current, request.replicas)
    if blocked is not None and not (
        choice.fits < request.replicas and current.placement and current.placement.fits
    ):
        return blocked
    winner = choice.assessment
    if before:
        why = "the recorded decision is followed" if request.recorded else "fallback is off"
        return blocked or Verdict(current.candidate.name, Reason.OUTRANKED, why, eligible=True)
    return Verdict(
        current.candidate.name, Reason.OUTRANKED,
        f"fits, but {winner.candidate.name} ranks higher: {difference(request, context.facts, current, winner, ranking)}",
        remedy=f"set spec.recipe.name: {current.candidate.name}" if "/" not in current.candidate.name else None,
        eligible=True,
    )  # fmt: skip


def _waiting(request: Request, order: list[Assessment], rejected: tuple[Verdict, ...]) -> Decision:
    blocked = [v for current in order if (v := capacity_verdict(current, request.replicas))]
    if not request.fallback and len(order) > 1:
        blocked[1:] = [replace(v, message=f"{v.message}; fallback is off") for v in blocked[1:]]
    first = blocked[0]
    waited = order if request.fallback else order[:1]
    return Decision(
        Outcome.WAITING, (*blocked, *rejected), f"waiting for {first.recipe}: {first.message}",
        first.remedy, None, order[0].candidate.name, wants_of(waited), tuple(waited),
    )  # fmt: skip


def wants_of(waited: Iterable[Assessment]) -> tuple[Want, ...]:
    """The GPUs that would let one of these candidates serve."""
    needs = [current.need for current in waited if current.need is not None]
    return tuple(dict.fromkeys(Want(need.pool, need.gpus, need) for need in needs))


def _none_eligible(verdicts: tuple[Verdict, ...]) -> Decision:
    nearest = verdicts[0]
    models = dict.fromkeys(
        str(verdict.needed) for verdict in verdicts if verdict.reason is Reason.GPU_MODEL_NOT_IN_CLUSTER
    )
    if nearest.reason is Reason.GPU_MODEL_NOT_IN_CLUSTER and len(models) > 1:
        return Decision(
            Outcome.NO_RECIPE, verdicts,
            f"none of {len(verdicts)} recipes can serve; the nearest are for {', '.join(models)}, and the cluster has {nearest.has}",
            "add a node with one of these GPUs, or check the node labels amd.com/gpu.device-id",
        )  # fmt: skip
    return Decision(
        Outcome.NO_RECIPE, verdicts,
        f"none of {len(verdicts)} recipes can serve; nearest is {nearest.recipe}: {nearest.message}", nearest.remedy,
    )  # fmt: skip


def _by_progress(failed: Iterable[tuple[Assessment, Verdict]], inventory: Inventory) -> tuple[Verdict, ...]:
    """Rejected candidates, the ones that came furthest first; of equals those for the best GPUs of the cluster."""
    present = {pool.gpu_model for pool in inventory.pools}

    def place(each: tuple[Assessment, Verdict]) -> tuple[int, float, str]:
        assessment, verdict = each
        gpu = gpu_catalog().get(assessment.candidate.spec.hardware.gpu_model)
        speed = gpu.memory_bandwidth_bytes_per_s if gpu and gpu.model in present else 0.0
        return _PROGRESS.get(verdict.reason, len(STAGES)), -speed, verdict.recipe

    return tuple(verdict for _, verdict in sorted(failed, key=place))

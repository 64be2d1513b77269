"""What one pass will do about one AIMDeployment: keep, render anew, or choose. Reads the caches, writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aim_engine.api.conditions import ConditionReason
from aim_engine.api.deployment import AIMDeployment, AIMDeploymentSpec
from aim_engine.api.deployment_status import Recommendation, SelectionStatus
from aim_engine.api.enums import RolloutStrategy, UpdatePolicy, WhenNoCapacity
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.api.wording import briefly
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.inventory import Inventory, PodNeed, only, place
from aim_engine.reconcile.advice import improves, recommend
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.facts import facts_used
from aim_engine.reconcile.revision import Inputs, Revision
from aim_engine.reconcile.status import Judgement, not_selected, selected, selection_status, wanted
from aim_engine.render import RENDERER_VERSION, RenderInput, ResolvedRecipe, disruption_budget, render
from aim_engine.selection import (
    Assessment,
    Candidate,
    Choice,
    Decision,
    Facts,
    Memo,
    Recorded,
    Request,
    Source,
    Want,
    candidate,
    capacity_verdict,
    decide,
    effective_args,
    hold,
    pod_need,
    spec_problems,
    wants_of,
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the pass sees around its deployment."""

    candidates: Sequence[Candidate]
    free: Inventory
    """As if the deployment had no pods and no promises."""
    now: Inventory
    """As it is, the deployment's own pods included."""
    facts: Facts
    config: OperatorConfig
    namespace_labels: Mapping[str, str]
    live_replicas: int | None
    """Replicas asked of the live Deployment; None when there is none."""
    look_again: bool
    """Recipes of the model changed, or GPUs it waits for became free: something better may be possible."""
    hopes: tuple[Want, ...]
    """What would let it have a better recipe, as of the last look."""
    recommendation: Recommendation | None
    """The one published last."""
    inputs: Inputs
    """Hashes of the deployment's spec."""
    clock: float
    """Seconds since the epoch."""
    recorded: Recorded | None = None
    """The decision that the deployment names; None also where it is not there."""
    memo: Memo = field(default_factory=Memo)
    nodes: frozenset[str] = frozenset()
    """Where its pods are."""
    picture: int = 0
    """Of all this apart from what is free: another one is worth another look."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome: the revision in force and how many replicas may run."""

    revision: Revision | None
    is_new: bool
    selected: Judgement
    selection: SelectionStatus | None
    need: PodNeed | None = None
    granted: int = 0
    wants: tuple[Want, ...] = ()
    """GPUs that it lacks: with one of these it can go on."""
    short_of: str | None = None
    hopes: tuple[Want, ...] = ()
    """GPUs with which it could have a better recipe."""
    recommendation: Recommendation | None = None
    recommended_need: PodNeed | None = None
    """What one replica of the recommended recipe takes."""
    recommended_fits: int = 0
    """Replicas of it that fit now."""
    look_again_at: float | None = None
    """When the recommended recipe may be followed, in seconds since the epoch."""
    decision: Decision | None = None
    """Set when selection ran."""


def make_plan(deployment: AIMDeployment, current: Revision | None, around: Surroundings) -> Plan:
    """Decide what to do; a decision once made is kept until the user's wishes change (or its policy is Automatic)."""
    request = request_in(deployment, around)
    problem = spec_problem(request, around.facts)
    if problem is not None:
        invalid = Judgement("False", ConditionReason.INVALID_SPEC, problem)
        return _keep(deployment, current, around, invalid) if current else Plan(None, False, invalid, None)
    inputs = around.inputs
    if current is None or current.inputs.wishes != inputs.wishes or _is_news(current, inputs):
        return _choose(deployment, request, current, around)
    changed_shape = current.inputs.shape != inputs.shape
    if changed_shape or current.inputs.rendering != inputs.rendering:
        held = hold(request, as_candidate(current), around.free, around.facts, any_capacity=not changed_shape)
        if held is not None:
            held = replace(held, tier=current.tier)
            return _adopt(deployment, current, around, held, current.message, current.selection)
    if changed_shape:
        return _choose(deployment, request, current, around)
    return _follow(deployment, request, current, around)


def _is_news(current: Revision, inputs: Inputs) -> bool:
    """Whether another decision was recorded. One that was lost moves nothing."""
    return bool(inputs.recorded) and inputs.recorded != current.inputs.recorded


def request_in(deployment: AIMDeployment, around: Surroundings) -> Request:
    """What the deployment asks of selection in its surroundings."""
    return Request(
        deployment.metadata.namespace,
        deployment.spec,
        around.namespace_labels,
        tuple(around.config.allowed_images),
        f"{around.inputs.wishes}/{around.inputs.shape}",
        around.recorded,
    )


def spec_problem(request: Request, facts: Facts) -> str | None:
    """What is wrong with the spec itself, whatever recipe; None when nothing is."""
    return "; ".join(briefly([str(problem) for problem in spec_problems(request, facts)])) or None


def _choose(
    deployment: AIMDeployment, request: Request, current: Revision | None, around: Surroundings
) -> Plan:
    """A new selection; when nothing can be chosen, what runs goes on running and the condition tells."""
    decision = decide(request, around.candidates, around.free, around.facts, around.memo)
    if decision.choice is None:
        status = selection_status(decision, len(decision.verdicts))
        judgement = not_selected(decision)
        plan = (
            Plan(None, False, judgement, status)
            if current is None
            else replace(_keep(deployment, current, around, judgement), selection=status)
        )
        if wanted(deployment.spec) == 0:  # it would take none: nobody is to wait behind it
            return replace(plan, hopes=decision.wants, decision=decision)
        return replace(plan, wants=decision.wants, decision=decision)
    return _take(deployment, request, current, around, decision, decision.choice)


def _take(
    deployment: AIMDeployment, request: Request, current: Revision | None, around: Surroundings, decision: Decision,
    choice: Choice,
) -> Plan:  # fmt: skip
    """Make the outcome of a selection the revision in force."""
    told = selection_status(decision, len(decision.verdicts)).wire()
    plan = _adopt(deployment, current, around, choice, decision.message, told)
    hopes = decision.wants if choice.fits >= request.replicas else ()
    return replace(plan, hopes=hopes, decision=decision)


def _adopt(
    deployment: AIMDeployment, current: Revision | None, around: Surroundings, choice: Choice, message: str,
    selection: Mapping[str, Any],
) -> Plan:  # fmt: skip
    """Make a choice the revision in force."""
    spec, chosen = deployment.spec, choice.assessment
    need = chosen.need or pod_need(chosen.candidate, spec)
    grows = current is not None and _grows(need, current, spec)
    live = None if current is None or grows else around.live_replicas
    granted, short_of, wants = _grant(chosen.candidate, spec, need, around, live)
    further = max(1, granted) if grows else 1
    strategy, why = _strategy(spec.rollout.strategy, current, _beside(around, need), need, further)
    hardware = chosen.candidate.spec.hardware
    resource = (chosen.placement.resource if chosen.placement else None) or "amd.com/gpu"
    known = around.facts.checkpoint(chosen.candidate.spec.source or chosen.candidate.spec.model_id)
    inp = RenderInput(
        name=deployment.metadata.name,
        namespace=deployment.metadata.namespace,
        uid=deployment.metadata.uid,
        spec=spec,
        recipe=ResolvedRecipe(
            chosen.candidate.name,
            chosen.candidate.hash,
            chosen.candidate.spec,
            effective_args(chosen.candidate, spec),
            {**chosen.candidate.spec.env, **spec.overrides.env},
        ),
        gpu=gpu_catalog()[hardware.gpu_model],
        resource=resource,
        replicas=max(1, spec.replicas),
        strategy=strategy,
        partition=hardware.partition,
        checkpoint_bytes=known.bytes if known else None,
        config=around.config.engine,
    )
    revision = Revision(
        number=(current.number if current else 0) + 1,
        renderer=RENDERER_VERSION,
        inputs=around.inputs,
        recipe=chosen.candidate.name,
        source=chosen.candidate.source.value,
        recipe_hash=chosen.candidate.hash,
        recipe_spec=chosen.candidate.spec.wire(),
        model_id=chosen.candidate.spec.model_id,
        tier=choice.tier,
        message=message,
        selection=selection,
        resource=resource,
        strategy=strategy,
        strategy_reason=why,
        manifests=_manifests(inp),
        moved_at=current.moved_at if current else None,
        facts=facts_used(deployment.spec, chosen.candidate, around.candidates, around.facts),
    )
    told = SelectionStatus.model_validate(selection)
    return Plan(revision, True, selected(revision, None), told, need, granted, wants, short_of)


def _manifests(inp: RenderInput) -> tuple[dict[str, Any], ...]:
    """All objects, with the disruption budget that scaling to several replicas will want."""
    return tuple(replace(render(inp), budget=disruption_budget(inp)))


def _follow(deployment: AIMDeployment, request: Request, current: Revision, around: Surroundings) -> Plan:
    """Nothing the user wrote has changed: keep the revision, look for drift and for something better."""
    automatic = deployment.spec.recipe.update_policy is UpdatePolicy.AUTOMATIC
    allowed_at = _next_move(current, around.config)
    awaited = automatic and around.recommendation is not None
    due = awaited and around.clock >= allowed_at
    kept = _keep(deployment, current, around, selected(current, _drift(current, around.candidates)))
    if not (around.look_again or due):
        return replace(
            kept,
            recommendation=around.recommendation,
            hopes=around.hopes,
            look_again_at=allowed_at if awaited else None,
        )
    request = replace(request, recorded=None)
    decision = decide(request, around.candidates, around.free, around.facts, around.memo)
    running = hold(request, in_use(current, around.candidates), around.free, around.facts, any_capacity=True)
    better, hoped = decision.choice, decision.ahead
    if better is not None and better.fits < _serving(request, running, around):
        hoped = (*hoped, better.assessment)
        better = None
    kept = replace(
        kept,
        hopes=wants_of(each for each in hoped if improves(request, around.facts, current, running, each)),
    )
    if better is None or not improves(request, around.facts, current, running, better.assessment):
        return kept
    if automatic and around.clock >= allowed_at:
        moved = _take(deployment, request, current, around, decision, better)
        return replace(moved, revision=replace(_made(moved), moved_at=around.clock))
    need = better.assessment.need or pod_need(better.assessment.candidate, deployment.spec)
    further = better.fits if _grows(need, current, deployment.spec) else 1
    strategy, _ = _strategy(deployment.spec.rollout.strategy, current, _beside(around, need), need, further)
    advice = recommend(
        request, current, running, better, decision, around.facts, strategy, allowed_at if automatic else None
    )
    return replace(
        kept,
        recommendation=advice,
        recommended_need=need,
        recommended_fits=better.fits,
        look_again_at=allowed_at if automatic else None,
    )


def _serving(request: Request, running: Choice | None, around: Surroundings) -> int:
    """Wanted replicas that have their GPUs: what has no room for as many is not better."""
    live = min(request.replicas, around.live_replicas or 0)
    return min(live, running.fits if running else 0) if request.create_pending else live


def in_use(current: Revision, candidates: Sequence[Candidate]) -> Candidate:
    """The recipe in use; with what was observed of it, where the catalogue still has it as it is."""
    known = (c for c in candidates if (c.name, c.hash) == (current.recipe, current.recipe_hash))
    return next(known, as_candidate(current))


def _next_move(current: Revision, config: OperatorConfig) -> float:
    """When `updatePolicy: Automatic` may move the deployment again, in seconds since the epoch."""
    return 0.0 if current.moved_at is None else current.moved_at + config.move_cooldown_seconds


def _made(plan: Plan) -> Revision:
    if plan.revision is None:
        raise AssertionError("a plan that takes a choice has a revision")
    return plan.revision


def _keep(deployment: AIMDeployment, current: Revision, around: Surroundings, judgement: Judgement) -> Plan:
    if judgement.status == "False":
        judgement = replace(
            judgement, message=f"{judgement.message}; the former configuration stays in force"
        )
    recipe = as_candidate(current)
    need = pod_need(recipe, deployment.spec)
    live, more = around.live_replicas, 0
    if live and live < wanted(deployment.spec):
        if need.together and around.nodes:
            around = replace(around, free=only(around.free, around.nodes), now=only(around.now, around.nodes))
        more = live + place(around.now, need).fits  # theirs may be on nodes that take no more pods
    granted, short_of, wants = _grant(recipe, deployment.spec, need, around, live, more)
    return Plan(
        current,
        False,
        judgement,
        SelectionStatus.model_validate(current.selection),
        need,
        granted,
        wants,
        short_of,
    )


def _grant(
    recipe: Candidate, spec: AIMDeploymentSpec, need: PodNeed, around: Surroundings, live: int | None, more: int = 0
) -> tuple[int, str | None, tuple[Want, ...]]:  # fmt: skip
    """Replicas that may run: never fewer than already do, never more than there is room for (unless CreatePending).

    `more`: as many as there are when those that run stay where they are.
    """
    target = wanted(spec)
    if live is not None and target <= live:
        return target, None, ()
    if spec.recipe.when_no_capacity is WhenNoCapacity.CREATE_PENDING:
        return target, None, ()
    room = place(around.free, need)
    granted = max(min(live or 0, target), min(target, max(room.fits, more)))
    if granted == target:
        return target, None, ()
    if room.fits:
        room = replace(room, fits=granted)
    verdict = capacity_verdict(Assessment(recipe, {}, need=need, placement=room), target)
    short_of = f"{verdict.message}; {verdict.remedy}" if verdict else "no room"
    return granted, short_of, (Want(need.pool, need.gpus, need),)


def _beside(around: Surroundings, need: PodNeed) -> Inventory:
    """Where a further pod could run beside those that do."""
    return only(around.now, around.nodes) if need.together and around.nodes else around.now


def _grows(need: PodNeed, current: Revision, spec: AIMDeploymentSpec) -> bool:
    """Whether a new pod takes more than an old one leaves: it may then wait for ever for old ones that wait for it."""
    old = pod_need(as_candidate(current), spec)
    return need.pool == old.pool and need.gpus > old.gpus


def _strategy(
    asked: RolloutStrategy, current: Revision | None, now: Inventory, need: PodNeed, further: int
) -> tuple[RolloutStrategy, str]:
    """Surge when `further` new pods fit beside the old ones, else replace in place."""
    if asked is not RolloutStrategy.AUTO:
        return asked, "asked by spec.rollout.strategy"
    if current is None:
        return RolloutStrategy.RECREATE, "first rollout, nothing to replace"
    fits = place(now, need).fits
    if fits >= further:
        return (
            RolloutStrategy.SURGE,
            f"{need.gpus} {need.gpu_model} GPUs are free for a replica beside the running ones",
        )
    if fits:
        return (
            RolloutStrategy.RECREATE,
            f"{fits} of {further} replicas have {need.gpus} free {need.gpu_model} GPUs beside the running ones",
        )
    return (
        RolloutStrategy.RECREATE,
        f"no node has {need.gpus} free {need.gpu_model} GPUs for a replica beside the running ones",
    )


def as_candidate(revision: Revision) -> Candidate:
    """The recipe as it was resolved, whatever became of it since."""
    spec = AIMRecipeSpec.model_validate(revision.recipe_spec)
    return candidate(revision.recipe, Source(revision.source), spec)


def _drift(revision: Revision, candidates: Sequence[Candidate]) -> str | None:
    if revision.source == Source.GENERATED:
        return None
    now = next((c for c in candidates if c.name == revision.recipe), None)
    if now is not None and now.hash == revision.recipe_hash:
        return None
    what = "was deleted" if now is None else f"was edited (now {now.hash})"
    return (
        f"recipe {revision.recipe} {what} since it was chosen ({revision.recipe_hash}); the running model keeps what it "
        "has; set spec.recipe.updatePolicy: Automatic or change the spec to follow"
    )

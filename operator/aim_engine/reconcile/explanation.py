"""Why a deployment has its recipe, or would get one: a pass over it as one document, the same wherever the pass is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.api.enums import Outcome
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.plan import Plan, Surroundings, in_use, request_in
from aim_engine.reconcile.planner import Planner
from aim_engine.reconcile.revision import Revision
from aim_engine.selection import (
    Assessment,
    Candidate,
    Choice,
    Decision,
    Request,
    choice_document,
    choice_version,
    decide,
    effective_args,
    hold,
    report,
)


def explain(
    planner: Planner,
    key: Key,
    namespace_labels: Mapping[str, str],
    named: tuple[Candidate, ...],
    clock: float,
) -> tuple[dict[str, Any], Plan]:
    """The document on a deployment, and the plan it tells of; see docs/reference/decision.schema.json.

    The pass looks for something better as if something had changed: only a process that was there knows whether it has.
    """
    stored = planner.cache.deployments[key]
    if stored.typed is None:
        raise ValueError(stored.error)
    current = planner.current(key)
    planner.waiters.nudge(key)
    plan = planner.plan(key, stored.typed, namespace_labels, named, clock)
    around = planner.surroundings(key, stored.typed, namespace_labels, named, clock)
    request = request_in(stored.typed, around)
    decision = plan.decision or decide(request, around.candidates, around.free, around.facts, around.memo)
    document = {"namespace": key[0], "name": key[1], **report(request, decision, around.free)}
    if current is None:
        return {**document, "inForce": None, "change": None, "recommendation": None}, plan
    held = planner.tracker.held(key)
    standing = _standing(request, plan, current, decision, around)
    return {**document, **standing, "inForce": _in_force(current, plan, held)}, plan


def _standing(
    request: Request, plan: Plan, current: Revision, decision: Decision, around: Surroundings
) -> dict[str, Any]:
    """The document's keys that speak of a deployment that runs."""
    live = around.live_replicas
    chosen = _choice(request, plan, current, decision, around)
    name = chosen.assessment.candidate.name if chosen else None
    best = decision.choice.assessment.candidate.name if decision.choice else None
    return {
        "outcome": Outcome.SELECTED.value if chosen else decision.outcome.value,
        "message": plan.selected.message,
        "remedy": decision.remedy if name == best else None,
        "chosen": choice_document(chosen, around.free, request.replicas) if chosen else None,
        "candidates": [_beside(each, name) for each in report(request, decision, around.free)["candidates"]],
        "engineVersion": choice_version(chosen),
        "change": _change(plan, current, live),
        "recommendation": plan.recommendation.wire() if plan.recommendation else None,
    }


def _choice(
    request: Request, plan: Plan, current: Revision, decision: Decision, around: Surroundings
) -> Choice | None:
    """What the pass leads to; None when nothing can serve what is asked now, whatever still runs."""
    if plan.revision is None or plan.selected.status == "False":
        return None
    if plan.is_new and plan.decision is not None:
        return decision.choice
    recipe = in_use(plan.revision, around.candidates)
    held = hold(request, recipe, around.free, around.facts, any_capacity=True)
    if held is None:  # it runs, and could not be started here any more
        return Choice(Assessment(recipe, effective_args(recipe, request.spec)), current.tier, 0)
    return Choice(held.assessment, current.tier, held.fits)


def _beside(candidate: dict[str, Any], chosen: str | None) -> dict[str, Any]:
    """A candidate's row. The best one of today is not chosen while another one is in force."""
    if candidate["recipe"] == chosen:
        return {**candidate, "verdict": "chosen"}
    return {**candidate, "verdict": "recommended"} if candidate["verdict"] == "chosen" else candidate


def _change(plan: Plan, current: Revision, live: int | None) -> str | None:
    """What the pass changes of it: another recipe, the same one rendered anew, or nothing but how many replicas run.

    `live`: how many do; None where nobody knows.
    """
    if plan.revision is None:
        return None
    if not plan.is_new:
        return None if live in (None, plan.granted) else "Replicas"
    return "Rendering" if plan.revision.recipe_hash == current.recipe_hash else "Recipe"


def _in_force(current: Revision, plan: Plan, held: Mapping[str, int]) -> dict[str, Any]:
    """What runs now."""
    hardware = current.recipe_spec["hardware"]
    return {
        "recipe": current.recipe,
        "hash": current.recipe_hash,
        "tier": current.tier.value,
        "revision": current.number,
        "gpuModel": hardware["gpuModel"],
        "gpuCount": hardware["gpuCount"],
        "partition": hardware.get("partition"),
        "precision": current.recipe_spec["precision"],
        "nodes": sorted(held),
        "waitsFor": plan.short_of,
    }

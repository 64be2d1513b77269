"""What is said where no recipe is about the request at all, and none can be made."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from aim_engine.api.enums import Outcome
from aim_engine.catalog.models import model_catalog
from aim_engine.selection.types import Candidate, Decision, Facts, Request


def nothing_known(
    request: Request, named: Candidate | None, candidates: Iterable[Candidate], facts: Facts
) -> Decision:
    """The decision, and what would help. `named`: the recipe that the request insists on, for another model."""
    pinned = request.pinned_name
    if pinned is not None:
        kind = "ConfigMap" if pinned.startswith("configmap/") else "AIMRecipe"
        name = pinned.removeprefix("configmap/")
        if named is not None:
            return Decision(
                Outcome.NO_RECIPE, (), f"{kind} '{name}' is for model {named.spec.model_id}, not {request.model_id}",
                "correct spec.model.id, or name another recipe",
            )  # fmt: skip
        return Decision(
            Outcome.NO_RECIPE,
            (),
            f"{kind} '{name}' does not exist",
            f"create {kind} {name} or correct spec.recipe",
        )
    known = request.model_id is not None and facts.model(request.model_id) is not None
    if known and not request.fallback:
        return Decision(
            Outcome.NO_RECIPE, (), f"no recipe exists for model '{request.model_id}', and fallback is off",
            "allow spec.recipe.fallback and autoSelect for a generated configuration, or add a recipe",
        )  # fmt: skip
    told = facts.unknown(request.model_id) if request.model_id and not known else None
    unknown = f"and its size is unknown: {told}" if told else "and its size is unknown"
    why = "and it fits no GPU of this cluster" if known else unknown
    near = _similar(request.model_id or "", candidates)
    hint = f" (did you mean {near}?)" if near else ""
    return Decision(
        Outcome.NO_RECIPE, (), f"no recipe exists for model '{request.model_id}'{hint}, {why}",
        f"{f'write {near}, or ' if near else ''}add an AIMRecipe or a ConfigMap recipe for it; kubectl get aimrecipes lists the models there are",
    )  # fmt: skip


def _similar(model_id: str, candidates: Iterable[Candidate]) -> str | None:
    """A model that somebody may have meant: the same in other letters, or nearly the same."""
    known = sorted({each.spec.model_id for each in candidates if each.listed} | set(model_catalog()))
    by_case = {name.lower(): name for name in known if name != model_id}
    if "/" not in model_id:  # the owner was left out
        by_case = {name.rpartition("/")[2]: full for name, full in by_case.items()}
    near = get_close_matches(model_id.lower(), by_case, n=1, cutoff=0.85)
    return by_case[near[0]] if near else None

"""What a recipe does in this cluster, from what its users show under load. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from aim_engine.api.performance import Measurement, Observed
from aim_engine.engines import version_of
from aim_engine.reconcile.performance import SIGNIFICANT, near, same_recipe
from aim_engine.selection import Candidate


def observed(
    recipe: Candidate, users: Iterable[Mapping[str, Any]], before: Observed | None
) -> Observed | None:
    """The median over deployments that run this content of the recipe unchanged, by their statuses.

    What was known stays while it differs by less than a tenth, and when the last user is gone.
    """
    version = version_of(recipe.spec)
    known = (
        before
        if before is not None and (before.recipe_hash, before.engine_version) == (recipe.hash, version)
        else None
    )
    told = (same_recipe(user, recipe.hash) for user in users)
    ran = recipe.spec.image or version
    loads = [each.under_load for each in told if each and each.under_load and each.engine_version == ran]
    if not loads:
        return known
    new = Observed(
        tokens_per_second=_median(loads, "tokens_per_second") or 0,
        time_to_first_token_milliseconds=_median(loads, "time_to_first_token_milliseconds"),
        inter_token_latency_milliseconds=_median(loads, "inter_token_latency_milliseconds"),
        deployments=len(loads),
        samples=sum(each.samples for each in loads),
        at=max(each.at for each in loads),
        recipe_hash=recipe.hash,
        gpu_model=recipe.spec.hardware.gpu_model,
        engine_version=version,
    )
    if known is not None and not differs(known, new):
        return known
    return new


def differs(before: Observed, after: Observed) -> bool:
    """Whether somebody would decide otherwise."""
    if before.deployments != after.deployments:
        return True
    names = (
        "tokens_per_second",
        "time_to_first_token_milliseconds",
        "inter_token_latency_milliseconds",
    )
    return not all(near(getattr(before, name), getattr(after, name), SIGNIFICANT) for name in names)


def _median(loads: Sequence[Measurement], name: str) -> int | None:
    known = [value for each in loads if (value := getattr(each, name)) is not None]
    return round(median(known)) if known else None

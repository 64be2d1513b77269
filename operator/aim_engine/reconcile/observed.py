"""What a recipe does in this cluster, from what its users show under load. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from aim_engine.api.performance import Measurement, Observed, PerformanceStatus
from aim_engine.engines import version_of
from aim_engine.reconcile.performance import SIGNIFICANT, same_recipe
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
    seen = [
        performance.under_load
        for user in users
        if (performance := same_recipe(user, recipe.hash)) and _counts(performance, version)
    ]
    loads = [each for each in seen if each is not None]
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
    return any(_moved(getattr(before, name), getattr(after, name)) for name in names)


def _counts(performance: PerformanceStatus, version: str) -> bool:
    return performance.under_load is not None and performance.engine_version == version


def _moved(old: int | None, new: int | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) > SIGNIFICANT * max(old, new)


def _median(loads: Sequence[Measurement], name: str) -> int | None:
    known = [value for each in loads if (value := getattr(each, name)) is not None]
    return round(median(known)) if known else None

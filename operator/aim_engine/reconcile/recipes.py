"""Status of AIMRecipes: valid, nodes, fits, users. Lazy by design, so that a busy cluster does not rewrite them all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from aim_engine.api.conditions import ConditionReason, ConditionType
from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.recipe import AIMRecipeStatus
from aim_engine.api.wording import briefly
from aim_engine.catalog.gpus import devices
from aim_engine.inventory import Tracker, place
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.cache import Cache, StoredRecipe, recipe_status, with_observation
from aim_engine.reconcile.observed import observed
from aim_engine.reconcile.resources import RECIPES
from aim_engine.reconcile.status import Judgement, conditions, merge_patch
from aim_engine.reconcile.turns import in_turns
from aim_engine.selection import Candidate, Facts, describe, pod_need, validity_problems
from aim_engine.telemetry.metrics import Metrics, Pass, Trouble

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_NO_WISHES = AIMDeploymentSpec()


@dataclass(slots=True)
class RecipeStatuses:
    """Writes recipe statuses from a dirty set, each recipe at most once per `interval` seconds."""

    client: KubeClient
    cache: Cache
    tracker: Tracker
    facts: Facts
    interval: float
    metrics: Metrics
    learned: Callable[[str], None]
    """Told a recipe of which other performance than before is known."""
    _dirty: set[str] = field(default_factory=set)
    _all_dirty: bool = True
    _written: dict[str, float] = field(default_factory=dict)
    _validity: dict[str, Judgement] = field(default_factory=dict)
    """Recipe hash -> judgement: validity depends on nothing else."""

    def mark(self, names: Iterable[str] | None) -> None:
        """The status of these recipes may have changed; None means of all."""
        if names is None:
            self._all_dirty = True
        else:
            self._dirty.update(name for name in names if name in self.cache.recipes)

    def relearn(self) -> None:
        """Facts of a model changed: every recipe is judged anew."""
        self._validity.clear()
        self._all_dirty = True

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self._all_dirty:
                self._dirty.update(self.cache.recipes)
                self._all_dirty = False
            due = [name for name in sorted(self._dirty) if self._is_due(name)]
            async for name in in_turns(due):
                self._dirty.discard(name)
                try:
                    with self.metrics.reconciling("AIMRecipe") as told:
                        await self._write(name, told)
                except Exception:
                    log.exception("status of recipe %s: a fault of ours; the others go on", name)

    def _valid(self, candidate: Candidate) -> Judgement:
        if candidate.hash not in self._validity:
            self._validity[candidate.hash] = validity(candidate, self.facts)
        return self._validity[candidate.hash]

    def _is_due(self, name: str) -> bool:
        return time.monotonic() - self._written.get(name, -self.interval) >= self.interval

    async def _write(self, name: str, told: Pass) -> None:
        stored = self.cache.recipes.get(name)
        if stored is None:
            self._written.pop(name, None)
            return
        patch = merge_patch(stored.status, self._status(stored).wire())
        if not patch:
            return
        self._written[name] = time.monotonic()
        try:
            written = await self.client.merge_status(RECIPES, None, name, patch)
        except ApiError as error:
            if error.code != 404:
                told.failed(Trouble.API)
                log.warning("status of recipe %s not written: %s", name, error)
                self._dirty.add(name)
            return
        current = self.cache.recipes.get(name)
        if current is not None and current.generation == stored.generation:
            status = written.get("status") or {}
            found = with_observation(current.candidate, status) if current.candidate else None
            self.cache.recipes[name] = replace(current, status=status, candidate=found)
            if found and current.candidate and found.observed != current.candidate.observed:
                self.learned(name)

    def _status(self, stored: StoredRecipe) -> AIMRecipeStatus:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        named = (self.cache.deployments.get(key) for key in self.cache.by_recipe.get(stored.name, ()))
        users = [
            user for user in named if user and (user.status.get("recipe") or {}).get("name") == stored.name
        ]
        before = recipe_status(stored)
        if stored.candidate is None:
            invalid = Judgement(
                "False", ConditionReason.INVALID, f"the recipe cannot be read: {stored.error}"
            )
            return AIMRecipeStatus(
                observed_generation=stored.generation,
                used_by=len(users),
                benchmarks=before.benchmarks,
                conditions=conditions({ConditionType.VALID: invalid}, stored.status, stored.generation, now),
            )
        placement = place(self.tracker.inventory(), pod_need(stored.candidate, _NO_WISHES))
        valid = self._valid(stored.candidate)
        judged = {
            ConditionType.VALID: valid,
            ConditionType.HARDWARE_AVAILABLE: availability(
                stored.candidate, placement.usable_nodes, placement.matching_nodes
            ),
        }
        return AIMRecipeStatus(
            observed_generation=stored.generation,
            matching_nodes=placement.usable_nodes,
            fits=placement.fits if valid.status == "True" else 0,
            used_by=len(users),
            observed=observed(stored.candidate, (user.status for user in users), before.observed),
            benchmarks=before.benchmarks,
            conditions=conditions(judged, stored.status, stored.generation, now),
        )


def validity(candidate: Candidate, facts: Facts) -> Judgement:
    """Whether a recipe can be chosen at all: arguments, parallelism, precision and memory against its own GPU."""
    told = [f"{describe(problem)}; {problem.remedy}" for problem in validity_problems(candidate, facts)]
    if told:
        return Judgement("False", ConditionReason.INVALID, "; ".join(briefly(told)))
    return Judgement(
        "True", ConditionReason.VALID, "engine arguments, parallelism, precision and memory agree"
    )


def availability(candidate: Candidate, usable: int, matching: int) -> Judgement:
    """Whether the cluster has the recipe's GPUs: on `usable` of `matching` nodes a pod could start."""
    hardware = candidate.spec.hardware
    what = devices(hardware.gpu_count, hardware.gpu_model, hardware.partition)
    if usable:
        return Judgement(
            "True",
            ConditionReason.NODES_MATCH,
            f"{usable} usable {'node has' if usable == 1 else 'nodes have'} {what}",
        )
    why = (
        f"{matching} {'node has' if matching == 1 else 'nodes have'} {what}, none is usable (cordon, NotReady, taint or unhealthy GPUs)"
        if matching
        else f"no node has {what}"
    )
    return Judgement(
        "False",
        ConditionReason.NO_MATCHING_NODES,
        f"{why}; add such a node or check labels and partition mode",
    )

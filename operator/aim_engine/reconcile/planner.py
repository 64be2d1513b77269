"""What a pass sees around its deployment, from the caches, and what it decides. The operator and the command line both ask here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.deployment_status import Recommendation
from aim_engine.inventory import Inventory, Tracker, withhold
from aim_engine.reconcile.cache import Cache, Key
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.plan import Plan, Surroundings, as_candidate, make_plan
from aim_engine.reconcile.revision import Inputs, Record, Revision, inputs_of
from aim_engine.reconcile.waiters import Waiters
from aim_engine.selection import Candidate, Facts, Memo, Recorded, pod_need


@dataclass(slots=True)
class Planner:
    """Plans from the caches alone: no network, and no clock but the one it is given."""

    config: OperatorConfig
    cache: Cache
    tracker: Tracker
    waiters: Waiters
    facts: Facts
    _examined: dict[Key, int] = field(default_factory=dict)
    """The picture at the last look."""
    _recommended: dict[Key, Recommendation | None] = field(default_factory=dict)
    """What the last pass recommended, whether or not it is written yet."""
    _inputs: dict[Key, tuple[str, int, Inputs]] = field(default_factory=dict)
    """Hashes of a spec by (uid, generation), which nothing else changes."""
    _decoded: dict[Key, tuple[str, Revision]] = field(default_factory=dict)
    """The revision in force by its name, for a record never changes."""
    _memo: Memo = field(default_factory=Memo)

    def plan(
        self, key: Key, deployment: AIMDeployment, namespace_labels: Mapping[str, str], named: tuple[Candidate, ...],
        clock: float,
    ) -> Plan:  # fmt: skip
        """What to do about a deployment now. `named`: recipes that only it may use; `clock`: seconds since the epoch."""
        current = self.current(key)
        around = self.surroundings(key, deployment, namespace_labels, named, clock)
        made = make_plan(deployment, current, around)
        self._examined[key] = around.picture
        self._recommended[key] = made.recommendation
        return made

    def surroundings(
        self, key: Key, deployment: AIMDeployment, namespace_labels: Mapping[str, str], named: tuple[Candidate, ...],
        clock: float,
    ) -> Surroundings:  # fmt: skip
        """Everything a plan for the deployment is made from."""
        stored = self.cache.deployments[key]
        current = self.current(key)
        kept = self.waiters.kept_for_others(key)
        live = self.cache.child(key, "Deployment")
        picture = self._picture(deployment, current, namespace_labels, named)
        recorded = self._recorded(key[0], deployment)
        inputs = self._inputs_of(key, deployment)
        return Surroundings(
            candidates=self.cache.candidates(key[0], named),
            free=self.free_for(key),
            now=withhold(self.tracker.inventory(), kept),
            facts=self.facts.at(deployment.spec.model.revision, deployment.spec.model.id),
            config=self.config,
            namespace_labels=namespace_labels,
            live_replicas=live.replicas if live else None,
            look_again=self.waiters.take_nudge(key) or self._examined.get(key) != picture,
            hopes=self.waiters.hopes(key),
            recommendation=(
                self._recommended[key] if key in self._recommended else _recommendation(stored.status)
            ),
            inputs=replace(inputs, recorded=f"{recorded.recipe}@{recorded.hash}") if recorded else inputs,
            recorded=recorded,
            clock=clock,
            memo=self._memo,
            nodes=frozenset(self.tracker.held(key)),
            picture=picture,
        )

    def _recorded(self, namespace: str, deployment: AIMDeployment) -> Recorded | None:
        name = deployment.spec.recipe.decision_config_map
        found = self.cache.decisions.get((namespace, name)) if name else None
        return found if isinstance(found, Recorded) else None

    def free_for(self, key: Key) -> Inventory:
        """What a deployment may use: its own pods do not count, and what is kept for others is not free
        unless the deployment has it already."""
        everyone = self.tracker.inventory()
        return withhold(self.tracker.inventory(exclude=key), self.waiters.kept_for_others(key), everyone)

    def current(self, key: Key) -> Revision | None:
        """The decision in force."""
        record = self.cache.newest_revision(self.cache.deployments[key].uid)
        return self._decode(key, record) if record else None

    def restore(self, key: Key) -> None:
        """Enter into the ledger what a deployment was granted before this process started."""
        stored = self.cache.deployments[key]
        revision = self.current(key)
        live = self.cache.child(key, "Deployment")
        if revision is None or live is None or live.owner_uid != stored.uid or stored.typed is None:
            return
        need = pod_need(as_candidate(revision), stored.typed.spec)
        self.tracker.promise(key, need, live.replicas, revision.resource, revision.strategy)

    def forget(self, key: Key) -> None:
        """The deployment is gone."""
        for memory in (self._examined, self._recommended, self._inputs, self._decoded):
            memory.pop(key, None)

    def relearn(self) -> None:
        """Facts of a model changed: what was computed from the old ones is not used again."""
        self._memo = Memo()

    def _picture(
        self, deployment: AIMDeployment, current: Revision | None, namespace_labels: Mapping[str, str],
        named: tuple[Candidate, ...],
    ) -> int:  # fmt: skip
        """Hash of the model's recipes, the kinds of GPUs, the spec with its policies, and what the namespace may use."""
        model_id = current.model_id if current else deployment.spec.model.id or ""
        return hash(
            (
                self.cache.catalogue_versions.get(model_id, 0),
                frozenset(self.tracker.inventory().pools),
                deployment.metadata.generation,
                frozenset(namespace_labels.items()),
                tuple(each.hash for each in named),
            )
        )

    def _decode(self, key: Key, record: Record) -> Revision:
        known = self._decoded.get(key)
        if known is None or known[0] != record.name:
            known = self._decoded[key] = (record.name, record.revision())
        return known[1]

    def _inputs_of(self, key: Key, deployment: AIMDeployment) -> Inputs:
        version = (deployment.metadata.uid, deployment.metadata.generation)
        known = self._inputs.get(key)
        if known is None or known[:2] != version:
            known = self._inputs[key] = (*version, inputs_of(deployment.spec))
        return known[2]


def _recommendation(status: Mapping[str, Any]) -> Recommendation | None:
    try:
        found = status.get("recommendation")
        return Recommendation.model_validate(found) if found else None
    except ValidationError:
        return None

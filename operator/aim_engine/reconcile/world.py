"""The operator's caches filled from objects instead of watches, so that its decisions can be made without a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.api.conditions import ConditionReason, ConditionType
from aim_engine.api.configmap_yaml import Faults
from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.enums import WhenNoCapacity
from aim_engine.api.meta import LABEL_RECIPE
from aim_engine.inventory import Tracker
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import Cache, Key, StoredDeployment, read_config_recipe
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.decisions import DECISION_FILE, read_decision
from aim_engine.reconcile.desired import with_replicas
from aim_engine.reconcile.explanation import explain
from aim_engine.reconcile.intake import Intake, decode_pod
from aim_engine.reconcile.plan import Plan, request_in, spec_problem
from aim_engine.reconcile.planner import Planner
from aim_engine.reconcile.status import by_type, wanted
from aim_engine.reconcile.waiters import Waiters
from aim_engine.selection import Candidate, Facts, can_ever_serve

Object = Mapping[str, Any]
BY_KIND: Mapping[str, Resource] = {
    resource.kind: resource for resource in (*resources.WATCHED, resources.NODES, resources.PODS)
}
"""Kinds that a world is made of."""
_ORDER = (
    resources.NAMESPACES, resources.PRIORITY_CLASSES, resources.RECIPES, resources.CONFIG_MAPS,
    resources.DEPLOYMENTS_AIM, resources.REVISIONS, resources.DEPLOYMENTS, resources.SERVICES, resources.CLAIMS,
    resources.BUDGETS,
)  # fmt: skip


class _Nobody:
    """Nobody works on what changes here."""

    def add(self, key: Key, *, urgent: bool = False) -> None: ...

    def add_after(self, key: Key, seconds: float) -> None: ...


@dataclass(slots=True)
class World:
    """A cluster as the operator sees it at one moment. Deployments that run hold what they were promised."""

    planner: Planner
    intake: Intake
    clock: float
    """Seconds since the epoch."""
    named: dict[Key, tuple[Candidate, ...]] = field(default_factory=dict)
    """Recipes of ConfigMaps without our label, which take part only where they are named."""

    @property
    def cache(self) -> Cache:
        return self.intake.cache

    @property
    def tracker(self) -> Tracker:
        return self.intake.tracker

    def put(self, deployment: Object) -> Key:
        """An AIMDeployment as it would be after `kubectl apply`; one of that name is replaced, and stays who it is."""
        metadata = deployment["metadata"]
        key = (metadata["namespace"], metadata["name"])
        before = self.cache.deployments.get(key)
        known = {} if before is None else _identity(before)
        self.cache.versions[resources.DEPLOYMENTS_AIM].pop(key, None)
        self.intake.upsert(resources.DEPLOYMENTS_AIM, {**deployment, "metadata": {**metadata, **known}})
        return key

    def explain(self, key: Key) -> tuple[dict[str, Any], Plan]:
        """What a pass over a deployment would lead to, in full, and its plan."""
        return explain(self.planner, key, self.labels(key), self._named(key, self._typed(key)), self.clock)

    def learn(self, facts: Facts) -> None:
        """Decide by other facts from now on."""
        self.planner.facts = facts
        self.planner.relearn()

    def problem(self, key: Key) -> str | None:
        """What is wrong with a deployment's spec whatever the recipe; None when nothing is."""
        deployment = self._typed(key)
        around = self.planner.surroundings(key, deployment, self.labels(key), (), self.clock)
        return spec_problem(request_in(deployment, around), around.facts)

    def asked(self, key: Key) -> int:
        """Replicas that a deployment asks for."""
        return wanted(self._typed(key).spec)

    def running(self, key: Key) -> list[dict[str, Any]]:
        """The objects of the revision in force, with as many replicas as there are; none where nothing runs."""
        stored = self.cache.deployments.get(key)
        current = None if stored is None else self.planner.current(key)
        if stored is None or current is None:
            return []
        live = self.cache.child(key, resources.DEPLOYMENTS.kind)
        asked = wanted(stored.typed.spec) if stored.typed else 1
        return with_replicas(current.manifests, running=live.replicas if live else asked, asked=asked)

    def settle(self, key: Key, plan: Plan) -> None:
        """Promise a deployment what its plan grants, so that the next one is not promised the same GPUs."""
        if plan.revision is not None and plan.need is not None:
            self.tracker.promise(key, plan.need, plan.granted, plan.revision.resource, plan.revision.strategy)

    def pending(self, key: Key) -> Plan:
        """What a pass would do if the deployment had its pods created before GPUs are free for them."""
        deployment = self._typed(key)
        wishes = deployment.spec.recipe.model_copy(update={"when_no_capacity": WhenNoCapacity.CREATE_PENDING})
        spec = deployment.spec.model_copy(update={"recipe": wishes})
        hopeful = deployment.model_copy(update={"spec": spec})
        return self.planner.plan(key, hopeful, self.labels(key), self._named(key, deployment), self.clock)

    def may_be_served(self, key: Key) -> bool:
        """Whether its wishes could be met if the cluster had every kind of GPU, all of them free."""
        deployment = self._typed(key)
        around = self.planner.surroundings(
            key, deployment, self.labels(key), self._named(key, deployment), self.clock
        )
        return can_ever_serve(request_in(deployment, around), around.candidates, around.facts)

    def labels(self, key: Key) -> Mapping[str, str]:
        """Labels of the deployment's namespace."""
        found = self.cache.namespaces.get(key[0])
        return found.labels if found else {}

    def config_map(self, key: Key) -> str | None:
        """The ConfigMap whose recipe a deployment insists on."""
        return self._typed(key).spec.recipe.config_map

    def config_error(self, key: Key) -> Faults | None:
        """Why that ConfigMap cannot be read."""
        name = self.config_map(key)
        return self.cache.config_errors.get((key[0], name)) if name else None

    def told_to_wait(self, key: Key) -> str | None:
        """What the operator said to a deployment that waits for GPUs; None where it does not, or the spec changed since.

        Only the operator knows who waits how long, and for whom a node is kept.
        """
        stored = self.cache.deployments[key]
        found = by_type(stored.status).get(ConditionType.RECIPE_SELECTED, {})
        waits = found.get("reason") == ConditionReason.INSUFFICIENT_CAPACITY
        current = found.get("observedGeneration") == stored.generation
        return str(found.get("message")) if waits and current else None

    def _typed(self, key: Key) -> AIMDeployment:
        stored = self.cache.deployments[key]
        if stored.typed is None:
            raise ValueError(stored.error)
        return stored.typed

    def _named(self, key: Key, deployment: AIMDeployment) -> tuple[Candidate, ...]:
        name = deployment.spec.recipe.config_map
        return self.named.get((key[0], name), ()) if name else ()


def build_world(objects: Iterable[Object], config: OperatorConfig, facts: Facts, clock: float) -> World:
    """A world of these objects; unknown kinds are passed over.

    Objects must have `kind` and a name, namespaced ones a namespace. Raises KeyError, TypeError, AttributeError or
    ValueError, naming no object, for one that is not of its kind's shape.
    """
    cache, tracker, waiters = Cache(), Tracker(config.engine.gpu_labels), Waiters()
    intake = Intake(cache, tracker, waiters, _Nobody(), lambda _: None, lambda _obj, _why: None)
    world = World(Planner(config, cache, tracker, waiters, facts), intake, clock)
    by_kind: dict[Resource, list[Object]] = {resource: [] for resource in BY_KIND.values()}
    for obj in objects:
        resource = BY_KIND.get(obj["kind"])
        if resource is not None:
            by_kind[resource].append(obj)
    intake.replace_nodes(by_kind[resources.NODES])
    intake.replace_pods(decode_pod(obj) for obj in by_kind[resources.PODS])
    for resource in _ORDER:
        for obj in by_kind[resource]:
            if resource is resources.CONFIG_MAPS and not _is_labelled(obj):
                _take_unlabelled(world, obj)
            else:
                intake.upsert(resource, obj)
    for key in cache.deployments:
        if cache.deployments[key].typed is not None:
            world.planner.restore(key)
    return world


def _is_labelled(obj: Object) -> bool:
    return (obj["metadata"].get("labels") or {}).get(LABEL_RECIPE) in ("true", "decision")


def _take_unlabelled(world: World, obj: Object) -> None:
    key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
    if DECISION_FILE in (obj.get("data") or {}):
        world.cache.decisions[key] = read_decision(obj)
        return
    read = read_config_recipe(obj, listed=False)
    if isinstance(read, Faults):
        world.cache.config_errors[key] = read
    else:
        world.named[key] = read


def _identity(stored: StoredDeployment) -> dict[str, Any]:
    """What a changed spec leaves as it is. The generation grows, as the API server would have it."""
    return {
        "uid": stored.uid,
        "generation": stored.generation + 1,
        "creationTimestamp": stored.created,
        "resourceVersion": "",
    }

"""From watch events to the caches, and from changes to the keys worth a pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aim_engine.api.configmap_yaml import Faults
from aim_engine.api.meta import LABEL_DEPLOYMENT, LABEL_RECIPE
from aim_engine.inventory import Freed, PodUsage, PoolKey, Tracker, read_pod
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import (
    Cache,
    Key,
    Priority,
    StoredDeployment,
    StoredRecipe,
    controller_uid,
    read_child,
    read_config_recipe,
    read_deployment,
    read_namespace,
    read_stored_recipe,
)
from aim_engine.reconcile.decisions import read_decision
from aim_engine.reconcile.pods import PodHealth, read_health
from aim_engine.reconcile.revision import read_record
from aim_engine.reconcile.waiters import Waiters
from aim_engine.selection import Observation

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
ECHO_SECONDS = 0.05
"""Pods and children change several times in a row; this long their changes are collected into one pass."""
SeenPod = tuple[PodUsage, PodHealth | None]


def decode_pod(obj: Object) -> SeenPod:
    """The little we keep of a pod: its requests, and its health when it is one of ours."""
    usage = read_pod(obj)
    return usage, read_health(obj) if usage.owner else None


class Passes(Protocol):
    """Told which deployments are worth a pass."""

    def add(self, key: Key, *, urgent: bool = False) -> None: ...

    def add_after(self, key: Key, seconds: float) -> None: ...


@dataclass(slots=True)
class Intake:
    """Takes events of all kinds. Everything is idempotent: an old or repeated event changes nothing."""

    cache: Cache
    tracker: Tracker
    waiters: Waiters
    queue: Passes
    dirty_recipes: Callable[[Iterable[str] | None], None]
    """Told the names of recipes whose status may change; None means all."""
    refuse_config_map: Callable[[Object, str], None]
    """Told a ConfigMap that is labelled as a recipe and is none, and why."""
    _told: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Problems of nodes that were logged already."""
    _pools: frozenset[PoolKey] = frozenset()

    def upsert(self, resource: Resource, obj: Object) -> None:
        """An object was added, changed or listed."""
        if not self.cache.is_news(resource, obj):
            return
        match resource:
            case resources.DEPLOYMENTS_AIM:
                self._deployment(obj)
            case resources.RECIPES:
                self._recipe(obj)
            case resources.CONFIG_MAPS:
                self._config_map(obj)
            case resources.NAMESPACES:
                self._namespace(obj)
            case resources.PRIORITY_CLASSES:
                self.cache.priorities[obj["metadata"]["name"]] = Priority(
                    obj.get("value", 0), bool(obj.get("globalDefault"))
                )
            case resources.REVISIONS:
                self._revision(obj)
            case _:
                self._child(resource, obj)

    def remove(self, resource: Resource, obj: Object) -> None:
        """An object is gone."""
        if not self.cache.is_gone(resource, obj):
            return
        metadata = obj["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace", "")
        match resource:
            case resources.DEPLOYMENTS_AIM:
                self._forget_deployment((namespace, name))
            case resources.RECIPES:
                gone = self.cache.recipes.pop(name, None)
                if gone and gone.candidate:
                    self._wake_model(gone.candidate.spec.model_id, name)
            case resources.CONFIG_MAPS:
                self._forget_config_map((namespace, name))
            case resources.NAMESPACES:
                self.cache.namespaces.pop(name, None)
            case resources.PRIORITY_CLASSES:
                self.cache.priorities.pop(name, None)
            case resources.REVISIONS:
                self._missing_revision(obj)
            case _:
                self.cache.children[(namespace, name)].pop(resource.kind, None)
                if not self.cache.children[(namespace, name)]:
                    del self.cache.children[(namespace, name)]
                self._wake_owner(obj)

    def versions(self, resource: Resource) -> Mapping[Key, str]:
        """What is known of a kind now, by version: to be taken before a list of it is asked for."""
        return dict(self.cache.versions[resource])

    def replace(
        self,
        resource: Resource,
        objects: Iterable[Object],
        before: Mapping[Key, str],
        namespaces: Collection[str] | None = None,
    ) -> int:
        """A complete list, of all namespaces or of some: what is not in it is gone. Returns how many ghosts were found.

        `before`: what was known when the list was asked for. What came or changed since says nothing of a list that is older.
        """
        listed = set()
        for obj in objects:
            metadata = obj["metadata"]
            listed.add((metadata.get("namespace", ""), metadata["name"]))
            if obj.keys() & {"spec", "data", "status", "value"}:
                self.upsert(resource, obj)
        ghosts = [
            key
            for key, version in self.cache.versions[resource].items()
            if key not in listed
            and before.get(key) == version
            and (namespaces is None or key[0] in namespaces)
        ]
        for namespace, name in ghosts:
            self.remove(resource, {"metadata": {"name": name, "namespace": namespace}})
        return len(ghosts)

    def upsert_pod(self, seen: SeenPod) -> None:
        usage, health = seen
        before = self.tracker.owner(usage.uid)
        if before is not None and before != usage.owner:  # set aside by its label
            self._drop_health(before, usage.uid)
        freed = self.tracker.upsert_pod(usage)
        if health and usage.owner:
            known = self.cache.pods[usage.owner].get(usage.uid)
            self.cache.pods[usage.owner][usage.uid] = health
            if known != health:
                self.queue.add_after(usage.owner, ECHO_SECONDS)
        self._pods_freed(freed)

    def remove_pod(self, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        namespace = obj["metadata"].get("namespace", "")
        labelled = (namespace, (obj["metadata"].get("labels") or {}).get(LABEL_DEPLOYMENT, ""))
        self._drop_health(self.tracker.owner(uid) or labelled, uid)
        self._pods_freed(self.tracker.delete_pod(uid))

    def _drop_health(self, owner: Key, uid: str) -> None:
        if self.cache.pods.get(owner, {}).pop(uid, None):
            self.queue.add_after(owner, ECHO_SECONDS)
            if not self.cache.pods[owner]:
                del self.cache.pods[owner]

    def replace_pods(self, seen: Iterable[SeenPod]) -> None:
        listed = list(seen)
        before = set(self.cache.pods)
        self.cache.pods.clear()
        for usage, health in listed:
            if health and usage.owner:
                self.cache.pods[usage.owner][usage.uid] = health
        freed = self.tracker.replace_pods(usage for usage, _ in listed)
        for owner in before | set(self.cache.pods):
            self.queue.add(owner)
        self._pods_freed(freed)

    def upsert_node(self, obj: Object) -> None:
        self._nodes_changed(self.tracker.upsert_node(obj))

    def remove_node(self, obj: Object) -> None:
        self._nodes_changed(self.tracker.delete_node(obj["metadata"]["name"]))

    def replace_nodes(self, objects: Iterable[Object]) -> None:
        self._nodes_changed(self.tracker.replace_nodes(objects))

    def _pods_freed(self, freed: tuple[Freed, ...]) -> None:
        self.dirty_recipes(None)
        for key in self.waiters.woken(freed, time.monotonic()):
            self.queue.add(key)

    def _nodes_changed(self, freed: tuple[Freed, ...]) -> None:
        """Nodes change rarely. More nodes may help anybody who waits; another kind of GPU may be better for anybody."""
        self.dirty_recipes(None)
        self._tell_problems()
        if freed:
            for key in self.waiters.wake_all(time.monotonic()):
                self.queue.add(key)
        pools = frozenset(self.tracker.inventory().pools)
        if pools != self._pools:
            self._pools = pools
            for key in self.cache.deployments:
                self.queue.add(key)

    def _tell_problems(self) -> None:
        """Each problem of a node once: its GPUs are not used, and only its labels say why."""
        problems = dict(self.tracker.problems())
        for name, found in problems.items():
            if self._told.get(name) != found:
                log.warning("node %s: %s", name, "; ".join(found))
        self._told = problems

    def _deployment(self, obj: Object) -> None:
        stored = read_deployment(obj)
        key = (stored.namespace, stored.name)
        before = self.cache.deployments.get(key)
        self.cache.deployments[key] = stored
        if before is not None and before.uid != stored.uid:
            self.cache.revisions.pop(before.uid, None)
        self._index(key, before, remove=True)
        self._index(key, stored)
        only_status = (
            before is not None
            and before.uid == stored.uid
            and before.generation == stored.generation
            and before.deleting == stored.deleting
        )
        if not only_status:
            self.queue.add(key, urgent=True)

    def _index(self, key: Key, stored: StoredDeployment | None, *, remove: bool = False) -> None:
        if stored is None:
            return
        names = [(stored.status.get("recipe") or {}).get("name")]
        models = [(stored.status.get("recipe") or {}).get("modelID")]
        if stored.typed is not None:
            wishes = stored.typed.spec.recipe
            names += [wishes.name, f"configmap/{wishes.config_map}" if wishes.config_map else None]
            names.append(f"decision/{wishes.decision_config_map}" if wishes.decision_config_map else None)
            models.append(stored.typed.spec.model.id)
        for index, values in ((self.cache.by_recipe, names), (self.cache.by_model, models)):
            for value in values:
                if value and remove:
                    index[value].discard(key)
                elif value:
                    index[value].add(key)

    def _forget_deployment(self, key: Key) -> None:
        gone = self.cache.deployments.pop(key, None)
        for index in (self.cache.by_recipe, self.cache.by_model):
            for users in index.values():
                users.discard(key)
        if gone:
            self.cache.revisions.pop(gone.uid, None)
        self.queue.add(key)

    def _recipe(self, obj: Object) -> None:
        stored = read_stored_recipe(obj)
        before = self.cache.recipes.get(stored.name)
        self.cache.recipes[stored.name] = stored
        if before is not None and (before.uid, before.generation) == (stored.uid, stored.generation):
            if _observed(before) != _observed(stored):
                self.observed(stored.name)
            return
        self.dirty_recipes([stored.name])
        for each in (before, stored):
            if each and each.candidate:
                self._wake_model(each.candidate.spec.model_id, stored.name)

    def observed(self, name: str) -> None:
        """Other performance of a recipe is known than before: whoever may use it looks again."""
        stored = self.cache.recipes.get(name)
        if stored and stored.candidate:
            self._wake_model(stored.candidate.spec.model_id, name)

    def _config_map(self, obj: Object) -> None:
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._forget_config_map(key)
        if (obj["metadata"].get("labels") or {}).get(LABEL_RECIPE) == "decision":
            self.cache.decisions[key] = read_decision(obj)
            self._wake_model(None, f"decision/{key[1]}")
            return
        read = read_config_recipe(obj)
        if isinstance(read, Faults):
            self.cache.config_errors[key] = read
            self.refuse_config_map(obj, str(read))
            self._wake_model(None, f"configmap/{key[1]}")
            return
        self.cache.config_recipes[key] = read
        for each in read:
            self._wake_model(each.spec.model_id, f"configmap/{key[1]}")

    def _forget_config_map(self, key: Key) -> None:
        self.cache.config_errors.pop(key, None)
        if self.cache.decisions.pop(key, None):
            self._wake_model(None, f"decision/{key[1]}")
        for each in self.cache.config_recipes.pop(key, ()):
            self._wake_model(each.spec.model_id, f"configmap/{key[1]}")

    def learned(self, source_id: str) -> None:
        """The facts of a repository became known or changed: its users, and those of models it holds weights of, look again."""
        recipes = (stored.candidate for stored in self.cache.recipes.values() if stored.candidate)
        custom = (each for found in self.cache.config_recipes.values() for each in found)
        models = {each.spec.model_id for each in (*recipes, *custom) if each.spec.source == source_id}
        for model_id in sorted({source_id, *models}):
            self._wake_model(model_id, "")

    def _wake_model(self, model_id: str | None, recipe: str) -> None:
        keys = set(self.cache.by_recipe.get(recipe, ()))
        if model_id:
            keys |= self.cache.by_model.get(model_id, set())
            self.cache.catalogue_versions[model_id] = self.cache.catalogue_versions.get(model_id, 0) + 1
        for key in sorted(keys):
            self.queue.add(key)

    def _namespace(self, obj: Object) -> None:
        name = obj["metadata"]["name"]
        before, now = self.cache.namespaces.get(name), read_namespace(obj)
        self.cache.namespaces[name] = now
        if before != now:
            for key in [key for key in self.cache.deployments if key[0] == name]:
                self.queue.add(key)

    def _revision(self, obj: Object) -> None:
        uid = controller_uid(obj["metadata"])
        if uid:
            self.cache.revisions[uid][obj["metadata"]["name"]] = read_record(obj, uid)

    def _missing_revision(self, obj: Object) -> None:
        """A record somebody deleted is kept in memory while its deployment lives; the next pass stores it again.

        One that nobody can read was deleted to be rid of it.
        """
        metadata = obj["metadata"]
        labelled = (metadata.get("labels") or {}).get(LABEL_DEPLOYMENT)
        keys = [(metadata.get("namespace", ""), labelled)] if labelled else list(self.cache.deployments)
        for key in keys:
            stored = self.cache.deployments.get(key)
            records = self.cache.revisions.get(stored.uid, {}) if stored else {}
            if metadata["name"] in records:
                record = records.pop(metadata["name"])
                if record.is_readable():
                    records[record.name] = record.lost()
                self.queue.add(key)
                return

    def _child(self, resource: Resource, obj: Object) -> None:
        metadata = obj["metadata"]
        self.cache.children[(metadata["namespace"], metadata["name"])][resource.kind] = read_child(
            {**obj, "apiVersion": resource.api_version, "kind": resource.kind}  # items of a list have neither
        )
        self._wake_owner(obj)

    def _wake_owner(self, obj: Object) -> None:
        metadata = obj["metadata"]
        name = (metadata.get("labels") or {}).get(LABEL_DEPLOYMENT) or metadata["name"].removesuffix(
            "-service"
        )
        key = (metadata.get("namespace", ""), name)
        if key in self.cache.deployments:
            self.queue.add_after(key, ECHO_SECONDS)


def _observed(stored: StoredRecipe) -> Observation | None:
    return stored.candidate.observed if stored.candidate else None

"""What the operator knows of the cluster, typed and indexed. Fed by watches; never asked over the network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from aim_engine.api.configmap import NamedRecipe, RecipeDocument, read_recipe
from aim_engine.api.configmap_yaml import Faults, ReadError
from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.recipe import AIMRecipeSpec, AIMRecipeStatus
from aim_engine.api.schema_faults import schema_faults
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.pods import PodHealth
from aim_engine.reconcile.revision import Record
from aim_engine.selection import Candidate, Observation, Recorded, Source, candidate

Key = tuple[str, str]
"""(namespace, name) of an AIMDeployment."""
RECIPE_FILE = "recipe.yaml"
LEAST_CONCURRENCY = 8
"""A benchmark with fewer requests at a time says nothing of what a recipe can do."""


@dataclass(frozen=True, slots=True)
class StoredDeployment:
    """An AIMDeployment as read, or why it could not be read."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    deleting: bool
    created: str
    status: Mapping[str, Any]
    """Raw status, the base of status patches."""
    typed: AIMDeployment | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRecipe:
    """An AIMRecipe as read; `candidate` is None when it could not be read."""

    name: str
    uid: str
    generation: int
    resource_version: str
    status: Mapping[str, Any]
    candidate: Candidate | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """Labels of a namespace and whether it is being deleted."""

    labels: Mapping[str, str]
    terminating: bool


@dataclass(frozen=True, slots=True)
class Priority:
    """A PriorityClass: its value, and whether pods without a class get it."""

    value: int
    is_default: bool


@dataclass(frozen=True, slots=True)
class LiveChild:
    """An object we rendered, as it is now. The body is kept as JSON bytes: thousands of parsed ones cost too much."""

    uid: str
    owner_uid: str | None
    resource_version: str
    deleting: bool
    body: bytes
    summary: Mapping[str, Any]
    """The few fields that are asked for at every pass: generation, replicas, status."""

    @property
    def replicas(self) -> int:
        """Replicas asked for."""
        count: int = self.summary["spec"]["replicas"]
        return count

    def content(self) -> dict[str, Any]:
        """The object without managedFields."""
        content: dict[str, Any] = from_json(self.body)
        return content


@dataclass(slots=True)
class Cache:
    """All watched kinds. `upsert` and `remove` answer which deployments and recipes to look at again."""

    deployments: dict[Key, StoredDeployment] = field(default_factory=dict)
    recipes: dict[str, StoredRecipe] = field(default_factory=dict)
    config_recipes: dict[Key, tuple[Candidate, ...]] = field(default_factory=dict)
    config_errors: dict[Key, Faults] = field(default_factory=dict)
    decisions: dict[Key, Recorded | Faults] = field(default_factory=dict)
    """Recorded decisions by the ConfigMap that holds them."""
    namespaces: dict[str, NamespaceInfo] = field(default_factory=dict)
    priorities: dict[str, Priority] = field(default_factory=dict)
    """PriorityClasses by name."""
    children: dict[Key, dict[str, LiveChild]] = field(default_factory=lambda: defaultdict(dict))
    """(namespace, object name) -> kind -> object."""
    revisions: dict[str, dict[str, Record]] = field(default_factory=lambda: defaultdict(dict))
    """Owner uid -> revision name -> record."""
    pods: dict[Key, dict[str, PodHealth]] = field(default_factory=lambda: defaultdict(dict))
    by_model: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    """Model id -> deployments that ask for it."""
    by_recipe: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    """Candidate name -> deployments that use or name it."""
    catalogue_versions: dict[str, int] = field(default_factory=dict)
    """Model id -> how often its recipes changed since the start."""
    versions: dict[Resource, dict[Key, str]] = field(default_factory=lambda: defaultdict(dict))

    def is_news(self, resource: Resource, obj: Mapping[str, Any]) -> bool:
        """False for a version of the object that was seen already or is older."""
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        known = self.versions[resource].get(key)
        version = metadata.get("resourceVersion", "")
        if known is not None and version.isdigit() and known.isdigit() and int(version) <= int(known):
            return False
        self.versions[resource][key] = version
        return True

    def is_gone(self, resource: Resource, obj: Mapping[str, Any]) -> bool:
        """False for the end of a former object, told late: another of its name was seen since. Else its version is forgotten."""
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        known, version = self.versions[resource].get(key, ""), metadata.get("resourceVersion", "")
        if version.isdigit() and known.isdigit() and int(version) < int(known):
            return False
        self.versions[resource].pop(key, None)
        return True

    def store_child(self, resource: Resource, key: Key, child: LiveChild) -> None:
        """Take over the answer to our own write, unless a watch brought something newer meanwhile."""
        known = self.versions[resource].get(key, "")
        if not known or not child.resource_version.isdigit() or int(child.resource_version) > int(known):
            self.versions[resource][key] = child.resource_version
            self.children[key][resource.kind] = child

    def candidates(self, namespace: str, extra: Iterable[Candidate] = ()) -> list[Candidate]:
        """Recipes that take part in selection in a namespace: the catalogue's and the namespace's own."""
        own = [c for (ns, _), found in self.config_recipes.items() if ns == namespace for c in found]
        catalogue = [stored.candidate for stored in self.recipes.values() if stored.candidate]
        return [*own, *catalogue, *extra]

    def rank(self, key: Key) -> tuple[int, str, Key]:
        """Place among those that ask for the same GPUs: higher priority first, then the older, then by name."""
        stored = self.deployments.get(key)
        if stored is None or stored.typed is None:
            return 0, "", key
        asked = stored.typed.spec.scheduling.priority_class_name
        if asked is None:
            value = max((each.value for each in self.priorities.values() if each.is_default), default=0)
        else:
            known = self.priorities.get(asked)
            value = known.value if known else 0
        return -value, stored.created, key

    def child(self, key: Key, kind: str) -> LiveChild | None:
        """The rendered object of a kind that is named like its deployment."""
        return self.children.get(key, {}).get(kind)

    def newest_revision(self, uid: str) -> Record | None:
        """The revision in force."""
        return max(self.revisions.get(uid, {}).values(), key=lambda record: record.number, default=None)


def read_deployment(obj: Mapping[str, Any]) -> StoredDeployment:
    """Read a stored AIMDeployment; an unreadable one is kept with its error."""
    metadata = obj["metadata"]
    typed, error = None, None
    try:
        typed = AIMDeployment.from_object({**obj, "status": {}})
    except ValidationError as invalid:
        error = explain(invalid, "aimdeployment")
    return StoredDeployment(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        deleting=metadata.get("deletionTimestamp") is not None,
        created=metadata.get("creationTimestamp", ""),
        status=obj.get("status") or {},
        typed=typed,
        error=error,
    )


def read_stored_recipe(obj: Mapping[str, Any]) -> StoredRecipe:
    """Read a stored AIMRecipe; an unreadable one is kept with its error."""
    metadata = obj["metadata"]
    name = metadata["name"]
    found, error = None, None
    try:
        found = candidate(name, Source.CATALOGUE, AIMRecipeSpec.model_validate(obj.get("spec") or {}))
    except ValidationError as invalid:
        error = explain(invalid, "aimrecipe", "spec")
    status = obj.get("status") or {}
    return StoredRecipe(
        name,
        metadata.get("uid", ""),
        metadata.get("generation", 0),
        metadata.get("resourceVersion", ""),
        status,
        with_observation(found, status) if found else None,
        error,
    )


def with_observation(found: Candidate, status: Mapping[str, Any]) -> Candidate:
    """The recipe with what its status says it did here, where that speaks of this content of it."""
    return replace(found, observed=_observation(found, status))


def _observation(found: Candidate, status: Mapping[str, Any]) -> Observation | None:
    """What deployments showed under load, else the best saved benchmark: a client's load may have been too small."""
    loads = [run for run in _maps(status.get("benchmarks")) if _concurrency(run) >= LEAST_CONCURRENCY]
    told = [status.get("observed"), *sorted(loads, key=_rate, reverse=True)]
    for each in told:
        if isinstance(each, Mapping) and each.get("recipeHash") == found.hash and _rate(each):
            first, token = (
                each.get(f"{name}Milliseconds") for name in ("timeToFirstToken", "interTokenLatency")
            )
            return Observation(
                gpu_model=str(each.get("gpuModel")),
                engine_version=str(each.get("engineVersion")),
                tokens_per_second=_rate(each),
                inter_token_latency_ms=_median(token),
                first_token_ms=_median(first),
            )
    return None


def _maps(listed: Any) -> list[Mapping[str, Any]]:
    return [each for each in listed or [] if isinstance(each, Mapping)]


def _concurrency(run: Mapping[str, Any]) -> int:
    load = run.get("workload")
    value = load.get("concurrency") if isinstance(load, Mapping) else None
    return value if isinstance(value, int) else 0


def _rate(told: Mapping[str, Any]) -> float:
    value = told.get("tokensPerSecond")
    return float(value) if isinstance(value, int) else 0.0


def _median(told: Any) -> float | None:
    value = told.get("p50") if isinstance(told, Mapping) else told
    return float(value) if isinstance(value, int) and value > 0 else None


def recipe_status(stored: StoredRecipe) -> AIMRecipeStatus:
    """The typed status; an unreadable one counts as empty and is written anew."""
    try:
        return AIMRecipeStatus.model_validate(stored.status)
    except ValidationError:
        return AIMRecipeStatus()


def recipe_document(obj: Mapping[str, Any]) -> RecipeDocument | Faults:
    """What a ConfigMap holds under the key of recipes."""
    metadata, data = obj["metadata"], obj.get("data")
    text = data.get(RECIPE_FILE) if isinstance(data, Mapping) else None
    if not isinstance(text, str):
        remedy = f"put the recipe under the key {RECIPE_FILE}"
        return Faults((ReadError(f"data.{RECIPE_FILE}", "", "is missing", remedy),))
    return read_recipe(text, name=metadata["name"], namespace=metadata["namespace"])


def config_candidate(found: NamedRecipe, *, listed: bool = True) -> Candidate:
    """A recipe of a ConfigMap as a candidate."""
    return candidate(f"configmap/{found.name}", Source.CUSTOM, found.spec, listed=listed)


def read_config_recipe(obj: Mapping[str, Any], *, listed: bool = True) -> tuple[Candidate, ...] | Faults:
    """Recipes of a ConfigMap: `configmap/NAME`, or `configmap/NAME-<count>gpu[-sglang]` when it holds several."""
    read = recipe_document(obj)
    if isinstance(read, Faults):
        return read
    return tuple(config_candidate(found, listed=listed) for found in read.recipes)


def read_namespace(obj: Mapping[str, Any]) -> NamespaceInfo:
    metadata = obj["metadata"]
    terminating = (obj.get("status") or {}).get("phase") == "Terminating"
    return NamespaceInfo(
        metadata.get("labels") or {}, terminating or metadata.get("deletionTimestamp") is not None
    )


def read_child(obj: Mapping[str, Any]) -> LiveChild:
    metadata = dict(obj["metadata"])
    metadata.pop("managedFields", None)
    owner = controller_uid(metadata)
    body = to_json({**obj, "metadata": metadata})
    return LiveChild(
        metadata["uid"],
        owner,
        metadata.get("resourceVersion", ""),
        metadata.get("deletionTimestamp") is not None,
        body,
        {
            "metadata": {"generation": metadata.get("generation", 0)},
            "spec": {"replicas": obj.get("spec", {}).get("replicas", 1)},
            "status": obj.get("status") or {},
        },
    )


def controller_uid(metadata: Mapping[str, Any]) -> str | None:
    """UID of the AIMDeployment that controls an object."""
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and reference.get("kind") == resources.DEPLOYMENTS_AIM.kind:
            uid: str = reference["uid"]
            return uid
    return None


def explain(invalid: ValidationError, kind: str, root: str = "") -> str:
    """All errors of a pydantic validation, each with its field and value, in one line."""
    return str(Faults(schema_faults(invalid, kind, root)))

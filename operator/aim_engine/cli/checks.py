"""What keeps a cluster from serving models: each thing that is looked at as one finding, with what to do. Pure."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from aim_engine.api.meta import GROUP
from aim_engine.cli.files import Object
from aim_engine.inventory import Inventory, PoolKey, standing, whole_partition
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import controller_uid
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.revision import read_record
from aim_engine.reconcile.world import World, build_world
from aim_engine.selection import Candidate, CatalogueFacts, inventory_summary

_CRDS = (f"aimdeployments.{GROUP}", f"aimrecipes.{GROUP}")
_GPU_VENDOR_LABEL = "feature.node.kubernetes.io/pci-1002.present"
_SHOWN = 5


class Health(StrEnum):
    """How a finding stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    health: Health
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Forbidden:
    """What could not be looked at, in the API server's words."""

    why: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the checks look at."""

    crds: frozenset[str] | Forbidden
    denied: tuple[str, ...] | Forbidden
    """Rights that the operator lacks."""
    lease: Mapping[str, Any] | Forbidden | None
    webhooks: tuple[str, ...] | Forbidden
    objects: Sequence[tuple[str, Object]]
    """(kind, object) of all kinds that decisions are made from."""
    config: OperatorConfig | str
    """The operator's configuration; text: why it cannot be used."""
    namespace: str
    """Of the operator."""


def findings(cluster: Cluster, now: datetime) -> Iterator[Finding]:
    """All that was looked at, the installation first."""
    yield from _installation(cluster, now)
    readable = yield from _records(cluster.objects)
    config = OperatorConfig() if isinstance(cluster.config, str) else cluster.config
    world = build_world(({**obj, "kind": kind} for kind, obj in readable), config, CatalogueFacts(), 0.0)
    yield from _gpus(cluster, world)
    yield from _recipes(world)


def _not_looked_at(check: str, forbidden: Forbidden) -> Finding:
    remedy = "run the doctor with the rights of a cluster administrator"
    return Finding(check, Health.WARNING, f"not looked at: {forbidden.why}", remedy)


def _installation(cluster: Cluster, now: datetime) -> Iterator[Finding]:
    yield _crds(cluster.crds)
    if isinstance(cluster.config, str):
        remedy = "correct it: an operator does not start with such a configuration"
        yield Finding("configuration", Health.FAILED, cluster.config, remedy)
    match cluster.denied:
        case Forbidden() as forbidden:
            yield _not_looked_at("RBAC", forbidden)
        case ():
            yield Finding("RBAC", Health.OK, "the operator may do all it needs")
        case denied:
            remedy = "kubectl apply --server-side -k deploy/manifests"
            yield Finding("RBAC", Health.FAILED, f"the operator may not {', '.join(denied)}", remedy)
    yield _operator(cluster, now)
    match cluster.webhooks:
        case Forbidden() as forbidden:
            yield _not_looked_at("webhook", forbidden)
        case ():
            yield Finding("webhook", Health.OK, "none is installed; wrong objects are told in their status")
        case names:
            yield Finding("webhook", Health.OK, f"{', '.join(names)} checks objects as they are applied")


def _crds(there: frozenset[str] | Forbidden) -> Finding:
    if isinstance(there, Forbidden):
        return _not_looked_at("CRDs", there)
    if missing := [name for name in _CRDS if name not in there]:
        remedy = "kubectl apply --server-side -f crds"
        return Finding("CRDs", Health.FAILED, f"missing: {', '.join(missing)}", remedy)
    return Finding("CRDs", Health.OK, "installed")


def _operator(cluster: Cluster, now: datetime) -> Finding:
    if isinstance(cluster.lease, Forbidden):
        return _not_looked_at("operator", cluster.lease)
    spec = (cluster.lease or {}).get("spec") or {}
    renewed, holder = spec.get("renewTime"), spec.get("holderIdentity")
    where = f"kubectl -n {cluster.namespace}"
    if not renewed or not holder:
        message = f"no operator holds the Lease in namespace {cluster.namespace}"
        remedy = f"see {where} get pods, or name its namespace with --operator-namespace"
        return Finding("operator", Health.FAILED, message, remedy)
    age = (now - datetime.fromisoformat(renewed)).total_seconds()
    if age > 2 * spec.get("leaseDurationSeconds", 15):
        message = f"{holder} has not renewed the Lease for {age:.0f} s"
        remedy = f"see {where} logs deployment/aim-engine-operator"
        return Finding("operator", Health.FAILED, message, remedy)
    return Finding("operator", Health.OK, f"{holder} works")


def _records(
    objects: Sequence[tuple[str, Object]],
) -> Generator[Finding, None, list[tuple[str, Object]]]:
    """Tells the records of decisions that cannot be read. Returns the other objects."""
    readable: list[tuple[str, Object]] = []
    for kind, obj in objects:
        metadata = obj["metadata"]
        owner = controller_uid(metadata) if kind == resources.REVISIONS.kind else None
        try:
            if owner is not None:
                read_record(obj, owner).revision()
        except ValueError as error:
            where = metadata["namespace"]
            remedy = f"kubectl -n {where} delete controllerrevision {metadata['name']}: its deployment is decided anew"
            yield Finding("records", Health.FAILED, f"namespace {where}: {error}", remedy)
        else:
            readable.append((kind, obj))
    return readable


def _gpus(cluster: Cluster, world: World) -> Iterator[Finding]:
    inventory = world.tracker.inventory()
    bare = sorted(
        obj["metadata"]["name"]
        for kind, obj in cluster.objects
        if kind == "Node" and _has_amd_gpu(obj) and obj["metadata"]["name"] not in inventory.nodes
    )
    if bare:
        remedy = "install AMD's GPU operator or its device plugin (DaemonSet amdgpu-device-plugin) there"
        message = f"AMD GPUs without the resource amd.com/gpu on {_some(bare)}"
        yield Finding("device plugin", Health.FAILED, message, remedy)
    elif not inventory.nodes:
        remedy = "add nodes with AMD Instinct GPUs and AMD's device plugin"
        yield Finding("device plugin", Health.FAILED, "no node offers amd.com/gpu", remedy)
    else:
        several = "node offers" if len(inventory.nodes) == 1 else "nodes offer"
        yield Finding("device plugin", Health.OK, f"{len(inventory.nodes)} {several} AMD GPUs")
    yield from _unhealthy(inventory)
    for name, problems in sorted(world.tracker.problems().items()):
        for problem in problems:
            yield Finding("labels", Health.WARNING, f"node {name}: {problem}")
    yield from _capacity(inventory)


def _has_amd_gpu(node: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    return labels.get(_GPU_VENDOR_LABEL) == "true" or any(name.startswith("amd.com/gpu") for name in labels)


def _unhealthy(inventory: Inventory) -> Iterator[Finding]:
    for name, state in sorted(inventory.nodes.items()):
        for group in state.facts.groups:
            if group.allocatable < group.capacity:
                sick = f"{group.capacity - group.allocatable} of {group.capacity} {group.resource}"
                remedy = "the log of AMD's device plugin there tells which and why"
                yield Finding("device plugin", Health.WARNING, f"node {name}: {sick} are unhealthy", remedy)


def _capacity(inventory: Inventory) -> Iterator[Finding]:
    if not inventory.nodes:
        return
    closed = {
        name: " and ".join(map(str, hurdles))
        for name, state in inventory.nodes.items()
        if (hurdles := standing(state.facts))
    }
    for name, why in sorted(closed.items())[:_SHOWN]:
        yield Finding("capacity", Health.WARNING, f"node {name} takes no pods: it {why}")
    if len(closed) > _SHOWN:
        yield Finding("capacity", Health.WARNING, f"{len(closed) - _SHOWN} more nodes take no pods")
    pools = [pool for pool in inventory_summary(inventory)["gpus"] if pool["free"]]
    told = ", ".join(f"{pool['free']} {_pool_name(pool)}" for pool in pools)
    if told:
        yield Finding("capacity", Health.OK, f"free GPUs: {told}")
    else:
        remedy = "new deployments wait until GPUs are freed"
        yield Finding("capacity", Health.WARNING, "no GPU is free", remedy)


def _pool_name(pool: Mapping[str, Any]) -> str:
    return f"{pool['gpuModel']}/{pool['partition']}" if pool["partition"] else str(pool["gpuModel"])


def _recipes(world: World) -> Iterator[Finding]:
    recipes = world.cache.recipes.values()
    if not recipes:
        yield Finding("recipes", Health.FAILED, "there are none", "kubectl apply --server-side -R -f recipes")
        return
    broken = sorted(stored.name for stored in recipes if stored.candidate is None)
    if broken:
        remedy = "see `aim-engine recipes validate`"
        yield Finding("recipes", Health.WARNING, f"cannot be read: {_some(broken)}", remedy)
    pools = world.tracker.inventory().pools
    usable = sum(bool(s.candidate and _pool_of(s.candidate) in pools) for s in recipes)
    message = f"{len(recipes)}, of which {usable} are for GPUs of this cluster"
    if usable or not pools:
        yield Finding("recipes", Health.OK, message)
    else:
        remedy = "what is served is generated and tuned by nobody; add recipes for the GPUs there are"
        yield Finding("recipes", Health.WARNING, message, remedy)
    for key, error in sorted(world.cache.config_errors.items()):
        yield Finding("recipes", Health.WARNING, f"ConfigMap {key[0]}/{key[1]} is no recipe: {error}")


def _pool_of(candidate: Candidate) -> PoolKey:
    hardware = candidate.spec.hardware
    return PoolKey(hardware.gpu_model, whole_partition(hardware.partition))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

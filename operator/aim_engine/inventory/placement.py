"""Where pods of a given need would fit, and what stands in the way where they do not."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest

from aim_engine.inventory.nodes import GPU_RESOURCE, NodeFacts, tolerates
from aim_engine.inventory.state import (
    Bucket,
    Free,
    Inventory,
    Kind,
    NodeState,
    PodNeed,
    Pool,
    places_of,
    size_class,
)

MAX_BLOCKED_LISTED = 20


class Shortage(StrEnum):
    """The first thing that is short on every usable node."""

    GPUS = "gpus"
    CPU = "cpu"
    MEMORY = "memory"
    PODS = "pods"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where pods of one need fit now. All GPUs of a pod lie on one node: 4 + 4 free on two nodes are not 8."""

    fits: int
    """Replicas that fit now, all usable nodes together."""
    resource: str | None
    """Extended resource to ask for; None when no node has such GPUs."""
    matching_nodes: int
    """Nodes large enough were they empty."""
    usable_nodes: int
    """Matching nodes that take the pod: ready, not cordoned, taints tolerated, labels selected."""
    largest_free: int
    """Most GPUs free on one node that takes the pod."""
    largest_free_node: str | None
    """That node, the first by name; only told when nothing fits."""
    total_free: int
    largest_allocatable: int
    """Most GPUs that one node of the pool has at all."""
    best_free_cpu_milli: int
    """Most CPU free on one node that has enough free GPUs; only told when nothing fits."""
    best_free_memory_bytes: int
    """Most host memory free on one node that has enough free GPUs; only told when nothing fits."""
    blocked_nodes: int
    blocked: tuple[tuple[str, str], ...]
    """(node, why) of the first blocked nodes by name; only told when nothing fits."""
    short_of: Shortage | None
    """None when something fits, or when there is no node that takes the pod."""


def place(inventory: Inventory, need: PodNeed) -> Placement:
    """Where pods of this need fit. Where the pool's nodes differ in resource name, the name that serves best is taken."""
    pool = inventory.pools.get(need.pool, {})
    resources = sorted({kind.resource for kind in pool})
    placements = [_place(inventory, pool, need, resource) for resource in resources]
    if not placements:
        return _placement(_Survey(), need, None)
    return max(
        placements,
        key=lambda p: (p.fits, p.usable_nodes, p.matching_nodes, p.total_free, p.resource == GPU_RESOURCE),
    )


def best_fit(inventory: Inventory, need: PodNeed, resource: str) -> str | None:
    """A node that has room for one pod and, of all such nodes, the fewest free GPUs."""
    candidates = [
        (gpus, bucket)
        for kind, buckets in inventory.pools.get(need.pool, {}).items()
        if kind.resource == resource and _hurdle(kind, need) is None
        for gpus, bucket in buckets.items()
        if gpus >= need.gpus
    ]
    for gpus, bucket in sorted(candidates, key=lambda candidate: candidate[0]):
        for name, free in bucket.nodes.items():
            if _room(gpus, free, need) and _selects(need, inventory.nodes[name].facts):
                return name
    return None


def nearest_node(
    inventory: Inventory, need: PodNeed, *, prefer: str | None = None, without: Container[str] = ()
) -> str | None:
    """Of the nodes that could hold a pod of this need were they empty, the one where the fewest GPUs are missing.

    Ties go to `prefer`, then to the first by name. Nodes in `without` are left out.
    """
    found = (
        (-gpus, name != prefer, name)
        for kind, buckets in inventory.pools.get(need.pool, {}).items()
        if _hurdle(kind, need) is None
        for gpus, bucket in buckets.items()
        for name in _matching(inventory, kind, bucket, need)
        if name not in without and _selects(need, inventory.nodes[name].facts)
    )
    return min(found, default=(0, False, None))[2]


def has_room(state: NodeState, need: PodNeed, resource: str) -> bool:
    """Whether one pod of this need fits on this node now."""
    return any(_room(gpus, free, need) > 0 for gpus, free in _open_groups(state, need, resource))


def admits(state: NodeState, need: PodNeed, resource: str) -> bool:
    """Whether the node would take a pod of this need, were enough free on it."""
    return bool(_open_groups(state, need, resource))


def _open_groups(state: NodeState, need: PodNeed, resource: str) -> list[tuple[int, Free]]:
    if not _selects(need, state.facts):
        return []
    return [
        (gpus, free)
        for (pool, kind, gpus), free in places_of(state)
        if pool == need.pool and kind.resource == resource and _hurdle(kind, need) is None
    ]


@dataclass(slots=True)
class _Survey:
    """What was found in the buckets of a pool."""

    fits: int = 0
    matching_nodes: int = 0
    usable_nodes: int = 0
    total_free: int = 0
    largest_allocatable: int = 0
    open: list[tuple[int, Bucket]] = field(default_factory=list)
    """Buckets of nodes that take the pod, by free GPUs."""
    blocked: list[tuple[Bucket, str]] = field(default_factory=list)


def _place(inventory: Inventory, pool: Pool, need: PodNeed, resource: str) -> Placement:
    survey = _Survey()
    for kind, buckets in pool.items():
        if kind.resource != resource:
            continue
        survey.largest_allocatable = max(survey.largest_allocatable, kind.allocatable)
        hurdle = _hurdle(kind, need)
        for gpus, bucket in buckets.items():
            survey.matching_nodes += len(_matching(inventory, kind, bucket, need))
            if hurdle is not None:
                survey.blocked.append((bucket, hurdle))
                continue
            chosen = _selected(inventory, bucket, need, survey)
            if chosen.nodes:
                survey.open.append((gpus, chosen))
                survey.usable_nodes += len(_matching(inventory, kind, chosen, need))
                survey.total_free += gpus * len(chosen.nodes)
                survey.fits += _fits(gpus, chosen, need)
    return _placement(survey, need, resource)


def _selected(inventory: Inventory, bucket: Bucket, need: PodNeed, survey: _Survey) -> Bucket:
    """The nodes of a bucket that the node selector matches; the others are blocked."""
    if not need.node_selector:
        return bucket
    names = inventory.selected(need.node_selector)
    if names.issuperset(bucket.nodes):
        return bucket
    rest = Bucket(_only(bucket, bucket.nodes.keys() - names), bucket.floor)
    survey.blocked.append((rest, "the node selector does not match its labels"))
    return Bucket(_only(bucket, bucket.nodes.keys() & names), bucket.floor)


def _only(bucket: Bucket, names: Iterable[str]) -> dict[str, Free]:
    return {name: bucket.nodes[name] for name in names}


def _fits(gpus: int, bucket: Bucket, need: PodNeed) -> int:
    """Pods that fit on the nodes of a bucket. Mostly GPUs alone decide, which the bucket's floor tells at once."""
    by_gpus = gpus // need.gpus
    if by_gpus == 0 or _room(gpus, bucket.floor, need) == by_gpus:
        return by_gpus * len(bucket.nodes)
    return sum(_room(gpus, free, need) for free in bucket.nodes.values())


def _placement(survey: _Survey, need: PodNeed, resource: str | None) -> Placement:
    largest = max((gpus for gpus, _ in survey.open), default=0)
    node, best, short, blocked = None, Free(0, 0, 0), None, []
    if not survey.fits:
        if largest:
            node = min(name for gpus, bucket in survey.open if gpus == largest for name in bucket.nodes)
        enough = [free for gpus, bucket in survey.open if gpus >= need.gpus for free in bucket.nodes.values()]
        if enough:
            best = Free(*(max(column) for column in zip(*enough, strict=True)))
        if survey.open:
            short = _shortage(enough, need)
        blocked = nsmallest(
            MAX_BLOCKED_LISTED, ((name, why) for bucket, why in survey.blocked for name in bucket.nodes)
        )
    return Placement(
        fits=survey.fits,
        resource=resource,
        matching_nodes=survey.matching_nodes,
        usable_nodes=survey.usable_nodes,
        largest_free=largest,
        largest_free_node=node,
        total_free=survey.total_free,
        largest_allocatable=survey.largest_allocatable,
        best_free_cpu_milli=best.cpu_milli,
        best_free_memory_bytes=best.memory_bytes,
        blocked_nodes=sum(len(bucket.nodes) for bucket, _ in survey.blocked),
        blocked=tuple(blocked),
        short_of=short,
    )


def _shortage(enough: list[Free], need: PodNeed) -> Shortage:
    """What is short on the nodes that have enough free GPUs; GPUs themselves where no node has."""
    if not enough:
        return Shortage.GPUS
    if any(free.cpu_milli < need.cpu_milli for free in enough):
        return Shortage.CPU
    return Shortage.MEMORY if any(free.memory_bytes < need.memory_bytes for free in enough) else Shortage.PODS


def _room(gpus: int, free: Free, need: PodNeed) -> int:
    """Pods of this need that fit on one node with so much free."""
    room = min(gpus // need.gpus, free.pods)
    if room and need.cpu_milli:
        room = min(room, free.cpu_milli // need.cpu_milli)
    if room and need.memory_bytes:
        room = min(room, free.memory_bytes // need.memory_bytes)
    return room


def _matching(inventory: Inventory, kind: Kind, bucket: Bucket, need: PodNeed) -> Collection[str]:
    """The nodes of a bucket that are large enough. Mostly their size class tells at once."""
    if (
        kind.allocatable < need.gpus
        or kind.cpu_class < size_class(need.cpu_milli)
        or kind.memory_class < size_class(need.memory_bytes)
    ):
        return ()
    if kind.cpu_class >= need.cpu_milli and kind.memory_class >= need.memory_bytes:
        return bucket.nodes
    facts = {name: inventory.nodes[name].facts for name in bucket.nodes}
    return [
        name
        for name, node in facts.items()
        if node.cpu_milli >= need.cpu_milli and node.memory_bytes >= need.memory_bytes
    ]


def _hurdle(kind: Kind, need: PodNeed) -> str | None:
    """Why nodes of the kind take no pod of this need, whatever is free; None when they do."""
    if kind.standing is not None:
        return kind.standing
    return next(
        (
            f"has taint {taint} that is not tolerated"
            for taint in kind.taints
            if not tolerates(need.tolerations, taint)
        ),
        None,
    )


def _selects(need: PodNeed, facts: NodeFacts) -> bool:
    return all(facts.labels.get(label) == value for label, value in need.node_selector.items())

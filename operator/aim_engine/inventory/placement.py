"""Where pods of a given need would fit, and what stands in the way where they do not."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest

from aim_engine.inventory.hurdles import Hurdle, unhealthy, unselected, untolerated
from aim_engine.inventory.nodes import GPU_RESOURCE, NodeFacts, Taint, tolerates
from aim_engine.inventory.state import (
    Bucket,
    Free,
    Inventory,
    Kind,
    NodeState,
    PodNeed,
    Pool,
    Withheld,
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
class Blocked:
    """A node that is large enough and takes no pod of some need, with all that is in the way."""

    node: str
    hurdles: tuple[Hurdle, ...]

    def __str__(self) -> str:
        return f"{self.node} {' and '.join(map(str, self.hurdles))}"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where pods of one need fit now. All GPUs of a pod lie on one node: 4 + 4 free on two nodes are not 8."""

    fits: int
    """Replicas that fit now, all usable nodes together; on one node where they must share it."""
    resource: str | None
    """Extended resource to ask for; None when no node has such GPUs."""
    matching_nodes: int
    """Nodes large enough were they empty and their GPUs healthy."""
    usable_nodes: int
    """Matching nodes that take the pod: ready, not cordoned, taints tolerated, labels selected, enough GPUs healthy."""
    largest_free: int
    """Most GPUs free on one matching node that takes the pod."""
    largest_free_node: str | None
    """That node, the first by name; only told when nothing fits."""
    total_free: int
    """GPUs free on all nodes that take the pod, those that are too small included."""
    largest_node: int
    """Most GPUs that one node of the pool has at all, the unhealthy ones included."""
    best_free_cpu_milli: int
    """Most CPU free on one node that has enough free GPUs; only told when nothing fits."""
    best_free_memory_bytes: int
    """Most host memory free on one node that has enough free GPUs; only told when nothing fits."""
    blocked_nodes: int
    """Matching nodes that do not take the pod."""
    blocked: tuple[Blocked, ...]
    """The first of them by name, those that the node selector matches before the others; only told when nothing fits."""
    short_of: Shortage | None
    """None when something fits, or when there is no node that takes the pod."""
    withheld: tuple[Withheld, ...] = ()
    """The usable nodes that are kept for other deployments."""


def place(inventory: Inventory, need: PodNeed) -> Placement:
    """Where pods of this need fit. Where the pool's nodes differ in resource name, the name that serves best is taken."""
    pool = inventory.pools.get(need.pool, {})
    resources = sorted({kind.resource for kind in pool})
    placements = [_place(inventory, pool, need, resource) for resource in resources]
    if not placements:
        return _placement(inventory, _Survey(), need, None)
    return max(
        placements,
        key=lambda p: (p.fits, p.usable_nodes, p.matching_nodes, p.total_free, p.resource == GPU_RESOURCE),
    )


def best_fit(inventory: Inventory, need: PodNeed, resource: str) -> str | None:
    """A node that has room for one pod and, of all such nodes, the fewest free GPUs."""
    candidates = [
        (gpus, bucket)
        for kind, buckets in inventory.pools.get(need.pool, {}).items()
        if kind.resource == resource and _is_open(kind, need)
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
        if _is_open(kind, need)
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
        if pool == need.pool and kind.resource == resource and _is_open(kind, need)
    ]


@dataclass(slots=True)
class _Survey:
    """What was found in the buckets of a pool."""

    fits: int = 0
    matching_nodes: int = 0
    usable_nodes: int = 0
    total_free: int = 0
    largest_node: int = 0
    open: list[tuple[int, Bucket, Collection[str]]] = field(default_factory=list)
    """Nodes that take the pod, by free GPUs, and those of them that are large enough."""
    blocked: list[tuple[Kind, Collection[str]]] = field(default_factory=list)
    """Matching nodes that do not."""


def _place(inventory: Inventory, pool: Pool, need: PodNeed, resource: str) -> Placement:
    survey = _Survey()
    for kind, buckets in pool.items():
        if kind.resource != resource:
            continue
        survey.largest_node = max(survey.largest_node, kind.capacity)
        is_open = _is_open(kind, need)
        for gpus, bucket in buckets.items():
            matching = _matching(inventory, kind, bucket, need)
            survey.matching_nodes += len(matching)
            chosen = _selected(inventory, bucket, need) if is_open else _NOBODY
            usable = _matching(inventory, kind, chosen, need)
            if len(usable) < len(matching):
                survey.blocked.append((kind, matching if not usable else set(matching) - set(usable)))
            if chosen.nodes:
                survey.open.append((gpus, chosen, usable))
                survey.usable_nodes += len(usable)
                survey.total_free += gpus * len(chosen.nodes)
                fits = _fits(gpus, chosen, need)
                survey.fits = max(survey.fits, fits) if need.together else survey.fits + fits
    return _placement(inventory, survey, need, resource)


_NOBODY = Bucket({}, Free(0, 0, 0))


def _selected(inventory: Inventory, bucket: Bucket, need: PodNeed) -> Bucket:
    """The nodes of a bucket that the node selector matches."""
    if not need.node_selector:
        return bucket
    names = inventory.selected(need.node_selector)
    if names.issuperset(bucket.nodes):
        return bucket
    return Bucket(_only(bucket, bucket.nodes.keys() & names), bucket.floor)


def _only(bucket: Bucket, names: Iterable[str]) -> dict[str, Free]:
    return {name: bucket.nodes[name] for name in names}


def _fits(gpus: int, bucket: Bucket, need: PodNeed) -> int:
    """Pods that fit on the nodes of a bucket. Mostly GPUs alone decide, which the bucket's floor tells at once."""
    by_gpus = gpus // need.gpus
    if by_gpus == 0 or _room(gpus, bucket.floor, need) == by_gpus:
        return by_gpus if need.together else by_gpus * len(bucket.nodes)
    rooms = (_room(gpus, free, need) for free in bucket.nodes.values())
    return max(rooms, default=0) if need.together else sum(rooms)


def _placement(inventory: Inventory, survey: _Survey, need: PodNeed, resource: str | None) -> Placement:
    largest = max((gpus for gpus, _, usable in survey.open if usable), default=0)
    node, best, short = None, Free(0, 0, 0), None
    blocked: list[Blocked] = []
    if not survey.fits:
        if largest:
            node = min(name for gpus, _, usable in survey.open if gpus == largest for name in usable)
        enough = [
            free
            for gpus, bucket, usable in survey.open
            if gpus >= need.gpus
            for name, free in bucket.nodes.items()
            if name in usable or not survey.usable_nodes
        ]
        if enough:
            best = Free(*(max(column) for column in zip(*enough, strict=True)))
        if survey.open:
            short = _shortage(enough, need)
        blocked = _blocked(inventory, survey, need)
    return Placement(
        fits=survey.fits,
        resource=resource,
        matching_nodes=survey.matching_nodes,
        usable_nodes=survey.usable_nodes,
        largest_free=largest,
        largest_free_node=node,
        total_free=survey.total_free,
        largest_node=survey.largest_node,
        best_free_cpu_milli=best.cpu_milli,
        best_free_memory_bytes=best.memory_bytes,
        blocked_nodes=sum(len(names) for _, names in survey.blocked),
        blocked=tuple(blocked),
        short_of=short,
        withheld=tuple(
            each for each in inventory.withheld if any(each.node in usable for _, _, usable in survey.open)
        ),
    )


def _blocked(inventory: Inventory, survey: _Survey, need: PodNeed) -> list[Blocked]:
    wanted = inventory.selected(need.node_selector) if need.node_selector else inventory.nodes.keys()
    first = nsmallest(
        MAX_BLOCKED_LISTED,
        ((name not in wanted, name, kind) for kind, names in survey.blocked for name in names),
        key=lambda each: each[:2],
    )
    return [Blocked(name, _hurdles(kind, need, inventory.nodes[name].facts)) for _, name, kind in first]


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
        kind.capacity < need.gpus
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


def _is_open(kind: Kind, need: PodNeed) -> bool:
    """Whether nodes of the kind take a pod of this need, were enough free on them and their labels selected."""
    return not (kind.standing or _is_unhealthy(kind, need) or _intolerable(kind, need))


def _hurdles(kind: Kind, need: PodNeed, facts: NodeFacts) -> tuple[Hurdle, ...]:
    """All that keeps pods of this need off a node of the kind: whoever removes one wants to know the others."""
    return (
        *kind.standing,
        *untolerated(_intolerable(kind, need), kind.standing),
        *unselected(need.node_selector, facts),
        *([unhealthy(kind.allocatable, kind.capacity)] if _is_unhealthy(kind, need) else []),
    )


def _intolerable(kind: Kind, need: PodNeed) -> tuple[Taint, ...]:
    return tuple(taint for taint in kind.taints if not tolerates(need.tolerations, taint))


def _is_unhealthy(kind: Kind, need: PodNeed) -> bool:
    """Whether the GPUs would be enough, were all of them healthy."""
    return kind.allocatable < need.gpus <= kind.capacity


def _selects(need: PodNeed, facts: NodeFacts) -> bool:
    return all(facts.labels.get(label) == value for label, value in need.node_selector.items())

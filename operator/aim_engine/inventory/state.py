"""Inventory: GPU pools and what is free on each node.

A pool groups its nodes by kind (what they are) and then by free GPUs, so that placing a pod looks at groups and only
rarely at nodes. Inventories are values: a change makes a new one that shares everything untouched with the old.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from aim_engine.api.deployment import Toleration
from aim_engine.catalog.gpus import whole_partition
from aim_engine.inventory.hurdles import Hurdle, standing
from aim_engine.inventory.nodes import NodeFacts, Taint


class PoolKey(NamedTuple):
    """GPUs that recipes cannot tell apart."""

    gpu_model: str
    partition: str | None = None
    """None for whole GPUs."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Node resources taken by some pods."""

    gpus: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """By extended resource name."""
    cpu_milli: int = 0
    memory_bytes: int = 0
    pods: int = 0


NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node, what bound pods use of it and what is promised to pods not yet bound. Free amounts are never negative."""

    facts: NodeFacts
    used: Usage = NOTHING
    promised: Usage = NOTHING

    def free_gpus(self, resource: str) -> int:
        """Free GPUs of one extended resource."""
        taken = self.used.gpus.get(resource, 0) + self.promised.gpus.get(resource, 0)
        return max(0, sum(g.allocatable for g in self.facts.groups if g.resource == resource) - taken)

    @property
    def free_cpu_milli(self) -> int:
        """Free CPU in thousandths of a core."""
        return max(0, self.facts.cpu_milli - self.used.cpu_milli - self.promised.cpu_milli)

    @property
    def free_memory_bytes(self) -> int:
        """Free host memory."""
        return max(0, self.facts.memory_bytes - self.used.memory_bytes - self.promised.memory_bytes)

    @property
    def free_pods(self) -> int:
        """Pods the kubelet would still take."""
        return max(0, self.facts.max_pods - self.used.pods - self.promised.pods)


@dataclass(frozen=True, slots=True)
class PodNeed:
    """What one replica asks of a node."""

    gpu_model: str
    gpus: int
    partition: str | None = None
    cpu_milli: int = 0
    memory_bytes: int = 0
    node_selector: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tolerations: tuple[Toleration, ...] = ()
    together: bool = False
    """All replicas share one node, because their volume is attached to one."""

    def times(self, replicas: int) -> PodNeed:
        """What so many replicas ask of one node."""
        return replace(
            self,
            gpus=self.gpus * replicas,
            cpu_milli=self.cpu_milli * replicas,
            memory_bytes=self.memory_bytes * replicas,
        )

    @property
    def pool(self) -> PoolKey:
        """The pool whose GPUs the need asks for."""
        return PoolKey(self.gpu_model, whole_partition(self.partition))


class Kind(NamedTuple):
    """What nodes of one group have in common. CPU and memory differ a little from node to node, so only their size class
    is part of it: a cluster has few kinds."""

    resource: str
    allocatable: int
    capacity: int
    """GPUs there are, the unhealthy ones included."""
    cpu_class: int
    """Thousandths of a core, rounded down by `size_class`."""
    memory_class: int
    """Bytes, rounded down by `size_class`."""
    standing: tuple[Hurdle, ...]
    """Why the nodes take no pods at all; empty when they do."""
    taints: tuple[Taint, ...]


_CLASS_BITS = 5


def size_class(amount: int) -> int:
    """The amount rounded down to its five highest bits: at most 6.25 % below it."""
    shift = max(0, amount.bit_length() - _CLASS_BITS)
    return amount >> shift << shift


class Free(NamedTuple):
    """What one node has free beside GPUs."""

    cpu_milli: int
    memory_bytes: int
    pods: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Nodes of one kind with the same number of free GPUs."""

    nodes: Mapping[str, Free]
    floor: Free
    """The least of each that any of the nodes has free: where that is enough, no node needs to be looked at."""


Pool = Mapping[Kind, Mapping[int, Bucket]]
"""Buckets by kind and number of free GPUs."""
Place = tuple[PoolKey, Kind, int]
"""Which bucket of which pool."""


Selector = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """A node that is kept for one deployment: nothing is free there to others."""

    node: str
    owner: tuple[str, str]
    """Namespace and name of the deployment."""
    free: Mapping[str, int]
    """GPUs that would be free there, by extended resource name."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All GPU nodes, and the pools of recognised GPUs."""

    nodes: Mapping[str, NodeState]
    pools: Mapping[PoolKey, Pool]
    withheld: tuple[Withheld, ...] = ()
    """Nodes kept for others than the one who looks; their GPUs count as taken."""
    _labelled: dict[Selector, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)
    """Answers of `selected`, for the many recipes of one decision ask the same."""

    def selected(self, selector: Mapping[str, str]) -> frozenset[str]:
        """Names of the nodes that have all these labels."""
        key = tuple(sorted(selector.items()))
        if key not in self._labelled:
            names = list(self.nodes)
            for label, value in key:
                names = [name for name in names if self.nodes[name].facts.labels.get(label) == value]
            self._labelled[key] = frozenset(names)
        return self._labelled[key]

    def partitions(self, gpu_model: str) -> tuple[str | None, ...]:
        """Partition modes in which the cluster has GPUs of the model; empty when it has none."""
        return tuple(
            sorted((key.partition for key in self.pools if key.gpu_model == gpu_model), key=lambda p: p or "")
        )


EMPTY = Inventory(MappingProxyType({}), MappingProxyType({}))


def build_inventory(states: Iterable[NodeState]) -> Inventory:
    """An inventory of these nodes; nodes without AMD GPUs are left out."""
    return revise_inventory(EMPTY, {state.facts.name: state for state in states})


def revise_inventory(inventory: Inventory, changes: Mapping[str, NodeState | None]) -> Inventory:
    """The inventory with some nodes replaced, or removed where the new state is None."""
    if not changes:
        return inventory
    nodes = dict(inventory.nodes)
    edits: dict[Place, _Edit] = {}

    def edit(place: Place) -> _Edit:
        if place not in edits:
            edits[place] = _Edit(inventory, place)
        return edits[place]

    for name, new in changes.items():
        for place, free in places_of(nodes.pop(name, None)):
            edit(place).remove(name, free)
        if new is not None and new.facts.groups:
            nodes[name] = new
            for place, free in places_of(new):
                edit(place).add(name, free)
    return Inventory(
        nodes,
        _with_buckets(inventory.pools, {place: done.bucket() for place, done in edits.items()}),
        inventory.withheld,
    )


class _Edit:
    """A bucket being changed."""

    __slots__ = ("came", "nodes", "old", "went")

    def __init__(self, inventory: Inventory, place: Place) -> None:
        pool, kind, gpus = place
        self.old = inventory.pools.get(pool, {}).get(kind, {}).get(gpus)
        self.nodes: dict[str, Free] = dict(self.old.nodes) if self.old else {}
        self.came: list[Free] = []
        self.went: list[Free] = []

    def add(self, name: str, free: Free) -> None:
        self.nodes[name] = free
        self.came.append(free)

    def remove(self, name: str, free: Free) -> None:
        del self.nodes[name]
        self.went.append(free)

    def bucket(self) -> Bucket | None:
        if not self.nodes:
            return None
        return Bucket(self.nodes, Free(self._least(0), self._least(1), self._least(2)))

    def _least(self, column: int) -> int:
        """The minimum of a column; a search over all nodes only when the node that had it went."""
        if self.old is None:
            return min(free[column] for free in self.nodes.values())
        least = min([self.old.floor[column], *(free[column] for free in self.came)])
        if all(free[column] > least for free in self.went) or any(
            free[column] == least for free in self.nodes.values()
        ):
            return least
        return min(free[column] for free in self.nodes.values())


def withhold(
    inventory: Inventory, kept: Mapping[str, tuple[str, str]], everyone: Inventory | None = None
) -> Inventory:
    """The inventory as if these nodes had no GPU free but those that are somebody's own: taken in `everyone`, not here.

    `kept`: by node, the namespace and name of the deployment that it is kept for.
    """
    others = (everyone or inventory).nodes
    free = {name: _free(others[name]) for name in kept if name in inventory.nodes}
    changed = revise_inventory(
        inventory, {name: _less(inventory.nodes[name], gpus) for name, gpus in free.items()}
    )
    return replace(
        changed, withheld=tuple(Withheld(name, kept[name], gpus) for name, gpus in sorted(free.items()))
    )


def only(inventory: Inventory, names: Container[str]) -> Inventory:
    """The inventory of some nodes alone."""
    others = (name for name in inventory.nodes if name not in names)
    return revise_inventory(inventory, dict.fromkeys(others))


def _free(state: NodeState) -> dict[str, int]:
    return {group.resource: state.free_gpus(group.resource) for group in state.facts.groups}


def _less(state: NodeState, gpus: Mapping[str, int]) -> NodeState:
    return replace(state, promised=plus(state.promised, Usage(gpus, 0, 0, 0)))


def _with_buckets(
    pools: Mapping[PoolKey, Pool], changes: Mapping[Place, Bucket | None]
) -> dict[PoolKey, Pool]:
    result: dict[PoolKey, Pool] = dict(pools)
    copied: dict[PoolKey, dict[Kind, dict[int, Bucket]]] = {}
    for (pool, kind, gpus), bucket in changes.items():
        if pool not in copied:
            copied[pool] = {known: dict(buckets) for known, buckets in pools.get(pool, {}).items()}
        buckets = copied[pool].setdefault(kind, {})
        if bucket is not None:
            buckets[gpus] = bucket
        else:
            buckets.pop(gpus, None)
    for pool, kinds in copied.items():
        if full := {kind: buckets for kind, buckets in kinds.items() if buckets}:
            result[pool] = full
        else:
            result.pop(pool, None)
    return result


def places_of(state: NodeState | None) -> list[tuple[Place, Free]]:
    """Where the groups of recognised GPUs of a node stand in an inventory."""
    if state is None:
        return []
    facts = state.facts
    free = Free(state.free_cpu_milli, state.free_memory_bytes, state.free_pods)
    return [
        (
            (
                PoolKey(group.gpu_model, group.partition),
                Kind(
                    group.resource,
                    group.allocatable,
                    max(group.capacity, group.allocatable),
                    size_class(facts.cpu_milli),
                    size_class(facts.memory_bytes),
                    standing(facts),
                    facts.taints,
                ),
                state.free_gpus(group.resource),
            ),
            free,
        )
        for group in facts.groups
        if group.gpu_model
    ]


def overcommitted(state: NodeState) -> bool:
    """Whether promises ask more of the node than its pods leave."""
    facts, used, promised = state.facts, state.used, state.promised
    allocatable = {group.resource: group.allocatable for group in facts.groups}
    return (
        any(
            count + used.gpus.get(name, 0) > allocatable.get(name, 0) for name, count in promised.gpus.items()
        )
        or (promised.cpu_milli > 0 and used.cpu_milli + promised.cpu_milli > facts.cpu_milli)
        or (promised.memory_bytes > 0 and used.memory_bytes + promised.memory_bytes > facts.memory_bytes)
        or (promised.pods > 0 and used.pods + promised.pods > facts.max_pods)
    )


def minus(whole: Usage, part: Usage) -> Usage:
    """`whole` without `part`, nothing below zero."""
    return Usage(
        {name: count for name, value in whole.gpus.items() if (count := value - part.gpus.get(name, 0)) > 0},
        max(0, whole.cpu_milli - part.cpu_milli),
        max(0, whole.memory_bytes - part.memory_bytes),
        max(0, whole.pods - part.pods),
    )


def plus(left: Usage, right: Usage) -> Usage:
    """Both together."""
    gpus = left.gpus
    if right.gpus:
        gpus = {**left.gpus, **{name: left.gpus.get(name, 0) + value for name, value in right.gpus.items()}}
    return Usage(
        gpus,
        left.cpu_milli + right.cpu_milli,
        left.memory_bytes + right.memory_bytes,
        left.pods + right.pods,
    )


def demand(need: PodNeed, resource: str, replicas: int) -> Usage:
    """What that many pods of one need take."""
    return Usage(
        {resource: need.gpus * replicas}, need.cpu_milli * replicas, need.memory_bytes * replicas, replicas
    )

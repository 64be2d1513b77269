"""Inventory: GPU pools and what is free on each node.

Nodes of a pool that are alike in everything placement asks about are kept together as one `Shape`, so that placing
costs as many steps as there are kinds of node, not nodes. Inventories are values: a change makes a new one that
shares everything untouched with the old.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from aim_engine.api.deployment import Toleration
from aim_engine.inventory.labels import whole_partition
from aim_engine.inventory.nodes import GPUGroup, NodeFacts, Taint


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

    @property
    def pool(self) -> PoolKey:
        """The pool whose GPUs the need asks for."""
        return PoolKey(self.gpu_model, whole_partition(self.partition))


class Shape(NamedTuple):
    """Everything placement asks about a node's GPUs; labels are looked up only for a node selector."""

    resource: str
    free_gpus: int
    free_cpu_milli: int
    free_memory_bytes: int
    free_pods: int
    allocatable: int
    cpu_milli: int
    memory_bytes: int
    standing: str | None
    """Why the node takes no pods at all; None when it does."""
    taints: tuple[Taint, ...]


Shapes = Mapping[Shape, tuple[str, ...]]
"""Names of the nodes of each shape, sorted."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All GPU nodes, and the pools of recognised GPUs."""

    nodes: Mapping[str, NodeState]
    pools: Mapping[PoolKey, Shapes]

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
    nodes = dict(inventory.nodes)
    pools: dict[PoolKey, dict[Shape, tuple[str, ...]]] = {}

    def pool(key: PoolKey) -> dict[Shape, tuple[str, ...]]:
        if key not in pools:
            pools[key] = dict(inventory.pools.get(key, {}))
        return pools[key]

    for name, new in changes.items():
        for key, shape in shapes_of(nodes.pop(name, None)):
            _remove(pool(key), shape, name)
        if new is not None and new.facts.groups:
            nodes[name] = new
            for key, shape in shapes_of(new):
                _insert(pool(key), shape, name)
    merged: dict[PoolKey, Shapes] = {**inventory.pools, **pools}
    return Inventory(nodes, {key: shapes for key, shapes in merged.items() if shapes})


def standing(facts: NodeFacts) -> str | None:
    """Why a node takes no pods at all; None when it does."""
    if facts.deleting:
        return "is being deleted"
    if not facts.ready:
        return "is not Ready"
    return "is cordoned" if facts.unschedulable else None


def shapes_of(state: NodeState | None) -> list[tuple[PoolKey, Shape]]:
    if state is None:
        return []
    return [
        (PoolKey(group.gpu_model, group.partition), _shape(state, group))
        for group in state.facts.groups
        if group.gpu_model
    ]


def _shape(state: NodeState, group: GPUGroup) -> Shape:
    facts = state.facts
    return Shape(
        group.resource,
        state.free_gpus(group.resource),
        state.free_cpu_milli,
        state.free_memory_bytes,
        state.free_pods,
        group.allocatable,
        facts.cpu_milli,
        facts.memory_bytes,
        standing(facts),
        facts.taints,
    )


def _insert(shapes: dict[Shape, tuple[str, ...]], shape: Shape, name: str) -> None:
    names = shapes.get(shape, ())
    at = bisect_left(names, name)
    shapes[shape] = (*names[:at], name, *names[at:])


def _remove(shapes: dict[Shape, tuple[str, ...]], shape: Shape, name: str) -> None:
    names = shapes[shape]
    at = bisect_left(names, name)
    rest = names[:at] + names[at + 1 :]
    if rest:
        shapes[shape] = rest
    else:
        del shapes[shape]


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

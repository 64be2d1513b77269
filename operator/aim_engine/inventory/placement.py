"""Where pods of a given need would fit, and what stands in the way where they do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from aim_engine.inventory.nodes import GPU_RESOURCE, NodeFacts, tolerates
from aim_engine.inventory.state import Inventory, NodeState, PodNeed, Shape, Shapes, shapes_of

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
    total_free: int
    largest_allocatable: int
    """Most GPUs that one node of the pool has at all."""
    best_free_cpu_milli: int
    """Most CPU free on one node that has enough free GPUs."""
    best_free_memory_bytes: int
    """Most host memory free on one node that has enough free GPUs."""
    blocked_nodes: int
    blocked: tuple[tuple[str, str], ...]
    """(node, why) of the first blocked nodes by name."""
    short_of: Shortage | None
    """None when something fits, or when there is no node that takes the pod."""


def place(inventory: Inventory, need: PodNeed) -> Placement:
    """Where pods of this need fit. Where the pool's nodes differ in resource name, the name that serves best is taken."""
    shapes = inventory.pools.get(need.pool, {})
    resources = {shape.resource for shape in shapes}
    placements = [_place(inventory, shapes, need, resource) for resource in sorted(resources)]
    if not placements:
        return _Tally().placement(None, need)
    return max(
        placements,
        key=lambda p: (p.fits, p.usable_nodes, p.matching_nodes, p.total_free, p.resource == GPU_RESOURCE),
    )


def best_fit(inventory: Inventory, need: PodNeed, resource: str) -> str | None:
    """Node that has room for one pod and the fewest GPUs to spare; the first by name among equals."""
    best: tuple[int, str] | None = None
    for shape, names in inventory.pools.get(need.pool, {}).items():
        if shape.resource != resource or _room(shape, need) == 0 or _hurdle(shape, need):
            continue
        if best is not None and shape.free_gpus > best[0]:
            continue
        name = next((name for name in names if _selected(inventory, name, need)), None)
        if name is not None and (best is None or (shape.free_gpus, name) < best):
            best = (shape.free_gpus, name)
    return best[1] if best else None


def has_room(state: NodeState, need: PodNeed, resource: str) -> bool:
    """Whether one pod of this need fits on this node now."""
    return any(_room(shape, need) > 0 for shape in _open_shapes(state, need, resource))


def admits(state: NodeState, need: PodNeed, resource: str) -> bool:
    """Whether the node would take a pod of this need, were enough free on it."""
    return bool(_open_shapes(state, need, resource))


def _open_shapes(state: NodeState, need: PodNeed, resource: str) -> list[Shape]:
    if not _selects(need, state.facts):
        return []
    return [
        shape
        for key, shape in shapes_of(state)
        if key == need.pool and shape.resource == resource and _hurdle(shape, need) is None
    ]


def _place(inventory: Inventory, shapes: Shapes, need: PodNeed, resource: str) -> Placement:
    tally = _Tally()
    for shape, names in shapes.items():
        if shape.resource != resource:
            continue
        tally.largest_allocatable = max(tally.largest_allocatable, shape.allocatable)
        matching = _matches(shape, need)
        if matching:
            tally.matching_nodes += len(names)
        hurdle = _hurdle(shape, need)
        if hurdle is not None:
            tally.block(names, hurdle)
            continue
        selected = names
        if need.node_selector:
            selected = tuple(name for name in names if _selected(inventory, name, need))
            chosen = set(selected)
            tally.block(
                [name for name in names if name not in chosen], "the node selector does not match its labels"
            )
        if selected:
            tally.open(shape, selected, need, matching=matching)
    return tally.placement(resource, need)


class _Tally:
    """Sums over the shapes of a pool."""

    __slots__ = (
        "best_cpu", "best_memory", "blocked", "fits", "largest", "largest_allocatable",
        "matching_nodes", "open_nodes", "shortages", "total_free", "usable_nodes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.fits = self.matching_nodes = self.usable_nodes = self.open_nodes = 0
        self.total_free = self.largest_allocatable = self.best_cpu = self.best_memory = 0
        self.largest: tuple[int, str] = (0, "")
        self.blocked: list[tuple[str, str]] = []
        self.shortages: set[Shortage] = set()

    def block(self, names: Iterable[str], why: str) -> None:
        self.blocked.extend((name, why) for name in names)

    def open(self, shape: Shape, names: tuple[str, ...], need: PodNeed, *, matching: bool) -> None:
        count = len(names)
        self.open_nodes += count
        self.usable_nodes += count if matching else 0
        self.total_free += shape.free_gpus * count
        self.fits += _room(shape, need) * count
        largest, name = self.largest
        if shape.free_gpus > largest or (shape.free_gpus == largest > 0 and names[0] < name):
            self.largest = (shape.free_gpus, names[0])
        if shape.free_gpus >= need.gpus:
            self.best_cpu = max(self.best_cpu, shape.free_cpu_milli)
            self.best_memory = max(self.best_memory, shape.free_memory_bytes)
            if shortage := _shortage(shape, need):
                self.shortages.add(shortage)

    def placement(self, resource: str | None, need: PodNeed) -> Placement:
        largest, node = self.largest
        return Placement(
            fits=self.fits,
            resource=resource,
            matching_nodes=self.matching_nodes,
            usable_nodes=self.usable_nodes,
            largest_free=largest,
            largest_free_node=node or None,
            total_free=self.total_free,
            largest_allocatable=self.largest_allocatable,
            best_free_cpu_milli=self.best_cpu,
            best_free_memory_bytes=self.best_memory,
            blocked_nodes=len(self.blocked),
            blocked=tuple(sorted(self.blocked)[:MAX_BLOCKED_LISTED]),
            short_of=self._short_of(need),
        )

    def _short_of(self, need: PodNeed) -> Shortage | None:
        if self.fits or not self.open_nodes:
            return None
        if self.largest[0] < need.gpus:
            return Shortage.GPUS
        return next((shortage for shortage in Shortage if shortage in self.shortages), None)


def _shortage(shape: Shape, need: PodNeed) -> Shortage | None:
    if shape.free_cpu_milli < need.cpu_milli:
        return Shortage.CPU
    if shape.free_memory_bytes < need.memory_bytes:
        return Shortage.MEMORY
    return None if shape.free_pods else Shortage.PODS


def _room(shape: Shape, need: PodNeed) -> int:
    """Pods of this need that fit on one node of the shape."""
    room = min(shape.free_gpus // need.gpus, shape.free_pods)
    if room and need.cpu_milli:
        room = min(room, shape.free_cpu_milli // need.cpu_milli)
    if room and need.memory_bytes:
        room = min(room, shape.free_memory_bytes // need.memory_bytes)
    return room


def _matches(shape: Shape, need: PodNeed) -> bool:
    return (
        shape.allocatable >= need.gpus
        and shape.cpu_milli >= need.cpu_milli
        and shape.memory_bytes >= need.memory_bytes
    )


def _hurdle(shape: Shape, need: PodNeed) -> str | None:
    """Why nodes of the shape take no pod of this need, whatever is free; None when they do."""
    if shape.standing is not None:
        return shape.standing
    return next(
        (
            f"has taint {taint} that is not tolerated"
            for taint in shape.taints
            if not tolerates(need.tolerations, taint)
        ),
        None,
    )


def _selected(inventory: Inventory, name: str, need: PodNeed) -> bool:
    return not need.node_selector or _selects(need, inventory.nodes[name].facts)


def _selects(need: PodNeed, facts: NodeFacts) -> bool:
    return all(facts.labels.get(label) == value for label, value in need.node_selector.items())

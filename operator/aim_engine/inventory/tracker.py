"""The inventory over time, and the ledger of GPUs promised to pods that no node runs yet.

A promise says that an owner will have so many pods of one need. Those not bound yet are outstanding; each is given a
place on a node, where it counts as used for everybody else, so that no two deployments are promised the same GPUs.
A place dissolves when a pod of the owner is bound, and moves when its node vanishes, is blocked or filled by others.
Pods of the owner that are on their way out make room for its own promise on the same node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.api.enums import RolloutStrategy
from aim_engine.inventory.hurdles import standing
from aim_engine.inventory.nodes import NodeFacts, read_node
from aim_engine.inventory.placement import admits, best_fit, has_room
from aim_engine.inventory.pods import Owner, PodUsage
from aim_engine.inventory.state import (
    EMPTY,
    NOTHING,
    Inventory,
    NodeState,
    PodNeed,
    PoolKey,
    Usage,
    demand,
    minus,
    overcommitted,
    plus,
    revise_inventory,
)
from aim_engine.inventory.totals import GPUTotals, gpu_totals


@dataclass(frozen=True, slots=True)
class Freed:
    """A node on which more is free than before: waiters for at most `free_gpus` GPUs of the pool may try again."""

    pool: PoolKey
    node: str
    free_gpus: int


@dataclass(slots=True)
class _Promise:
    need: PodNeed
    resource: str
    replicas: int
    strategy: RolloutStrategy
    places: list[str] = field(default_factory=list)
    unplaced: int = 0


class Tracker:
    """Nodes, pods and promises as last told; every change answers where capacity grew."""

    def __init__(self, gpu_models: Mapping[str, str] | None = None) -> None:
        self._gpu_models = dict(gpu_models or {})
        self._facts: dict[str, NodeFacts] = {}
        self._pods: dict[str, PodUsage] = {}
        self._bound: dict[str, Usage] = {}
        self._owned: dict[Owner, dict[str, dict[str, PodUsage]]] = {}
        self._promises: dict[Owner, _Promise] = {}
        self._waiting: dict[Owner, None] = {}
        self._promised_on: dict[str, dict[Owner, int]] = {}
        self._states: dict[str, NodeState] = {}
        self._dirty: dict[str, None] = {}
        self._inventory = EMPTY

    def upsert_node(self, obj: Mapping[str, Any]) -> tuple[Freed, ...]:
        """Take over a Node object."""
        return self._settle(self._put_node(read_node(obj, self._gpu_models)), ())

    def delete_node(self, name: str) -> tuple[Freed, ...]:
        """Forget a node. Its pods are kept until they are told to be gone: the node may come back."""
        return self._settle([name] if self._facts.pop(name, None) else [], ())

    def replace_nodes(self, objs: Iterable[Mapping[str, Any]]) -> tuple[Freed, ...]:
        """Take over a complete list of nodes; those not in it are gone."""
        facts = [read_node(obj, self._gpu_models) for obj in objs]
        listed = {node.name for node in facts}
        gone = [name for name in self._facts if name not in listed]
        for name in gone:
            del self._facts[name]
        return self._settle([*gone, *(name for node in facts for name in self._put_node(node))], ())

    def upsert_pod(self, usage: PodUsage) -> tuple[Freed, ...]:
        """Take over a pod; one that ended is forgotten."""
        return self._settle(*self._put_pod(usage))

    def delete_pod(self, uid: str) -> tuple[Freed, ...]:
        """Forget a pod."""
        return self._settle(*self._drop_pod(uid))

    def owner(self, uid: str) -> Owner | None:
        """Whose a pod was when it was last told of."""
        pod = self._pods.get(uid)
        return pod.owner if pod else None

    def replace_pods(self, usages: Iterable[PodUsage]) -> tuple[Freed, ...]:
        """Take over a complete list of pods; those not in it are gone."""
        listed = {usage.uid: usage for usage in usages}
        changes = [self._drop_pod(uid) for uid in [uid for uid in self._pods if uid not in listed]]
        changes += [self._put_pod(usage) for usage in listed.values()]
        return self._settle(
            [node for nodes, _ in changes for node in nodes],
            [owner for _, owners in changes for owner in owners],
        )

    def promise(
        self,
        owner: Owner,
        need: PodNeed,
        replicas: int,
        resource: str,
        strategy: RolloutStrategy = RolloutStrategy.RECREATE,
    ) -> tuple[Freed, ...]:
        """Enter into the ledger that `owner` will have `replicas` pods of `need`; replaces its earlier promise.

        Under RECREATE all pods of the owner that do not answer the need make room for it; otherwise only those
        that are being deleted.
        """
        touched = self._withdraw(owner)
        self._promises[owner] = _Promise(need, resource, replicas, strategy)
        return self._settle(touched, [owner])

    def release(self, owner: Owner) -> tuple[Freed, ...]:
        """Strike an owner's promise from the ledger; its bound pods still count."""
        return self._settle(self._withdraw(owner), ())

    def problems(self) -> Mapping[str, tuple[str, ...]]:
        """What could not be read of which node."""
        return {name: facts.problems for name, facts in self._facts.items() if facts.problems}

    def bound(self, owner: Owner) -> int:
        """Live pods of the owner that a node runs and that answer its promise, when it has one."""
        promise = self._promises.get(owner)
        return sum(
            1
            for pods in self._owned.get(owner, {}).values()
            for pod in pods.values()
            if not pod.terminating and (promise is None or _answers(pod, promise))
        )

    def held(self, owner: Owner) -> Mapping[str, int]:
        """GPUs that the owner's pods hold, by node."""
        return {
            name: sum(sum(pod.gpus.values()) for pod in pods.values())
            for name, pods in self._owned.get(owner, {}).items()
        }

    def totals(self) -> dict[str, GPUTotals]:
        """GPUs of the cluster by model, and who holds them."""
        ours: dict[str, dict[str, int]] = {}
        for nodes in self._owned.values():
            for name, pods in nodes.items():
                on_node = ours.setdefault(name, {})
                for pod in pods.values():
                    for resource, count in pod.gpus.items():
                        on_node[resource] = on_node.get(resource, 0) + count
        return gpu_totals(self._states.values(), ours)

    def unplaced(self, owner: Owner) -> int:
        """Promised pods that no node has room for now."""
        promise = self._promises.get(owner)
        return promise.unplaced if promise else 0

    def inventory(self, exclude: Owner | None = None) -> Inventory:
        """The inventory now; with `exclude`, as if that owner had no pods and no promise."""
        if self._dirty:
            self._inventory = revise_inventory(
                self._inventory, {name: self._states.get(name) for name in self._dirty}
            )
            self._dirty.clear()
        if exclude is None:
            return self._inventory
        promise = self._promises.get(exclude)
        names = {*self._owned.get(exclude, {}), *(promise.places if promise else ())}
        return revise_inventory(self._inventory, {name: self._state(name, without=exclude) for name in names})

    def _put_node(self, facts: NodeFacts) -> list[str]:
        if self._facts.get(facts.name) == facts:
            return []
        self._facts[facts.name] = facts
        return [facts.name]

    def _put_pod(self, usage: PodUsage) -> tuple[list[str], list[Owner]]:
        if self._pods.get(usage.uid) == usage:
            return [], []
        nodes, owners = self._drop_pod(usage.uid)
        if usage.terminal:
            return nodes, owners
        self._pods[usage.uid] = usage
        if usage.node is not None:
            self._bound[usage.node] = plus(self._bound.get(usage.node, NOTHING), _held(usage))
            nodes.append(usage.node)
            if usage.owner is not None:
                self._owned.setdefault(usage.owner, {}).setdefault(usage.node, {})[usage.uid] = usage
                owners.append(usage.owner)
        return nodes, owners

    def _drop_pod(self, uid: str) -> tuple[list[str], list[Owner]]:
        pod = self._pods.pop(uid, None)
        if pod is None or pod.node is None:
            return [], []
        rest = minus(self._bound[pod.node], _held(pod))
        if rest.pods:
            self._bound[pod.node] = rest
        else:
            del self._bound[pod.node]
        if pod.owner is None:
            return [pod.node], []
        nodes = self._owned[pod.owner]
        del nodes[pod.node][uid]
        if not nodes[pod.node]:
            del nodes[pod.node]
        if not nodes:
            del self._owned[pod.owner]
        return [pod.node], [pod.owner]

    def _withdraw(self, owner: Owner) -> list[str]:
        promise = self._promises.pop(owner, None)
        self._waiting.pop(owner, None)
        if promise is None:
            return []
        for node in promise.places:
            self._unmark(owner, node)
        return promise.places

    def _settle(self, nodes: Iterable[str], owners: Iterable[Owner]) -> tuple[Freed, ...]:
        """Bring states and promises in line after a change on these nodes and to the pods of these owners."""
        touched = dict.fromkeys(nodes)
        promised = {owner: promise for owner in owners if (promise := self._promises.get(owner))}
        for owner, promise in promised.items():
            touched.update(dict.fromkeys(self._count_outstanding(owner, promise, touched)))
        before = {name: self._states.get(name) for name in touched}
        for name in touched:
            self._refresh(name)
            promised.update((owner, self._promises[owner]) for owner in self._displace(name))
        for owner, promise in promised.items():
            while promise.unplaced and (place := self._find_place(owner, promise)) is not None:
                before.setdefault(place, self._states.get(place))
                self._mark(owner, promise, place)
        for name in touched:
            self._fill(name)
        return tuple(
            freed for name in sorted(before) for freed in _freed(before[name], self._states.get(name))
        )

    def _count_outstanding(self, owner: Owner, promise: _Promise, changed: Mapping[str, None]) -> list[str]:
        """Match the places to the pods not bound yet; answers the nodes where a place dissolved."""
        outstanding = max(0, promise.replicas - self.bound(owner))
        dissolved: list[str] = []
        while len(promise.places) + promise.unplaced > outstanding:
            here = next((name for name in promise.places if name in changed), None)
            if here is None and promise.unplaced:
                promise.unplaced -= 1
                continue
            dissolved.append(here or promise.places[-1])
            promise.places.remove(dissolved[-1])
            self._unmark(owner, dissolved[-1])
        shared = self._shared(owner, promise) if promise.need.together else ()
        for name in [each for each in promise.places if shared and each not in shared]:
            dissolved.append(name)
            promise.places.remove(name)
            self._unmark(owner, name)
        promise.unplaced = outstanding - len(promise.places)
        self._note_waiting(owner, promise)
        return dissolved

    def _displace(self, name: str) -> list[Owner]:
        """Take places off a node that cannot honour them any more; answers whose they were."""
        displaced: list[Owner] = []
        while owners := self._promised_on.get(name):
            state = self._states.get(name)
            refused = [
                owner
                for owner in owners
                if state is None
                or not admits(state, self._promises[owner].need, self._promises[owner].resource)
            ]
            if not refused and not (state and overcommitted(state)):
                break
            owner = (refused or list(owners))[-1]
            promise = self._promises[owner]
            promise.places.remove(name)
            promise.unplaced += 1
            self._unmark(owner, name)
            self._note_waiting(owner, promise)
            self._refresh(name)
            displaced.append(owner)
        return displaced

    def _find_place(self, owner: Owner, promise: _Promise) -> str | None:
        yielding = next(
            (
                name
                for name in sorted(self._owned.get(owner, {}))
                if self._leaving(owner, name).pods
                and (state := self._state(name, yielding=owner)) is not None
                and has_room(state, promise.need, promise.resource)
            ),
            None,
        )
        if yielding is not None and promise.strategy is not RolloutStrategy.SURGE:
            return yielding
        if promise.need.together:
            return self._find_shared(owner, promise) or yielding
        return best_fit(self.inventory(), promise.need, promise.resource) or yielding

    def _find_shared(self, owner: Owner, promise: _Promise) -> str | None:
        """The node of the owner's pods; before there are any, the one that holds most of them."""
        own = self._shared(owner, promise)
        if own:
            states = ((name, self._states.get(name)) for name in sorted(own))
            return next((n for n, s in states if s and has_room(s, promise.need, promise.resource)), None)
        counts = range(promise.unplaced, 0, -1)
        found = (best_fit(self.inventory(), promise.need.times(n), promise.resource) for n in counts)
        return next((name for name in found if name is not None), None)

    def _fill(self, name: str) -> None:
        """Give room on this node to promised pods that had no place."""
        for owner in list(self._waiting):
            promise = self._promises[owner]
            while (
                promise.unplaced
                and (state := self._states.get(name)) is not None
                and state.facts.gpu_model == promise.need.gpu_model
                and not (
                    promise.need.together and (self._shared(owner, promise) or {name}).isdisjoint({name})
                )
                and has_room(state, promise.need, promise.resource)
            ):
                self._mark(owner, promise, name)

    def _shared(self, owner: Owner, promise: _Promise) -> set[str]:
        """Where pods of the promise are; before there are any, where they will be."""
        bound = {
            name
            for name, pods in self._owned.get(owner, {}).items()
            if any(not pod.terminating and _answers(pod, promise) for pod in pods.values())
        }
        return bound or set(promise.places)

    def _mark(self, owner: Owner, promise: _Promise, name: str) -> None:
        promise.places.append(name)
        promise.unplaced -= 1
        on_node = self._promised_on.setdefault(name, {})
        on_node[owner] = on_node.get(owner, 0) + 1
        self._note_waiting(owner, promise)
        self._refresh(name)

    def _unmark(self, owner: Owner, name: str) -> None:
        on_node = self._promised_on[name]
        on_node[owner] -= 1
        if not on_node[owner]:
            del on_node[owner]
        if not on_node:
            del self._promised_on[name]

    def _note_waiting(self, owner: Owner, promise: _Promise) -> None:
        if promise.unplaced:
            self._waiting.setdefault(owner)
        else:
            self._waiting.pop(owner, None)

    def _refresh(self, name: str) -> None:
        old, new = self._states.get(name), self._state(name)
        if new == old:
            return
        if new is None:
            del self._states[name]
        else:
            self._states[name] = new
        self._dirty[name] = None

    def _state(
        self, name: str, *, without: Owner | None = None, yielding: Owner | None = None
    ) -> NodeState | None:
        """State of a GPU node: `without` an owner's pods and places, or with an owner's leaving pods already gone."""
        facts = self._facts.get(name)
        if facts is None or not facts.groups:
            return None
        used = self._bound.get(name, NOTHING)
        if without is not None:
            used = minus(used, _total(self._owned.get(without, {}).get(name, {}).values()))
        if yielding is not None:
            used = minus(used, self._leaving(yielding, name))
        promised = NOTHING
        for owner, count in self._promised_on.get(name, {}).items():
            if owner == without:
                continue
            promise = self._promises[owner]
            wanted = demand(promise.need, promise.resource, count)
            promised = plus(
                promised, wanted if owner == yielding else minus(wanted, self._leaving(owner, name))
            )
        return NodeState(facts, used, promised)

    def _leaving(self, owner: Owner, name: str) -> Usage:
        """What pods on their way out hold on a node and hand over to their owner's promise."""
        promise = self._promises[owner]
        pods = self._owned.get(owner, {}).get(name)
        if not pods:
            return NOTHING
        replaced = promise.strategy is not RolloutStrategy.SURGE
        return _total(
            pod for pod in pods.values() if pod.terminating or (replaced and not _answers(pod, promise))
        )


def _answers(pod: PodUsage, promise: _Promise) -> bool:
    return pod.gpus.get(promise.resource) == promise.need.gpus


def _held(pod: PodUsage) -> Usage:
    return Usage(pod.gpus, pod.cpu_milli, pod.memory_bytes, 1)


def _total(pods: Iterable[PodUsage]) -> Usage:
    total = NOTHING
    for pod in pods:
        total = plus(total, _held(pod))
    return total


def free_on(state: NodeState | None) -> tuple[Freed, ...]:
    """All that is free on a node, as if it had just become so."""
    return tuple(_freed(None, state))


def _freed(old: NodeState | None, new: NodeState | None) -> Iterable[Freed]:
    if new is None or old == new or standing(new.facts):
        return
    opened = old is None or old.facts != new.facts
    for group in new.facts.groups:
        free = new.free_gpus(group.resource)
        if group.gpu_model is None or not free:
            continue
        if opened or old is None or _grew(old, new, group.resource):
            yield Freed(PoolKey(group.gpu_model, group.partition), new.facts.name, free)


def _grew(old: NodeState, new: NodeState, resource: str) -> bool:
    return (
        new.free_gpus(resource) > old.free_gpus(resource)
        or new.free_cpu_milli > old.free_cpu_milli
        or new.free_memory_bytes > old.free_memory_bytes
        or new.free_pods > old.free_pods
    )

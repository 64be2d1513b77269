"""The line of deployments that wait for GPUs: who is woken when some come free, and for whom a node is kept.

Higher priority goes first, then the older deployment, then the name. A small one may overtake a big one that does not
fit yet, but not for ever: once the first in the line of a pool has waited longer than the patience, the node on which
the fewest GPUs are missing is kept for it, and what comes free there is nobody else's. A node where nothing more comes
free for six times the patience is given back, and the patience begins anew: pods of others may stay for ever.

Only a pass can tell whether somebody takes what it was woken for: its node may lack a label or CPUs, or it may only be
advised. What it leaves is offered to those after it.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping, MutableSet
from dataclasses import dataclass, replace
from types import MappingProxyType

from aim_engine.inventory import Freed, Inventory, PodNeed, PoolKey, free_on, nearest_node, only
from aim_engine.reconcile.cache import Key
from aim_engine.selection import Want

Rank = tuple[int, str, Key]
"""(priority, negated; creation time; key): smaller goes first."""
Order = tuple[bool, Rank]
"""Place in the line; smaller goes first."""

_NOTHING_HELD: Mapping[str, int] = MappingProxyType({})
_KEPT_IN_VAIN = 6
"""So many times the patience a node is kept without anything more coming free on it."""
_CLAIM_SECONDS = 2.0
"""So long a woken deployment keeps younger ones from the GPUs it was woken for; then its pass has failed or is late."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A deployment in the line."""

    key: Key
    rank: Rank
    wants: tuple[Want, ...]
    """It lacks these: one of them, and it can go on."""
    hopes: tuple[Want, ...]
    """It serves already, and would rather have one of these."""
    since: float
    """When it began to lack something; of no meaning to one that only hopes."""
    held: Mapping[str, int]
    """GPUs it has already, by node: they would make room for what it wants."""

    @property
    def order(self) -> Order:
        """Who lacks something goes before who only hopes."""
        return not self.wants, self.rank


@dataclass(frozen=True, slots=True)
class Kept:
    """A node that is kept."""

    owner: Key
    missing: int
    """GPUs that must still come free, at the best so far."""
    since: float
    """When it came nearer to that the last time."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a deployment was woken for."""

    order: Order
    """Its place in the line then."""
    nodes: frozenset[str]


class Waiters:
    """The line. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._line: dict[Key, Waiter] = {}
        self._sorted: list[Waiter] | None = None
        self._stuck: dict[Key, None] = {}
        self._nudged: dict[Key, float] = {}
        self._offers: dict[Key, Offer] = {}
        self._kept: dict[str, Kept] = {}

    def __len__(self) -> int:
        return len(self._line)

    def set(
        self,
        key: Key,
        rank: Rank,
        wants: tuple[Want, ...],
        hopes: tuple[Want, ...] = (),
        now: float = 0.0,
        held: Mapping[str, int] = _NOTHING_HELD,
    ) -> None:
        """Note what `key` waits for; keeps the time since it waits. Nothing wanted or hoped for: it waits no more."""
        before = self._line.get(key)
        since = before.since if before is not None and before.wants else now
        waiter = Waiter(key, rank, wants, hopes, since, held) if wants or hopes else None
        if waiter == before:
            return
        self._sorted = None
        if waiter is None:
            del self._line[key]
        else:
            self._line[key] = waiter

    def leave(self, key: Key) -> None:
        """Forget everything about `key`."""
        if self._line.pop(key, None):
            self._sorted = None
        self._stuck.pop(key, None)
        self._nudged.pop(key, None)
        self._offers.pop(key, None)

    def hopes(self, key: Key) -> tuple[Want, ...]:
        """What `key` would rather have."""
        waiter = self._line.get(key)
        return waiter.hopes if waiter else ()

    def nudge(self, key: Key, now: float = 0.0) -> None:
        """Have `key` look again."""
        self._nudged[key] = now

    def take_nudge(self, key: Key) -> bool:
        """Whether `key` was woken since it was last asked."""
        return self._nudged.pop(key, None) is not None

    def take_offer(self, key: Key) -> Offer | None:
        """What `key` was woken for since it was last asked: what it left of it is for those after it."""
        return self._offers.pop(key, None)

    def set_stuck(self, key: Key, stuck: bool) -> None:
        """Note a deployment that no amount of the present GPUs can help, only another kind of node."""
        if stuck:
            self._stuck[key] = None
        else:
            self._stuck.pop(key, None)

    def woken(self, freed: Iterable[Freed], now: float = 0.0, after: Order | None = None) -> list[Key]:
        """Keys worth another look: as many, in order, as the free GPUs could serve. A kept node serves one alone.

        `after`: only those who stand behind that place.
        """
        room = {(f.pool, f.node): f.free_gpus for f in freed}
        woken: list[Key] = []
        for waiter in self._in_order() if room else ():
            if after is not None and waiter.order <= after:
                continue
            for want in (*waiter.wants, *waiter.hopes):
                place = next((at for at, free in room.items() if self._serves(waiter, want, *at, free)), None)
                if place is not None:
                    room[place] -= want.gpus
                    woken.append(waiter.key)
                    self._offer(waiter, place[1])
                    break
        self._nudged.update(dict.fromkeys(woken, now))
        return woken

    def _offer(self, waiter: Waiter, node: str) -> None:
        before = self._offers.get(waiter.key)
        nodes = before.nodes if before is not None else frozenset()
        self._offers[waiter.key] = Offer(waiter.order, nodes | {node})

    def wake_all(self, now: float = 0.0) -> list[Key]:
        """Everybody who waits, in order, and those that are stuck."""
        line = [waiter.key for waiter in self._in_order()]
        woken = [*line, *(key for key in self._stuck if key not in self._line)]
        self._nudged.update(dict.fromkeys(woken, now))
        return woken

    def woken_before(self, rank: Rank, now: float) -> list[Key]:
        """Who was woken just now, lacks something, and goes before `rank`: the free GPUs are theirs first."""
        return [
            key
            for key, at in self._nudged.items()
            if now - at < _CLAIM_SECONDS
            and (waiter := self._line.get(key)) is not None
            and waiter.wants
            and waiter.rank < rank
        ]

    def keep_nodes(self, inventory: Inventory, now: float, patience: float) -> list[Freed]:
        """Choose anew which nodes are kept and for whom; answers what is given back to the others."""
        before, self._kept = self._kept, {}
        served: set[PoolKey] = set()
        hopeless: set[Hashable] = set()
        for waiter in self._in_order():
            if now - waiter.since < patience:
                continue
            places = (
                self._place(waiter, want, inventory, served, hopeless, before, now) for want in waiter.wants
            )
            found = next((place for place in places if place is not None), None)
            if found is None:
                continue
            name, pool, kept = found
            if now - kept.since > _KEPT_IN_VAIN * patience > 0:
                self._line[waiter.key] = replace(waiter, since=now)
                self._sorted = None
                continue
            served.add(pool)
            self._kept[name] = kept
        given_back = [
            name
            for name, old in before.items()
            if name not in self._kept or self._kept[name].owner != old.owner
        ]
        return [freed for name in given_back for freed in free_on(inventory.nodes.get(name))]

    def _place(
        self, waiter: Waiter, want: Want, inventory: Inventory, served: Container[PoolKey], hopeless: MutableSet[Hashable],
        before: Mapping[str, Kept], now: float,
    ) -> tuple[str, PoolKey, Kept] | None:  # fmt: skip
        """The node to keep for a want, unless one of its pool is kept already.

        `hopeless`: what no node takes. A thousand may wait for the same, and each look goes through all nodes.
        """
        if want.need is None or want.pool in served:
            return None
        asked = _asked(want.need)
        if asked in hopeless:
            return None
        beside = want.need.together and waiter.held
        if beside:  # the others are where the first of them is, or nowhere
            inventory = only(inventory, _with_room_beside(inventory, waiter, want))
        prefer = next((name for name, kept in before.items() if kept.owner == waiter.key), None)
        name = nearest_node(inventory, want.need, prefer=prefer, without=self._kept)
        if name is None:
            if not beside:
                hopeless.add(asked)
            return None
        free = sum(found.free_gpus for found in free_on(inventory.nodes[name]) if found.pool == want.pool)
        missing = want.gpus - free - waiter.held.get(name, 0)
        old = before.get(name)
        if old is not None and old.owner == waiter.key and missing >= old.missing:
            return name, want.pool, old
        return name, want.pool, Kept(waiter.key, missing, now)

    def kept_for_others(self, key: Key) -> Mapping[str, Key]:
        """Nodes that `key` may not use, and for whom they are kept."""
        return {name: kept.owner for name, kept in self._kept.items() if kept.owner != key}

    def _serves(self, waiter: Waiter, want: Want, pool: PoolKey, node: str, free: int) -> bool:
        if want.need is not None and want.need.together and waiter.held and node not in waiter.held:
            return False
        enough = free + waiter.held.get(node, 0) >= want.gpus
        return (
            pool == want.pool and enough and (node not in self._kept or self._kept[node].owner == waiter.key)
        )

    def _in_order(self) -> list[Waiter]:
        if self._sorted is None:
            self._sorted = sorted(self._line.values(), key=lambda waiter: waiter.order)
        return self._sorted


def _asked(need: PodNeed) -> Hashable:
    """What decides which nodes take a pod."""
    selector = frozenset(need.node_selector.items())
    return need.pool, need.gpus, need.cpu_milli, need.memory_bytes, selector, need.tolerations


def _with_room_beside(inventory: Inventory, waiter: Waiter, want: Want) -> set[str]:
    """Of the nodes of its pods, those large enough for one more, were nobody else there."""
    found = set()
    for name, held in waiter.held.items():
        state = inventory.nodes.get(name)
        groups = state.facts.groups if state else ()
        there = sum(g.allocatable for g in groups if PoolKey(g.gpu_model or "", g.partition) == want.pool)
        if there >= held + want.gpus:
            found.add(name)
    return found

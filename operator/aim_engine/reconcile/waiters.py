"""Who waits for which GPUs, and whom to wake when some become free: in order of arrival, no more than can be served."""

from __future__ import annotations

from collections.abc import Iterable

from aim_engine.inventory import Freed
from aim_engine.reconcile.cache import Key
from aim_engine.selection import Want


class Waiters:
    """Deployments with unmet wants, first come first served."""

    def __init__(self) -> None:
        self._wants: dict[Key, tuple[Want, ...]] = {}
        self._stuck: dict[Key, None] = {}
        self._nudged: set[Key] = set()

    def __len__(self) -> int:
        return len(self._wants)

    def set(self, key: Key, wants: tuple[Want, ...]) -> None:
        """Note what `key` waits for; keeps its place in line. Nothing wanted: it waits no more."""
        if wants:
            self._wants[key] = wants
        else:
            self._wants.pop(key, None)

    def wants(self, key: Key) -> tuple[Want, ...]:
        """What `key` waits for."""
        return self._wants.get(key, ())

    def take_nudge(self, key: Key) -> bool:
        """Whether `key` was woken since it was last asked."""
        nudged = key in self._nudged
        self._nudged.discard(key)
        return nudged

    def set_stuck(self, key: Key, stuck: bool) -> None:
        """Note a deployment that no amount of the present GPUs can help, only another kind of node."""
        if stuck:
            self._stuck[key] = None
        else:
            self._stuck.pop(key, None)

    def woken(self, freed: Iterable[Freed]) -> list[Key]:
        """Keys worth another look: as many, in order, as the free GPUs of the pools could serve."""
        room = {(f.pool, f.node): f.free_gpus for f in freed}
        woken: list[Key] = []
        for key, wants in self._wants.items():
            for want in wants:
                place = next(
                    (at for at, free in room.items() if at[0] == want.pool and free >= want.gpus), None
                )
                if place is not None:
                    room[place] -= want.gpus
                    woken.append(key)
                    break
        self._nudged.update(woken)
        return woken

    def wake_all(self) -> list[Key]:
        """Everybody who waits, in order, and those that are stuck."""
        woken = [*self._wants, *(key for key in self._stuck if key not in self._wants)]
        self._nudged.update(woken)
        return woken

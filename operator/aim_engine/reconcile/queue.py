"""A keyed, coalescing work queue: a key waits at most once, is worked on by one worker at a time, and backs off alone."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 60.0


class WorkQueue(Generic[Key]):
    """Same semantics as client-go's rate-limiting workqueue, for one event loop."""

    def __init__(self) -> None:
        self._urgent: deque[Key] = deque()
        self._ready: deque[Key] = deque()
        self._queued: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._available = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queued) + len(self._again)

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for a first answer."""
        return bool(self._urgent)

    @property
    def active(self) -> int:
        """Keys being worked on."""
        return len(self._active)

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Ask for a pass over `key`; while one is running, for another one after it.

        What users asked for is urgent and goes before what the cluster echoes, so that a burst is acted on first.
        """
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            (self._urgent if urgent else self._ready).append(key)
            self._available.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for a pass later; an earlier ask wins."""
        loop = asyncio.get_running_loop()
        current = self._timers.get(key)
        if key in self._queued or key in self._again or (current and current.when() <= loop.time() + seconds):
            return
        if current:
            current.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def back_off(self, key: Key, at_least: float = 0.0, longest: float = _LONGEST_BACKOFF) -> float:
        """Ask for a pass after this key's growing, jittered pause; returns the pause in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        backoff = min(longest, _FIRST_BACKOFF * 2 ** min(count, 16))
        pause: float = max(at_least, backoff * random.uniform(0.8, 1.2))  # noqa: S311
        self.add_after(key, pause)
        return pause

    def forget(self, key: Key) -> None:
        """The key is well: its next failure starts with the shortest pause."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key to work on; call `done` afterwards, whatever happened."""
        while not self._urgent and not self._ready:
            self._available.clear()
            await self._available.wait()
        key = (self._urgent or self._ready).popleft()
        self._queued.discard(key)
        self._active.add(key)
        return key

    def done(self, key: Key) -> None:
        """The pass over `key` ended."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

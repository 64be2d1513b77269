"""Work over many objects in slices: watches, probes and the renewal of the Lease get their turn in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

SLICE_SECONDS = 0.005

Item = TypeVar("Item")


async def in_turns(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items one after the other. What they were taken from may change while others have their turn."""
    turn = time.perf_counter()
    for item in items:
        if time.perf_counter() - turn > SLICE_SECONDS:
            await asyncio.sleep(0)
            turn = time.perf_counter()
        yield item

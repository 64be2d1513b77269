"""A store of facts at work against a local Hub, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aim_engine.hub.store import HubFacts, HubSettings
from testbed.hub import LocalHub
from unit.model_configs import decoder

MODEL = "acme/small"
CONFIG = decoder(2, 64, 4, 2, 128, 1000, 2048)
INDEX = {"metadata": {"total_size": 123_456}, "weight_map": {"a": "model-00001.safetensors"}}


@dataclass
class Running:
    """A store with its worker, and what it told."""

    facts: HubFacts
    learned: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)


@asynccontextmanager
async def store(
    hub: LocalHub, cache: Path | None = None, endpoint: str | None = None
) -> AsyncIterator[Running]:
    running = Running(HubFacts(HubSettings(endpoint or hub.url, 60.0, 2, cache), lambda _: None))
    running.facts.learned = running.learned.append
    running.facts.asked = running.results.append
    work = asyncio.create_task(running.facts.run())
    try:
        yield running
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def known(running: Running, model: str = MODEL, revision: str = "main", times: int = 1) -> None:
    """Wait until something is learned of a model, so many times since the start, bounded."""
    running.facts.model(model, revision)
    await until(lambda: running.learned.count(model) >= times, f"something to be learned of {model}")


async def until(holds: Callable[[], object], what: str) -> None:
    """Look until it holds; AssertionError after a minute."""
    for _ in range(6000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited a minute for {what}")

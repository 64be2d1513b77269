"""Long work in memory lets others have their turn: probes, watches and the renewal of the Lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from aim_engine.kube.connection import Connection
from aim_engine.reconcile import measuring, recipes, turns
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.config import HubConfig, OperatorConfig
from aim_engine.reconcile.measuring import Measured, Measuring
from aim_engine.reconcile.recipes import RecipeStatuses
from aim_engine.reconcile.runtime import Runtime
from aim_engine.telemetry.metrics import Pass
from unit.series_world import many

PATIENCE = 60.0
COUNT = 50


@asynccontextmanager
async def counted(had: list[int], work: asyncio.Task[None]) -> AsyncIterator[None]:
    """Counts in `had` the turns that another task had so far, beside the work."""

    async def other() -> None:
        while True:
            had[0] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    finally:
        task.cancel()
        work.cancel()


def runtime_with(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(recipes, "_TICK_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "_TICK_SECONDS", 0.0)
    return Runtime(OperatorConfig(hub=HubConfig(enabled=False)), cast(Connection, None))


async def test_recipes_are_judged_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are due whenever a fact of a model becomes known, and most have nothing to write that would be waited for."""
    seen: list[int] = []
    had = [0]

    async def write(_: RecipeStatuses, name: str, told: Pass) -> None:
        seen.append(had[0])

    monkeypatch.setattr(RecipeStatuses, "_write", write)
    runtime = runtime_with(monkeypatch)
    runtime.cache.recipes = many(0, COUNT)[0].recipes
    async with counted(had, asyncio.create_task(runtime.recipes.run())):
        while len(seen) < COUNT:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(set(seen)) == COUNT


async def test_deployments_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are looked at whenever a round of readings is over."""
    seen: list[int] = []
    had = [0]

    def evaluate(_: Measuring, key: Key, known: Measured) -> None:
        seen.append(had[0])

    monkeypatch.setattr(Measuring, "_evaluate", evaluate)
    monkeypatch.setattr(Measuring, "_is_due", lambda *_: False)
    runtime = runtime_with(monkeypatch)
    for number in range(COUNT):
        key = ("team-a", f"chat-{number}")
        runtime.measuring.measured[key] = cast(Measured, object())
        runtime.measuring.changed(key)
    async with counted(had, asyncio.create_task(runtime.measuring.run())):
        while len(seen) < COUNT:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(set(seen)) == COUNT

"""The reflector over objects that no API server would give: one bad object must not end the watch of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from aim_engine.kube.reflector import Reflector
from aim_engine.kube.resource import Resource

PODS = Resource("", "v1", "pods", "Pod")


def pod(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, **more}


class Served:
    """Answers one list and one stream of events, then nothing."""

    def __init__(self, listed: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        self.listed, self.events = listed, events

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        yield self.listed, "1"

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        for event in self.events:
            yield event
        self.events = []
        await asyncio.sleep(3600)


def decode(obj: dict[str, Any]) -> str:
    if obj.get("bad"):
        raise KeyError("bad")
    return str(obj["metadata"]["name"])


async def test_an_object_that_cannot_be_read_is_passed_over_and_the_others_go_on() -> None:
    seen: list[str] = []
    listed: list[str] = []

    def replace(found: Iterable[str]) -> None:
        listed.extend(found)

    events = [
        {"type": "ADDED", "object": pod("worse", 2, bad=True)},
        {"type": "ADDED", "object": pod("good", 3)},
        {"type": "DELETED", "object": pod("gone", 4)},
    ]
    reflector = Reflector(
        Served([pod("first", 1), pod("bad", 1, bad=True)], events),  # type: ignore[arg-type]
        PODS,
        decode=decode,
        replace=replace,
        upsert=seen.append,
        remove=lambda obj: seen.append(f"-{obj['metadata']['name']}"),
    )
    running = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 60)
    for _ in range(6000):
        if "-gone" in seen:
            break
        await asyncio.sleep(0.01)
    running.cancel()
    assert listed == ["first"]
    assert seen == ["good", "-gone"]


class Expiring(Served):
    """Says of every version that it is too old, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__([], [])
        self.times = times
        self.watches = 0

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        self.watches += 1
        if self.watches == 1:
            yield {"type": "ADDED", "object": pod("first", 2)}
        if self.watches <= self.times:
            yield {"type": "ERROR", "object": {"code": 410, "metadata": {}}}
            return
        await asyncio.sleep(3600)


@pytest.mark.parametrize(("expired", "pauses"), [(1, 0), (2, 1), (3, 2)])
async def test_what_was_missed_is_listed_at_once_but_not_hot(
    expired: int, pauses: int, caplog: pytest.LogCaptureFixture
) -> None:
    served = Expiring(expired)
    reflector = Reflector(
        served,  # type: ignore[arg-type]
        PODS,
        decode=decode,
        replace=lambda _: None,
        upsert=lambda _: None,
        remove=lambda _: None,
    )
    running = asyncio.create_task(reflector.run())
    for _ in range(6000):
        if served.watches > expired:
            break
        await asyncio.sleep(0.01)
    running.cancel()
    assert reflector.lists == expired + 1
    assert sum("again in" in record.getMessage() for record in caplog.records) == pauses

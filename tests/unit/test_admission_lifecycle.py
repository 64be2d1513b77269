"""How the running validator begins and ends, and what it does about a part that ended by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import kopf
import pytest

from aim_engine.admission import handlers
from aim_engine.admission.runtime import Gate, Validator
from aim_engine.kube.client import KubeClient
from aim_engine.kube.connection import Connection
from aim_engine.reconcile.config import AdmissionConfig, OperatorConfig
from aim_engine.telemetry.admission import AdmissionMetrics
from unit.virtual_time import in_virtual_time

PATIENCE = 120.0
QUIET = OperatorConfig(admission=AdmissionConfig(health_listen="127.0.0.1:0", drain_seconds=1))
NOBODY = cast(Connection, None)


async def for_ever(*_: object) -> None:
    await asyncio.Event().wait()


class DeadWatch:
    """A watch that fails by a fault of ours, at once or after it has filled the cache."""

    def __init__(self, *, filled: bool) -> None:
        self.synced, self.filled = asyncio.Event(), filled

    async def run(self) -> None:
        if self.filled:
            self.synced.set()
            await asyncio.sleep(0.1)
        raise KeyError("metadata")


def validator_with(monkeypatch: pytest.MonkeyPatch, watch: DeadWatch) -> Validator:
    monkeypatch.setattr(Validator, "_watches", lambda _: {"recipes": watch})
    validator = Validator(QUIET, NOBODY)
    validator.keeper._problem = None
    return validator


async def test_a_watch_that_ends_before_the_validator_is_ready_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it waits for would never come."""
    validator = validator_with(monkeypatch, DeadWatch(filled=False))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(KeyError):
            await validator.prepare()


async def test_what_ends_the_validator_is_told_and_nobody_meets_a_closed_door(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    validator = validator_with(monkeypatch, DeadWatch(filled=True))
    monkeypatch.setattr(type(validator.keeper), "run", for_ever)
    async with asyncio.timeout(PATIENCE):
        await validator.prepare()
        validator.server.listening.set()
        await validator.run(asyncio.Event())
    assert "recipes ended" in caplog.text
    assert "KeyError" in caplog.text
    assert validator.server.draining


async def test_sigterm_ends_a_validator_that_does_not_listen_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf asks an API server that does not answer for its kinds."""

    class Unconnected:
        async def close(self) -> None:
            return None

    async def connected() -> Connection:
        return cast(Connection, Unconnected())

    async def prepared(*_: object) -> bool:
        return True

    async def spawned(*, stop_flag: asyncio.Event, **_: Any) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(for_ever()), asyncio.create_task(stop_flag.wait())]

    monkeypatch.setattr(handlers, "connect", connected)
    monkeypatch.setattr(handlers, "_prepared", prepared)
    monkeypatch.setattr(kopf, "spawn_tasks", spawned)
    monkeypatch.setattr(type(Validator(QUIET, NOBODY).keeper), "run", for_ever)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    signals: Callable[[], None] = lambda: None  # noqa: E731
    async with asyncio.timeout(PATIENCE):
        assert await handlers.run(QUIET, stop, signals)


@in_virtual_time
async def test_a_review_is_answered_in_time_though_a_config_map_is_not_told_of() -> None:
    """The API server that waits for the review may be the one that holds our question back."""

    class Silent:
        get = staticmethod(for_ever)

    config = QUIET.model_copy(update={"admission": AdmissionConfig(timeout_seconds=1)})
    gate = Gate(config, cast(KubeClient, Silent()), AdmissionMetrics(lambda: None))
    spec = {"model": {"id": "Qwen/Qwen3-32B"}, "recipe": {"configMap": "mine"}}
    obj = {"metadata": {"name": "chat", "namespace": "team-a"}, "spec": spec}
    async with asyncio.timeout(config.admission.timeout_seconds):
        await gate.deployment("team-a", obj, None)

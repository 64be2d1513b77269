"""The load: so many requests in flight at a time, each followed by the next, until something ends it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aim_engine.benchmark.book import Ending, Run
from aim_engine.benchmark.chat import Ask, Exchange, chat
from aim_engine.benchmark.connection import Connection
from aim_engine.benchmark.wire import Endpoint, RequestError

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_ROUNDS = 3
"""Rounds of failures in a row after which a run is given up."""


@dataclass(frozen=True, slots=True)
class Load:
    """How to ask. Times in seconds."""

    concurrency: int
    """Requests in flight at the same time."""
    duration: float
    """Longest time that is measured."""
    requests: int | None
    """Answers after which the measurement ends earlier."""
    warm_up: float
    """Time under the same load before the measurement begins."""
    silence: float
    """Time without a byte after which a request counts as stalled."""


async def drive(
    endpoint: Endpoint,
    headers: Mapping[str, str],
    ask: Ask,
    load: Load,
    *,
    chance: random.Random,
    interrupted: asyncio.Event,
    measuring: Callable[[], None] = lambda: None,
) -> Run:
    """Put a server under load until the duration, the number of answers or an interruption ends it.

    `measuring` is called when the warm-up is over. Failures of requests are in the run that is returned, never raised.
    """
    crew = _Crew(endpoint, headers, ask, load, chance)
    workers = [asyncio.create_task(crew.work()) for _ in range(load.concurrency)]
    told = [asyncio.create_task(event.wait()) for event in (interrupted, crew.over)]
    try:
        await _first_of((*told, *workers), load.warm_up)
        crew.begin()
        measuring()
        await _first_of((*told, *workers), load.duration)
        if interrupted.is_set():
            crew.run.ending = Ending.INTERRUPTED
        crew.end()
    finally:
        for task in (*workers, *told):
            task.cancel()
        ended = await asyncio.gather(*workers, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each
    return crew.run


async def _first_of(tasks: tuple[asyncio.Task[object], ...], seconds: float) -> None:
    if seconds > 0:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


@dataclass(slots=True)
class _Crew:
    """Workers, each with a connection and one request at a time, and their common book."""

    endpoint: Endpoint
    headers: Mapping[str, str]
    ask: Ask
    load: Load
    chance: random.Random
    over: asyncio.Event = field(default_factory=asyncio.Event)
    run: Run = field(default_factory=lambda: Run(time.perf_counter()))
    _measured: bool = False
    _open: dict[int, Exchange] = field(default_factory=dict)
    _failures: int = 0
    """Since the last answer."""
    _used: float = 0.0

    def begin(self) -> None:
        """The warm-up is over. One that was given up stays the run."""
        if not self.over.is_set():
            self.run = Run(time.perf_counter())
        self._measured = True
        self._used = time.process_time()

    def end(self) -> None:
        """Close the book."""
        run = self.run
        run.seconds = time.perf_counter() - run.began
        run.client_share = min(1.0, (time.process_time() - self._used) / max(run.seconds, 1e-9))
        for exchange in self._open.values():
            run.break_off(exchange)
        self.over.set()

    async def work(self) -> None:
        """Ask again and again. After a failure, pause for longer each time."""
        connection = Connection(self.endpoint, self.headers, self.load.silence)
        pause = _FIRST_PAUSE
        try:
            while not self.over.is_set():
                exchange = Exchange(time.perf_counter())
                self._open[id(exchange)] = exchange
                try:
                    await chat(connection, self.ask.body(self.chance), time.perf_counter, exchange)
                    self._answered(exchange)
                    pause = _FIRST_PAUSE
                    continue
                except RequestError as error:
                    self._failed(error)
                    pause = max(pause, min(error.retry_after or 0.0, _LONGEST_PAUSE))
                finally:
                    del self._open[id(exchange)]
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            connection.close()

    def _answered(self, exchange: Exchange) -> None:
        if self.over.is_set():
            return
        self._failures = 0
        self.run.answer(exchange)
        if self._measured and self.run.answered == self.load.requests:
            self.run.ending = Ending.REQUESTS
            self.over.set()

    def _failed(self, error: RequestError) -> None:
        if self.over.is_set():
            return
        self._failures += 1
        self.run.fail(error)
        if self._failures >= _ROUNDS * self.load.concurrency:
            self.run.ending = Ending.GAVE_UP
            self.over.set()

"""The scraper against real engines on loopback: good ones, broken ones and hostile ones. Time moves when a test moves it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import logging
import random
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from aim_engine.api.enums import Backend
from aim_engine.engines import engine
from aim_engine.telemetry.scan import Trouble
from aim_engine.telemetry.scraper import LARGEST_PAGE, LONGEST_PAUSE, MANY_ENGINES, Key, Scraper, Target
from testbed.engine_server import Engine, engine_application
from testbed.vllm_metrics import EngineState, Load, render
from unit.openai_world import head, whole

PORT = engine(Backend.VLLM).PORT
INTERVAL = 10.0
WINDOW = 300.0
TIMEOUT = 60.0
"""Seconds; what does not answer at all is given less by the tests that wait for it."""
APP: Key = ("team-a", "app")
PAGE = render(EngineState(1_700_000_000.0, generation_tokens=500, prompt_tokens=1000), "m").encode()
COUNTER = b'vllm:generation_tokens_total{engine="0",model_name="m"} '


@dataclass
class Clock:
    """Monotonic time in the hands of a test."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Engines:
    """A scraper at work, its engines, and what came of its looks."""

    clock: Clock = field(default_factory=Clock)
    failures: Counter[str] = field(default_factory=Counter)
    reads: Counter[Key] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    """Connections by address."""
    scraper: Scraper = field(init=False)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    def __post_init__(self) -> None:
        self.scraper = Scraper(INTERVAL, TIMEOUT, 8, WINDOW, self._failed, read=self._read, clock=self.clock)

    def _failed(self, reason: str) -> None:
        self.failures[reason] += 1

    def _read(self, key: Key) -> None:
        self.reads[key] += 1

    async def engine(self, serve: Serve, address: str | None = None) -> str:
        """A server that is asked like an engine; its address."""
        at = address or ""

        async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked[at] += 1
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
            writer.close()

        for at in [address] if address else addresses():
            try:
                server = await asyncio.start_server(counted, at, PORT)
            except OSError:
                if address:
                    raise
                continue
            self.stack.callback(server.close)
            return at
        raise AssertionError("every address is taken")

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for something to happen; the schedule is looked at whenever the clock was moved."""
        async with asyncio.timeout(60):
            while not holds():
                self.scraper._changed.set()
                await asyncio.sleep(0.005)

    async def later(self, seconds: float, looks: int = 1) -> None:
        """Move the clock, and wait for so many looks that it makes due to end."""
        before = self.looks
        self.clock.now += seconds
        await self.until(lambda: self.looks >= before + looks)

    @property
    def looks(self) -> int:
        """Looks that ended."""
        return self.failures.total() + self.reads.total()

    def target(self, address: str, process: str = "p/0") -> Target:
        return Target(process, address, Backend.VLLM)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def addresses() -> Iterator[str]:
    """Pod addresses of a range that few use; tests side by side pick different ones."""
    chance = random.Random()
    for _ in range(50):
        yield f"127.95.{chance.randrange(256)}.{chance.randrange(1, 255)}"


@pytest.fixture
async def engines(request: pytest.FixtureRequest) -> AsyncIterator[Engines]:
    """With another time limit where a test says so."""
    world = Engines()
    world.scraper.timeout = getattr(request, "param", TIMEOUT)
    async with world.stack:
        running = asyncio.create_task(world.scraper.run())
        yield world
        assert not running.done(), "nothing that engines do ends the scraper"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def question(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def saying(*parts: bytes) -> Serve:
    """Answers with these bytes and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return serve


def page(body: bytes = PAGE, **headers: str) -> Serve:
    return saying(head(content_length=len(body), **headers) + body)


def forever(first: bytes, part: bytes, pause: float = 0.0) -> Serve:
    """Begins an answer that never ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(first)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return serve


def counting(step: int = 100) -> Serve:
    """An engine whose counter grows with each look."""
    tokens = itertools.count(1000, step)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(whole(COUNTER + f"{next(tokens)}\n".encode()))

    return serve


LINE = b'vllm:generation_tokens_total{a="1"} 5\n'


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        pytest.param(saying(whole(b"no", "404 Not Found")), Trouble.HTTP_STATUS, id="404"),
        pytest.param(saying(whole(PAGE, "500 Oops")), Trouble.HTTP_STATUS, id="500"),
        pytest.param(saying(head("204 No Content")), Trouble.HTTP_STATUS, id="204"),
        pytest.param(page(b"<html><body>hello</body></html>\n"), Trouble.NOT_METRICS, id="html"),
        pytest.param(page(b""), Trouble.NOT_METRICS, id="empty"),
        pytest.param(page(b"node_cpu_seconds_total{cpu=\"0\"} 5\nvllm:generation_tokens_total_of_mine 7\nxvllm:num_requests_running 1\n"), Trouble.NOT_METRICS, id="other people's names"),
        pytest.param(page(PAGE[: len(PAGE) // 2].rpartition(b"\n")[0] + b"\nvllm:gen"), Trouble.NOT_METRICS, id="page without its end"),
        pytest.param(page(gzip.compress(PAGE), content_encoding="gzip"), Trouble.NOT_METRICS, id="compressed"),
        pytest.param(page(gzip.compress(b"0" * 50_000_000, 9), content_encoding="gzip"), Trouble.NOT_METRICS, id="bomb"),
        pytest.param(saying(b"SSH-2.0-OpenSSH_9.6\r\n"), Trouble.NOT_METRICS, id="ssh"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), Trouble.NOT_METRICS, id="negative length"),
        pytest.param(saying(head(transfer_encoding="chunked") + b"zz\r\n"), Trouble.NOT_METRICS, id="no chunks"),
        pytest.param(saying(head(x=b"y" * 100_000) + PAGE), Trouble.NOT_METRICS, id="long header"),
        pytest.param(forever(b"HTTP/1.1 200 OK\r\n", b"X-Header: y\r\n"), Trouble.NOT_METRICS, id="endless headers"),
        pytest.param(forever(head(), LINE * 1000), Trouble.TOO_LARGE, id="endless body"),
        pytest.param(forever(head(content_length=10**9), LINE * 1000), Trouble.TOO_LARGE, id="1 GB"),
        pytest.param(forever(head(transfer_encoding="chunked"), b"10000\r\n" + b"#" * 65536 + b"\r\n"), Trouble.TOO_LARGE, id="endless chunks"),
        pytest.param(page(LINE * (LARGEST_PAGE // len(LINE) + 2)), Trouble.TOO_LARGE, id="a line beyond 2 MiB"),
        pytest.param(page(COUNTER + b"NaN\n"), Trouble.BAD_VALUE, id="NaN"),
        pytest.param(page(COUNTER + b"+Inf\n"), Trouble.BAD_VALUE, id="Inf"),
        pytest.param(page(COUNTER + b"1e999\n"), Trouble.BAD_VALUE, id="beyond floats"),
        pytest.param(page(COUNTER + b"-1\n"), Trouble.BAD_VALUE, id="negative"),
        pytest.param(page(COUNTER + b"many\n"), Trouble.BAD_VALUE, id="no number"),
        pytest.param(page(b"".join(b'vllm:num_requests_running{i="%d"} 1\n' % i for i in range(5000))), Trouble.TOO_MANY_SERIES, id="label sets"),
        pytest.param(page(LINE + b"".join(b'vllm:time_to_first_token_seconds_bucket{le="%d"} 1\n' % i for i in range(5000))), Trouble.TOO_MANY_SERIES, id="buckets"),
        pytest.param(saying(head(content_length=len(PAGE)) + PAGE[:100]), Trouble.REFUSED, id="vanished in the middle"),
        pytest.param(saying(b"HTTP/1.1 20"), Trouble.REFUSED, id="vanished in the head"),
        pytest.param(saying(), Trouble.REFUSED, id="closed at once"),
    ],
)  # fmt: skip
async def test_an_engine_that_gives_no_reading_is_counted_by_its_reason(
    engines: Engines, serve: Serve, reason: Trouble
) -> None:
    engines.scraper.watch(APP, [engines.target(await engines.engine(serve))])
    await engines.later(6)
    assert engines.failures == {reason.value: 1}
    assert engines.scraper.window(APP, 0) is None


@pytest.mark.parametrize("engines", [0.5], indirect=True, ids=["half a second"])
@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(forever(b"", b""), id="silence"),
        pytest.param(forever(b"HTTP/1.1 200 OK\r\n", b"X", 0.01), id="slow head"),
        pytest.param(forever(head(), b"#", 0.01), id="slow body"),
        pytest.param(forever(head(content_length=1000), b"", 0.01), id="half a body"),
    ],
)
async def test_a_slow_engine_is_given_up_after_the_time_limit(engines: Engines, serve: Serve) -> None:
    engines.scraper.watch(APP, [engines.target(await engines.engine(serve))])
    await engines.later(6)
    assert engines.failures == {"timeout": 1}


async def test_nobody_listens(engines: Engines) -> None:
    engines.scraper.watch(APP, [engines.target(next(addresses()))])
    await engines.later(6)
    assert engines.failures == {"refused": 1}


async def test_a_redirect_is_not_followed(engines: Engines) -> None:
    other = await engines.engine(page())
    moved = saying(head("302 Found", location=f"http://{other}:{PORT}/metrics", content_length=0))
    engines.scraper.watch(APP, [engines.target(await engines.engine(moved))])
    await engines.later(6)
    assert engines.failures == {"http_status": 1}
    assert engines.asked[other] == 0


async def test_the_question_is_plain(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await question(reader))
        writer.write(whole(PAGE, set_cookie="a=b"))

    engines.scraper.watch(APP, [engines.target(await engines.engine(serve))])
    await engines.later(6)
    await engines.later(2 * INTERVAL)
    assert engines.reads[APP] == 2
    for each in heads:
        assert each.startswith("GET /metrics HTTP/1.1\r\n")
        assert "Accept-Encoding: identity" in each
        assert not any(word in each.lower() for word in ("cookie", "authorization"))


@pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1", "0.0.0.0", "fe80::1", "example.com", "127.0.0.1/x", ""])  # fmt: skip
def test_what_no_pod_can_have_as_address_is_never_asked(address: str) -> None:
    scraper = Scraper(INTERVAL, TIMEOUT, 1, WINDOW, lambda _: None)
    scraper.watch(APP, [Target("p/0", address, Backend.VLLM)])
    assert scraper.engines == 0


async def test_a_simulated_engine_is_measured(engines: Engines) -> None:
    """With aiohttp's own server, as the testbed runs it."""
    address = next(addresses())
    state = EngineState(1_700_000_000.0, Load(tokens_per_second=0))
    runner = web.AppRunner(engine_application({(address, PORT): Engine(["m"], state)}), access_log=None)
    await runner.setup()
    engines.stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address, PORT).start()
    engines.scraper.watch(APP, [engines.target(address)])
    await engines.later(6)
    for _ in range(20):
        state.count_request(100, 50, "stop")
    await engines.later(20)
    seen = engines.scraper.window(APP, 1)
    assert seen is not None
    assert (seen.tokens_per_second, seen.requests_per_second, seen.seconds) == (50.0, 1.0, 20.0)
    assert seen.input_tokens == 100


async def test_a_failing_engine_is_asked_ever_more_rarely_and_at_once_as_usual_when_it_is_well(
    engines: Engines,
) -> None:
    is_well = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(whole(PAGE) if is_well else whole(b"", "503 Loading"))

    address = await engines.engine(serve)
    engines.scraper.watch(APP, [engines.target(address)])
    await engines.later(6)
    pauses = []
    for _ in range(8):
        start, looks = engines.clock.now, engines.looks
        while engines.looks == looks:
            engines.clock.now += 1
            await settled(engines)
        pauses.append(engines.clock.now - start)
    wanted = [20, 40, 80, 160, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert pauses == pytest.approx(wanted, rel=0.11, abs=1), "twice as long each time, up to the longest"
    is_well = True
    await engines.later(2 * LONGEST_PAUSE)
    await engines.later(1.2 * INTERVAL)
    assert engines.reads[APP] == 2


async def settled(engines: Engines) -> None:
    """Everything that is due now was asked and has answered."""
    scraper = engines.scraper

    def idle() -> bool:
        due = scraper._due
        return (not due or due[0][0] > engines.clock.now) and len(due) >= scraper.engines

    await engines.until(idle)


async def test_watching_the_same_process_again_does_not_double_its_looks(engines: Engines) -> None:
    address, other = await engines.engine(page()), await engines.engine(page())
    for _ in range(50):
        engines.scraper.watch(APP, [engines.target(address)])
    assert len(engines.scraper._due) == 1
    engines.scraper.watch(("team-a", "other"), [engines.target(other)])
    for _ in range(5):
        engines.clock.now += 1.2 * INTERVAL
        await settled(engines)
        engines.scraper.watch(APP, [engines.target(address)])
    assert engines.asked[address] == engines.asked[other] == 5


async def test_a_deployment_that_flaps_is_asked_no_more_often(engines: Engines) -> None:
    address = await engines.engine(page())
    for _ in range(200):
        engines.scraper.watch(APP, [engines.target(address)])
        engines.scraper.watch(APP, [])
    engines.scraper.watch(APP, [engines.target(address)])
    for _ in range(3):
        engines.clock.now += 1.2 * INTERVAL
        await settled(engines)
    assert engines.asked[address] == 3
    assert (engines.scraper.engines, len(engines.scraper._due)) == (1, 1)


async def test_a_watched_engine_that_is_forgotten_is_asked_no_more(engines: Engines) -> None:
    gone, stays = await engines.engine(page()), await engines.engine(page())
    engines.scraper.watch(APP, [engines.target(gone)])
    engines.scraper.watch(("team-a", "stays"), [engines.target(stays)])
    await engines.later(6, looks=2)
    engines.scraper.forget(APP)
    for _ in range(3):
        await engines.later(1.2 * INTERVAL)
    assert (engines.asked[gone], engines.asked[stays]) == (1, 4)
    assert (engines.scraper.engines, len(engines.scraper._due)) == (1, 1)


async def test_an_engine_that_vanishes_while_it_is_asked_leaves_nothing(engines: Engines) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        asked.set()
        await go_on.wait()
        writer.write(whole(PAGE))

    engines.scraper.watch(APP, [engines.target(await engines.engine(serve))])
    engines.clock.now += 6
    await engines.until(asked.is_set)
    engines.scraper.forget(APP)
    go_on.set()
    sentinel = ("team-a", "sentinel")
    engines.scraper.watch(sentinel, [engines.target(await engines.engine(page()))])
    await engines.later(6)
    await settled(engines)
    assert engines.reads == {sentinel: 1}
    assert engines.scraper.window(APP, 0) is None


async def test_two_pods_with_one_address_in_turn_are_two_engines(engines: Engines) -> None:
    """No rate is taken from one to the other, though the counter of the second is higher."""
    address = await engines.engine(counting(100_000))
    engines.scraper.watch(APP, [engines.target(address, "first/0")])
    await engines.later(6)
    await engines.later(1.2 * INTERVAL)
    assert engines.scraper.window(APP, 1) is not None
    engines.scraper.watch(APP, [engines.target(address, "second/0")])
    assert engines.scraper.window(APP, 1) is None
    await engines.later(6)
    assert engines.scraper.window(APP, 1) is None, "it was seen once"
    await engines.later(1.2 * INTERVAL)
    seen = engines.scraper.window(APP, 1)
    assert seen is not None
    assert seen.tokens_per_second * seen.seconds == pytest.approx(100_000)


async def test_two_pods_that_are_said_to_have_one_address_are_one_engine(engines: Engines) -> None:
    address = await engines.engine(counting())
    engines.scraper.watch(APP, [engines.target(address, "old/0"), engines.target(address, "new/0")])
    await engines.later(6)
    await engines.later(1.2 * INTERVAL)
    seen = engines.scraper.window(APP, 1)
    assert seen is not None
    assert (seen.replicas, engines.asked[address]) == (1, 2)


async def test_an_engine_that_restarted_has_no_negative_rate(engines: Engines) -> None:
    pages = iter((5000, 6000, 10, 20))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(whole(COUNTER + f"{next(pages)}\n".encode()))

    engines.scraper.watch(APP, [engines.target(await engines.engine(serve))])
    await engines.later(6)
    await engines.later(2 * INTERVAL)
    await engines.later(2 * INTERVAL)
    assert engines.scraper.window(APP, 1) is None
    await engines.later(2 * INTERVAL)
    seen = engines.scraper.window(APP, 1)
    assert seen is not None
    assert seen.tokens_per_second == pytest.approx(10 / (2 * INTERVAL))


async def test_a_clock_that_jumps_makes_no_burst(engines: Engines) -> None:
    address = await engines.engine(page())
    engines.scraper.watch(APP, [engines.target(address)])
    await engines.later(6)
    for _ in range(3):
        engines.clock.now += 86_400
        await settled(engines)
    assert engines.asked[address] == 4, "what was missed is not made up for"
    engines.clock.now -= 3600
    await engines.later(3600 + 2 * INTERVAL)
    assert engines.asked[address] == 5


async def test_what_was_read_long_ago_is_no_window(engines: Engines) -> None:
    engines.scraper.watch(APP, [engines.target(await engines.engine(counting()))])
    await engines.later(6)
    await engines.later(1.2 * INTERVAL)
    assert engines.scraper.window(APP, 1) is not None
    engines.clock.now += 10 * INTERVAL
    assert engines.scraper.window(APP, 1) is None


async def test_after_a_long_silence_a_new_window_begins(engines: Engines) -> None:
    engines.scraper.watch(APP, [engines.target(await engines.engine(counting()))])
    await engines.later(6)
    await engines.later(1.2 * INTERVAL)
    engines.clock.now += 2 * 86400
    await settled(engines)
    assert engines.reads[APP] == 3
    assert engines.scraper.window(APP, 1) is None, "what was read days ago says nothing of now"
    await engines.later(1.2 * INTERVAL)
    found = engines.scraper.window(APP, 1)
    assert found is not None
    assert found.seconds < 2 * INTERVAL


async def test_so_many_looks_at_a_time_and_no_more(engines: Engines) -> None:
    open_now = most = 0
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        await question(reader)
        open_now += 1
        most = max(most, open_now)
        await go_on.wait()
        open_now -= 1
        writer.write(whole(PAGE))

    targets = [engines.target(await engines.engine(serve), f"p{i}/0") for i in range(20)]
    engines.scraper.watch(APP, targets)
    engines.clock.now += 6
    await engines.until(lambda: open_now == 8)
    go_on.set()
    await engines.until(lambda: engines.reads[APP] == 20)
    assert most == 8


async def test_hostile_engines_do_not_keep_a_good_one_from_being_read(engines: Engines) -> None:
    bad = [forever(head(), b"#" * 65536), saying(), page(b"<html>\n"), page(COUNTER + b"NaN\n")]
    targets = [engines.target(await engines.engine(serve), f"bad{i}/0") for i, serve in enumerate(bad)]
    engines.scraper.watch(("team-b", "bad"), targets)
    engines.scraper.watch(APP, [engines.target(await engines.engine(counting()))])
    await engines.later(6, looks=5)
    for _ in range(6):
        engines.clock.now += 1.2 * INTERVAL
        await settled(engines)
    assert engines.reads[APP] == 7
    assert engines.failures.total() < 4 * 5, "they were asked ever more rarely"


async def test_a_fault_of_ours_loses_no_engine(engines: Engines, caplog: pytest.LogCaptureFixture) -> None:
    looked = 0

    def read(_: Key) -> None:
        nonlocal looked
        looked += 1
        raise RuntimeError("boom")

    engines.scraper.read = read
    engines.scraper.watch(APP, [engines.target(await engines.engine(page()))])
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            engines.clock.now += 3 * INTERVAL
            await settled(engines)
    assert looked == 2
    assert caplog.text.count("a fault of ours") == 2


HOSTILE = (
    b"vllm:time_to_first_token_seconds_bucket{" + b'le="x",' * 250_000 + b"\n",
    b"vllm:generation_tokens_total{" + b"}" * 1_500_000 + b"\n",
    b"vllm:generation_tokens_total{" + b"} " * 700_000 + b"\n",
    b"vllm:generation_tokens_total" + b" " * 1_500_000 + b"\n",
    b"vllm:request_success_total{" + b',finished_reason="error"' * 60_000 + b"} 1\n",
)


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_line_made_to_be_hard_to_read_does_not_hold_the_loop(engines: Engines, line: bytes) -> None:
    """Whoever reads it character by character from each of its labels needs minutes."""
    body = LINE + line
    assert len(body) < LARGEST_PAGE
    engines.scraper.watch(APP, [engines.target(await engines.engine(page(body)))])
    await engines.later(6)
    assert engines.looks == 1


async def test_memory_does_not_grow_with_the_looks(engines: Engines) -> None:
    engines.scraper.watch(APP, [engines.target(await engines.engine(page()))])
    await engines.later(6)
    for _ in range(60):
        await engines.later(1.2 * INTERVAL)
    (watched,) = engines.scraper._watched[APP].values()
    assert len(watched.series.readings) <= WINDOW / INTERVAL + 2
    tracemalloc.start()
    try:
        await engines.later(1.2 * INTERVAL)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(60):
            await engines.later(1.2 * INTERVAL)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 500_000, "sixty pages of 30 kB, of which the numbers of the last minutes stay"


async def test_a_body_without_end_is_not_collected(engines: Engines) -> None:
    tracemalloc.start()
    try:
        engines.scraper.watch(APP, [engines.target(await engines.engine(forever(head(), b"#" * 65536)))])
        await engines.later(6)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert engines.failures == {"too_large": 1}
    assert peak < 4 * LARGEST_PAGE


def test_beyond_many_engines_each_is_asked_once_a_minute() -> None:
    scraper = Scraper(INTERVAL, TIMEOUT, 1, WINDOW, lambda _: None)
    for i in range(MANY_ENGINES + 1):
        scraper.watch(
            ("team-a", f"app-{i}"), [Target(f"p{i}/0", f"127.80.{i // 250}.{i % 250 + 1}", Backend.VLLM)]
        )
    assert (scraper.engines, scraper.pause) == (MANY_ENGINES + 1, 60.0)
    scraper.forget(("team-a", "app-0"))
    assert (scraper.engines, scraper.pause) == (MANY_ENGINES, INTERVAL)

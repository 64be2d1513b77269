"""Looks at the metrics page of every engine now and then, and keeps what it said lately.

Engines are asked by their pod's address, on their backend's port and path, one connection a time, without redirects,
proxies, cookies or decompression, within a size and a time limit. An engine that does not answer is asked ever more rarely.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import ipaddress
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import aiohttp

from aim_engine.api.enums import Backend
from aim_engine.engines import engine
from aim_engine.telemetry.scan import Reading, Trouble, UnreadableError, scan
from aim_engine.telemetry.window import Series, Window, window

log = logging.getLogger(__name__)

PATH = "/metrics"
LARGEST_PAGE = 2 * 2**20
"""Bytes of a page that are read at most; a vLLM page has some 50 kB."""
_CHUNK = 65536
MANY_ENGINES = 500
"""Beyond so many, each is asked once a minute at most."""
_MANY_SECONDS = 60.0
LONGEST_PAUSE = 300.0
_JITTER = 0.1
_IDLE_SECONDS = 1.0

Key = tuple[str, str]
"""(namespace, name) of an AIMDeployment."""


@dataclass(frozen=True, slots=True)
class Target:
    """One engine process."""

    process: str
    """Changes whenever another process answers at the address: pod uid and restarts."""
    address: str
    """IP address of the pod."""
    backend: Backend

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{engine(self.backend).PORT}{PATH}"


def is_pod_address(text: str) -> bool:
    """Whether a pod may have this address; link-local ones (cloud metadata) and groups are never asked."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)


@dataclass(slots=True)
class _Watched:
    target: Target
    number: int
    """Tells an entry of the schedule from one of a former watch of the same process."""
    series: Series
    failures: int = 0


@dataclass(slots=True)
class Scraper:
    """Asks the engines of watched deployments, each every `interval` seconds, at most `concurrency` at a time."""

    interval: float
    timeout: float
    concurrency: int
    window_seconds: float
    """Readings older than this are forgotten."""
    failed: Callable[[str], None]
    """Told the reason of each look that gave no reading."""
    read: Callable[[Key], None] = lambda _: None
    """Told a deployment of which something new was read."""
    clock: Callable[[], float] = time.monotonic
    _watched: dict[Key, dict[str, _Watched]] = field(default_factory=dict)
    _due: list[tuple[float, int, Key, str]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _count: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self, key: Key, targets: Iterable[Target]) -> None:
        """These are the engines of a deployment now; what others of it said is forgotten."""
        here = {each.address: each for each in targets if is_pod_address(each.address)}
        # Two processes at one address would count what answers there twice.
        wanted = {each.process: each for each in here.values()}
        known = self._watched.get(key, {})
        if known.keys() == wanted.keys() and all(known[name].target == wanted[name] for name in known):
            return
        kept = {name: each for name, each in known.items() if wanted.get(name) == each.target}
        now = self.clock()
        for name, target in wanted.items():
            if name not in kept:
                kept[name] = _Watched(target, next(self._numbers), Series(self.window_seconds))
                self._schedule(key, name, kept[name], now + random.random() * min(self.pause, 5.0))  # noqa: S311
        self._count += len(kept) - len(known)
        if kept:
            self._watched[key] = kept
        else:
            self._watched.pop(key, None)
        self._changed.set()

    def _schedule(self, key: Key, name: str, watched: _Watched, at: float) -> None:
        heapq.heappush(self._due, (at, watched.number, key, name))

    def forget(self, key: Key) -> None:
        """The deployment is gone."""
        self._count -= len(self._watched.pop(key, {}))

    def window(self, key: Key, least_seconds: float) -> Window | None:
        """What the deployment's engines did lately; None when too little is known, or nothing new came for long."""
        fresh = self.clock() - 3 * self.pause - self.timeout
        watched = self._watched.get(key, {}).values()
        return window(
            (
                each.series
                for each in watched
                if each.series.readings and each.series.readings[-1][0] >= fresh
            ),
            least_seconds,
        )

    @property
    def engines(self) -> int:
        """Engines that are asked."""
        return self._count

    @property
    def pause(self) -> float:
        """Seconds between two looks at one engine."""
        return self.interval if self._count <= MANY_ENGINES else max(self.interval, _MANY_SECONDS)

    async def run(self) -> None:
        """Ask until cancelled."""
        slots = asyncio.Semaphore(self.concurrency)
        connector = aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False)
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"},
        ) as session:
            try:
                while True:
                    key, name, watched = await self._next()
                    await slots.acquire()
                    task = asyncio.create_task(self._look(session, key, name, watched, slots))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self) -> tuple[Key, str, _Watched]:
        """The next engine to ask, when its time has come."""
        while True:
            self._changed.clear()
            wait = self._due[0][0] - self.clock() if self._due else _IDLE_SECONDS
            if self._due and wait <= 0:
                _, number, key, name = heapq.heappop(self._due)
                watched = self._watched.get(key, {}).get(name)
                if watched is not None and watched.number == number:
                    return key, name, watched
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, _IDLE_SECONDS)):
                    await self._changed.wait()

    async def _look(
        self,
        session: aiohttp.ClientSession,
        key: Key,
        name: str,
        watched: _Watched,
        slots: asyncio.Semaphore,
    ) -> None:
        try:
            try:
                page = await self._page(session, watched.target.url)
                reading = scan(page, engine(watched.target.backend).METRICS)
                watched.failures = 0
                if self._watched.get(key, {}).get(name) is watched:
                    self.take(key, name, reading)
            except UnreadableError as error:
                watched.failures += 1
                self.failed(error.trouble.value)
            except Exception:
                watched.failures += 1
                log.exception("engine %s of %s/%s: a fault of ours; it is asked again later", name, *key)
        finally:
            if self._watched.get(key, {}).get(name) is watched:
                self._schedule(key, name, watched, self.clock() + self._pause_after(watched.failures))
            slots.release()

    def take(self, key: Key, process: str, reading: Reading) -> None:
        """Keep a reading of a watched engine process. After a long silence it begins a new window."""
        now, readings = self.clock(), self._watched[key][process].series.readings
        if readings and now - readings[-1][0] > max(self.window_seconds, 3 * self.pause + self.timeout):
            readings.clear()
        self._watched[key][process].series.add(now, reading)
        self.read(key)

    def _pause_after(self, failures: int) -> float:
        pause: float = min(self.pause * 2 ** min(failures, 10), max(self.pause, LONGEST_PAUSE))
        return pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311

    async def _page(self, session: aiohttp.ClientSession, url: str) -> bytes:
        try:
            async with session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise UnreadableError(Trouble.HTTP_STATUS, str(response.status))
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise UnreadableError(Trouble.NOT_METRICS, "a compressed page was not asked for")
                page = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK):
                    page += chunk
                    if len(page) > LARGEST_PAGE:
                        raise UnreadableError(Trouble.TOO_LARGE, f"more than {LARGEST_PAGE} bytes")
                if page and not page.endswith(b"\n"):
                    raise UnreadableError(Trouble.NOT_METRICS, "the page ends in the middle of a line")
                return bytes(page)
        except TimeoutError:
            raise UnreadableError(Trouble.TIMEOUT, f"no whole answer within {self.timeout:g} s") from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:  # refused, or broken off
            raise UnreadableError(Trouble.REFUSED, str(error)) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise UnreadableError(Trouble.NOT_METRICS, str(error)) from None

"""Speed of /metrics in a big cluster: 5,000 deployments that serve and are measured, 200 recipes. No API server. Prints, never fails.

The server and its event loop run here, the scraper in a process of its own, as in life.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import aiohttp

from aim_engine.telemetry.metrics import Metrics
from aim_engine.telemetry.server import Pages, serve
from aim_engine.telemetry.store import SeriesStore
from unit.series_world import many, measured, series

DEPLOYMENTS, RECIPES, SCRAPES = 5_000, 200, 20
Change = Callable[[], None]


def main() -> None:
    asyncio.run(run())


async def run() -> None:
    cache, tracker = many(DEPLOYMENTS, RECIPES)
    metrics, shown = Metrics(), series(cache, tracker)
    metrics.objects = shown.store
    measured(shown.store, cache)

    async def objects() -> SeriesStore | None:
        return await shown.refresh()

    def change_some() -> None:
        for key in list(cache.deployments)[:: DEPLOYMENTS // 100]:
            stored = cache.deployments[key]
            cache.deployments[key] = replace(stored, generation=stored.generation + 1)

    def measure_all() -> None:
        measured(shown.store, cache)

    gc.collect()
    gc.freeze()  # as the operator does once its caches are filled
    runner = await serve("127.0.0.1:0", Pages(metrics.registry, lambda: None, lambda: None, objects))
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(time.sleep, 0).result()  # it takes a while to start
        first, held, size, lines = await observed(pool, url)
        print(
            f"page of {DEPLOYMENTS} deployments and {RECIPES} recipes: {lines} series, {size / 2**20:.1f} MiB"
        )
        print(
            f"first scrape, which writes every object: {first * 1e3:.0f} ms, loop held {held * 1e3:.1f} ms of CPU at most"
        )
        await repeated(pool, url, "nothing changed", lambda: None)
        await repeated(pool, url, "100 deployments changed", change_some)
    started = time.perf_counter()
    measure_all()
    print(
        f"new measurements of all deployments: {(time.perf_counter() - started) / DEPLOYMENTS * 1e6:.0f} us each"
    )
    await runner.cleanup()


async def repeated(pool: ProcessPoolExecutor, url: str, what: str, change: Change) -> None:
    """Median and worst of some scrapes."""
    taken, spent, holds = [], [], []
    for _ in range(SCRAPES):
        change()
        before = time.thread_time()
        seconds, _, _ = await asyncio.get_running_loop().run_in_executor(pool, scrape, url)
        taken.append(seconds)
        spent.append(time.thread_time() - before)
        change()
        _, held, _, _ = await observed(pool, url)
        holds.append(held)
    print(
        f"scrape, {what}: median {statistics.median(taken) * 1e3:.0f} ms, worst {max(taken) * 1e3:.0f} ms, of which "
        f"{statistics.median(spent) * 1e3:.0f} ms of the operator's CPU; "
        f"loop held {statistics.median(holds) * 1e3:.1f} ms of CPU, worst {max(holds) * 1e3:.1f} ms"
    )


async def observed(pool: ProcessPoolExecutor, url: str) -> tuple[float, float, int, int]:
    """(seconds of the scrape, longest work without a turn for others in seconds of CPU, bytes, series).

    In CPU time, since on a busy machine the loop is held by other processes too.
    """
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    seconds, size, lines = await asyncio.get_running_loop().run_in_executor(pool, scrape, url)
    ticking.cancel()
    return seconds, longest, size, lines


def scrape(url: str) -> tuple[float, int, int]:
    """(seconds, bytes, series) of one page."""

    async def get() -> bytes:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.read()

    started = time.perf_counter()
    body = asyncio.run(get())
    return (
        time.perf_counter() - started,
        len(body),
        sum(not line.startswith(b"#") for line in body.splitlines()),
    )


if __name__ == "__main__":
    main()

"""What it costs to measure thousands of engines: CPU of the scraper and of what is made of its readings. Prints, never fails.

The engines are a process of their own that answers with a page like vLLM's; only this process's CPU is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import time
import tracemalloc
from multiprocessing.synchronize import Event

from aim_engine.api.deployment import Targets
from aim_engine.api.enums import Backend
from aim_engine.engines import engine
from aim_engine.reconcile.performance import judge, measurement, summarize
from aim_engine.reconcile.subject import Subject
from aim_engine.telemetry.scan import scan
from aim_engine.telemetry.scraper import Key, Scraper, Target
from testbed.vllm_metrics import EngineState, Load, render

ADDRESSES = 50
PAGE = "vllm:filler_total"
PADDING = 480
"""Lines beside those that the testbed's engine has, as many as a real page of vLLM 0.32 has more."""
LOAD = Load(tokens_per_second=1000, running=16, waiting=4, kv_cache_usage=0.5)
SUBJECT = Subject("hash", "0.32.0", None, Targets(), (1200, "published"), 256, pristine=True)


def page(seconds: float) -> bytes:
    """A page of a vLLM that has worked so long, as big as a real one."""
    state = EngineState(1.0, LOAD)
    state.advance(seconds)
    more = "".join(
        f'{PAGE}{{engine="0",model_name="Qwen/Qwen3-32B",le="{n}.0"}} {n}.0\n' for n in range(PADDING)
    )
    return f"# HELP {PAGE} more\n# TYPE {PAGE} counter\n{more}{render(state, 'Qwen/Qwen3-32B')}".encode()


def serve(ready: Event) -> None:
    """Engines on port 8000 of fifty loopback addresses."""
    started = time.monotonic()
    bodies: dict[int, bytes] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        second = int(time.monotonic() - started)
        body = bodies.get(second) or bodies.setdefault(second, page(100 + second))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    async def run() -> None:
        port = engine(Backend.VLLM).PORT
        for number in range(ADDRESSES):
            await asyncio.start_server(answer, f"127.64.200.{number + 1}", port, backlog=256)
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(run())


async def measure(engines: int, interval: float, seconds: float) -> None:
    failed: list[str] = []
    reads = 0

    def read(key: Key) -> None:
        nonlocal reads
        reads += 1
        window = scraper.window(key, 0)
        if window is not None:
            summary = summarize(
                window, SUBJECT, None, "2026-01-01T00:00:00Z", measurement(window, "2026-01-01T00:00:00Z")
            )
            judge(window, SUBJECT, summary)

    scraper = Scraper(interval, 5, 32, 300, failed.append, read)
    for number in range(engines):
        address = f"127.64.200.{number % ADDRESSES + 1}"
        scraper.watch(("bench", f"app-{number}"), [Target(f"pod-{number}/0", address, Backend.VLLM)])
    task = asyncio.create_task(scraper.run())
    await asyncio.sleep(interval + 10)  # everybody was seen once, and the starts are spread by jitter
    reads, cpu, wall = 0, time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    used, passed = time.process_time() - cpu, time.monotonic() - wall
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print(
        f"{engines} engines, one look in {scraper.pause:g} s each: {reads / passed:.0f} looks/s, {100 * used / passed:.1f} % of a core, "
        f"{1e3 * used / max(1, reads):.2f} ms each with window and verdict; {len(failed)} failed"
    )
    print(
        f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most, this process"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, default=5_000)
    parser.add_argument("--interval", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    body = page(100)
    tracemalloc.start()
    kept = [scan(body, engine(Backend.VLLM).METRICS) for _ in range(1000)]
    size = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    started = time.process_time()
    for _ in range(1000):
        scan(body, engine(Backend.VLLM).METRICS)
    print(
        f"scan: {time.process_time() - started:.3f} ms CPU per page of {len(body) / 1000:.0f} kB; {size:.0f} bytes kept of it"
    )
    ready = multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(ready,), daemon=True)
    server.start()
    try:
        if not ready.wait(30):
            raise SystemExit("the engines did not start")
        asyncio.run(measure(options.engines, options.interval, options.seconds))
    finally:
        server.terminate()
        server.join(10)


if __name__ == "__main__":
    main()

"""Steps with progress, and a failure that names its step and the log to read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.cluster import tail

PROGRESS_SECONDS = 5.0
POLL_SECONDS = 0.2
LOG_LINES = 20


class StepError(RuntimeError):
    """A step of the demo failed; the message is complete."""


@contextmanager
def step(what: str, log: Path) -> Iterator[None]:
    """Announce a step; an exception becomes a StepError with the end of the step's log."""
    print(f"==> {what}", flush=True)
    started = time.monotonic()
    try:
        yield
    except Exception as error:
        written = f"{log} ends with:\n{tail(log, LOG_LINES)}" if log.exists() else f"{log} was not written"
        raise StepError(f"step failed: {what}\n{error}\n{written}") from error
    print(f"    done in {time.monotonic() - started:.1f} s", flush=True)


def wait_for(what: str, done: Callable[[], bool], timeout: float) -> None:
    """Poll until `done`, saying now and then what is waited for; TimeoutError after `timeout` seconds."""
    started = time.monotonic()
    told = started
    while not done():
        now = time.monotonic()
        if now - started >= timeout:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        if now - told >= PROGRESS_SECONDS:
            print(f"    waiting for {what} ({now - started:.0f} s)", flush=True)
            told = now
        time.sleep(POLL_SECONDS)

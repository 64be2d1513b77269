"""The work queue: coalescing, one worker per key, growing pauses."""

from __future__ import annotations

import asyncio
import random

import pytest

from aim_engine.reconcile.queue import WorkQueue


async def drain(queue: WorkQueue[str]) -> list[str]:
    taken = []
    while len(queue):
        key = await queue.get()
        taken.append(key)
        queue.done(key)
    return taken


async def test_a_key_waits_at_most_once_and_in_order_of_arrival() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abacab":
        queue.add(key)
    assert len(queue) == 3
    assert await drain(queue) == ["a", "b", "c"]


async def test_a_key_being_worked_on_is_not_given_to_a_second_worker() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    assert queue.active == 1
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "b"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.02)
    queue.done("a")
    assert await queue.get() == "a", "asked for during the pass: one more"
    queue.done("a")
    queue.done("b")
    assert (len(queue), queue.active) == (0, 0)


async def test_a_waiting_worker_wakes_when_work_comes() -> None:
    queue: WorkQueue[str] = WorkQueue()
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    assert sorted(await asyncio.gather(*workers)) == ["a", "b"]


async def test_a_cancelled_worker_takes_no_key_with_it() -> None:
    queue: WorkQueue[str] = WorkQueue()
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    worker.cancel()
    queue.add("a")
    await asyncio.gather(worker, return_exceptions=True)
    assert await asyncio.wait_for(queue.get(), 60) == "a"


async def test_later_means_later_and_an_earlier_ask_wins() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 30)
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    assert len(queue) == 0
    assert await asyncio.wait_for(queue.get(), 60) == "a"
    queue.done("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.03)


async def test_asking_now_forgets_asking_later() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    await asyncio.sleep(0.03)
    assert len(queue) == 0


async def test_asking_later_for_what_waits_already_adds_nothing() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add_after("a", 0.005)
    assert await queue.get() == "a"
    queue.done("a")
    await asyncio.sleep(0.02)
    assert len(queue) == 0


async def test_later_during_a_pass_comes_after_it() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.get()
    queue.add_after(key, 0.005)
    await asyncio.sleep(0.02)
    assert len(queue) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)
    queue.done(key)
    assert await queue.get() == "a"


async def test_pauses_double_up_to_a_minute_with_jitter_and_start_anew_when_the_key_is_well() -> None:
    queue: WorkQueue[str] = WorkQueue()
    expected = 0.5
    for _ in range(12):
        assert 0.8 * expected <= queue.back_off("a") <= 1.2 * expected
        expected = min(60.0, expected * 2)
    assert queue.back_off("b") <= 0.6, "keys back off alone"
    queue.forget("a")
    assert queue.back_off("a") <= 0.6


async def test_pauses_stay_at_the_longest_for_ever() -> None:
    queue: WorkQueue[str] = WorkQueue()
    pauses = [queue.back_off("a") for _ in range(3000)]
    assert max(pauses) <= 72


async def test_a_pause_is_never_shorter_than_the_server_asks() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(50):
        queue.forget("a")
        assert queue.back_off("a", at_least=10) >= 10


async def test_a_longest_pause_can_be_given() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert max(queue.back_off("a", longest=2) for _ in range(10)) <= 2.4


async def test_forgetting_a_key_that_never_failed_is_fine() -> None:
    WorkQueue[str]().forget("a")


@pytest.mark.parametrize("seed", range(5))
async def test_every_ask_is_followed_by_a_pass_that_started_after_it_and_none_overlap(seed: int) -> None:
    """Level triggered: whatever happened before the pass began is seen by it."""
    chance = random.Random(seed)
    queue: WorkQueue[int] = WorkQueue()
    version = dict.fromkeys(range(5), 0)
    seen = dict(version)
    busy: set[int] = set()

    async def work() -> None:
        while True:
            key = await queue.get()
            assert key not in busy
            busy.add(key)
            looked = version[key]
            await asyncio.sleep(chance.random() / 2000)
            seen[key] = looked
            busy.discard(key)
            queue.done(key)

    workers = [asyncio.create_task(work()) for _ in range(3)]
    for _ in range(200):
        key = chance.randrange(5)
        version[key] += 1
        queue.add(key)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() / 1000)
    for _ in range(30000):
        if seen == version:
            break
        await asyncio.sleep(0.002)
    for worker in workers:
        worker.cancel()
    assert not any(
        isinstance(result, AssertionError)
        for result in await asyncio.gather(*workers, return_exceptions=True)
    )
    assert seen == version

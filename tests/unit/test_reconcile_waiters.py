"""The line for GPUs: priority, then age; the small may overtake the big, but not for ever."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.inventory import Freed, Inventory, PodNeed, PoolKey, nearest_node, place, withhold
from aim_engine.reconcile import waiters as module
from aim_engine.reconcile.waiters import Rank, Waiters
from aim_engine.selection import Want
from unit.selection_world import UNHURRIED, cluster, node, node_object, pod, tracker_of

POOL, OTHER = PoolKey("MI300X"), PoolKey("MI355X")


def key(name: str) -> tuple[str, str]:
    return "ns", name


def line(*waiting: tuple[str, Iterable[Want]]) -> Waiters:
    """A line in which they stand in this order."""
    waiters = Waiters()
    for index, (name, wants) in enumerate(waiting):
        waiters.set(key(name), rank(name, index), tuple(wants))
    return waiters


def rank(name: str, place: int, priority: int = 0) -> Rank:
    return -priority, f"2026-01-01T00:00:{place:02}Z", key(name)


def names(keys: Iterable[tuple[str, str]]) -> list[str]:
    return [name for _, name in keys]


ONE, TWO, EIGHT = [Want(POOL, 1)], [Want(POOL, 2)], [Want(POOL, 8)]


@pytest.mark.parametrize(
    ("waiting", "freed", "woken"),
    [
        ([("a", ONE), ("b", ONE), ("c", ONE)], [Freed(POOL, "n", 2)], ["a", "b"]),
        ([("a", EIGHT), ("b", ONE)], [Freed(POOL, "n", 4)], ["b"]),
        ([("a", EIGHT), ("b", ONE)], [Freed(POOL, "n", 8)], ["a"]),
        ([("a", EIGHT)], [Freed(POOL, "n", 4), Freed(POOL, "m", 4)], []),
        ([("a", TWO), ("b", TWO)], [Freed(POOL, "n", 3), Freed(POOL, "m", 2)], ["a", "b"]),
        ([("a", [Want(OTHER, 1)])], [Freed(POOL, "n", 8)], []),
        ([("a", [Want(OTHER, 8), Want(POOL, 1)])], [Freed(POOL, "n", 1)], ["a"]),
        ([("a", [Want(PoolKey("MI300X", "cpx_nps4"), 1)])], [Freed(POOL, "n", 8)], []),
        ([("a", ONE)], [], []),
        ([], [Freed(POOL, "n", 8)], []),
    ],
)
def test_as_many_are_woken_in_order_as_could_be_served(
    waiting: list[tuple[str, list[Want]]], freed: list[Freed], woken: list[str]
) -> None:
    assert names(line(*waiting).woken(freed)) == woken


def test_being_woken_keeps_the_place_in_line_until_the_want_is_met() -> None:
    waiters = line(("a", ONE), ("b", ONE))
    assert names(waiters.woken([Freed(POOL, "n", 1)])) == ["a"]
    assert names(waiters.woken([Freed(POOL, "n", 1)])) == ["a"]
    waiters.set(key("a"), rank("a", 0), ())
    assert names(waiters.woken([Freed(POOL, "n", 1)])) == ["b"]


def test_a_changed_want_keeps_the_place_in_line() -> None:
    waiters = line(("a", EIGHT), ("b", ONE))
    waiters.set(key("a"), rank("a", 0), tuple(ONE))
    assert names(waiters.wake_all()) == ["a", "b"]


def test_the_older_goes_first_whoever_began_to_wait_first() -> None:
    waiters = Waiters()
    waiters.set(key("young"), rank("young", 2), tuple(ONE))
    waiters.set(key("old"), rank("old", 1), tuple(ONE))
    assert names(waiters.woken([Freed(POOL, "n", 1)])) == ["old"]


def test_a_higher_priority_goes_before_the_older() -> None:
    waiters = Waiters()
    waiters.set(key("old"), rank("old", 1), tuple(ONE))
    waiters.set(key("urgent"), rank("urgent", 2, priority=1000), tuple(ONE))
    assert names(waiters.woken([Freed(POOL, "n", 1)])) == ["urgent"]


def test_equal_ones_are_ordered_by_name() -> None:
    waiters = Waiters()
    for name in "bca":
        waiters.set(key(name), rank(name, 0), tuple(ONE))
    assert names(waiters.wake_all()) == ["a", "b", "c"]


def test_who_lacks_gpus_goes_before_who_only_hopes_for_better_ones() -> None:
    waiters = Waiters()
    waiters.set(key("serving"), rank("serving", 0, priority=9), (), tuple(ONE))
    waiters.set(key("waiting"), rank("waiting", 1), tuple(ONE))
    assert names(waiters.woken([Freed(POOL, "n", 1)])) == ["waiting"]
    assert names(waiters.woken([Freed(POOL, "n", 2)])) == ["waiting", "serving"]


def test_leaving_a_line_one_never_stood_in_is_fine() -> None:
    waiters = line()
    waiters.set(key("a"), rank("a", 0), ())
    waiters.leave(key("a"))
    assert waiters.wake_all() == []


def test_what_it_holds_on_the_node_counts_for_who_hopes_for_more() -> None:
    waiters = Waiters()
    waiters.set(key("a"), rank("a", 0), (), tuple(EIGHT), held={"n": 4})
    assert names(waiters.woken([Freed(POOL, "m", 4)])) == []
    assert names(waiters.woken([Freed(POOL, "n", 4)])) == ["a"]


# For whom a node is kept

MI300X_NODES = cluster(node("gpu-1", used=3), node("gpu-2", used=6))
BIG_NEED = PodNeed(gpu_model="MI300X", gpus=8)
BIG_WANT, SMALL_WANT = Want(POOL, 8, BIG_NEED), Want(POOL, 1, PodNeed(gpu_model="MI300X", gpus=1))


def big_and_small(patience: float, now: float) -> Waiters:
    waiters = Waiters()
    waiters.set(key("big"), rank("big", 0), (BIG_WANT,), now=0)
    waiters.set(key("small"), rank("small", 1), (SMALL_WANT,), now=0)
    waiters.keep_nodes(MI300X_NODES, now, patience)
    return waiters


def test_a_small_one_may_overtake_a_big_one_while_its_patience_lasts() -> None:
    waiters = big_and_small(patience=60, now=59)
    assert waiters.kept_for_others(key("small")) == {}
    assert names(waiters.woken([Freed(POOL, "gpu-1", 5)])) == ["small"]


def test_then_the_node_where_the_fewest_gpus_are_missing_is_kept_for_the_big_one() -> None:
    waiters = big_and_small(patience=60, now=60)
    assert waiters.kept_for_others(key("small")) == {"gpu-1": key("big")}
    assert waiters.kept_for_others(key("big")) == {}
    assert names(waiters.woken([Freed(POOL, "gpu-1", 5)])) == []
    assert names(waiters.woken([Freed(POOL, "gpu-1", 8)])) == ["big"]
    assert names(waiters.woken([Freed(POOL, "gpu-2", 5)])) == ["small"]


def test_one_node_of_a_pool_is_kept_at_a_time() -> None:
    waiters = big_and_small(patience=60, now=0)
    waiters.set(key("big-2"), rank("big-2", 3), (BIG_WANT,), now=0)
    waiters.keep_nodes(MI300X_NODES, 100, 60)
    assert set(waiters.kept_for_others(key("x")).values()) == {key("big")}


def test_a_node_is_given_back_when_the_big_one_is_served_and_the_next_is_woken() -> None:
    waiters = big_and_small(patience=60, now=60)
    waiters.set(key("big"), rank("big", 0), ())
    given_back = waiters.keep_nodes(MI300X_NODES, 61, 60)
    assert given_back == [Freed(POOL, "gpu-1", 5)]
    assert names(waiters.woken(given_back)) == ["small"]
    waiters.set(key("small"), rank("small", 1), ())
    assert waiters.keep_nodes(MI300X_NODES, 62, 60) == given_back
    assert waiters.kept_for_others(key("x")) == {}


def test_nothing_is_kept_for_who_only_hopes_or_for_what_no_node_could_hold() -> None:
    waiters = Waiters()
    waiters.set(key("hopes"), rank("hopes", 0), (), (BIG_WANT,), now=0)
    waiters.set(key("huge"), rank("huge", 1), (Want(POOL, 16, PodNeed(gpu_model="MI300X", gpus=16)),), now=0)
    waiters.keep_nodes(MI300X_NODES, 1000, 60)
    assert waiters.kept_for_others(key("x")) == {}


def test_what_no_node_takes_is_looked_for_once_however_many_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a thousand that wait and a thousand nodes, one look for each held everything up for two seconds of every five."""
    looks: list[PodNeed] = []

    def counted(inventory: Inventory, need: PodNeed, **more: Any) -> str | None:
        looks.append(need)
        return nearest_node(inventory, need, **more)

    monkeypatch.setattr(module, "nearest_node", counted)
    waiters = Waiters()
    for number in range(50):
        zone = "nowhere" if number % 2 else "elsewhere"
        need = PodNeed(gpu_model="MI300X", gpus=8, node_selector={"zone": zone})
        waiters.set(key(f"w{number}"), rank(f"w{number}", number), (Want(POOL, 8, need),), now=0)
    waiters.keep_nodes(MI300X_NODES, 1000, 60)
    assert len(looks) == 2


def test_replicas_that_share_a_node_have_no_other_one_kept_for_them() -> None:
    """The first of them runs on gpu-1, and nowhere else could the second."""
    shared = Want(POOL, 4, PodNeed(gpu_model="MI300X", gpus=4, together=True))
    nodes = cluster(node("gpu-1", used=6), node("gpu-2", used=1))
    waiters = Waiters()
    waiters.set(key("shared"), rank("shared", 0), (shared,), held={"gpu-1": 4})
    waiters.set(key("small"), rank("small", 1), (SMALL_WANT,))
    waiters.keep_nodes(nodes, now=10, patience=5)
    assert waiters.kept_for_others(key("small")) == {"gpu-1": key("shared")}
    assert names(waiters.woken([Freed(POOL, "gpu-2", 8)])) == ["small"]
    waiters.set(key("shared"), rank("shared", 0), (shared,), held={"gpu-1": 8})
    waiters.keep_nodes(nodes, now=20, patience=5)
    assert waiters.kept_for_others(key("shared")) == {"gpu-2": key("small")}, (
        "gpu-1 has no room for two of them"
    )


def test_the_kept_node_follows_the_fewest_missing_gpus_and_stays_on_a_tie() -> None:
    waiters = big_and_small(patience=0, now=1)
    even = cluster(node("gpu-0", used=3), node("gpu-1", used=3))
    waiters.keep_nodes(even, 2, 0)
    assert waiters.kept_for_others(key("small")) == {"gpu-1": key("big")}
    emptier = cluster(node("gpu-1", used=3), node("gpu-2", used=2))
    waiters.keep_nodes(emptier, 3, 0)
    assert waiters.kept_for_others(key("small")) == {"gpu-2": key("big")}


def test_where_no_node_of_its_first_choice_takes_pods_one_of_the_second_is_kept() -> None:
    there = cluster(node("gpu-1", unschedulable=True), node("old", "MI210", 4, used=1))
    second = Want(PoolKey("MI210"), 4, PodNeed(gpu_model="MI210", gpus=4))
    waiters = Waiters()
    waiters.set(key("big"), rank("big", 0), (BIG_WANT, second), now=0)
    waiters.keep_nodes(there, 100, 60)
    assert waiters.kept_for_others(key("small")) == {"old": key("big")}


def test_a_node_kept_in_vain_is_given_back_and_kept_again_after_another_patience() -> None:
    waiters = big_and_small(patience=60, now=60)
    assert waiters.keep_nodes(MI300X_NODES, 60 + 360, 60) == []
    assert waiters.keep_nodes(MI300X_NODES, 60 + 361, 60) == [Freed(POOL, "gpu-1", 5)]
    assert waiters.kept_for_others(key("small")) == {}
    waiters.keep_nodes(MI300X_NODES, 480, 60)
    assert waiters.kept_for_others(key("small")) == {}
    waiters.keep_nodes(MI300X_NODES, 481, 60)
    assert waiters.kept_for_others(key("small")) == {"gpu-1": key("big")}


def test_a_node_is_kept_as_long_as_more_comes_free_on_it() -> None:
    waiters = big_and_small(patience=60, now=60)
    nearer = cluster(node("gpu-1", used=2), node("gpu-2", used=6))
    waiters.keep_nodes(nearer, 400, 60)
    waiters.keep_nodes(nearer, 700, 60)
    assert waiters.kept_for_others(key("small")) == {"gpu-1": key("big")}


def test_what_it_holds_itself_on_a_kept_node_stays_its_own() -> None:
    tracker = tracker_of(node_object("gpu-1", "MI300X", 8))
    tracker.upsert_pod(pod("mine", 4, "gpu-1", owner=key("mine")))
    tracker.upsert_pod(pod("strange", 1, "gpu-1"))
    mine = withhold(tracker.inventory(exclude=key("mine")), {"gpu-1": key("other")}, tracker.inventory())
    assert place(mine, PodNeed(gpu_model="MI300X", gpus=4)).fits == 1
    assert place(mine, PodNeed(gpu_model="MI300X", gpus=5)).fits == 0


def test_who_was_woken_just_now_goes_before_the_younger_and_not_for_ever() -> None:
    waiters = line(("old", ONE), ("young", ONE))
    waiters.woken([Freed(POOL, "n", 1)], now=100)
    assert waiters.woken_before(rank("young", 1), now=100.5) == [key("old")]
    assert waiters.woken_before(rank("old", 0), now=100.5) == []
    assert waiters.woken_before(rank("urgent", 9, priority=5), now=100.5) == []
    assert waiters.woken_before(rank("young", 1), now=103) == []
    waiters.take_nudge(key("old"))
    assert waiters.woken_before(rank("young", 1), now=100.5) == []


WANTS = st.lists(
    st.builds(Want, st.sampled_from([POOL, OTHER]), st.integers(1, 8)), min_size=1, max_size=3, unique=True
)


@UNHURRIED
@given(st.lists(WANTS, max_size=8), st.dictionaries(st.tuples(st.sampled_from([POOL, OTHER]), st.sampled_from("nm")), st.integers(0, 16), max_size=4))  # fmt: skip
def test_nobody_who_could_be_served_alone_sleeps_while_later_ones_are_woken_in_vain(
    wants: list[list[Want]], free: dict[tuple[PoolKey, str], int]
) -> None:
    waiters = line(*((str(index), want) for index, want in enumerate(wants)))
    freed = [Freed(pool, name, count) for (pool, name), count in free.items()]
    woken = names(waiters.woken(freed))
    assert woken == sorted(woken, key=int), "in order"
    assert len(woken) == len(set(woken))
    assert sum(min(w.gpus for w in wants[int(name)]) for name in woken) <= sum(free.values())
    first_fitting = next(
        (
            str(i)
            for i, each in enumerate(wants)
            if any(free.get((w.pool, n), 0) >= w.gpus for w in each for n in "nm")
        ),
        None,
    )
    assert woken[:1] == ([first_fitting] if first_fitting is not None else [])


@UNHURRIED
@given(st.lists(st.integers(1, 4), min_size=5, max_size=40), st.integers(1, 3))
def test_a_big_one_is_served_however_many_small_ones_come_and_go(sizes: list[int], overlap: int) -> None:
    """Small pods run `overlap` rounds each on one node of 8; each round one ends and one comes. Without keeping the
    node, the newcomer would always take what has just come free."""
    tracker, waiters = tracker_of(node_object("gpu-1", "MI300X", 8)), Waiters()
    running: list[tuple[str, int]] = []
    for number in range(overlap):
        tracker.upsert_pod(pod(f"first-{number}", 2, "gpu-1"))
        running.append((f"first-{number}", number))
    waiters.set(key("big"), rank("big", 0), (BIG_WANT,), now=0)
    served_at = None
    for round_, size in enumerate([*sizes, *[1] * 10], start=1):
        waiters.keep_nodes(tracker.inventory(), now=round_, patience=3)
        for uid, ends in [each for each in running if each[1] <= round_]:
            freed = tracker.delete_pod(uid)
            running.remove((uid, ends))
            waiters.woken(freed, now=round_)
        if place(tracker.inventory(), BIG_NEED).fits:
            served_at = round_
            break
        small = PodNeed(gpu_model="MI300X", gpus=size)
        open_to_small = withhold(tracker.inventory(), waiters.kept_for_others(key("small")))
        if place(open_to_small, small).fits:
            tracker.upsert_pod(pod(f"small-{round_}", size, "gpu-1"))
            running.append((f"small-{round_}", round_ + overlap))
    assert served_at is not None
    assert served_at <= 3 + 1 + overlap + 1

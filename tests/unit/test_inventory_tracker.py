"""Placement and the ledger: tables, and the laws that hold in any interleaving of nodes, pods and promises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.api.deployment import Toleration
from aim_engine.api.enums import RolloutStrategy
from aim_engine.inventory import (
    Freed,
    Inventory,
    NodeState,
    PodNeed,
    PodUsage,
    PoolKey,
    Shortage,
    Tracker,
    build_inventory,
    place,
    read_node,
)

GPU = "amd.com/gpu"
GIB = 2**30
POOL = PoolKey("MI300X")
OWNER, OTHER = ("team-a", "qwen"), ("team-b", "llama")


def node(
    name: str = "gpu-1",
    gpus: int = 8,
    *,
    resource: str = GPU,
    labels: dict[str, str] | None = None,
    ready: bool = True,
    cpu: str = "96",
    memory: str = "1Ti",
    **spec: Any,
) -> dict[str, Any]:
    amounts = {resource: str(gpus), "cpu": cpu, "memory": memory, "pods": "110"}
    return {
        "metadata": {"name": name, "labels": {"amd.com/gpu.device-id": "74a1", **(labels or {})}},
        "spec": spec,
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def pod(
    uid: str,
    gpus: int = 4,
    on: str | None = "gpu-1",
    owner: tuple[str, str] | None = None,
    *,
    cpu_milli: int = 0,
    terminating: bool = False,
    terminal: bool = False,
) -> PodUsage:
    return PodUsage(
        uid, owner[0] if owner else "x", uid, on, owner, {GPU: gpus} if gpus else {}, cpu_milli, 0, terminal, terminating
    )  # fmt: skip


def need(gpus: int = 4, **more: Any) -> PodNeed:
    return PodNeed("MI300X", gpus, **more)


def tracker(*nodes: dict[str, Any]) -> Tracker:
    result = Tracker()
    result.replace_nodes(nodes or [node()])
    return result


def free(inventory: Inventory, name: str = "gpu-1") -> int:
    return inventory.nodes[name].free_gpus(GPU)


def test_four_and_four_free_on_two_nodes_are_not_eight() -> None:
    track = tracker(node("gpu-1"), node("gpu-2"))
    track.upsert_pod(pod("a", 4, "gpu-1"))
    track.upsert_pod(pod("b", 4, "gpu-2"))
    placement = place(track.inventory(), need(8))
    assert (placement.fits, placement.total_free, placement.largest_free, placement.short_of) == (
        0,
        8,
        4,
        Shortage.GPUS,
    )
    assert place(track.inventory(), need(4)).fits == 2


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (node(unschedulable=True), "is cordoned"),
        (node(ready=False), "is not Ready"),
        (
            node(taints=[{"key": "a", "value": "b", "effect": "NoSchedule"}]),
            "has taint a=b:NoSchedule that is not tolerated",
        ),
    ],
)
def test_nodes_that_take_no_pods_are_named_with_the_reason(obj: dict[str, Any], why: str) -> None:
    placement = place(tracker(obj).inventory(), need())
    assert list(map(str, placement.blocked)) == [f"gpu-1 {why}"]
    assert (placement.fits, placement.matching_nodes, placement.usable_nodes, placement.short_of) == (
        0,
        1,
        0,
        None,
    )


def test_the_gpu_taint_is_always_tolerated_and_others_where_asked() -> None:
    taints = [{"key": "amd.com/gpu", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}]
    inventory = tracker(node(taints=taints)).inventory()
    assert place(inventory, need()).fits == 0
    assert place(inventory, need(tolerations=(Toleration(key="a", operator="Exists"),))).fits == 2


def test_a_node_selector_restricts_the_nodes() -> None:
    inventory = tracker(node("gpu-1", labels={"rack": "a"}), node("gpu-2")).inventory()
    placement = place(inventory, need(node_selector={"rack": "a"}))
    assert (placement.fits, placement.usable_nodes, placement.blocked_nodes) == (2, 1, 1)
    nobody = place(inventory, need(node_selector={"rack": "b"}))
    assert list(map(str, nobody.blocked)) == [
        f"gpu-{number} lacks the label rack=b of the node selector" for number in (1, 2)
    ]
    assert place(inventory, need(9, node_selector={"rack": "a"})).blocked == (), "none is large enough"


@pytest.mark.parametrize(
    ("asked", "short"),
    [
        (need(9), Shortage.GPUS),
        (need(4, cpu_milli=97_000), Shortage.CPU),
        (need(4, memory_bytes=1025 * GIB), Shortage.MEMORY),
    ],
)
def test_the_shortage_is_named(asked: PodNeed, short: Shortage) -> None:
    placement = place(tracker().inventory(), asked)
    assert (placement.fits, placement.short_of, placement.matching_nodes) == (0, short, 0)


def test_other_models_partitions_and_cpu_nodes_do_not_count() -> None:
    partitioned = node("gpu-2", 64, labels={"amd.com/gpu.compute-memory-partition": "cpx_nps4"})
    cpu_only = node("cpu-1", 0)
    inventory = tracker(
        node("gpu-1", labels={"amd.com/gpu.device-id": "74a5"}), partitioned, cpu_only
    ).inventory()
    assert place(inventory, need()).resource is None
    assert place(inventory, need(4, partition="cpx_nps4")).fits == 16
    assert inventory.partitions("MI300X") == ("cpx_nps4",)
    assert set(inventory.nodes) == {"gpu-1", "gpu-2"}


def test_where_resource_names_differ_the_one_that_serves_best_is_taken() -> None:
    mixed = node("gpu-2", 8, resource="amd.com/spx_nps1")
    assert place(tracker(node("gpu-1", 4), mixed).inventory(), need(8)).resource == "amd.com/spx_nps1"
    assert place(tracker(node("gpu-1", 8), mixed).inventory(), need(8)).resource == GPU


def test_pods_hold_gpus_from_binding_until_they_ended() -> None:
    track = tracker()
    track.upsert_pod(pod("a", on=None))
    assert free(track.inventory()) == 8
    track.upsert_pod(pod("a"))
    assert free(track.inventory()) == 4
    track.upsert_pod(pod("a", terminating=True))
    assert free(track.inventory()) == 4
    assert track.upsert_pod(pod("a", terminal=True)) == (Freed(POOL, "gpu-1", 8),)
    assert free(track.inventory()) == 8


def test_totals_tell_who_holds_gpus_and_leave_out_what_is_free_on_a_cordoned_node() -> None:
    track = tracker(node("gpu-1"), node("gpu-2", unschedulable=True))
    track.upsert_pod(pod("one", gpus=3))
    track.promise(OWNER, need(2), 1, GPU)
    (total,) = track.totals().values()
    assert (total.allocatable, total.ours, total.others, total.free) == (16, 0, 3, 3)


def test_pods_told_before_their_node_count_and_a_vanished_node_leaves_no_ghost() -> None:
    track = Tracker()
    track.upsert_pod(pod("a"))
    track.upsert_node(node())
    assert free(track.inventory()) == 4
    track.replace_nodes([node("gpu-2")])
    assert set(track.inventory().nodes) == {"gpu-2"}
    track.replace_pods([])
    track.upsert_node(node())
    assert free(track.inventory()) == 8


def test_an_owners_own_pods_and_promise_do_not_count_against_itself() -> None:
    track = tracker(node("gpu-1"), node("gpu-2"))
    track.upsert_pod(pod("a", 8, owner=OWNER))
    track.promise(OWNER, need(8), 2, GPU)
    assert place(track.inventory(), need(8)).fits == 0
    assert place(track.inventory(OWNER), need(8)).fits == 2
    assert place(track.inventory(OTHER), need(8)).fits == 0


def test_a_promise_holds_gpus_until_its_pods_are_bound_and_not_longer() -> None:
    track = tracker()
    track.promise(OWNER, need(), 2, GPU)
    assert free(track.inventory()) == 0
    track.upsert_pod(pod("a", owner=OWNER))
    track.upsert_pod(pod("b", owner=OWNER))
    assert (free(track.inventory()), track.bound(OWNER), track.unplaced(OWNER)) == (0, 2, 0)
    assert track.release(OWNER) == ()
    assert free(track.inventory()) == 0
    track.delete_pod("a")
    assert free(track.inventory()) == 4


def test_a_released_promise_frees_its_gpus_and_tells() -> None:
    track = tracker()
    track.promise(OWNER, need(), 1, GPU)
    assert track.release(OWNER) == (Freed(POOL, "gpu-1", 8),)


def test_promises_take_the_node_with_the_least_to_spare() -> None:
    track = tracker(node("gpu-1"), node("gpu-2"))
    track.upsert_pod(pod("a", 4, "gpu-2"))
    track.promise(OWNER, need(4), 1, GPU)
    assert (free(track.inventory(), "gpu-1"), free(track.inventory(), "gpu-2")) == (8, 0)


def test_a_place_moves_when_its_node_vanishes_is_cordoned_or_filled_by_others() -> None:
    track = tracker(node("gpu-1"), node("gpu-2"))
    track.promise(OWNER, need(8), 1, GPU)
    assert free(track.inventory(), "gpu-1") == 0
    track.upsert_node(node("gpu-1", unschedulable=True))
    assert (free(track.inventory(), "gpu-1"), free(track.inventory(), "gpu-2")) == (8, 0)
    track.upsert_node(node("gpu-1"))
    track.upsert_pod(pod("a", 1, "gpu-2"))
    assert (free(track.inventory(), "gpu-1"), free(track.inventory(), "gpu-2")) == (0, 7)
    track.delete_node("gpu-1")
    assert track.unplaced(OWNER) == 1
    assert track.delete_pod("a") == ()
    assert track.unplaced(OWNER) == 0


def test_a_promise_without_a_place_is_served_before_waiters_are_woken() -> None:
    track = tracker()
    track.upsert_pod(pod("a", 8))
    track.promise(OWNER, need(8), 1, GPU)
    assert track.unplaced(OWNER) == 1
    assert track.delete_pod("a") == ()
    assert free(track.inventory()) == 0


def test_terminating_pods_hand_their_gpus_to_their_own_successors() -> None:
    track = tracker()
    track.promise(OWNER, need(8), 1, GPU)
    track.upsert_pod(pod("old", 8, owner=OWNER))
    track.upsert_pod(pod("old", 8, owner=OWNER, terminating=True))
    assert (track.unplaced(OWNER), free(track.inventory())) == (0, 0)
    assert track.delete_pod("old") == ()
    assert free(track.inventory()) == 0


def test_recreating_with_more_gpus_reserves_those_beside_the_old_pod() -> None:
    track = tracker()
    track.promise(OWNER, need(4), 1, GPU)
    track.upsert_pod(pod("old", 4, owner=OWNER))
    track.promise(OWNER, need(8), 1, GPU, RolloutStrategy.RECREATE)
    assert (track.unplaced(OWNER), free(track.inventory())) == (0, 0)
    track.promise(OWNER, need(8), 1, GPU, RolloutStrategy.SURGE)
    assert (track.unplaced(OWNER), free(track.inventory())) == (1, 4)


@pytest.mark.parametrize(
    ("strategy", "left"), [(RolloutStrategy.RECREATE, (0, 8)), (RolloutStrategy.SURGE, (0, 0))]
)
def test_recreating_reuses_the_old_gpus_while_surging_takes_further_ones(
    strategy: RolloutStrategy, left: tuple[int, int]
) -> None:
    track = tracker(node("gpu-1"), node("gpu-2"))
    track.upsert_pod(pod("old", 8, owner=OWNER, terminating=True))
    track.promise(OWNER, need(8), 1, GPU, strategy)
    assert (free(track.inventory(), "gpu-1"), free(track.inventory(), "gpu-2")) == left


def test_the_place_that_dissolves_is_the_one_on_the_node_of_the_bound_pod() -> None:
    track = tracker(node("gpu-1"), node("gpu-2"))
    track.upsert_pod(pod("other", 4, "gpu-2"))
    track.promise(OWNER, need(4), 2, GPU)
    track.delete_pod("other")
    track.upsert_pod(pod("new", 4, "gpu-2", OWNER))
    assert (free(track.inventory(), "gpu-1"), free(track.inventory(), "gpu-2")) == (4, 4)


def test_unchanged_objects_change_nothing() -> None:
    track = tracker()
    track.upsert_pod(pod("a"))
    before = track.inventory()
    assert track.upsert_pod(pod("a")) == ()
    assert track.upsert_node(node()) == ()
    assert track.inventory() is before


def test_a_node_that_becomes_usable_wakes_waiters() -> None:
    track = tracker(node(ready=False))
    assert track.upsert_node(node()) == (Freed(POOL, "gpu-1", 8),)
    assert track.upsert_node(node("gpu-2", 4)) == (Freed(POOL, "gpu-2", 4),)


_NODES = [f"gpu-{index}" for index in range(4)]
_OWNERS = [("ns", f"d{index}") for index in range(3)]
_nodes = st.builds(
    lambda name, gpus, bad, cpu: node(name, gpus, unschedulable=bad, cpu=cpu),
    st.sampled_from(_NODES),
    st.sampled_from([0, 2, 4, 8]),
    st.booleans(),
    st.sampled_from(["8", "96"]),
)
_pods = st.builds(
    lambda uid, gpus, on, owner, terminating, terminal, cpu: pod(
        f"p{uid}", gpus, on, owner, terminating=terminating, terminal=terminal, cpu_milli=cpu
    ),
    st.integers(0, 9),
    st.sampled_from([0, 1, 2, 4, 8]),
    st.sampled_from([None, *_NODES]),
    st.sampled_from([None, *_OWNERS]),
    st.booleans(),
    st.sampled_from([False, False, True]),
    st.sampled_from([0, 3000]),
)
_needs = st.builds(
    lambda gpus, cpu, together: need(gpus, cpu_milli=cpu, together=together),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([0, 2000]),
    st.booleans(),
)
_steps = st.one_of(
    st.tuples(st.just("upsert_node"), _nodes),
    st.tuples(st.just("delete_node"), st.sampled_from(_NODES)),
    st.tuples(st.just("replace_nodes"), st.lists(_nodes, max_size=4, unique_by=lambda obj: str(obj["metadata"]["name"]))),
    st.tuples(st.just("upsert_pod"), _pods),
    st.tuples(st.just("delete_pod"), st.integers(0, 9).map(lambda index: f"p{index}")),
    st.tuples(st.just("replace_pods"), st.lists(_pods, max_size=6, unique_by=lambda usage: usage.uid)),
    st.tuples(
        st.just("promise"), st.sampled_from(_OWNERS), _needs, st.integers(0, 4), st.just(GPU), st.sampled_from(RolloutStrategy)
    ),
    st.tuples(st.just("release"), st.sampled_from(_OWNERS)),
)  # fmt: skip
_NO_LEDGER = _steps.filter(lambda step: step[0] not in ("promise", "release"))


def run(track: Tracker, steps: Iterable[tuple[Any, ...]]) -> Tracker:
    for name, *arguments in steps:
        getattr(track, name)(*arguments)
    return track


def check_ledger(track: Tracker) -> None:
    for state in track.inventory().nodes.values():
        for group in state.facts.groups:
            promised = state.promised.gpus.get(group.resource, 0)
            assert not promised or state.used.gpus.get(group.resource, 0) + promised <= group.allocatable
        assert not state.promised.cpu_milli or (
            state.used.cpu_milli + state.promised.cpu_milli <= state.facts.cpu_milli
        )


@settings(max_examples=400, deadline=None)
@given(st.lists(_steps, max_size=30))
def test_promised_and_used_never_exceed_what_a_node_has(steps: list[tuple[Any, ...]]) -> None:
    track = Tracker()
    for step in steps:
        run(track, [step])
        check_ledger(track)
        inventory = track.inventory()
        assert inventory == build_inventory(inventory.nodes.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(_steps, max_size=25), _needs)
def test_a_granted_promise_is_placed_in_full(steps: list[tuple[Any, ...]], asked: PodNeed) -> None:
    track = run(Tracker(), steps)
    owner = ("ns", "new")
    placement = place(track.inventory(owner), asked)
    if placement.resource is not None:
        track.promise(owner, asked, placement.fits, placement.resource)
        assert track.unplaced(owner) == 0
        assert asked.together or place(track.inventory(), asked).fits == 0
        assert not asked.together or len(set(track._promises[owner].places)) <= 1


@settings(max_examples=200, deadline=None)
@given(st.lists(_steps, max_size=25))
def test_without_its_owner_a_ledger_is_as_if_it_had_never_come(steps: list[tuple[Any, ...]]) -> None:
    track = run(Tracker(), steps)
    bare = Tracker()
    run(bare, [step for step in steps if step[0] not in ("promise", "release")])
    for owner in _OWNERS:
        track.release(owner)
    assert track.inventory() == bare.inventory()


@settings(max_examples=200, deadline=None)
@given(st.lists(_NO_LEDGER, max_size=25), st.randoms(use_true_random=False))
def test_a_relist_in_any_order_equals_the_events(steps: list[tuple[Any, ...]], random: Any) -> None:
    track = run(Tracker(), steps)
    nodes, pods = last_told(steps)
    random.shuffle(nodes)
    random.shuffle(pods)
    fresh = Tracker()
    fresh.replace_pods(pods)
    fresh.replace_nodes(nodes)
    assert fresh.inventory() == track.inventory()
    stale = run(Tracker(), steps[::-1])
    stale.replace_nodes(nodes)
    stale.replace_pods(pods)
    assert stale.inventory() == track.inventory()


def last_told(steps: list[tuple[Any, ...]]) -> tuple[list[dict[str, Any]], list[PodUsage]]:
    nodes: dict[str, dict[str, Any]] = {}
    pods: dict[str, PodUsage] = {}
    for name, argument in steps:
        match name:
            case "upsert_node":
                nodes[argument["metadata"]["name"]] = argument
            case "delete_node":
                nodes.pop(argument, None)
            case "replace_nodes":
                nodes = {obj["metadata"]["name"]: obj for obj in argument}
            case "upsert_pod":
                pods[argument.uid] = argument
            case "delete_pod":
                pods.pop(argument, None)
            case "replace_pods":
                pods = {usage.uid: usage for usage in argument}
    return list(nodes.values()), list(pods.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(_NO_LEDGER, max_size=25), _needs, st.sampled_from(_NODES))
def test_more_free_gpus_never_make_fewer_fit(steps: list[tuple[Any, ...]], asked: PodNeed, name: str) -> None:
    track = run(Tracker(), steps)
    before = place(track.inventory(), asked)
    for uid in range(10):
        track.delete_pod(f"p{uid}")
        after = place(track.inventory(), asked)
        assert after.fits >= before.fits
        before = after
    track.upsert_node(node("gpu-new"))
    assert place(track.inventory(), asked).fits >= before.fits


@settings(max_examples=200, deadline=None)
@given(st.lists(_NO_LEDGER, max_size=25), _needs)
def test_placement_agrees_with_looking_at_every_node(steps: list[tuple[Any, ...]], asked: PodNeed) -> None:
    inventory = run(Tracker(), steps).inventory()
    rooms = [room(state, asked) for state in inventory.nodes.values()]
    assert place(inventory, replace(asked, together=False)).fits == sum(rooms)
    assert place(inventory, replace(asked, together=True)).fits == max(rooms, default=0)


def room(state: NodeState, asked: PodNeed) -> int:
    if state.facts.unschedulable:
        return 0
    by_cpu = state.free_cpu_milli // asked.cpu_milli if asked.cpu_milli else 10**9
    return min(state.free_gpus(GPU) // asked.gpus, by_cpu, state.free_pods)


def test_reading_and_building_by_hand_agree() -> None:
    state = NodeState(read_node(node()))
    assert place(build_inventory([state]), need()).fits == 2


def test_pods_that_share_a_node_fit_as_many_as_one_node_holds_and_are_promised_there() -> None:
    ledger = tracker(node("gpu-1"), node("gpu-2"))
    ledger.upsert_pod(pod("stranger", 6, "gpu-1"))
    assert place(ledger.inventory(), need(2, together=True)).fits == 4
    assert place(ledger.inventory(), need(2)).fits == 5
    ledger.promise(OWNER, need(2, together=True), 3, GPU)
    assert [free(ledger.inventory(), name) for name in ("gpu-1", "gpu-2")] == [2, 2]
    ledger.promise(OWNER, need(2, together=True), 5, GPU)
    assert ledger.unplaced(OWNER) == 1
    ledger.promise(OWNER, need(2, together=True), 2, GPU)
    ledger.upsert_pod(pod("mine", 2, "gpu-1", OWNER))
    assert ledger.unplaced(OWNER) == 1, "the node of the first one is full"
    ledger.delete_pod("stranger")
    assert (ledger.unplaced(OWNER), free(ledger.inventory(), "gpu-1")) == (0, 4)

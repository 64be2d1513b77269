"""Laws that selection keeps for any recipes, any request and any cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Maturity, Objective, Outcome, Precision, Reason, WhenNoCapacity
from aim_engine.inventory import Inventory, NodeState, Tracker, build_inventory, place, read_pod
from aim_engine.selection import Candidate, Decision, Facts, Memo, Request, Source, decide, pod_need
from unit.selection_world import FACTS, QWEN, UNHURRIED, UNKNOWN, NoFacts, node, node_object, recipe, request

GPUS = st.sampled_from(["MI210", "MI300X", "MI325X", "MI355X"])
PARTITIONS = st.sampled_from([None, None, None, "spx_nps1", "cpx_nps4"])
MODELS = st.sampled_from([QWEN, QWEN, QWEN, UNKNOWN])
COUNTS = st.sampled_from([1, 2, 3, 4, 8, 16])


@st.composite
def recipes(draw: st.DrawFn, model: str = QWEN, most: int = 6) -> list[Candidate]:
    def one(index: int) -> Candidate:
        origin = draw(st.sampled_from([Source.CATALOGUE, Source.CATALOGUE, Source.CUSTOM]))
        fields: dict[str, Any] = {
            "maturity": draw(st.sampled_from(list(Maturity))).value,
            "objective": draw(st.sampled_from(list(Objective))).value,
        }
        if draw(st.booleans()):
            fields["engineArgs"] = draw(
                st.sampled_from(
                    [
                        {"no-such-flag": 1},
                        {"max-model-len": 40960},
                        {"pipeline-parallel-size": 2},
                        {"port": 1},
                    ]
                )
            )
        if draw(st.integers(0, 4)) == 0:
            fields["allowedNamespaces"] = {"matchLabels": {"tier": "gold"}}
        return recipe(
            f"{'configmap/' if origin is Source.CUSTOM else ''}r{index}",
            origin=origin,
            gpu=draw(st.one_of(GPUS, st.just("MI999X"))),
            count=draw(COUNTS),
            partition=draw(PARTITIONS),
            precision=draw(st.sampled_from(list(Precision))).value,
            model=model,
            cpu=draw(st.sampled_from(["1", "8", "60", "500"])),
            memory=draw(st.sampled_from(["1Gi", "64Gi", "600Gi"])),
            tokens=draw(st.one_of(st.none(), st.integers(1, 100_000))),
            inter_token=draw(st.one_of(st.none(), st.integers(1, 1000))),
            provenance=draw(st.sampled_from(["measured", "declared"])),
            **fields,
        )

    return [one(index) for index in range(draw(st.integers(0, most)))]


@st.composite
def nodes(draw: st.DrawFn, most: int = 4) -> list[NodeState]:
    def one(index: int) -> NodeState:
        partition = draw(PARTITIONS)
        gpus = draw(st.sampled_from([0, 1, 4, 8])) * (8 if partition == "cpx_nps4" else 1)
        more: dict[str, Any] = {}
        if draw(st.integers(0, 5)) == 0:
            more = draw(
                st.sampled_from(
                    [
                        {"ready": False},
                        {"unschedulable": True},
                        {"taints": [{"key": "k", "effect": "NoSchedule"}]},
                    ]
                )
            )
        return node(
            f"n{index}", draw(GPUS), gpus, partition=partition, used=draw(st.integers(0, gpus)) if gpus else 0,
            used_cpu=draw(st.sampled_from([0, 50, 96])), used_memory_gib=draw(st.sampled_from([0, 600, 1024])), **more,
        )  # fmt: skip

    return [one(index) for index in range(draw(st.integers(0, most)))]


@st.composite
def requests(draw: st.DrawFn, model: str = QWEN) -> Request:
    wishes: dict[str, Any] = {
        "autoSelect": draw(st.sampled_from([True, True, False])),
        "fallback": {"enabled": draw(st.sampled_from([True, True, False]))},
        "objective": draw(st.sampled_from(list(Objective))).value,
        "minimumMaturity": draw(st.sampled_from(list(Maturity))).value,
    }
    for name, values in (
        ("gpuModel", GPUS),
        ("gpuCount", COUNTS),
        ("precision", st.sampled_from(["bf16", "fp8"])),
    ):
        if draw(st.integers(0, 4)) == 0:
            wishes[name] = draw(values)
    if draw(st.integers(0, 6)) == 0:
        wishes["name"] = "r0"
    spec: dict[str, Any] = {"recipe": wishes, "replicas": draw(st.integers(0, 5))}
    if draw(st.booleans()):
        spec["workload"] = {
            "maxInputTokens": draw(st.integers(1, 60_000)),
            "maxBatchSize": draw(st.integers(1, 512)),
        }
    if draw(st.booleans()):
        spec["targets"] = {"minTokensPerSecond": draw(st.integers(1, 100_000))}
    if draw(st.integers(0, 6)) == 0:
        spec["scheduling"] = {"nodeSelector": {"zone": "a"}, "tolerations": [{"operator": "Exists"}]}
    return request(model, **spec)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Request, list[Candidate], list[NodeState], Facts]:
    model = draw(MODELS)
    facts: Facts = NoFacts() if model == UNKNOWN and draw(st.booleans()) else FACTS
    return draw(requests(model)), draw(recipes(model)), draw(nodes()), facts


def pending(asked: Request) -> Request:
    wishes = asked.spec.recipe.model_copy(update={"when_no_capacity": WhenNoCapacity.CREATE_PENDING})
    return replace(
        asked, spec=type(asked.spec).model_validate({**asked.spec.wire(), "recipe": wishes.wire()})
    )


World = tuple[Request, list[Candidate], list[NodeState], Facts]


@UNHURRIED
@given(worlds(), st.booleans())
def test_decide_never_raises_and_gives_every_candidate_exactly_one_verdict(
    world: World, create: bool
) -> None:
    asked, pool, states, facts = world
    decision = decide(pending(asked) if create else asked, pool, build_inventory(states), facts)
    names = [verdict.recipe for verdict in decision.verdicts]
    assert len(names) == len(set(names))
    pinned = asked.pinned_name
    assert {each.name for each in pool if pinned is None or each.name == pinned} <= set(names)
    assert {name for name in names if not name.startswith("generated/")} <= {each.name for each in pool}
    assert decision.message


@UNHURRIED
@given(worlds(), st.randoms(use_true_random=False))
def test_a_decision_depends_on_nothing_but_its_input_and_not_on_its_order(world: World, random: Any) -> None:
    asked, pool, states, facts = world
    first = decide(asked, pool, build_inventory(states), facts)
    assert decide(asked, pool, build_inventory(states), facts) == first
    shuffled, moved = list(pool), list(states)
    random.shuffle(shuffled)
    random.shuffle(moved)
    assert decide(asked, shuffled, build_inventory(moved), facts) == first


@UNHURRIED
@given(worlds(), st.data())
def test_more_free_gpus_never_make_a_served_request_wait(world: World, data: st.DataObject) -> None:
    asked, pool, states, facts = world
    before = decide(asked, pool, build_inventory(states), facts)
    freer = []
    for state in states:
        used = state.used.gpus.get("amd.com/gpu", 0)
        left = data.draw(st.integers(0, used))
        freer.append(replace(state, used=replace(state.used, gpus={"amd.com/gpu": left} if left else {})))
    after = decide(asked, pool, build_inventory(freer), facts)
    if before.choice is not None:
        assert after.choice is not None
        assert after.choice.fits >= min(1, before.choice.fits)
    if before.outcome is not Outcome.NO_RECIPE:
        assert after.outcome is not Outcome.NO_RECIPE


@UNHURRIED
@given(worlds())
def test_the_same_candidates_are_eligible_however_much_is_free(world: World) -> None:
    """Free capacity decides between eligible candidates, never who is one."""
    asked, pool, states, facts = world
    empty = [
        replace(state, used=replace(state.used, gpus={}, cpu_milli=0, memory_bytes=0)) for state in states
    ]
    capacity = {
        Reason.CHOSEN, Reason.OUTRANKED, Reason.CAPACITY_INSUFFICIENT, Reason.NODE_NOT_USABLE, Reason.NODE_RESOURCES_INSUFFICIENT,
    }  # fmt: skip

    def excluded(decision: Decision) -> dict[str, Reason]:
        return {
            v.recipe: v.reason for v in decision.verdicts if v.reason not in capacity and "/" not in v.recipe
        }

    now, emptied = (decide(asked, pool, build_inventory(each), facts) for each in (states, empty))
    assert excluded(now) == excluded(emptied)


@UNHURRIED
@given(worlds())
def test_the_chosen_recipe_needs_no_more_than_one_node_has_free(world: World) -> None:
    asked, pool, states, facts = world
    decision = decide(asked, pool, build_inventory(states), facts)
    if decision.choice is None:
        return
    need = pod_need(decision.choice.assessment.candidate, asked.spec)
    fitting = [
        state
        for state in states
        if state.free_gpus("amd.com/gpu") >= need.gpus
        and state.free_cpu_milli >= need.cpu_milli
        and state.free_memory_bytes >= need.memory_bytes
        and state.facts.gpu_model == need.gpu_model
        and all(group.partition == need.pool.partition for group in state.facts.groups)
        and state.facts.ready
        and not state.facts.unschedulable
    ]
    assert fitting
    assert 1 <= decision.choice.fits <= max(1, asked.replicas)
    room = sum(state.free_gpus("amd.com/gpu") // need.gpus for state in fitting)
    assert decision.choice.fits <= room


@UNHURRIED
@given(worlds())
def test_what_the_user_asks_for_is_kept_whatever_is_chosen(world: World) -> None:
    asked, pool, states, facts = world
    decision = decide(asked, pool, build_inventory(states), facts)
    if decision.choice is None:
        return
    spec, wishes = decision.choice.assessment.candidate.spec, asked.spec.recipe
    assert spec.hardware.gpu_model == (wishes.gpu_model or spec.hardware.gpu_model)
    assert spec.hardware.gpu_count == (wishes.gpu_count or spec.hardware.gpu_count)
    assert spec.precision == (wishes.precision or spec.precision)
    assert spec.maturity.rank <= wishes.minimum_maturity.rank
    assert spec.model_id == asked.model_id


@UNHURRIED
@given(worlds())
def test_the_outcome_the_choice_and_the_verdicts_agree(world: World) -> None:
    asked, pool, states, facts = world
    decision = decide(asked, pool, build_inventory(states), facts)
    winners = [verdict.recipe for verdict in decision.verdicts if verdict.reason is Reason.CHOSEN]
    if decision.choice is not None:
        assert decision.outcome is Outcome.SELECTED
        assert winners == [decision.choice.assessment.candidate.name] == [decision.verdicts[0].recipe]
        return
    assert winners == []
    assert decision.outcome in (Outcome.WAITING, Outcome.NO_RECIPE)
    if decision.outcome is Outcome.WAITING:
        assert decision.wants
        assert decision.best in {verdict.recipe for verdict in decision.verdicts}


@UNHURRIED
@given(worlds(), st.data())
def test_whoever_waits_is_served_once_what_it_wants_is_free(world: World, data: st.DataObject) -> None:
    """`wants` is a promise to the waiter: a cluster with such a node, empty, serves it."""
    asked, pool, states, facts = world
    decision = decide(asked, pool, build_inventory(states), facts)
    if decision.outcome is not Outcome.WAITING or asked.spec.scheduling.node_selector:
        return
    want = data.draw(st.sampled_from(decision.wants))
    extra = node(
        "extra", want.pool.gpu_model, want.gpus, partition=want.pool.partition, cpu="1000", memory="4Ti"
    )
    after = decide(asked, pool, build_inventory([*states, extra]), facts)
    if asked.fallback or want == decision.wants[0]:
        assert after.choice is not None


# A model of the reconciler: decide, promise, decide the next, while pods come and go

OWNERS = [("team-a", f"d{index}") for index in range(5)]


def _capacity(tracker: Tracker) -> int:
    return sum(state.free_gpus("amd.com/gpu") for state in tracker.inventory().nodes.values())


def _largest(inventory: Inventory) -> dict[str, int]:
    return {name: state.free_gpus("amd.com/gpu") for name, state in inventory.nodes.items()}


@UNHURRIED
@given(
    st.lists(st.tuples(GPUS, st.sampled_from([1, 4, 8])), min_size=1, max_size=3),
    st.lists(st.tuples(requests(), recipes(most=4)), min_size=2, max_size=5),
)
def test_no_two_deployments_are_promised_the_same_gpus(
    machines: list[tuple[str, int]], asked: list[tuple[Request, list[Candidate]]]
) -> None:
    tracker = Tracker()
    tracker.replace_nodes(node_object(f"n{index}", gpu, gpus) for index, (gpu, gpus) in enumerate(machines))
    total = sum(gpus for _, gpus in machines)
    promised = 0
    for owner, (wishes, pool) in zip(OWNERS, asked, strict=False):
        decision = decide(wishes, pool, tracker.inventory(exclude=owner), FACTS)
        if decision.choice is None:
            continue
        chosen = decision.choice.assessment
        assert chosen.placement
        need = pod_need(chosen.candidate, wishes.spec)
        before = _capacity(tracker)
        tracker.promise(owner, need, decision.choice.fits, chosen.placement.resource or "amd.com/gpu")
        assert tracker.unplaced(owner) == 0, "what selection says fits finds a place"
        assert before - _capacity(tracker) == need.gpus * decision.choice.fits
        promised += need.gpus * decision.choice.fits
        assert promised <= total
        assert min(_largest(tracker.inventory()).values(), default=0) >= 0
    assert promised + _capacity(tracker) == total


@UNHURRIED
@given(st.lists(st.tuples(requests(), recipes(most=4)), min_size=2, max_size=5), st.data())
def test_promises_become_pods_without_ever_counting_twice(
    asked: list[tuple[Request, list[Candidate]]], data: st.DataObject
) -> None:
    tracker = Tracker()
    tracker.replace_nodes([node_object("n0"), node_object("n1", "MI355X")])
    taken = 0
    for owner, (wishes, pool) in zip(OWNERS, asked, strict=False):
        decision = decide(wishes, pool, tracker.inventory(exclude=owner), FACTS)
        if decision.choice is None:
            continue
        need = pod_need(decision.choice.assessment.candidate, wishes.spec)
        tracker.promise(owner, need, decision.choice.fits, "amd.com/gpu")
        taken += need.gpus * decision.choice.fits
        for replica in range(data.draw(st.integers(0, decision.choice.fits))):
            free = {
                name for name, state in tracker.inventory(exclude=owner).nodes.items()
                if place(build_inventory([state]), need).fits
            }  # fmt: skip
            assert free, "a place that was promised is free for its owner"
            tracker.upsert_pod(
                read_pod(
                    {
                        "metadata": {
                            "uid": f"{owner[1]}-{replica}", "name": f"{owner[1]}-{replica}", "namespace": owner[0],
                            "labels": {"aim.engine.amd.com/deployment": owner[1]},
                        },
                        "spec": {
                            "nodeName": _bindable(tracker, owner, need.gpus, sorted(free)),
                            "containers": [{"resources": {"limits": {
                                "amd.com/gpu": str(need.gpus), "cpu": f"{need.cpu_milli}m", "memory": str(need.memory_bytes),
                            }}}],
                        },
                    }
                )
            )  # fmt: skip
        assert _capacity(tracker) == 16 - taken
    assert taken <= 16


def _bindable(tracker: Tracker, owner: tuple[str, str], gpus: int, free: list[str]) -> str:
    """A node the scheduler could take, which sees pods and knows of no promises: any with room beside bound pods."""
    inventory = tracker.inventory(exclude=owner)
    return max(free, key=lambda name: (inventory.nodes[name].free_gpus("amd.com/gpu") - gpus, name))


@UNHURRIED
@given(st.lists(worlds(), min_size=2, max_size=4))
def test_a_memo_kept_from_decision_to_decision_changes_none(several: list[World]) -> None:
    memo = Memo()
    for number, (asked, pool, states, facts) in enumerate(several):
        inventory = build_inventory(states)
        known = replace(asked, identity=f"request-{number}")
        plain = decide(asked, pool, inventory, facts)
        assert decide(known, pool, inventory, facts, memo) == plain
        assert decide(known, pool, build_inventory([]), facts, memo) == decide(
            asked, pool, build_inventory([]), facts
        )
        assert decide(known, pool, inventory, facts, memo) == plain

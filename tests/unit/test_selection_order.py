"""The total order of candidates, place by place, and what is chosen from it: tiers, fallback, pending pods, replicas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any

import pytest

from aim_engine.api.enums import Outcome, Reason, Tier
from aim_engine.inventory import Inventory, PoolKey, Tracker
from aim_engine.selection import Candidate, Observation, Request, Source, Want
from unit.selection_world import (
    FACTS,
    GPT_OSS,
    LLAMA_405B,
    QWEN,
    UNKNOWN,
    NoFacts,
    choose,
    chosen,
    cluster,
    node,
    node_object,
    reasons,
    recipe,
    request,
    verdict_on,
    wishing,
)

EVERYTHING = cluster(
    node("a", "MI210"), node("b", "MI300X"), node("c", "MI325X"), node("d", "MI355X"),
    node("e", "MI300X", 64, partition="cpx_nps4"), node("f", "MI250X"), node("g", "MI350X"),
)  # fmt: skip
"""A mixed cluster in which everything is free."""
FP8 = "Qwen/Qwen3-32B-FP8"
FOUR_BIT = "acme/qwen3-32b-4bit"
"""A checkpoint that nobody knows, so that it may hold what its recipe says."""
CUSTOM = Source.CUSTOM
LATENCY: dict[str, Any] = {"recipe": {"objective": "latency"}}


@dataclass(frozen=True)
class Order:
    """Candidates in the order expected."""

    id: str
    expected: Sequence[Candidate]
    asked: Request = field(default_factory=request)
    facts: Any = FACTS
    inventory: Inventory = field(default_factory=lambda: EVERYTHING)
    missing: Sequence[Candidate] = ()
    """Candidates that evidence says miss a target."""


def asking(model: str = QWEN, **spec: Any) -> Request:
    return request(model, **spec)


TARGET_3000: dict[str, Any] = {"targets": {"minTokensPerSecond": 3000}}
TTFT_500: dict[str, Any] = {"targets": {"maxTimeToFirstTokenMilliseconds": 500}}

SEEN_4000 = Observation(
    "MI300X", "0.32.0", tokens_per_second=4000, inter_token_latency_ms=10, first_token_ms=300
)
SEEN_2000 = Observation("MI300X", "0.32.0", tokens_per_second=2000)
SEEN_OTHERWISE = Observation("MI300X", "0.31.0", tokens_per_second=2000)

RUN = {"kind": "vendor", "source": "https://example.com/run"}

ORDERS = [
    # Targets
    Order("a recipe measured to meet the target, though a better tuned one was measured to miss it", [
        recipe("z", model=UNKNOWN, tokens=3500, maturity="preview"),
    ], asking(UNKNOWN, **TARGET_3000), missing=[recipe("a", model=UNKNOWN, tokens=2000, maturity="optimized")]),
    Order("known to meet, then unknown; known to miss is out", [
        recipe("c", model=UNKNOWN, tokens=3500), recipe("b", model=UNKNOWN),
    ], asking(UNKNOWN, **TARGET_3000), missing=[recipe("a", model=UNKNOWN, tokens=2000)]),
    Order("a target is met at exactly its value", [
        recipe("b", model=UNKNOWN, tokens=3000, maturity="preview"),
    ], asking(UNKNOWN, **TARGET_3000), missing=[recipe("a", model=UNKNOWN, tokens=2999, maturity="general")]),
    Order("first token within the target", [
        recipe("c", first_token=400, tokens=1, maturity="preview"), recipe("b"),
    ], asking(**TTFT_500), missing=[recipe("a", first_token=900, tokens=1)]),
    Order("the worse of two targets counts", [
        recipe("b", model=UNKNOWN, tokens=3500, first_token=400),
    ], asking(UNKNOWN, targets={"minTokensPerSecond": 3000, "maxTimeToFirstTokenMilliseconds": 500}),
        missing=[recipe("a", model=UNKNOWN, tokens=90000, first_token=900, maturity="optimized")]),
    Order("one target known to be met and one unknown is unknown", [
        recipe("z", model=UNKNOWN, tokens=3500, first_token=400, maturity="preview"), recipe("a", model=UNKNOWN, tokens=9000),
    ], asking(UNKNOWN, targets={"minTokensPerSecond": 3000, "maxTimeToFirstTokenMilliseconds": 500})),
    Order("an estimate neither meets a target nor misses it", [
        recipe("z", tokens=3500, maturity="preview"), recipe("a", maturity="optimized"),
    ], asking(**TARGET_3000)),
    Order("what was observed here misses the target, whatever is published", [
        recipe("b", model=UNKNOWN, tokens=3100),
    ], asking(UNKNOWN, **TARGET_3000), missing=[recipe("a", model=UNKNOWN, tokens=9000, observed=SEEN_2000)]),
    Order("what was observed here meets the target, whatever is published", [
        recipe("z", model=UNKNOWN, tokens=100, observed=SEEN_4000), recipe("a", model=UNKNOWN),
    ], asking(UNKNOWN, **TARGET_3000)),
    Order("what was observed with another engine version does not count", [
        recipe("z", model=UNKNOWN, tokens=3500, observed=SEEN_OTHERWISE), recipe("a", model=UNKNOWN),
    ], asking(UNKNOWN, **TARGET_3000)),
    Order("what was observed on another GPU does not count", [
        recipe("z", model=UNKNOWN, gpu="MI325X", tokens=3500, observed=SEEN_2000), recipe("a", model=UNKNOWN),
    ], asking(UNKNOWN, **TARGET_3000)),
    Order("without targets evidence of slowness is no handicap", [
        recipe("a", first_token=90_000, tokens=1), recipe("b"),
    ]),
    Order("a custom recipe of unknown speed after a catalogue one that meets the target", [
        recipe("z", model=UNKNOWN, tokens=3500), recipe("a", origin=CUSTOM, model=UNKNOWN),
    ], asking(UNKNOWN, **TARGET_3000)),
    # Observed
    Order("what was observed here orders recipes, whatever is published", [
        recipe("z", model=UNKNOWN, tokens=100, observed=SEEN_4000), recipe("a", model=UNKNOWN, tokens=3000),
    ], asking(UNKNOWN)),
    Order("a recipe observed to be slow goes behind one published to be faster", [
        recipe("z", model=UNKNOWN, tokens=3000), recipe("a", model=UNKNOWN, tokens=90_000, observed=SEEN_2000),
    ], asking(UNKNOWN)),
    Order("latency observed here orders recipes for latency", [
        recipe("z", model=UNKNOWN, inter_token=90, tokens=1, observed=SEEN_4000), recipe("a", model=UNKNOWN, inter_token=20, tokens=1),
    ], asking(UNKNOWN, **LATENCY)),
    Order("a number of the same engine line counts", [
        recipe("z", model=UNKNOWN, tokens=3000, measured_with="0.32.1"), recipe("a", model=UNKNOWN),
    ], asking(UNKNOWN)),
    Order("a number of another engine line does not", [
        recipe("a", model=UNKNOWN), recipe("z", model=UNKNOWN, tokens=3000, measured_with="0.19"),
    ], asking(UNKNOWN)),
    Order("nor one of another engine", [
        recipe("a", model=UNKNOWN), recipe("z", model=UNKNOWN, tokens=3000, measured_with="sglang 0.5.12"),
    ], asking(UNKNOWN)),
    Order("a number of another engine line refuses no target", [
        recipe("a", model=UNKNOWN, tokens=100, measured_with="0.11.1"),
    ], asking(UNKNOWN, **TARGET_3000)),
    Order("a number under a small load refuses no target, and meets one", [
        recipe("z", model=UNKNOWN, tokens=3500, concurrency=16), recipe("a", model=UNKNOWN, tokens=100, concurrency=16),
    ], asking(UNKNOWN, **TARGET_3000)),
    Order("a number under the largest load refuses", [
        recipe("z", model=UNKNOWN),
    ], asking(UNKNOWN, **TARGET_3000), missing=[recipe("a", model=UNKNOWN, tokens=100, concurrency=1024)]),
    Order("two targets met by two measurements are not known to be met", [
        recipe("z", model=UNKNOWN, tokens=3100, first_token=400),
        recipe("a", model=UNKNOWN, performance=[
            {"tokensPerSecond": 9000, "workload": {"concurrency": 512}, "provenance": RUN},
            {"timeToFirstTokenMilliseconds": 50, "workload": {"concurrency": 1}, "provenance": RUN},
        ]),
    ], asking(UNKNOWN, targets={"minTokensPerSecond": 3000, "maxTimeToFirstTokenMilliseconds": 500})),
    # Source
    Order("custom before catalogue", [recipe("z", origin=CUSTOM), recipe("a")]),
    Order("custom before a better tuned catalogue recipe", [
        recipe("z", origin=CUSTOM, maturity="unoptimized"), recipe("a", maturity="optimized"),
    ]),
    Order("custom before a faster catalogue recipe", [recipe("z", origin=CUSTOM, gpu="MI210", count=2), recipe("a", gpu="MI355X")]),
    Order("generated last, whatever it claims", [
        recipe("z", gpu="MI210", count=4, maturity="unoptimized"),
        recipe("generated/a", origin=Source.GENERATED, gpu="MI355X", maturity="optimized", tokens=90_000),
    ]),
    Order("generated last even when nobody knows whether the other meets the target", [
        recipe("z", model=UNKNOWN), recipe("generated/a", origin=Source.GENERATED, model=UNKNOWN, tokens=90_000),
    ], asking(UNKNOWN, **TARGET_3000)),
    # Maturity
    Order("maturity from best to least", [
        recipe("d", maturity="optimized"), recipe("c", maturity="general"), recipe("b", maturity="preview"),
        recipe("a", maturity="unoptimized"),
    ]),
    Order("maturity before speed", [recipe("z", gpu="MI210", count=2, maturity="optimized"), recipe("a", gpu="MI355X")]),
    Order("maturity before fewer GPUs", [recipe("z", count=8, maturity="optimized"), recipe("a")]),
    # Objective
    Order("tuned for the objective asked", [recipe("z"), recipe("a", objective="latency")]),
    Order("tuned for latency when latency is asked", [recipe("z", objective="latency"), recipe("a")], asking(**LATENCY)),
    Order("tuning for the objective before speed", [
        recipe("z", gpu="MI210", count=2), recipe("a", gpu="MI355X", objective="latency"),
    ]),
    # Throughput: per GPU
    Order("faster generations first", [
        recipe("d", gpu="MI355X"), recipe("c", gpu="MI325X"), recipe("a", gpu="MI210", count=2),
    ]),
    Order("MI355X over MI300X over MI210", [
        recipe("c", gpu="MI355X"), recipe("b", gpu="MI300X"), recipe("a", gpu="MI210", count=2),
    ]),
    Order("MI355X over MI325X over MI300X over MI250X over MI210", [
        recipe("f", gpu="MI355X"), recipe("e", gpu="MI325X"), recipe("c", gpu="MI300X"),
        recipe("b", gpu="MI250X", count=2), recipe("a", gpu="MI210", count=2),
    ]),
    Order("MI355X over MI350X: the same chip with more power", [recipe("z", gpu="MI355X"), recipe("a", gpu="MI350X")]),
    Order("MI350X over MI325X", [recipe("z", gpu="MI350X"), recipe("a", gpu="MI325X")]),
    Order("an older generation with better tuning before a newer one without", [
        recipe("z", gpu="MI210", count=2, maturity="optimized"), recipe("b", gpu="MI300X", maturity="general"),
        recipe("a", gpu="MI355X", maturity="preview"),
    ]),
    Order("MXFP4 of a native MXFP4 model on the generation that computes it first", [
        recipe("z", model=GPT_OSS, gpu="MI355X", precision="mxfp4"), recipe("a", model=GPT_OSS, gpu="MI300X", precision="mxfp4"),
    ], asking(GPT_OSS)),
    Order("FP8 before 16 bit where the GPU computes it", [
        recipe("z", precision="fp8", source=FP8, gpu="MI325X"), recipe("a", gpu="MI325X"),
    ]),
    Order("more GPUs must earn themselves", [recipe("z", count=1), recipe("b", count=4), recipe("a", count=8)]),
    Order("eight GPUs measured well above eight times one win", [
        recipe("z", count=8, tokens=80_000), recipe("a", count=1, tokens=5_000),
    ]),
    Order("eight GPUs measured just eight times one lose", [
        recipe("z", model=UNKNOWN, count=1, tokens=5_000), recipe("a", model=UNKNOWN, count=8, tokens=40_000),
    ], asking(UNKNOWN)),
    Order("FP8 checkpoint over 16 bit: fewer bytes, more batch", [
        recipe("z", precision="fp8", source=FP8, gpu="MI300X"), recipe("a", count=8),
    ]),
    Order("a number within the bucket is a tie, broken by GPUs", [
        recipe("z", model=UNKNOWN, count=1, tokens=5_200), recipe("a", model=UNKNOWN, count=2, tokens=10_600),
    ], asking(UNKNOWN)),
    Order("a number 40 % better is no tie", [
        recipe("z", model=UNKNOWN, count=2, tokens=14_000), recipe("a", model=UNKNOWN, count=1, tokens=5_000),
    ], asking(UNKNOWN)),
    Order("unknown speed after known speed", [
        recipe("z", model=UNKNOWN, tokens=1), recipe("a", model=UNKNOWN, gpu="MI355X"),
    ], asking(UNKNOWN)),
    # Evidence
    Order("a measured recipe is not demoted by its own poor number", [recipe("a", tokens=100), recipe("b")]),
    Order("a measured recipe with the same estimate is not behind one that is only estimated", [
        recipe("a", tokens=1_000, provenance="measured"), recipe("b"),
    ]),
    Order("a measurement above the estimate counts", [recipe("z", tokens=9_000), recipe("a")]),
    Order("third-party numbers count", [recipe("z", tokens=9_000, provenance="third-party"), recipe("a")]),
    Order("a declared number does not count", [recipe("a"), recipe("z", tokens=90_000, provenance="declared")]),
    Order("a declared number meets no target", [
        recipe("b", model=UNKNOWN, tokens=3_500), recipe("a", model=UNKNOWN, tokens=90_000, provenance="declared"),
    ], asking(UNKNOWN, **TARGET_3000)),
    Order("between two measured recipes the measurements decide, though estimates are higher and alike", [
        recipe("z", tokens=2_000, provenance="measured"), recipe("a", tokens=1_000, provenance="measured"),
    ]),
    Order("an estimate beats a measurement only if the same estimator says so of both", [
        recipe("z", gpu="MI355X"), recipe("b", tokens=1_500), recipe("a", gpu="MI210", count=2),
    ]),
    Order("an estimate meets no target", [
        recipe("b", tokens=1_600, maturity="preview"), recipe("a", maturity="optimized"),
    ], asking(targets={"minTokensPerSecond": 1500})),
    Order("a target missed by evidence is missed, whatever the estimate says", [
        recipe("b", maturity="preview"),
    ], asking(targets={"minTokensPerSecond": 1500}), missing=[recipe("a", tokens=500, maturity="optimized")]),
    Order("of several published points the best one is the recipe's", [
        recipe("z", model=UNKNOWN, performance=[
            {"tokensPerSecond": rate, "provenance": {"kind": "vendor", "source": "x"}} for rate in (100, 9_000)
        ]),
        recipe("a", model=UNKNOWN, tokens=4_000),
    ], asking(UNKNOWN)),
    # Latency
    Order("for latency the first token decides between equal intervals", [
        recipe("z", model=UNKNOWN, inter_token=10, first_token=100), recipe("y", model=UNKNOWN, inter_token=10, first_token=900),
        recipe("a", model=UNKNOWN, inter_token=10),
    ], asking(UNKNOWN, **LATENCY)),
    Order("for throughput the first token does not count", [
        recipe("a", model=UNKNOWN, tokens=1_000, first_token=900), recipe("z", model=UNKNOWN, tokens=1_000, first_token=100),
    ], asking(UNKNOWN)),
    Order("for latency more GPUs win", [recipe("z", count=8), recipe("b", count=4), recipe("a", count=1)], asking(**LATENCY)),
    Order("for latency the newer GPU wins", [recipe("z", gpu="MI355X"), recipe("a", gpu="MI300X")], asking(**LATENCY)),
    Order("for latency the measured token interval counts, not throughput", [
        recipe("z", model=UNKNOWN, inter_token=10, tokens=1_000), recipe("a", model=UNKNOWN, inter_token=40, tokens=90_000),
    ], asking(UNKNOWN, **LATENCY)),
    Order("for latency an unknown interval is last", [
        recipe("z", model=UNKNOWN, inter_token=900), recipe("a", model=UNKNOWN, tokens=90_000),
    ], asking(UNKNOWN, **LATENCY)),
    # Four bits
    Order("four bits after sixteen unless native or asked", [recipe("z"), recipe("a", precision="mxfp4", source=FOUR_BIT), recipe("b", precision="int4", source=FOUR_BIT)]),
    Order("four bits after sixteen even on slower and more GPUs", [
        recipe("z", gpu="MI210", count=4), recipe("a", gpu="MI355X", precision="mxfp4", source=FOUR_BIT),
    ]),
    Order("four bits after a far less mature recipe of sixteen", [
        recipe("z", maturity="unoptimized"), recipe("a", precision="mxfp4", source=FOUR_BIT, maturity="optimized"),
    ]),
    Order("four bits after sixteen although they are the tenant's own", [
        recipe("z"), recipe("a", origin=CUSTOM, precision="mxfp4", source=FOUR_BIT),
    ]),
    Order("a target known to be met goes before the dislike of four bits", [
        recipe("z", model=UNKNOWN, precision="mxfp4", tokens=3500), recipe("a", model=UNKNOWN),
    ], asking(UNKNOWN, **TARGET_3000)),
    Order("four bits freely for a model that is natively so", [
        recipe("z", model=GPT_OSS, gpu="MI355X", precision="mxfp4"), recipe("a", model=GPT_OSS, gpu="MI210", count=4, precision="mxfp4"),
    ], asking(GPT_OSS)),
    Order("four bits when asked, by speed", [
        recipe("z", gpu="MI355X", precision="mxfp4", source=FOUR_BIT), recipe("a", gpu="MI300X", precision="mxfp4", source=FOUR_BIT),
    ], wishing(precision="mxfp4")),
    Order("four bits of a model nobody knows are penalised too", [
        recipe("z", model=UNKNOWN), recipe("a", model=UNKNOWN, precision="int4"),
    ], asking(UNKNOWN), NoFacts()),
    # Precision
    Order("native format first when speed ties", [recipe("z"), recipe("a", precision="fp16")]),
    Order("precisions of a model nobody knows: fp8, bf16, fp16, int8, then four bits", [
        recipe("f", model=UNKNOWN, precision="fp8"), recipe("e", model=UNKNOWN), recipe("d", model=UNKNOWN, precision="fp16"),
        recipe("c", model=UNKNOWN, precision="int8"), recipe("b", model=UNKNOWN, precision="mxfp4"),
        recipe("a", model=UNKNOWN, precision="int4"),
    ], asking(UNKNOWN), NoFacts()),
    Order("formats computed in hardware before emulated ones", [
        recipe("z", model=UNKNOWN, gpu="MI355X", precision="mxfp4"), recipe("a", model=UNKNOWN, gpu="MI300X", precision="mxfp4"),
    ], wishing(UNKNOWN, precision="mxfp4"), NoFacts()),
    # Generation
    Order("newer GPUs when all else is equal", [
        recipe("d", model=UNKNOWN, gpu="MI355X"), recipe("c", model=UNKNOWN, gpu="MI325X"), recipe("b", model=UNKNOWN, gpu="MI300X"),
        recipe("a", model=UNKNOWN, gpu="MI210"),
    ], asking(UNKNOWN), NoFacts()),
    Order("newer GPUs before fewer GPUs", [
        recipe("z", model=UNKNOWN, gpu="MI355X", count=2), recipe("a", model=UNKNOWN, gpu="MI300X"),
    ], asking(UNKNOWN), NoFacts()),
    # GPUs, name
    Order("fewer GPUs when all else is equal", [
        recipe("c", model=UNKNOWN), recipe("b", model=UNKNOWN, count=2), recipe("a", model=UNKNOWN, count=4),
    ], asking(UNKNOWN), NoFacts()),
    Order("names last", [recipe("a"), recipe("b"), recipe("c")]),
    Order("names compare as text", [recipe("r-10"), recipe("r-9")]),
    # Partitions
    Order("partitions and whole GPUs stand in one order", [
        recipe("z", model=UNKNOWN), recipe("a", model=UNKNOWN, partition="cpx_nps4", count=8),
    ], asking(UNKNOWN), NoFacts()),
    Order("a partition is a slice of a GPU, so as one GPU it is slower", [
        recipe("z", count=8), recipe("a", partition="cpx_nps4", count=8),
    ]),
    Order("eight partitions of one mode by name", [
        recipe("a", model=UNKNOWN, partition="cpx_nps4", count=8), recipe("b", model=UNKNOWN, partition="cpx_nps4", count=8),
    ], asking(UNKNOWN), NoFacts()),
]  # fmt: skip


@pytest.mark.parametrize("case", ORDERS, ids=lambda case: case.id)
def test_candidates_rank_in_this_order_whatever_order_they_come_in(case: Order) -> None:
    names = [each.name for each in case.expected]
    missing = sorted(each.name for each in case.missing)
    for shuffled in permutations(case.expected) if len(names) <= 4 else (case.expected, case.expected[::-1]):
        decision = choose((*shuffled, *case.missing), case.inventory, case.asked, case.facts)
        assert [verdict.recipe for verdict in decision.verdicts] == [*names, *missing]
        assert [verdict.reason for verdict in decision.verdicts[1 : len(names)]] == [Reason.OUTRANKED] * (
            len(names) - 1
        )
        assert [v.reason for v in decision.verdicts[len(names) :]] == [Reason.TARGET_NOT_REACHABLE] * len(
            missing
        )


PUBLISHED: dict[str, Any] = {"model": UNKNOWN}
ALL_UNKNOWN = asking(UNKNOWN)


@pytest.mark.parametrize(
    ("why", "winner", "loser", "asked"),
    [
        ("catalogue recipes go before generated ones",
         recipe("z", maturity="unoptimized"), recipe("generated/a", origin=Source.GENERATED, maturity="optimized"), request()),
        ("it is known by evidence to meet spec.targets",
         recipe("z", model=UNKNOWN, tokens=3500, maturity="preview"), recipe("a", model=UNKNOWN), asking(UNKNOWN, **TARGET_3000)),
        ("4-bit weights (mxfp4) go last where neither the model is published so nor spec.recipe.precision asks for it",
         recipe("z", maturity="unoptimized"), recipe("a", precision="mxfp4", source=FOUR_BIT, maturity="optimized"), request()),
        ("custom recipes go before catalogue ones", recipe("z", origin=CUSTOM), recipe("a", maturity="optimized"), request()),
        ("maturity general over preview", recipe("z", count=8), recipe("a", maturity="preview"), request()),
        ("tuned for throughput", recipe("z", count=8), recipe("a", objective="latency"), request()),
        ("tuned for latency", recipe("z", objective="latency"), recipe("a"), asking(**LATENCY)),
        ("7000 (published) against 5000 (published) tok/s per GPU",
         recipe("z", count=2, tokens=14_000, **PUBLISHED), recipe("a", tokens=5_000, **PUBLISHED), ALL_UNKNOWN),
        ("1 (published) tok/s per GPU, not known of this one",
         recipe("z", tokens=1, **PUBLISHED), recipe("a", gpu="MI355X", **PUBLISHED), ALL_UNKNOWN),
        ("10 (published) against 40 (published) ms between tokens",
         recipe("z", inter_token=10, tokens=1, **PUBLISHED), recipe("a", inter_token=40, tokens=90_000, **PUBLISHED), asking(UNKNOWN, **LATENCY)),
        ("10 (observed) against 20 (published) ms between tokens",
         recipe("z", inter_token=90, tokens=1, observed=SEEN_4000, **PUBLISHED),
         recipe("a", inter_token=20, tokens=1, **PUBLISHED), asking(UNKNOWN, **LATENCY)),
        ("100 (published) against 900 (published) ms to the first token",
         recipe("z", inter_token=10, first_token=100, **PUBLISHED), recipe("a", inter_token=10, first_token=900, **PUBLISHED),
         asking(UNKNOWN, **LATENCY)),
        ("900 (published) ms to the first token, not known of this one",
         recipe("z", inter_token=10, first_token=900, **PUBLISHED), recipe("a", inter_token=10, **PUBLISHED), asking(UNKNOWN, **LATENCY)),
        ("MI355X computes mxfp4 in hardware, MI300X emulates mxfp4",
         recipe("z", gpu="MI355X", precision="mxfp4", **PUBLISHED), recipe("a", precision="mxfp4", **PUBLISHED),
         wishing(UNKNOWN, precision="mxfp4")),
        ("bf16, the model's own format, is preferred to fp16", recipe("z"), recipe("a", precision="fp16"), request()),
        ("fp8 is preferred to bf16", recipe("z", precision="fp8", count=8, **PUBLISHED), recipe("a", **PUBLISHED), ALL_UNKNOWN),
        ("MI355X is newer than MI300X",
         recipe("z", gpu="MI355X", count=2, **PUBLISHED), recipe("a", **PUBLISHED), ALL_UNKNOWN),
        ("2 against 4 GPUs", recipe("z", count=2, **PUBLISHED), recipe("a", count=4, **PUBLISHED), ALL_UNKNOWN),
        ("1 against 2 GPUs: the same step of 15 %",
         recipe("z", count=1, tokens=5_200, **PUBLISHED), recipe("a", count=2, tokens=10_600, **PUBLISHED), ALL_UNKNOWN),
        ("equal in all else, its name sorts first", recipe("a"), recipe("b"), request()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_reason_told_is_the_place_that_decided(
    why: str, winner: Candidate, loser: Candidate, asked: Request
) -> None:
    facts = NoFacts() if winner.spec.model_id == UNKNOWN else FACTS
    decision = choose((loser, winner), EVERYTHING, asked, facts)
    assert chosen(decision) == winner.name
    told = f"fits, but {winner.name} ranks higher: {why.partition(': the same')[0]}"
    assert verdict_on(decision, loser.name).message == told


def test_an_estimate_is_told_with_what_it_is_worth_beside_a_measurement() -> None:
    """The higher number loses, which nobody would understand without the second one."""
    decision = choose((recipe("a"), recipe("z", tokens=1_000, provenance="measured")), EVERYTHING)
    message = verdict_on(decision, "a").message
    told = re.search(
        r"1000 \(published\) against (\d+) \(estimated, worth (\d+) beside what was measured\)", message
    )
    assert told, message
    estimate, worth = map(int, told.groups())
    assert worth < 1000 < estimate


@pytest.mark.parametrize("case", ORDERS, ids=lambda case: case.id)
def test_a_reason_told_is_true_of_each_pair_of_the_table(case: Order) -> None:
    """No message is about a place in which the two are equal: told of the pair turned round, it would be another."""
    for winner, loser in pairwise(case.expected):
        decision = choose((loser, winner), case.inventory, case.asked, case.facts)
        verdict = verdict_on(decision, loser.name)
        assert verdict.reason is Reason.OUTRANKED
        why = verdict.message.partition("ranks higher: ")[2]
        a, b = winner.spec, loser.spec
        assert ("maturity" in why) <= (a.maturity is not b.maturity)
        assert ("recipes go before" in why) <= (winner.source is not loser.source)
        assert ("preferred to" in why) <= (a.precision is not b.precision)
        assert ("newer than" in why) <= (a.hardware.gpu_model != b.hardware.gpu_model)
        assert ("against" in why and why.endswith("GPUs")) <= (a.hardware.gpu_count < b.hardware.gpu_count)
        assert ("its name sorts first" in why) <= (winner.name < loser.name)


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(ORDERS) >= 60
    assert len({case.id for case in ORDERS}) == len(ORDERS)


# Tiers and capacity

BIG = recipe("big", count=8, maturity="optimized")
MIDDLE = recipe("middle", count=4)
SMALL = recipe("small", count=1, maturity="preview")
OTHER_PRECISION = recipe("other", count=8, precision="fp8", source=FP8)
FAMILY = (BIG, MIDDLE, SMALL)


@dataclass(frozen=True)
class Tiers:
    """What is chosen while so many GPUs of the only node are in use."""

    id: str
    recipes: Sequence[Candidate]
    used: int
    name: str | None
    tier: Tier | None = None
    asked: Request = field(default_factory=request)
    fits: int = 1
    gpus: int = 8


TIERS = [
    Tiers("all free: the best", FAMILY, 0, "big", Tier.PRIMARY),
    Tiers("best is full: another count", FAMILY, 4, "middle", Tier.SECONDARY),
    Tiers("only one GPU free: the fewest that hold the model", FAMILY, 7, "small", Tier.TERTIARY),
    Tiers("another precision at the same count is Secondary", (OTHER_PRECISION, recipe("best", count=8, maturity="optimized", memory="900Gi")), 0, "best", Tier.PRIMARY),
    Tiers("a lone recipe is Primary, also when it has the fewest GPUs", (SMALL,), 0, "small", Tier.PRIMARY),
    Tiers("two counts: the smaller is Tertiary", (BIG, MIDDLE), 4, "middle", Tier.TERTIARY),
    Tiers("the best has the fewest GPUs: a larger one is Secondary", (recipe("few", maturity="optimized", cpu="90"), recipe("many", count=2, cpu="4")), 1, "many", Tier.SECONDARY),
    Tiers("nothing of the catalogue is free: a generated one", (BIG, MIDDLE), 7, "generated/qwen3-32b-mi300x-1x-bf16", Tier.DEFAULT),
    Tiers("no recipe at all: a generated one", (), 0, "generated/qwen3-32b-mi300x-1x-bf16", Tier.DEFAULT),
    Tiers("nothing free: none", FAMILY, 8, None),
    Tiers("fallback off: the best or nothing", FAMILY, 4, None, asked=wishing(fallback={"enabled": False})),
    Tiers("fallback off and free: the best", FAMILY, 0, "big", Tier.PRIMARY, wishing(fallback={"enabled": False})),
    Tiers("fallback off: nothing is generated", (), 0, None, asked=wishing(fallback={"enabled": False})),
    Tiers("autoSelect off ranks exact matches without fallback", FAMILY, 4, None, asked=wishing(autoSelect=False)),
    Tiers("autoSelect off takes the best match", FAMILY, 4, "middle", Tier.PRIMARY, wishing(autoSelect=False, gpuCount=4)),
    Tiers("autoSelect off generates nothing", (), 0, None, asked=wishing(autoSelect=False)),
    Tiers("a wish is never given up for a fallback", FAMILY, 4, None, asked=wishing(gpuCount=8)),
    Tiers("a wish makes its best match Primary", FAMILY, 4, "small", Tier.PRIMARY, wishing(gpuCount=1)),
    Tiers("by name: exactly that one", FAMILY, 4, "small", Tier.PRIMARY, wishing(name="small")),
    Tiers("by name and full: waits, nothing else", FAMILY, 4, None, asked=wishing(name="big")),
    Tiers("by name the model may be left out", FAMILY, 4, "small", Tier.PRIMARY, wishing(None, name="small")),
    Tiers("by name with its checkpoint's id", (OTHER_PRECISION,), 0, "other", Tier.PRIMARY, wishing(FP8, name="other")),
    Tiers("CreatePending and free: as ever", FAMILY, 0, "big", Tier.PRIMARY, wishing(whenNoCapacity="CreatePending")),
    Tiers("CreatePending prefers what fits now", FAMILY, 4, "middle", Tier.SECONDARY, wishing(whenNoCapacity="CreatePending")),
    Tiers("CreatePending and nothing free: the best, with room for none", FAMILY, 8, "big", Tier.PRIMARY, wishing(whenNoCapacity="CreatePending"), fits=0),
    Tiers("CreatePending without fallback: the best, pending", FAMILY, 4, "big", Tier.PRIMARY, wishing(whenNoCapacity="CreatePending", fallback={"enabled": False}), fits=0),
    Tiers("CreatePending for a node that is not large enough yet", (BIG,), 0, "big", Tier.PRIMARY, wishing(whenNoCapacity="CreatePending", fallback={"enabled": False}), fits=0, gpus=4),
    Tiers("CreatePending for a GPU model that is not here yet", (recipe("new", gpu="MI355X"),), 0, "new", Tier.PRIMARY, wishing(whenNoCapacity="CreatePending", fallback={"enabled": False}), fits=0),
    Tiers("Wait for a GPU model that is not here: none", (recipe("new", gpu="MI355X"),), 0, None, asked=wishing(fallback={"enabled": False})),
    Tiers("two replicas: a recipe with room for both before a better one with room for one", FAMILY, 0, "middle", Tier.SECONDARY, wishing(replicas=2), fits=2),
    Tiers("three replicas of four GPUs fit two: the smaller recipe fits all", (MIDDLE, SMALL), 0, "small", Tier.TERTIARY, wishing(replicas=3), fits=3),
    Tiers("no recipe fits all replicas: the best with room for one", (BIG, MIDDLE), 0, "big", Tier.PRIMARY, wishing(replicas=3), fits=1),
    Tiers("no recipe fits all and the best fits none: the next", (BIG, MIDDLE), 4, "middle", Tier.TERTIARY, wishing(replicas=3), fits=1),
    Tiers("nine replicas of one GPU: eight fit", (SMALL,), 0, "small", Tier.PRIMARY, wishing(replicas=9), fits=8),
    Tiers("fallback off with replicas: as many as fit", (BIG, SMALL), 0, "big", Tier.PRIMARY, wishing(replicas=2, fallback={"enabled": False}), fits=1),
    Tiers("zero replicas are decided for one", FAMILY, 4, "middle", Tier.SECONDARY, wishing(replicas=0)),
    Tiers("a suspended deployment is decided for one", FAMILY, 0, "big", Tier.PRIMARY, request(replicas=5, suspend=True)),
]  # fmt: skip


@pytest.mark.parametrize("case", TIERS, ids=lambda case: case.id)
def test_what_is_chosen_while_gpus_are_taken(case: Tiers) -> None:
    used = case.used
    cpu = 90 if any(each.spec.resources.cpu == "90" for each in case.recipes) else 0
    decision = choose(case.recipes, cluster(node(gpus=case.gpus, used=used, used_cpu=cpu)), case.asked)
    assert chosen(decision) == case.name, decision.message
    assert (decision.outcome is Outcome.SELECTED) is (case.name is not None)
    if case.name is not None:
        assert decision.choice
        assert decision.choice.tier is case.tier
        assert decision.choice.fits == case.fits
        assert decision.verdicts[0].recipe == case.name
        assert decision.verdicts[0].reason is Reason.CHOSEN
        assert case.name in decision.message


def test_a_better_recipe_without_room_is_named_with_its_remedy() -> None:
    decision = choose(FAMILY, cluster(node(used=4)))
    assert decision.best == "big"
    assert "the best one, big, needs 8 free MI300X GPUs on one node" in decision.message
    assert decision.remedy == "free 4 GPUs on gpu-1, or add a MI300X node"
    assert decision.wants == (Want(PoolKey("MI300X"), 8),)


def test_waiting_says_for_what_and_wants_what_any_of_the_recipes_needs() -> None:
    decision = choose(FAMILY, cluster(node(used=8)))
    assert decision.outcome is Outcome.WAITING
    assert decision.best == "big"
    assert decision.message.startswith(
        "waiting for big: needs 8 free MI300X GPUs on one node; free: at most 0"
    )
    assert decision.wants == tuple(Want(PoolKey("MI300X"), count) for count in (8, 4, 1))


def test_waiting_without_fallback_wants_only_the_best() -> None:
    decision = choose(FAMILY, cluster(node(used=4)), wishing(fallback={"enabled": False}))
    assert decision.outcome is Outcome.WAITING
    assert decision.wants == (Want(PoolKey("MI300X"), 8),)


def test_waiting_without_fallback_says_why_a_free_recipe_is_not_taken() -> None:
    decision = choose(FAMILY, cluster(node(used=8)), wishing(fallback={"enabled": False}))
    assert "fallback is off" in verdict_on(decision, "middle").message


def test_missing_replicas_are_wanted() -> None:
    decision = choose([BIG], cluster(node()), wishing(replicas=3, fallback={"enabled": False}))
    assert decision.wants == (Want(PoolKey("MI300X"), 8),)


def test_nothing_is_wanted_when_the_best_runs() -> None:
    assert choose(FAMILY, cluster(node())).wants == ()


def test_a_pool_is_named_by_model_and_partition() -> None:
    only = recipe("r", partition="cpx_nps4", count=8)
    decision = choose([only], cluster(node(gpus=64, partition="cpx_nps4", used=64)), wishing(name="r"))
    assert decision.wants == (Want(PoolKey("MI300X", "cpx_nps4"), 8),)


def test_in_a_mixed_cluster_the_second_generation_serves_while_the_first_is_full() -> None:
    inventory = cluster(node("new", "MI355X", used=8), node("old", "MI300X"), node("oldest", "MI210", 4))
    recipes = [
        recipe("on-mi355x", gpu="MI355X"),
        recipe("on-mi300x"),
        recipe("on-mi210", gpu="MI210", count=2),
    ]
    decision = choose(recipes, inventory)
    assert chosen(decision) == "on-mi300x"
    assert decision.choice
    assert decision.choice.tier is Tier.SECONDARY
    assert reasons(decision)["on-mi355x"] is Reason.CAPACITY_INSUFFICIENT


def test_whole_gpus_are_never_taken_from_a_partitioned_node() -> None:
    decision = choose([recipe("r")], cluster(node(gpus=64, partition="cpx_nps4")), wishing(name="r"))
    assert reasons(decision) == {"r": Reason.PARTITION_MISMATCH}


def test_spx_is_another_word_for_whole_gpus() -> None:
    for wanted, there in (("spx_nps1", None), (None, "spx_nps1"), ("spx_nps1", "spx_nps1")):
        decision = choose([recipe("r", partition=wanted)], cluster(node(partition=there)), wishing(name="r"))
        assert chosen(decision) == "r"


def test_a_configmap_name_means_all_its_gpu_counts_and_no_other_configmap() -> None:
    def of(name: str, count: int) -> Candidate:
        return recipe(f"configmap/{name}", origin=CUSTOM, listed=False, count=count)

    mine = [of("mine-1gpu", 1), of("mine-4gpu", 4), of("mine-4gpu-sglang", 4)]
    others = [of("mine-too", 1), of("minex4gpu", 2), of("mine-4gpu-too", 4), recipe("mine")]
    decision = choose([*mine, *others], cluster(node()), wishing(None, configMap="mine"))
    assert set(reasons(decision)) == {each.name for each in mine}


def test_an_unlabelled_configmap_serves_only_where_it_is_named() -> None:
    recipes = [recipe("configmap/quiet", origin=CUSTOM, listed=False), recipe("catalogue")]
    assert set(reasons(choose(recipes, cluster(node())))) == {"catalogue"}
    assert chosen(choose(recipes, cluster(node()), wishing(None, configMap="quiet"))) == "configmap/quiet"


def test_recipes_of_other_models_are_not_even_looked_at() -> None:
    decision = choose([recipe("r"), recipe("other", model=GPT_OSS, precision="mxfp4")], cluster(node()))
    assert set(reasons(decision)) == {"r"}


def test_generated_configurations_keep_the_wishes() -> None:
    inventory = cluster(node("new", "MI355X"), node("old", "MI300X"))
    decision = choose([], inventory, wishing(gpuModel="MI300X", gpuCount=2))
    assert chosen(decision) == "generated/qwen3-32b-mi300x-2x-bf16"
    assert all("mi355x" not in verdict.recipe for verdict in decision.verdicts)


def test_generated_configurations_serve_the_asked_context() -> None:
    asked = request(workload={"maxInputTokens": 30_000, "maxOutputTokens": 10_000})
    decision = choose([], cluster(node()), asked)
    assert decision.choice
    assert decision.choice.assessment.args["max-model-len"] == 40_000


def test_nothing_is_generated_for_a_model_nobody_knows() -> None:
    assert choose([], cluster(node()), request(UNKNOWN)).outcome is Outcome.NO_RECIPE


def test_generated_configurations_are_among_the_verdicts_only_when_needed() -> None:
    assert set(reasons(choose([SMALL], cluster(node())))) == {"small"}
    assert "generated/qwen3-32b-mi300x-1x-bf16" in reasons(choose([BIG], cluster(node(used=4))))


def test_pending_pods_are_made_only_of_what_would_fit_were_the_hardware_there() -> None:
    hopeless = recipe("hopeless", gpu="MI355X", model=LLAMA_405B, count=1)
    wishes = {"whenNoCapacity": "CreatePending", "fallback": {"enabled": False}}
    decision = choose([hopeless], cluster(node()), request(LLAMA_405B, recipe=wishes))
    assert decision.outcome is Outcome.NO_RECIPE
    hopeful = recipe("hopeful", gpu="MI355X", model=LLAMA_405B, count=8)
    decision = choose([hopeless, hopeful], cluster(node()), request(LLAMA_405B, recipe=wishes))
    assert [verdict.recipe for verdict in decision.verdicts] == ["hopeful", "hopeless"]


def test_a_known_model_without_recipes_is_told_that_fallback_is_off() -> None:
    decision = choose([], cluster(node()), wishing(fallback={"enabled": False}))
    assert "unknown" not in decision.message
    assert "fallback" in f"{decision.message} {decision.remedy}"


def test_gpus_that_only_an_administrator_knows_are_passed_over() -> None:
    obj = node_object()
    obj["metadata"]["labels"] = {"acme.com/gpu": "x"}
    tracker = Tracker({"acme.com/gpu=x": "MI999"})
    tracker.replace_nodes([obj])
    assert choose([], tracker.inventory()).outcome is Outcome.NO_RECIPE

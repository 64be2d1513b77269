"""What measured numbers mean, by table; and when they are worth a write, with the clock in hand."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest

from aim_engine.api.conditions import ConditionReason as R
from aim_engine.api.deployment import Targets
from aim_engine.api.enums import Backend
from aim_engine.api.performance import Measurement, PerformanceStatus, Workload
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.engines import engine, version_of
from aim_engine.inventory import Tracker
from aim_engine.reconcile.cache import Cache, Key, StoredDeployment, with_observation
from aim_engine.reconcile.config import MeasuringConfig
from aim_engine.reconcile.measuring import Measuring
from aim_engine.reconcile.observed import observed
from aim_engine.reconcile.performance import (
    expectation,
    is_like,
    is_significant,
    judge,
    measurement,
    same_recipe,
    smooth,
    steady,
    summarize,
    without_numbers,
)
from aim_engine.reconcile.pods import PodHealth
from aim_engine.reconcile.subject import Subject, is_loaded
from aim_engine.telemetry.scan import scan
from aim_engine.telemetry.scraper import Scraper
from aim_engine.telemetry.window import Window
from testbed.vllm_metrics import EngineState, Load, render
from unit.reconcile_world import deployment, revision_of
from unit.selection_world import cluster, node, recipe

NAMES = engine(Backend.VLLM).METRICS
NOW, THEN = "2026-03-01T12:00:00Z", "2026-02-01T00:00:00Z"
BUSY = Window(
    seconds=300, replicas=2, at=1000.0, tokens_per_second=2000, prompt_tokens_per_second=8000, requests_per_second=15.6,
    running=64, waiting=9, queued_share=1.0, kv_cache_usage=0.9, preemptions_per_second=0.1, error_ratio=0.0,
    prefix_hit_ratio=0.3, first_token_p50=0.4, first_token_p95=0.9, inter_token_p50=0.03, inter_token_p95=0.05,
    first_tokens=4000, input_tokens=512, output_tokens=128,
)  # fmt: skip
IDLE = replace(
    BUSY, tokens_per_second=0, running=0, waiting=0, queued_share=0, first_tokens=0, first_token_p95=None, input_tokens=None, output_tokens=None,
)  # fmt: skip
CALM = replace(BUSY, running=6, waiting=0, queued_share=0, preemptions_per_second=0)
PLAIN = Subject("abc", "0.32.0", "6.14", Targets(), None, None, pristine=True)


def subject(expected: tuple[int, str] | None = None, **targets: int) -> Subject:
    return replace(PLAIN, expected=expected, targets=Targets(**targets))


def judged(window: Window, of: Subject, before: PerformanceStatus | None = None) -> tuple[str, R, str]:
    found = judge(window, of, summarize(window, of, before, NOW, None))
    return found.status, found.reason, found.message


@pytest.mark.parametrize(
    ("window", "of", "status", "reason", "words"),
    [
        (BUSY, subject(min_tokens_per_second=1000), "True", R.ON_TARGET, ["2000 tok/s of 2000", "2 replicas"]),
        (BUSY, subject(min_tokens_per_second=1100), "False", R.BELOW_TARGET, ["2000 tok/s of 2200", "9 requests wait"]),
        (BUSY, subject((1200, "published")), "True", R.ON_TARGET, ["2000 tok/s of 2400 published"]),
        (BUSY, subject((1300, "published")), "False", R.BELOW_TARGET, ["2000 tok/s of 2600 published"]),
        (BUSY, subject((1300, "declared")), "False", R.BELOW_TARGET, ["declared"]),
        (BUSY, subject((5000, "published"), min_tokens_per_second=900), "True", R.ON_TARGET, ["of 1800 asked"]),
        (CALM, subject(min_tokens_per_second=9000), "Unknown", R.NO_DEMAND, ["no requests wait"]),
        (IDLE, subject(min_tokens_per_second=9000), "Unknown", R.NO_DEMAND, ["too few requests"]),
        (IDLE, subject(max_time_to_first_token_milliseconds=1), "Unknown", R.NO_DEMAND, []),
        (CALM, subject(max_time_to_first_token_milliseconds=800), "False", R.BELOW_TARGET, ["p95 900 ms", "target 800 ms"]),
        (CALM, subject(max_time_to_first_token_milliseconds=900), "True", R.ON_TARGET, ["900 of 900 ms"]),
        (replace(CALM, first_tokens=4), subject(max_time_to_first_token_milliseconds=800), "Unknown", R.NO_DEMAND, []),
        (
            BUSY, subject(min_tokens_per_second=1100, max_time_to_first_token_milliseconds=800), "False", R.BELOW_TARGET,
            ["tok/s", "p95"],
        ),
        (BUSY, subject(), "Unknown", R.NO_TARGET, ["no target"]),
        (IDLE, subject(), "Unknown", R.NO_TARGET, []),
    ],
)  # fmt: skip
def test_a_window_is_judged(window: Window, of: Subject, status: str, reason: R, words: list[str]) -> None:
    found = judged(window, of)
    assert found[:2] == (status, reason), found
    assert all(word in found[2] for word in words), found[2]


def test_a_full_batch_is_load_without_a_queue() -> None:
    full = replace(CALM, running=58)
    assert not is_loaded(full, PLAIN)
    assert is_loaded(full, replace(PLAIN, max_num_seqs=32))
    assert not is_loaded(full, replace(PLAIN, max_num_seqs=64))


@pytest.mark.parametrize(
    ("window", "limit", "kinds"),
    [
        (CALM, None, []),
        (replace(BUSY, preemptions_per_second=0.2, kv_cache_usage=0.97), 64, ["Preemptions", "KVCacheFull"]),
        (replace(BUSY, running=126, kv_cache_usage=0.4, preemptions_per_second=0), 64, ["BatchLimit"]),
        (replace(BUSY, running=90, kv_cache_usage=0.4, preemptions_per_second=0), 64, []),
        (replace(BUSY, kv_cache_usage=0.6, preemptions_per_second=None), None, []),
        (replace(CALM, kv_cache_usage=0.05, preemptions_per_second=0), 64, ["Overprovisioned"]),
        (replace(IDLE, kv_cache_usage=0.0, preemptions_per_second=0), 64, []),
        (replace(CALM, prefix_hit_ratio=0.01, input_tokens=3000, preemptions_per_second=0), 64, ["PrefixCacheMisses"]),
        (replace(CALM, prefix_hit_ratio=0.01, input_tokens=300, preemptions_per_second=0), 64, []),
        (replace(CALM, kv_cache_usage=None, prefix_hit_ratio=None, preemptions_per_second=None), 64, []),
    ],
)  # fmt: skip
def test_hints_follow_from_the_window(window: Window, limit: int | None, kinds: list[str]) -> None:
    found = summarize(window, replace(PLAIN, max_num_seqs=limit), None, NOW, None).hints
    assert [hint.kind for hint in found] == kinds
    assert all(re.search(r"\d", hint.message) and ": " in hint.message for hint in found)


def test_no_window_is_unknown() -> None:
    assert judge(None, PLAIN, None).reason is R.NOT_MEASURED


def entry(rate: int | None, kind: str = "vendor", version: str | None = "0.32.1") -> dict[str, Any]:
    number = {"tokensPerSecond": rate} if rate else {"timeToFirstTokenMilliseconds": 9}
    return {**number, "provenance": {"kind": kind, "source": "https://a.b/c", "engineVersion": version}}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], None),
        ([entry(100)], (100, "published")),
        ([entry(100), entry(300, version="0.32.0")], (300, "published")),
        ([entry(900, version="0.18.0")], None),
        ([entry(900, version="0.18.0"), entry(50, "declared", None)], (50, "declared")),
        ([entry(900, "declared"), entry(50)], (50, "published")),
        ([entry(70, version=None)], (70, "published")),
        ([entry(None)], None),
    ],
)
def test_only_numbers_of_the_same_engine_line_are_expected(
    entries: list[dict[str, Any]], expected: tuple[int, str] | None
) -> None:
    spec = AIMRecipeSpec.model_validate(
        {
            "modelID": "a/b",
            "hardware": {"gpuModel": "MI300X", "gpuCount": 1},
            "precision": "bf16",
            "performance": entries,
        }
    )
    assert expectation(spec, "0.32.0") == expected


def summary(
    window: Window = BUSY, of: Subject = PLAIN, before: PerformanceStatus | None = None
) -> PerformanceStatus:
    return summarize(window, of, before, NOW, measurement(window, NOW))


def test_the_summary_gives_whole_numbers_with_their_units() -> None:
    found = summary().wire()
    assert found["tokensPerSecond"] == 2000
    assert found["requestsPerMinute"] == 936
    assert found["timeToFirstTokenMilliseconds"] == {"p50": 400, "p95": 900}
    assert found["interTokenLatencyMilliseconds"] == {"p50": 30, "p95": 50}
    assert (found["kvCachePercent"], found["prefixCacheHitPercent"], found["errorPercent"]) == (90, 30, 0)
    assert found["baseline"]["tokensPerSecond"] == 1000
    assert found["baseline"]["workload"] == {"inputTokens": 512, "outputTokens": 128, "concurrency": 32}


@pytest.mark.parametrize("value", [1e13, 1e15])
def test_absurd_numbers_of_an_engine_still_make_a_status_that_can_be_written(value: float) -> None:
    numbers: dict[str, Any] = {
        name: value for name, known in asdict(BUSY).items() if isinstance(known, float) and name not in ("seconds", "at")
    }  # fmt: skip
    absurd = replace(BUSY, **numbers, running=value, waiting=value)
    found = summary(absurd, subject((1, "published")), summary(replace(BUSY, tokens_per_second=2)))
    assert PerformanceStatus.model_validate(found.wire()) == found
    assert (
        summary(replace(BUSY, input_tokens=2e7)).wire()["baseline"]["workload"]["inputTokens"] == 10_000_000
    )


def test_a_baseline_needs_two_windows_that_agree() -> None:
    one = measurement(BUSY, THEN)
    assert steady(None, one) is None
    assert steady(one, measurement(replace(BUSY, tokens_per_second=2100), NOW)) is not None
    assert steady(one, measurement(replace(BUSY, tokens_per_second=2400), NOW)) is None
    assert steady(one, measurement(replace(BUSY, running=90), NOW)) is None
    assert summarize(BUSY, PLAIN, None, NOW, None).baseline is None
    assert summarize(IDLE, PLAIN, None, NOW, measurement(IDLE, NOW)).baseline is None


SLOW = replace(BUSY, tokens_per_second=1600)


def test_a_regression_after_a_change_is_told_with_both_numbers() -> None:
    newer = replace(PLAIN, engine_version="0.33.0")
    status, reason, message = judged(SLOW, newer, summary())
    assert (status, reason) == ("False", R.PERFORMANCE_REGRESSED)
    for words in ("800 tok/s", "1000 at a like load", "engine was 0.32.0, is 0.33.0"):
        assert words in message
    assert "GPU driver" not in message
    other = replace(PLAIN, driver_version="6.16")
    assert "GPU driver was 6.14, is 6.16" in judged(SLOW, other, summary())[2]
    assert "neither engine nor GPU driver" in judged(SLOW, PLAIN, summary())[2]


@pytest.mark.parametrize(
    "window",
    [
        replace(SLOW, running=20),
        replace(SLOW, running=50, tokens_per_second=1560),  # like enough, and as much for each request
        replace(SLOW, input_tokens=4000),
        replace(SLOW, output_tokens=1000),
        replace(SLOW, tokens_per_second=1760),
        IDLE,
    ],
)
def test_another_load_or_a_small_loss_is_no_regression(window: Window) -> None:
    assert judged(window, PLAIN, summary())[1] is R.NO_TARGET


def test_less_demand_is_no_regression_also_where_few_requests_run() -> None:
    few = replace(CALM, running=2.8, tokens_per_second=280)
    fewer = replace(CALM, running=1.2, tokens_per_second=120)
    assert judged(fewer, PLAIN, summary(few))[1] is R.NO_TARGET
    assert judged(replace(few, tokens_per_second=140), PLAIN, summary(few))[1] is R.PERFORMANCE_REGRESSED


def test_a_regression_is_told_no_longer_than_the_like_load_lasts() -> None:
    slow = summary(SLOW, before=summary())
    assert slow.baseline is not None
    assert slow.baseline.percent == 81
    assert judged(IDLE, PLAIN, slow)[1] is R.NO_TARGET
    after = summary(IDLE, before=slow).baseline
    assert after is not None
    assert (after.tokens_per_second, after.percent) == (1000, None)


def test_an_engine_that_stands_still_gives_no_baseline() -> None:
    assert summary(replace(BUSY, tokens_per_second=0)).baseline is None


def test_a_busier_state_takes_the_baselines_place_only_for_the_same_engine_and_driver() -> None:
    busier = replace(BUSY, running=128, tokens_per_second=3000)
    taken = summary(busier, PLAIN, summary()).baseline
    assert taken is not None
    assert (taken.tokens_per_second, taken.workload.concurrency) == (1500, 64)
    kept = summary(busier, replace(PLAIN, engine_version="0.33.0"), summary()).baseline
    assert kept is not None
    assert (kept.tokens_per_second, kept.engine_version) == (1000, "0.32.0")


def test_another_recipe_content_begins_anew() -> None:
    other = replace(PLAIN, recipe_hash="xyz")
    assert summarize(SLOW, other, summary(), NOW, None).baseline is None
    assert same_recipe({"performance": summary().wire()}, "xyz") is None
    assert same_recipe({"performance": summary().wire()}, "abc") == summary()
    assert same_recipe({"performance": {"recipeHash": "abc", "tokensPerSecond": "many"}}, "abc") is None
    assert same_recipe({}, "abc") is None


def test_without_measuring_only_what_was_learned_stays() -> None:
    kept = without_numbers(summary())
    assert kept is not None
    assert kept.tokens_per_second is None
    assert kept.at == NOW
    assert kept.baseline is not None
    assert (kept.baseline.tokens_per_second, kept.baseline.percent) == (1000, None)
    assert without_numbers(None) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"tokens_per_second": 2190}, False),
        ({"tokens_per_second": 2300}, True),
        ({"first_token_p95": 1.2}, True),
        ({"waiting": 10}, False),
        ({"waiting": 30}, True),
        ({"replicas": 3}, True),
        ({"error_ratio": 0.02}, False),
        ({"error_ratio": 0.2}, True),
    ],
)
def test_only_what_a_reader_would_notice_is_written(changes: dict[str, Any], expected: bool) -> None:
    after = summarize(replace(BUSY, **changes), PLAIN, summary(), "2026-03-01T13:00:00Z", None)
    assert is_significant(summary(), after) is expected
    assert is_significant(None, after)
    assert not is_significant(None, None)


def test_numbers_under_load_are_smoothed() -> None:
    one = Measurement(tokens_per_second=1000, at=THEN, workload=Workload(concurrency=9))
    two = smooth(one, Measurement(tokens_per_second=2000, inter_token_latency_milliseconds=30, at=NOW))
    assert (two.tokens_per_second, two.samples, two.at) == (1300, 2, NOW)
    assert two.inter_token_latency_milliseconds == 30


def test_like_loads() -> None:
    one = Workload(concurrency=100, input_tokens=1000, output_tokens=100)
    assert is_like(one, Workload(concurrency=80, input_tokens=600, output_tokens=150))
    assert not is_like(one, Workload(concurrency=70, input_tokens=1000, output_tokens=100))
    assert not is_like(one, Workload(concurrency=100))


RECIPE = recipe("r")


def user(rate: int, **more: Any) -> dict[str, Any]:
    loaded = Measurement(tokens_per_second=rate, samples=3, at=NOW)
    told = PerformanceStatus(
        recipe_hash=RECIPE.hash, engine_version=more.pop("version", "0.32.0"), under_load=loaded, **more
    )
    return {"performance": told.wire()}


def test_a_recipe_shows_the_median_of_its_users() -> None:
    found = observed(RECIPE, [user(100), user(900), user(300), {}, user(5000, version="0.31.0")], None)
    assert found is not None
    assert (found.tokens_per_second, found.deployments, found.samples) == (300, 3, 9)
    assert found.recipe_hash == RECIPE.hash
    assert observed(RECIPE, [], found) == found
    assert observed(RECIPE, [user(305), user(100), user(900)], found) is found
    other = replace(RECIPE, hash="other")
    assert observed(other, [], found) is None


def test_a_recipe_that_names_its_image_is_observed_too() -> None:
    """Its deployments say the image where others say the version of the engine."""
    image = "registry.example.com/vllm:custom"
    named = recipe("named", image=image)
    loaded = Measurement(tokens_per_second=700, samples=3, at=NOW)
    told = PerformanceStatus(recipe_hash=named.hash, engine_version=image, under_load=loaded)
    found = observed(named, [{"performance": told.wire()}], None)
    assert found is not None
    assert found.tokens_per_second == 700
    seen = with_observation(named, {"observed": found.wire()}).observed
    assert seen is not None
    assert seen.engine_version == version_of(named.spec)


def test_selection_takes_what_was_observed_of_this_content() -> None:
    found = observed(RECIPE, [user(300)], None)
    assert found is not None
    status = {"observed": found.wire()}
    seen = with_observation(RECIPE, status).observed
    assert seen is not None
    assert (seen.tokens_per_second, seen.gpu_model, seen.engine_version) == (
        300,
        "MI300X",
        found.engine_version,
    )
    assert with_observation(replace(RECIPE, hash="other"), status).observed is None
    assert with_observation(RECIPE, {"observed": "nonsense", "benchmarks": [3]}).observed is None


def test_a_saved_benchmark_counts_where_no_deployment_was_seen_under_load() -> None:
    runs = [
        {
            "recipeHash": RECIPE.hash,
            "gpuModel": "MI300X",
            "engineVersion": "0.32.0",
            "tokensPerSecond": rate,
            "workload": {"concurrency": concurrency},
        }
        for rate, concurrency in ((50, 8), (80, 64), (900, 7))
    ]
    seen = with_observation(
        RECIPE, {"benchmarks": [*runs, {"recipeHash": "x", "tokensPerSecond": 999}]}
    ).observed
    assert seen is not None
    assert seen.tokens_per_second == 80


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Passes:
    """Keeps who was asked to be looked at."""

    def __init__(self) -> None:
        self.asked: list[Key] = []
        self.urgent, self.later = 0, 0.0

    def add(self, key: Key, *, urgent: bool = False) -> None:
        self.asked.append(key)
        self.urgent += urgent

    def add_after(self, key: Key, seconds: float) -> None:
        self.asked.append(key)
        self.later = seconds


class World:
    """Deployments on one recipe, their engines' pages, and the measuring of them."""

    def __init__(self, count: int = 1, **spec: Any) -> None:
        self.clock, self.passes, self.cache = Clock(), Passes(), Cache()
        self.scraper = Scraper(15, 5, 4, 300, lambda _: None, clock=self.clock)
        self.measuring = Measuring(MeasuringConfig(), self.cache, Tracker(), self.passes, self.scraper)
        self.scraper.read = self.measuring.changed
        self.asked = deployment(**spec)
        self.revision = revision_of(self.asked, [RECIPE], cluster(node("a")))
        self.engines: dict[Key, EngineState] = {}
        for number in range(count):
            self.store(number)
            self.watch(number)

    def store(self, number: int, **status: Any) -> StoredDeployment:
        name = f"chat-{number}"
        stored = StoredDeployment(
            name, "team-a", name, 1, "1", deleting=False, created="", status=status, typed=self.asked
        )
        self.cache.deployments["team-a", name] = stored
        self.engines.setdefault(("team-a", name), EngineState(1.0))
        return stored

    def watch(self, number: int = 0, *, restarts: int = 0, settled: bool = True) -> None:
        stored = self.cache.deployments["team-a", f"chat-{number}"]
        pod = PodHealth(
            "p", stored.name, ready=True, terminating=False, bound=True, restarts=restarts, address="127.64.0.1"
        )  # fmt: skip
        self.measuring.watch(stored, self.revision, [pod], settled=settled)

    def run(self, seconds: float, load: Load, restarts: int = 0) -> list[Key]:
        """Let engines work and be read; answers who was asked to be looked at meanwhile."""
        self.passes.asked.clear()
        for _ in range(int(seconds / 15)):
            self.clock.now += 15
            for (namespace, name), state in self.engines.items():
                state.load = load
                state.advance(15)
                self.scraper.take(
                    (namespace, name), f"{name}/{restarts}", scan(render(state, "m").encode(), NAMES)
                )
            list(self.measuring.look())
        return list(self.passes.asked)

    def told(self, number: int = 0) -> tuple[PerformanceStatus | None, R]:
        stored = self.cache.deployments["team-a", f"chat-{number}"]
        performance, judgement = self.measuring.told(stored, self.revision)
        return performance, judgement.reason

    def publish(self, number: int = 0) -> PerformanceStatus | None:
        """What a pass writes, written."""
        stored = self.cache.deployments["team-a", f"chat-{number}"]
        performance, judgement = self.measuring.told(stored, self.revision)
        condition = {
            "type": "PerformanceOnTarget", "status": judgement.status, "reason": judgement.reason.value,
            "message": judgement.message,
        }  # fmt: skip
        told = {"performance": performance.wire()} if performance else {}
        self.store(number, conditions=[condition], **told)
        return performance


WORK = Load(tokens_per_second=1000, running=16, waiting=4)


def test_numbers_appear_after_the_first_window_and_then_only_when_they_move() -> None:
    world = World()
    assert world.run(60, WORK) == []
    assert world.told() == (None, R.NOT_MEASURED)
    assert world.run(30, WORK) == [("team-a", "chat-0")]
    first = world.publish()
    assert first is not None
    assert first.tokens_per_second == pytest.approx(1000, rel=0.02)
    assert world.told()[1] is R.NO_TARGET
    steady_state = world.run(1200, WORK)
    assert len(steady_state) <= 3  # a baseline, and the numbers under load, once each
    world.publish()
    assert world.run(3000, WORK) == []
    assert world.run(600, replace(WORK, tokens_per_second=1500)) != []


def test_a_changed_verdict_is_told_sooner_than_a_changed_number() -> None:
    world = World(targets={"minTokensPerSecond": 900})
    world.run(180, WORK)
    world.publish()
    assert world.told()[1] is R.ON_TARGET
    woken = world.run(315, replace(WORK, tokens_per_second=100))
    assert woken
    assert world.told()[1] is R.BELOW_TARGET


def test_all_deployments_share_one_budget_of_writes() -> None:
    """200 deployments that all have news: at two a second none is lost, and no burst exceeds it."""
    world = World(200)
    world.run(75, WORK)
    world.passes.asked.clear()
    per_second = []
    for _ in range(110):
        before = len(world.passes.asked)
        world.clock.now += 1
        list(world.measuring.look())
        per_second.append(len(world.passes.asked) - before)
    assert max(per_second) <= 2
    assert (
        len(set(world.passes.asked)) + len({k for k, m in world.measuring.measured.items() if m.released})
        >= 200
    )
    assert all(measured.released for measured in world.measuring.measured.values())


def test_a_restart_of_an_engine_makes_no_negative_and_no_lost_number() -> None:
    world = World()
    world.run(300, WORK)
    before = world.publish()
    world.engines["team-a", "chat-0"] = EngineState(5000.0)
    world.watch(restarts=1)
    world.run(45, WORK, restarts=1)
    told = world.told()[0]
    assert told is not None
    assert before is not None
    assert told.tokens_per_second == pytest.approx(before.tokens_per_second, rel=0.02)
    world.run(300, WORK, restarts=1)
    measured = world.measuring.measured["team-a", "chat-0"]
    assert measured.window is not None
    assert measured.window.tokens_per_second == pytest.approx(1000, rel=0.02)


def test_a_fault_of_ours_at_one_deployment_keeps_no_other_from_being_measured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(count=2)

    def window(key: Key, least_seconds: float) -> Window | None:
        if key == ("team-a", "chat-0"):
            raise ValueError("odd")
        return BUSY

    monkeypatch.setattr(Scraper, "window", lambda _, key, least_seconds: window(key, least_seconds))
    assert set(world.run(60, WORK)) == {("team-a", "chat-1")}
    assert "team-a/chat-0: a fault of ours" in caplog.text


def test_while_pods_are_replaced_nothing_is_measured() -> None:
    world = World()
    world.run(300, WORK)
    world.watch(settled=False)
    assert world.scraper.engines == 0
    assert world.told()[0] is not None


def test_a_pod_that_only_bears_the_label_is_not_asked() -> None:
    """Its numbers would become AIMRecipe.status.observed, and steer the choices of all namespaces."""
    world = World()
    (key,) = world.engines
    engine_pod = PodHealth("p", key[1], True, False, True, address="127.64.0.1")
    stranger = replace(engine_pod, name="s", uid="s", address="127.64.0.2", is_replica=False)
    world.measuring.watch(world.cache.deployments[key], world.revision, [engine_pod, stranger], settled=True)
    assert world.scraper.engines == 1


def test_engines_that_fall_silent_are_said_to_be_silent() -> None:
    world = World()
    world.run(300, WORK)
    world.publish()
    world.clock.now += 600
    world.measuring.changed(("team-a", "chat-0"))
    list(world.measuring.look())
    performance, reason = world.told()
    assert reason is R.NOT_MEASURED
    assert performance is not None
    assert performance.tokens_per_second is None


def test_the_operator_restarts_and_tells_what_was_told() -> None:
    old = World(targets={"minTokensPerSecond": 900})
    old.run(600, WORK)
    published = old.publish()
    assert published is not None
    assert published.baseline is not None
    new = World(targets={"minTokensPerSecond": 900})
    new.cache.deployments.update(old.cache.deployments)
    new.measuring.measured.clear()
    new.watch()
    assert new.told() == (published, R.ON_TARGET)
    assert new.run(60, WORK) == []
    new.run(600, replace(WORK, tokens_per_second=700, waiting=9))
    later = new.publish()
    assert later is not None
    assert later.baseline is not None
    assert later.baseline.tokens_per_second == published.baseline.tokens_per_second


def test_a_baseline_that_somebody_removed_is_taken_anew() -> None:
    world = World()
    world.run(900, WORK)
    first = world.publish()
    assert first is not None
    assert first.baseline is not None
    world.run(900, replace(WORK, tokens_per_second=600))
    slow = world.publish()
    assert slow is not None
    assert world.told()[1] is R.PERFORMANCE_REGRESSED
    stored = world.cache.deployments["team-a", "chat-0"]
    status = dict(stored.status)
    status["performance"] = {k: v for k, v in status["performance"].items() if k != "baseline"}
    world.cache.deployments["team-a", "chat-0"] = replace(stored, status=status)
    world.run(1200, replace(WORK, tokens_per_second=600))
    again = world.publish()
    assert again is not None
    assert again.baseline is not None
    assert again.baseline.tokens_per_second == pytest.approx(600, rel=0.05)
    assert world.told()[1] is R.NO_TARGET


def test_turned_off_or_stopped_nothing_is_asked_of_engines() -> None:
    for spec, reason in (
        ({"monitoring": {"enabled": False}}, R.MEASURING_DISABLED),
        ({"suspend": True}, R.NOT_MEASURED),
        ({"replicas": 0}, R.NOT_MEASURED),
    ):
        world = World(**spec)
        assert world.scraper.engines == 0
        assert world.told() == (None, reason)


def test_overrides_make_numbers_that_say_nothing_of_the_recipe() -> None:
    world = World(workload={"maxBatchSize": 64})
    world.run(600, WORK)
    performance = world.publish()
    assert performance is not None
    assert performance.under_load is None
    plain = World()
    plain.run(900, WORK)
    performance = plain.publish()
    assert performance is not None
    assert performance.under_load is not None

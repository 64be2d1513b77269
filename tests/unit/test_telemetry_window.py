"""From pages to readings to windows: what counts, what begins anew, and the numbers in the end."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aim_engine.api.enums import Backend
from aim_engine.engines import engine
from aim_engine.telemetry.scan import MAX_LINES, Buckets, Reading, Trouble, UnreadableError, scan
from aim_engine.telemetry.window import WINDOW_SECONDS, Series, quantile, window
from testbed.vllm_metrics import EngineState, Load, render

VLLM = engine(Backend.VLLM).METRICS
SGLANG = engine(Backend("sglang")).METRICS
LOAD = Load(
    tokens_per_second=1000, running=12, waiting=3, kv_cache_usage=0.7, ttft=0.2, inter_token_latency=0.03,
    prefix_cache_hit_ratio=0.25, preemptions_per_second=0.5,
)  # fmt: skip


def page(state: EngineState) -> bytes:
    return render(state, "Qwen/Qwen3-32B").encode()


def after(seconds: float, load: Load = LOAD) -> EngineState:
    state = EngineState(1000.0, load)
    state.advance(seconds)
    return state


def reading(**values: float | None) -> Reading:
    nothing = Reading(*[None] * 13)
    return replace(nothing, generation_tokens=0.0, **values)  # type: ignore[arg-type]


def test_a_page_says_what_a_full_parse_says() -> None:
    text = page(after(60))
    parsed = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if "le" not in sample.labels
    }
    seen = scan(text, VLLM)
    assert seen.generation_tokens == parsed["vllm:generation_tokens_total"] == 60_000
    assert seen.prompt_tokens == parsed["vllm:prompt_tokens_total"]
    assert (seen.running, seen.waiting, seen.kv_cache_usage) == (12, 3, 0.7)
    assert seen.preemptions == 30
    assert seen.first_token is not None
    assert seen.first_token.bounds[-1] == math.inf
    assert seen.first_token.counts[-1] == parsed["vllm:time_to_first_token_seconds_count"]


def test_label_sets_are_added_up_and_the_fullest_cache_counts() -> None:
    text = b"""# HELP x y
vllm:num_requests_running{engine="0",model_name="a"} 1.0
vllm:num_requests_running{engine="1",model_name="a"} 2.0
# HELP x y
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
# HELP x y
vllm:request_success_total{engine="0",finished_reason="stop"} 90.0
vllm:request_success_total{engine="0",finished_reason="error"} 10.0
# HELP x y
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 4.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="1.0"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="1",le="+Inf"} 5.0
"""
    seen = scan(text, VLLM)
    assert (seen.running, seen.kv_cache_usage, seen.finished, seen.failed) == (3, 0.75, 100, 10)
    assert seen.first_token == Buckets((1.0, math.inf), array("d", [3.0, 9.0]))
    assert seen.generation_tokens is None


@pytest.mark.parametrize(
    ("old", "meaning"),
    [
        (b"vllm:gpu_cache_usage_perc{engine=\"0\"} 0.5\n", "kv_cache_usage"),
        (b"vllm:gpu_prefix_cache_hits_total 4.0\n", "prefix_hits"),
        (b"vllm:gpu_prefix_cache_queries_total 8.0\n", "prefix_queries"),
        (b'vllm:time_per_output_token_seconds_bucket{le="+Inf"} 4.0\nvllm:num_requests_running 1\n', "inter_token"),
    ],
)  # fmt: skip
def test_former_names_are_read(old: bytes, meaning: str) -> None:
    assert getattr(scan(old, VLLM), meaning) is not None


def test_a_model_name_cannot_fake_a_bucket_or_another_metric() -> None:
    text = rb"""vllm:generation_tokens_total{engine="0",model_name="} 9 vllm:num_requests_running{le=\"1\"} 7"} 5.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0",model_name="a,le=\"9.0\"} 1"} 2.0
"""
    seen = scan(text, VLLM)
    assert seen.generation_tokens == 5
    assert seen.running is None
    assert seen.first_token == Buckets((1.0,), array("d", [2.0]))


def test_other_engines_are_read_by_their_own_table() -> None:
    text = b'sglang:num_running_reqs{m="a"} 2.0\nsglang:generation_tokens_total{m="a"} 7.0\n'
    assert scan(text, SGLANG).running == 2
    with pytest.raises(UnreadableError) as error:
        scan(text, VLLM)
    assert error.value.trouble is Trouble.NOT_METRICS


def test_schedulers_of_one_group_tell_of_the_same_requests() -> None:
    text = b"sglang:generation_tokens_total 7.0\n" + b"".join(
        b'sglang:num_running_reqs{engine_type="unified",tp_rank="%d",dp_rank="%d",pp_rank="0"} %d\n'
        % (rank, rank // 2, 5 + rank // 2)
        for rank in range(4)
    )
    assert scan(text, SGLANG).running == 5 + 6


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1.0", "many", "-Inf", "1e999", "1e16"])
def test_numbers_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(UnreadableError) as error:
        scan(f"vllm:generation_tokens_total {value}\n".encode(), VLLM)
    assert error.value.trouble is Trouble.BAD_VALUE


def test_thousands_of_label_sets_are_refused() -> None:
    text = "\n".join(f'vllm:generation_tokens_total{{engine="{n}"}} 1.0' for n in range(MAX_LINES + 2))
    with pytest.raises(UnreadableError) as error:
        scan(text.encode(), VLLM)
    assert error.value.trouble is Trouble.TOO_MANY_SERIES


@given(st.binary(max_size=400))
def test_no_page_ends_a_scan_otherwise(noise: bytes) -> None:
    for text in (noise, b"vllm:generation_tokens_total" + noise, b"vllm:generation_tokens_total{" + noise):
        try:
            scan(text, VLLM)
        except UnreadableError:
            continue


def series(*readings: tuple[float, Reading]) -> Series:
    made = Series()
    for at, each in readings:
        made.add(at, each)
    return made


def loaded(
    start: float, count: int, step: float = 30.0, load: Load = LOAD, created: float = 1000.0
) -> Series:
    state = EngineState(created, load)
    made = Series()
    for n in range(count):
        if n:
            state.advance(step)
        made.add(start + n * step, scan(page(state), VLLM))
    return made


def test_a_window_gives_the_rates_of_the_load() -> None:
    found = window([loaded(0, 6)], 60)
    assert found is not None
    assert found.seconds == 150
    assert found.tokens_per_second == pytest.approx(1000, rel=0.01)
    assert (found.running, found.waiting, found.queued_share) == (12, 3, 1.0)
    assert found.preemptions_per_second == pytest.approx(0.5, rel=0.05)
    assert found.prefix_hit_ratio == pytest.approx(0.25, rel=0.05)
    assert found.error_ratio == 0
    assert found.first_token_p95 is not None
    assert 0.1 < found.first_token_p95 <= 0.25
    assert found.inter_token_p50 is not None
    assert 0.025 < found.inter_token_p50 <= 0.05
    assert found.output_tokens == pytest.approx(128, rel=0.05)
    assert found.input_tokens == pytest.approx(512, rel=0.05)


def test_replicas_are_added_up() -> None:
    found = window([loaded(0, 6), loaded(7, 4)], 60)
    assert found is not None
    assert found.replicas == 2
    assert found.tokens_per_second == pytest.approx(2000, rel=0.01)
    assert (found.running, found.kv_cache_usage, found.seconds) == (24, 0.7, 90)


def test_a_counter_that_appears_with_its_first_event_began_at_nothing() -> None:
    """SGLang has no counter before the first answer; the first minutes under load would otherwise be said to bring no token."""
    idle = b"sglang:num_running_reqs 0\nsglang:num_queue_reqs 0\n"
    busy = b"""sglang:num_running_reqs 8
sglang:num_queue_reqs 3
sglang:generation_tokens_total{m="a"} 60000
sglang:prompt_tokens_total{m="a"} 120000
sglang:num_requests_total{m="a"} 300
sglang:time_to_first_token_seconds_bucket{m="a",le="0.4"} 150
sglang:time_to_first_token_seconds_bucket{m="a",le="+Inf"} 300
"""
    found = window([series((0, scan(idle, SGLANG)), (60, scan(busy, SGLANG)))], 60)
    assert found is not None
    assert (found.tokens_per_second, found.requests_per_second, found.output_tokens) == (1000, 5, 200)
    assert (found.first_token_p50, found.first_tokens) == (0.4, 300)


def test_replicas_are_under_load_when_each_of_them_is() -> None:
    found = window(
        [loaded(0, 6), loaded(7, 6, load=replace(LOAD, tokens_per_second=10, running=1, waiting=0))], 60
    )
    assert found is not None
    assert (found.waiting, found.queued_share) == (3, 0)


def test_one_reading_or_too_short_a_span_says_nothing() -> None:
    assert window([loaded(0, 1)], 0) is None
    assert window([loaded(0, 2, step=10)], 60) is None
    assert window([], 0) is None


@pytest.mark.parametrize(
    "newer",
    [
        {"generation_tokens": 5.0},
        {"generation_tokens": 20.0, "created": 2000.0},
        {"generation_tokens": 20.0, "finished": 1.0},
        {"generation_tokens": 20.0, "prompt_tokens": 1.0},
        {"generation_tokens": 20.0, "preemptions": 0.0},
    ],
)
def test_counters_that_begin_anew_begin_a_new_series(newer: dict[str, Any]) -> None:
    before: dict[str, Any] = {
        "generation_tokens": 10.0,
        "created": 1000.0,
        "finished": 3.0,
        "prompt_tokens": 9.0,
        "preemptions": 1.0,
    }
    made = series((0, Reading(*[None] * 13)), (10, replace(reading(), **before)))
    made.add(20, replace(reading(), **{**before, **newer}))
    assert [at for at, _ in made.readings] == [20]
    made.add(50, replace(reading(), **{**before, **newer}))
    found = window([made], 10)
    assert found is not None
    assert found.tokens_per_second == 0


def test_a_reading_of_the_past_is_not_taken() -> None:
    """Clocks that jump: time here is monotonic, and what does not go on is left out."""
    made = series((10, reading()), (10, reading()), (5, reading()))
    assert [at for at, _ in made.readings] == [10]


def test_readings_are_forgotten_so_that_memory_stays_bounded() -> None:
    made = loaded(0, 100, step=15)
    assert len(made.readings) <= WINDOW_SECONDS / 15 + 2


def test_bounds_are_shared_between_engines() -> None:
    one, other = scan(page(after(3)), VLLM), scan(page(after(9)), VLLM)
    assert one.first_token is not None
    assert other.first_token is not None
    assert one.first_token.bounds is other.first_token.bounds


@pytest.mark.parametrize(
    ("share", "bounds", "counts", "expected"),
    [
        (0.5, (1.0, 2.0, math.inf), (0.0, 10.0, 10.0), 1.5),
        (0.5, (1.0, 2.0, math.inf), (10.0, 10.0, 10.0), 0.5),
        (0.95, (1.0, 2.0, math.inf), (0.0, 0.0, 10.0), 2.0),
        (0.5, (1.0, math.inf), (0.0, 0.0), None),
        (0.5, (), (), None),
    ],
)
def test_quantiles_are_those_of_prometheus(
    share: float, bounds: tuple[float, ...], counts: tuple[float, ...], expected: float | None
) -> None:
    assert quantile(share, Buckets(bounds, array("d", counts))) == expected


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_higher_share_never_gives_a_lower_quantile(grown: list[int], one: float, other: float) -> None:
    counts, total = array("d"), 0
    for each in grown:
        total += each
        counts.append(float(total))
    bounds = (*map(float, range(1, len(grown))), math.inf)
    low, high = (quantile(share, Buckets(bounds, counts)) for share in sorted((one, other)))
    assert (low is None) == (high is None) == (total == 0)
    assert low is None or high is None or low <= high

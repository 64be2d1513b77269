"""What measured numbers mean: summary, baseline, comparison, and whether they are worth a write. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.api.conditions import ConditionReason
from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.performance import (
    MOST_CONCURRENCY,
    MOST_COUNT,
    MOST_PERCENT,
    MOST_RATE,
    MOST_TOKENS,
    Baseline,
    Expected,
    Measurement,
    Percentiles,
    PerformanceStatus,
    Workload,
)
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.reconcile.hints import hints
from aim_engine.reconcile.status import NOT_MEASURED, Judgement
from aim_engine.reconcile.subject import Subject, is_loaded
from aim_engine.selection.performance import line_of
from aim_engine.telemetry.window import Window

REACHED = 0.8
"""Share of a published number that counts as reached: it was taken at another load than the user's."""
REGRESSED = 0.85
"""Share of the baseline below which a deployment is said to have become slower."""
STABLE = 0.1
"""Two windows that differ by less are one steady state."""
SIGNIFICANT = 0.1
LIKE_CONCURRENCY = 0.25
LIKE_LENGTHS = 0.5
ENOUGH_REQUESTS = 5
"""First tokens within a window before its latencies are judged."""
_SMOOTHING = 0.3


def expectation(spec: AIMRecipeSpec, engine_version: str) -> tuple[int, str] | None:
    """The best number that the recipe publishes for this engine line, else the one its author declares."""
    line = line_of(engine_version)
    numbers: dict[str, list[int]] = {"published": [], "declared": []}
    for entry in spec.performance:
        if entry.tokens_per_second is None:
            continue
        if entry.provenance.kind is ProvenanceKind.DECLARED:
            numbers["declared"].append(entry.tokens_per_second)
        elif line_of(entry.provenance.engine_version or engine_version) == line:
            numbers["published"].append(entry.tokens_per_second)
    return next(((max(found), kind) for kind, found in numbers.items() if found), None)


def summarize(
    window: Window, subject: Subject, before: PerformanceStatus | None, now: str, steady: Measurement | None
) -> PerformanceStatus:
    """The numbers of a window as users read them, with what is kept from former ones of the same recipe.

    `steady`: what a replica did in this and the former window, where the two agree.
    """
    kept = before if before is not None and before.recipe_hash == subject.recipe_hash else None
    return PerformanceStatus(
        tokens_per_second=_rate(window.tokens_per_second),
        prompt_tokens_per_second=_whole(window.prompt_tokens_per_second, 1, MOST_RATE),
        requests_per_minute=_whole(window.requests_per_second, 60, MOST_RATE),
        requests_running=_whole(window.running),
        requests_waiting=_whole(window.waiting),
        time_to_first_token_milliseconds=_percentiles(window.first_token_p50, window.first_token_p95),
        inter_token_latency_milliseconds=_percentiles(window.inter_token_p50, window.inter_token_p95),
        kv_cache_percent=_whole(window.kv_cache_usage, 100, MOST_PERCENT),
        preemptions_per_minute=_whole(window.preemptions_per_second, 60, MOST_RATE),
        error_percent=_whole(window.error_ratio, 100, MOST_PERCENT),
        prefix_cache_hit_percent=_whole(window.prefix_hit_ratio, 100, MOST_PERCENT),
        replicas=window.replicas,
        window_seconds=round(window.seconds),
        at=now,
        recipe_hash=subject.recipe_hash,
        engine_version=subject.engine_version,
        driver_version=subject.driver_version,
        expected=_expected(window, subject),
        hints=list(hints(window, subject)),
        baseline=_baseline(window, subject, kept.baseline if kept else None, steady, now),
        under_load=kept.under_load if kept and kept.engine_version == subject.engine_version else None,
    )


def measurement(window: Window, now: str) -> Measurement:
    """What one replica did in a window."""
    return Measurement(
        tokens_per_second=_rate(window.tokens_per_second / window.replicas),
        time_to_first_token_milliseconds=_whole(window.first_token_p50, 1000),
        inter_token_latency_milliseconds=_whole(window.inter_token_p50, 1000),
        workload=_workload(window),
        at=now,
    )


def smooth(before: Measurement | None, new: Measurement) -> Measurement:
    """Weighs a new window against what was known, so that one odd window does not turn the picture."""
    if before is None:
        return new
    return Measurement(
        tokens_per_second=_blend(before.tokens_per_second, new.tokens_per_second) or 0,
        time_to_first_token_milliseconds=_blend(
            before.time_to_first_token_milliseconds, new.time_to_first_token_milliseconds
        ),
        inter_token_latency_milliseconds=_blend(
            before.inter_token_latency_milliseconds, new.inter_token_latency_milliseconds
        ),
        workload=new.workload,
        samples=before.samples + 1,
        at=new.at,
    )


def steady(before: Measurement | None, new: Measurement) -> Measurement | None:
    """The new window where the former, separate one shows the same speed at the same load; None where the two differ."""
    if before is None or before.workload is None or new.workload is None:
        return None
    same = near(before.tokens_per_second, new.tokens_per_second, STABLE)
    return new if same and near(before.workload.concurrency, new.workload.concurrency, STABLE) else None


def judge(window: Window | None, subject: Subject, performance: PerformanceStatus | None) -> Judgement:
    """PerformanceOnTarget. A low number without demand is no fault; an estimate is never a standard."""
    if window is None or performance is None:
        return NOT_MEASURED
    targets, loaded = subject.targets, is_loaded(window, subject)
    faults, fine = [], []
    enough = window.first_tokens >= ENOUGH_REQUESTS
    limit = targets.max_time_to_first_token_milliseconds
    if limit is not None and enough and window.first_token_p95 is not None:
        seen = round(window.first_token_p95 * 1000)
        if seen > limit:
            faults.append(f"time to first token p95 {seen} ms, target {limit} ms")
        else:
            fine.append(f"time to first token p95 {seen} of {limit} ms")
    expected = performance.expected
    if expected is not None and loaded:
        share = 1.0 if expected.source == "target" else REACHED
        text = (
            f"{performance.tokens_per_second} tok/s of {expected.tokens_per_second} "
            f"{'asked' if expected.source == 'target' else expected.source} on {window.replicas} replicas"
        )
        if window.tokens_per_second < share * expected.tokens_per_second:
            faults.append(f"{text}, while {max(1, round(window.waiting))} requests wait")
        else:
            fine.append(text)
    if faults:
        return Judgement("False", ConditionReason.BELOW_TARGET, "; ".join(faults))
    if (told := regression(performance)) is not None:
        return Judgement("False", ConditionReason.PERFORMANCE_REGRESSED, told)
    if fine:
        return Judgement("True", ConditionReason.ON_TARGET, "; ".join(fine))
    if limit is None and expected is None:
        return Judgement(
            "Unknown", ConditionReason.NO_TARGET,
            "no target is set and the recipe publishes no number for this engine line",
        )  # fmt: skip
    return Judgement(
        "Unknown", ConditionReason.NO_DEMAND,
        "too few requests to judge" if not enough else "no requests wait: the throughput is what users ask for",
    )  # fmt: skip


def regression(performance: PerformanceStatus) -> str | None:
    """What is told where a like load is served more slowly than at first; None where it is not."""
    baseline = performance.baseline
    if baseline is None or baseline.percent is None or baseline.percent >= round(100 * REGRESSED):
        return None
    now = round((performance.tokens_per_second or 0) / (performance.replicas or 1))
    changes = [
        f"{what} was {old or 'unknown'}, is {new or 'unknown'}"
        for what, old, new in (
            ("engine", baseline.engine_version, performance.engine_version),
            ("GPU driver", baseline.driver_version, performance.driver_version),
        )
        if old != new
    ]
    return (
        f"{now} tok/s per replica, {baseline.tokens_per_second} at a like load on {baseline.at} "
        f"({baseline.percent} %); {'; '.join(changes) or 'neither engine nor GPU driver changed since'}"
    )


def without_numbers(before: PerformanceStatus | None) -> PerformanceStatus | None:
    """What stays of a summary while nothing is measured: what was learned, not what was seen last."""
    if before is None:
        return None
    return PerformanceStatus(
        at=before.at,
        recipe_hash=before.recipe_hash,
        engine_version=before.engine_version,
        driver_version=before.driver_version,
        baseline=before.baseline and before.baseline.model_copy(update={"percent": None}),
        under_load=before.under_load,
    )


def is_significant(before: PerformanceStatus | None, after: PerformanceStatus | None) -> bool:
    """Whether a reader would want to know: a number moved by a tenth, or something else than a number changed."""
    if before is None or after is None:
        return before is not after
    old, new = _essence(before), _essence(after)
    return any(_moved(old[name], new[name]) for name in new)


def same_recipe(status: Mapping[str, Any], recipe_hash: str) -> PerformanceStatus | None:
    """The stored summary of an AIMDeployment where it speaks of this recipe content and can be read."""
    stored = status.get("performance")
    if not isinstance(stored, Mapping) or stored.get("recipeHash") != recipe_hash:
        return None
    try:
        return PerformanceStatus.model_validate(stored)
    except ValueError:
        return None


def _essence(performance: PerformanceStatus) -> dict[str, object]:
    first, token = (
        performance.time_to_first_token_milliseconds,
        performance.inter_token_latency_milliseconds,
    )
    baseline, loaded = performance.baseline, performance.under_load
    return {
        "tokens": performance.tokens_per_second,
        "waiting": performance.requests_waiting,
        "first": first.p95 if first else None,
        "token": token.p95 if token else None,
        "errors": performance.error_percent,
        "kv": performance.kv_cache_percent,
        "loaded": loaded.tokens_per_second if loaded else None,
        "baseline": baseline.tokens_per_second if baseline else None,
        "ratio": baseline.percent if baseline else None,
        "hints": tuple(hint.kind for hint in performance.hints),
        "what": f"{performance.recipe_hash} {performance.engine_version} {performance.driver_version} {performance.replicas}",
    }


def _moved(old: object, new: object) -> bool:
    if isinstance(old, int) and isinstance(new, int):
        return abs(new - old) > max(SIGNIFICANT * max(old, new), 2)
    return old != new


def _expected(window: Window, subject: Subject) -> Expected | None:
    if subject.targets.min_tokens_per_second is not None:
        wanted, source = subject.targets.min_tokens_per_second, "target"
    elif subject.expected is not None:
        wanted, source = subject.expected
    else:
        return None
    total = min(wanted * window.replicas, MOST_RATE)
    return Expected(
        tokens_per_second=total,
        source=source,
        percent=_whole(window.tokens_per_second / total, 100, MOST_PERCENT)
        if is_loaded(window, subject)
        else None,
    )


def _baseline(
    window: Window, subject: Subject, known: Baseline | None, found: Measurement | None, now: str
) -> Baseline | None:
    """The baseline, compared with this window. Of one engine and driver, a busier steady state takes its place."""
    taken = None
    if found is not None and found.tokens_per_second and found.workload and found.workload.concurrency:
        taken = Baseline(
            tokens_per_second=found.tokens_per_second, workload=found.workload, at=now,
            engine_version=subject.engine_version, driver_version=subject.driver_version, percent=100,
        )  # fmt: skip
    if known is None:
        return taken
    unchanged = (known.engine_version, known.driver_version) == (
        subject.engine_version,
        subject.driver_version,
    )
    busier = taken is not None and (taken.workload.concurrency or 0) > (1 + LIKE_CONCURRENCY) * (
        known.workload.concurrency or 0
    )
    if unchanged and busier:
        return taken
    return known.model_copy(update={"percent": _against(known, window)})


def _against(baseline: Baseline, window: Window) -> int | None:
    """Percent of the baseline; None while the load is another.

    Below saturation tokens come in proportion to the requests in execution: where there are fewer than then, their share of the
    baseline is the standard. The stored concurrency was rounded, by a half at most.
    """
    if not is_like(baseline.workload, _workload(window)):
        return None
    then = (baseline.workload.concurrency or 0) + 0.5
    standard = baseline.tokens_per_second * min(1.0, window.running / window.replicas / then)
    return (
        _whole(window.tokens_per_second / window.replicas / standard, 100, MOST_PERCENT) if standard else None
    )


def is_like(one: Workload, other: Workload) -> bool:
    """Whether two loads may be compared: about as many requests at a time, of about the same lengths."""
    return (
        near(one.concurrency, other.concurrency, LIKE_CONCURRENCY)
        and near(one.input_tokens, other.input_tokens, LIKE_LENGTHS)
        and near(one.output_tokens, other.output_tokens, LIKE_LENGTHS)
    )


def near(one: int | None, other: int | None, share: float) -> bool:
    """Whether two numbers differ by no more than a share of the larger one; unknown is near to unknown alone."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= share * max(one, other)


def _workload(window: Window) -> Workload:
    lengths = [
        None if length is None else min(max(1, round(length)), MOST_TOKENS)
        for length in (window.input_tokens, window.output_tokens)
    ]
    running = min(round(window.running / window.replicas), MOST_CONCURRENCY)
    return Workload(input_tokens=lengths[0], output_tokens=lengths[1], concurrency=running or None)


def _percentiles(p50: float | None, p95: float | None) -> Percentiles | None:
    if p50 is None and p95 is None:
        return None
    return Percentiles(p50=_whole(p50, 1000), p95=_whole(p95, 1000))


def _whole(value: float | None, factor: int = 1, most: int = MOST_COUNT) -> int | None:
    """As the fields of the API hold it: an engine that tells nonsense must not make a status that cannot be written."""
    return None if value is None else min(round(value * factor), most)


def _rate(tokens_per_second: float) -> int:
    return min(round(tokens_per_second), MOST_RATE)


def _blend(old: int | None, new: int | None) -> int | None:
    if old is None or new is None:
        return new if old is None else old
    return round((1 - _SMOOTHING) * old + _SMOOTHING * new)

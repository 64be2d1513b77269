"""From readings of engines to what a deployment does: rates, latencies, queue. Pure; times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import fmean

from aim_engine.telemetry.scan import Buckets, Reading

WINDOW_SECONDS = 300.0
"""Readings older than this are forgotten, unless told otherwise."""
_CREATED_TOLERANCE = 1.0
_COUNTERS = ("generation_tokens", "prompt_tokens", "finished", "preemptions")


@dataclass(slots=True)
class Series:
    """Readings of one engine process within the window. Counters that go back begin a new series: no rate is taken over a restart."""

    seconds: float = WINDOW_SECONDS
    readings: list[tuple[float, Reading]] = field(default_factory=list)

    def add(self, at: float, reading: Reading) -> None:
        """Take a reading; one that is not later than the last is not taken."""
        if self.readings:
            last_at, last = self.readings[-1]
            if at <= last_at:
                return
            if went_back(last, reading):
                self.readings.clear()
        self.readings.append((at, reading))
        while at - self.readings[0][0] > self.seconds and len(self.readings) > 2:
            del self.readings[0]

    @property
    def span(self) -> float:
        """Seconds between the first and the last reading."""
        return self.readings[-1][0] - self.readings[0][0] if self.readings else 0.0


def went_back(before: Reading, after: Reading) -> bool:
    """Whether the engine's counters began anew between two readings."""
    created = (before.created, after.created)
    if None not in created and abs(created[1] - created[0]) > _CREATED_TOLERANCE:  # type: ignore[operator]
        return True
    pairs = ((getattr(before, name), getattr(after, name)) for name in _COUNTERS)
    return any(old is not None and new is not None and new < old for old, new in pairs)


@dataclass(frozen=True, slots=True)
class Window:
    """What the replicas of a deployment did together over some minutes. None: the engines do not tell."""

    seconds: float
    """Shortest span of a replica."""
    replicas: int
    """Replicas that were measured."""
    at: float
    """Monotonic time of the newest reading."""
    tokens_per_second: float
    prompt_tokens_per_second: float | None
    requests_per_second: float | None
    running: float
    """Mean requests in execution, of all replicas."""
    waiting: float
    queued_share: float
    """Share of the readings, 0..1, in which requests waited, of the replica with the fewest: while one has nothing to do, what all do
    together is not what they can."""
    kv_cache_usage: float | None
    """Mean of the fullest replica, 0..1."""
    preemptions_per_second: float | None
    error_ratio: float | None
    prefix_hit_ratio: float | None
    first_token_p50: float | None
    """Seconds."""
    first_token_p95: float | None
    inter_token_p50: float | None
    inter_token_p95: float | None
    first_tokens: float
    """Requests that got their first token within the window."""
    input_tokens: float | None
    """Mean prompt length of finished requests, in tokens."""
    output_tokens: float | None


def window(series: Iterable[Series], least_seconds: float) -> Window | None:
    """What the engines did; None before one of them was seen twice at least `least_seconds` apart."""
    used = [each.readings for each in series if len(each.readings) > 1 and each.span >= least_seconds]
    used = [each for each in used if each[-1][1].generation_tokens is not None]
    if not used:
        return None
    first_token, inter_token = _grown(used, "first_token"), _grown(used, "inter_token")
    prompt, generated, finished = (
        _sum_of(_gain(each, name) for each in used)
        for name in ("prompt_tokens", "generation_tokens", "finished")
    )
    failed = _sum_of(_gain(each, "failed") for each in used)
    hits = _sum_of(_gain(each, "prefix_hits") for each in used)
    queries = _sum_of(_gain(each, "prefix_queries") for each in used)
    usages = [found for each in used if (found := _mean(each, "kv_cache_usage")) is not None]
    return Window(
        seconds=min(each[-1][0] - each[0][0] for each in used),
        replicas=len(used),
        at=max(each[-1][0] for each in used),
        tokens_per_second=_sum_of(_rate(each, "generation_tokens") for each in used) or 0.0,
        prompt_tokens_per_second=_sum_of(_rate(each, "prompt_tokens") for each in used),
        requests_per_second=_sum_of(_rate(each, "finished") for each in used),
        running=sum(_mean(each, "running") or 0.0 for each in used),
        waiting=sum(_mean(each, "waiting") or 0.0 for each in used),
        queued_share=min(fmean(bool(reading.waiting) for _, reading in each) for each in used),
        kv_cache_usage=max(usages) if usages else None,
        preemptions_per_second=_sum_of(_rate(each, "preemptions") for each in used),
        error_ratio=_ratio(failed, finished),
        prefix_hit_ratio=_ratio(hits, queries if queries is not None else prompt),
        first_token_p50=quantile(0.5, first_token),
        first_token_p95=quantile(0.95, first_token),
        inter_token_p50=quantile(0.5, inter_token),
        inter_token_p95=quantile(0.95, inter_token),
        first_tokens=first_token.counts[-1] if first_token and first_token.counts else 0.0,
        input_tokens=_ratio(prompt, finished),
        output_tokens=_ratio(generated, finished),
    )


Readings = Sequence[tuple[float, Reading]]


def _gain(readings: Readings, name: str) -> float | None:
    """A counter that was not there yet had counted nothing: clients show one with labels from its first event on."""
    old, new = getattr(readings[0][1], name), getattr(readings[-1][1], name)
    return None if new is None else max(0.0, new - (old or 0.0))


def _rate(readings: Readings, name: str) -> float | None:
    gain = _gain(readings, name)
    return None if gain is None else gain / (readings[-1][0] - readings[0][0])


def _mean(readings: Readings, name: str) -> float | None:
    values = [value for _, reading in readings if (value := getattr(reading, name)) is not None]
    return fmean(values) if values else None


def _sum_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _grown(used: Sequence[Readings], name: str) -> Buckets | None:
    """What the histogram of all replicas grew by. Replicas with other bounds than the first one's do not count in."""
    pairs = [(getattr(each[0][1], name), getattr(each[-1][1], name)) for each in used]
    known = [
        (old, new) for old, new in pairs if new and new.bounds and (old is None or old.bounds == new.bounds)
    ]
    if not known:
        return None
    grown = type(known[0][1].counts)("d", bytes(8 * len(known[0][1].bounds)))
    for old, new in known:
        if new.bounds == known[0][1].bounds:
            for at, count in enumerate(new.counts):
                grown[at] += max(0.0, count - (old.counts[at] if old else 0.0))
    return Buckets(known[0][1].bounds, grown)


def quantile(share: float, buckets: Buckets | None) -> float | None:
    """The value below which `share` of the observations lie, interpolated within its bucket as Prometheus does it.

    None without observations; the highest finite bound where it lies beyond.
    """
    if buckets is None or not buckets.counts or buckets.counts[-1] <= 0:
        return None
    wanted, lower, below = share * buckets.counts[-1], 0.0, 0.0
    for bound, count in zip(buckets.bounds, buckets.counts, strict=True):
        if count >= wanted:
            if bound == inf:
                return lower
            return bound if count == below else lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return lower

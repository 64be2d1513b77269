"""Reads the few families we need out of an engine's metrics page.

A full parse of a vLLM page takes milliseconds; with thousands of engines that is too much. Here only the lines of the
names of the engine's table are looked at. Pure: a page and a table in, a reading out.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import inf

MAX_LINES = 4096
"""Lines of one family that are read; an engine has some dozens."""
LARGEST_VALUE = 1e15
"""No engine counts so far; sums and differences of what is less stay finite and exact."""
_ERROR = re.compile(rb'[{,]finished_reason="error"')
_RANK = re.compile(rb'(?:tp|pp|moe_ep)_rank="\d+",?')
"""SGLang's schedulers of one group serve the same requests, and all tell of them under --enable-metrics-for-all-schedulers."""


class Trouble(StrEnum):
    """Why an engine could not be read; label `reason` of `aim_performance_scrape_errors_total`."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    HTTP_STATUS = "http_status"
    TOO_LARGE = "too_large"
    NOT_METRICS = "not_metrics"
    BAD_VALUE = "bad_value"
    TOO_MANY_SERIES = "too_many_series"


class UnreadableError(Exception):
    """A page, or an answer, that gives no reading."""

    def __init__(self, trouble: Trouble, detail: str) -> None:
        super().__init__(f"{trouble}: {detail}")
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Buckets:
    """A cumulative histogram, summed over its label sets: `counts[i]` observations were at most `bounds[i]` seconds."""

    bounds: tuple[float, ...]
    counts: array[float]


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at an engine, summed over its label sets. None: the page does not tell. Token and request numbers are
    counters since `created`; running and waiting are requests now; KV-cache use is a share of 1."""

    running: float | None
    waiting: float | None
    kv_cache_usage: float | None
    prompt_tokens: float | None
    generation_tokens: float | None
    finished: float | None
    failed: float | None
    preemptions: float | None
    prefix_queries: float | None
    prefix_hits: float | None
    first_token: Buckets | None
    inter_token: Buckets | None
    created: float | None
    """When the counters began, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Family:
    name: bytes
    lines: re.Pattern[bytes]


Names = Mapping[str, tuple[str, ...]]


def scan(page: bytes, names: Names) -> Reading:
    """A reading of `page` by an engine's table of names (`Engine.METRICS`). Raises UnreadableError."""
    text = b"\n" + page
    table = _families(tuple((meaning, names[meaning]) for meaning in _SCALARS if meaning in names))
    found = {meaning: _lines(text, families) for meaning, families in table.items()}
    if all(lines is None for lines in found.values()):
        raise UnreadableError(Trouble.NOT_METRICS, "none of the engine's metrics is on the page")
    usage = found.get("kvCacheUsage")
    finished = found.get("requestsFinished")
    return Reading(
        running=_requests(found.get("requestsRunning")),
        waiting=_requests(found.get("requestsWaiting")),
        kv_cache_usage=max(map(_value, usage.values())) if usage else None,
        prompt_tokens=_total(found.get("promptTokens")),
        generation_tokens=_total(found.get("generationTokens")),
        finished=_total(finished),
        failed=_total({k: v for k, v in finished.items() if _ERROR.search(k)})
        if finished and any(b"finished_reason=" in labels for labels in finished)
        else None,
        preemptions=_total(found.get("preemptions")),
        prefix_queries=_total(found.get("prefixCacheQueries")),
        prefix_hits=_total(found.get("prefixCacheHits")),
        first_token=_histogram(text, names.get("timeToFirstToken", ())),
        inter_token=_histogram(text, names.get("interTokenLatency", ())),
        created=_created(text, names.get("generationTokens", ())),
    )


_SCALARS = (
    "requestsRunning", "requestsWaiting", "kvCacheUsage", "promptTokens", "generationTokens", "requestsFinished",
    "preemptions", "prefixCacheQueries", "prefixCacheHits",
)  # fmt: skip


@lru_cache(maxsize=16)
def _families(table: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, tuple[_Family, ...]]:
    return {meaning: tuple(map(_scalar, names)) for meaning, names in table}


@lru_cache(maxsize=64)
def _scalar(name: str) -> _Family:
    raw = name.encode()
    return _Family(
        b"\n" + raw, re.compile(rb"^" + re.escape(raw) + rb"(\{[^\n]*\})?[ \t]+(\S+)", re.MULTILINE)
    )


@lru_cache(maxsize=64)
def _bucket(name: str) -> _Family:
    raw = name.encode() + b"_bucket"
    # The atomic group keeps a hostile line from being tried from each of its `le=`.
    line = rb"^" + re.escape(raw) + rb'\{(?>(?:[^\n]*?,)?le=")([^"\n]*)"[^\n]*\}[ \t]+(\S+)'
    return _Family(b"\n" + raw, re.compile(line, re.MULTILINE))


def _part(text: bytes, family: _Family) -> tuple[int, int] | None:
    """Where the family's lines stand: from its first line to the next comment."""
    start = text.find(family.name + b"{")
    if start < 0:
        start = text.find(family.name + b" ")
    if start < 0:
        return None
    end = text.find(b"\n#", start)
    return start + 1, end if end >= 0 else len(text)


def _lines(text: bytes, families: tuple[_Family, ...]) -> dict[bytes, bytes] | None:
    """Label sets and values of the first of the names that is there."""
    for family in families:
        if (part := _part(text, family)) is not None:
            found: dict[bytes, bytes] = {}
            for labels, value in family.lines.findall(text, *part):
                found[labels] = value
                if len(found) > MAX_LINES:
                    raise UnreadableError(
                        Trouble.TOO_MANY_SERIES, f"more than {MAX_LINES} series of one metric"
                    )
            return found or None
    return None


def _value(raw: bytes) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise UnreadableError(Trouble.BAD_VALUE, f"{raw[:40]!r} is no number") from None
    if not 0 <= value <= LARGEST_VALUE:
        raise UnreadableError(Trouble.BAD_VALUE, f"{raw[:40]!r} is no number from 0 to {LARGEST_VALUE:g}")
    return value


def _total(lines: Mapping[bytes, bytes] | None) -> float | None:
    return None if lines is None else sum(map(_value, lines.values()))


def _requests(lines: Mapping[bytes, bytes] | None) -> float | None:
    """Requests of all data parallel ranks, those of a group of ranks once."""
    if lines is None or len(lines) == 1:
        return _total(lines)
    groups: dict[bytes, float] = {}
    for labels, value in lines.items():
        group = _RANK.sub(b"", labels)
        groups[group] = max(groups.get(group, 0.0), _value(value))
    return sum(groups.values())


def _histogram(text: bytes, names: tuple[str, ...]) -> Buckets | None:
    for name in names:
        family = _bucket(name)
        part = _part(text, family)
        if part is None:
            continue
        sums: dict[bytes, float] = {}
        lines = family.lines.findall(text, *part)
        if len(lines) > MAX_LINES:
            raise UnreadableError(Trouble.TOO_MANY_SERIES, f"more than {MAX_LINES} buckets of {name}")
        for bound, value in lines:
            sums[bound] = sums.get(bound, 0.0) + _value(value)
        bounds, order = _bounds(tuple(sums))
        counts = list(sums.values())
        return Buckets(bounds, array("d", [counts[at] for at in order]))
    return None


@lru_cache(maxsize=64)
def _bounds(raw: tuple[bytes, ...]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Bounds in ascending order, shared by all engines that have the same, and where each stood."""
    values = [inf if bound == b"+Inf" else _value(bound) for bound in raw]
    order = sorted(range(len(values)), key=values.__getitem__)
    return tuple(values[at] for at in order), tuple(order)


def _created(text: bytes, names: tuple[str, ...]) -> float | None:
    for name in names:
        lines = _lines(text, (_scalar(name.removesuffix("_total") + "_created"),))
        if lines:
            return max(map(_value, lines.values()))
    return None

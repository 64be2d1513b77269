"""Names of the series that engines and exporters serve, as they were captured or published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from aim_engine.catalog.data import read_yaml

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "gauges": ("",),
    "counters": ("",),
    "histograms": ("_bucket", "_sum", "_count"),
    "summaries": ("_sum", "_count"),
}


@cache
def exposed_series() -> Mapping[str, str]:
    """Name of a series, as a query selects it -> who serves it (a key of the file)."""
    return dict(_series())


def _series() -> Iterator[tuple[str, str]]:
    for server, told in read_yaml("exposition.yaml").items():
        for kind, suffixes in _SUFFIXES.items():
            for name in told.get(kind, ()):
                yield from ((f"{name}{suffix}", server) for suffix in suffixes)

"""What others published, to hold the memory and speed models against; from `comparisons.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from aim_engine.catalog.data import read_yaml


@dataclass(frozen=True, slots=True)
class PublishedSize:
    """Size of the weight files of a checkpoint."""

    checkpoint: str
    gib: float
    source: str


@dataclass(frozen=True, slots=True)
class KnownVerdict:
    """A configuration that is known to run, or not to."""

    checkpoint: str
    gpu: str
    count: int
    fits: bool
    source: str
    context: int = 8192
    """Tokens that are served."""


@dataclass(frozen=True, slots=True)
class PublishedSpeed:
    """Generated tokens per second of a server under a load."""

    group: str
    """Kind of model and load, by which errors are told."""
    checkpoint: str
    gpu: str
    count: int
    concurrency: int
    input_tokens: int
    output_tokens: int
    tokens_per_second: float
    source: str


@cache
def published_sizes() -> tuple[PublishedSize, ...]:
    return tuple(PublishedSize(**row) for row in read_yaml("comparisons.yaml")["sizes"])


@cache
def known_verdicts() -> tuple[KnownVerdict, ...]:
    return tuple(KnownVerdict(**row) for row in read_yaml("comparisons.yaml")["verdicts"])


@cache
def published_speeds() -> tuple[PublishedSpeed, ...]:
    return tuple(
        PublishedSpeed(
            group=row["class"], checkpoint=row["checkpoint"], gpu=row["gpu"], count=row["count"],
            concurrency=point["concurrency"], input_tokens=point["input"], output_tokens=point["output"],
            tokens_per_second=point["tokensPerSecond"], source=row["source"],
        )
        for row in read_yaml("comparisons.yaml")["speeds"]
        for point in row["points"]
    )  # fmt: skip

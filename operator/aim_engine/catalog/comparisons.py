"""What others published, to hold the memory and speed models against; from `comparisons.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from aim_engine.api.enums import Precision
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
    online: Precision | None = None
    """Format to which the weights were quantised while loading."""


@dataclass(frozen=True, slots=True)
class SpeedClass:
    """A kind of model and load whose errors are told together."""

    name: str
    fitted: bool
    """The constants of the speed model were fitted on it."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class PublishedColumns:
    """Weights and KV cache of a model, computed by hand from its dimensions."""

    model: str
    kv_kib: float
    bf16: float | None = None
    fp8: float | None = None


@dataclass(frozen=True, slots=True)
class PublishedCapacity:
    """KV tokens that fit beside a checkpoint, computed by hand."""

    checkpoint: str
    kv_cache: Precision
    cells: tuple[tuple[str, int, int], ...]
    """(GPU model, GPUs, thousand tokens); 0 tokens: the weights do not fit."""
    utilization: float
    reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Unused:
    """A published figure that nothing is held against."""

    figure: str
    source: str
    why: str


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
            online=Precision(row["online"]) if "online" in row else None,
        )
        for row in read_yaml("comparisons.yaml")["speeds"]
        for point in row["points"]
    )  # fmt: skip


@cache
def speed_classes() -> tuple[SpeedClass, ...]:
    return tuple(SpeedClass(**row) for row in read_yaml("comparisons.yaml")["classes"])


@cache
def published_columns() -> tuple[PublishedColumns, ...]:
    rows = read_yaml("comparisons.yaml")["columns"]["rows"]
    return tuple(
        PublishedColumns(row["model"], row["kvKiB"], row.get("bf16"), row.get("fp8")) for row in rows
    )


def columns_source() -> str:
    """Where the columns come from."""
    return str(read_yaml("comparisons.yaml")["columns"]["source"])


def capacity_source() -> str:
    """Where the cells of capacity come from."""
    return str(read_yaml("comparisons.yaml")["capacity"]["source"])


@cache
def published_capacity() -> tuple[PublishedCapacity, ...]:
    content = read_yaml("comparisons.yaml")["capacity"]
    return tuple(
        PublishedCapacity(
            checkpoint=row["checkpoint"],
            kv_cache=Precision(row["kvCache"]),
            cells=tuple(
                (gpu, count, tokens)
                for gpu in ("MI300X", "MI325X", "MI355X")
                for count, tokens in zip(content["gpuCounts"], row[gpu], strict=True)
            ),
            utilization=content["utilization"],
            reserve_bytes=content["reserveGiB"] * 2**30,
        )
        for row in content["rows"]
    )


@cache
def unused_figures() -> tuple[Unused, ...]:
    return tuple(Unused(**row) for row in read_yaml("comparisons.yaml")["unused"])

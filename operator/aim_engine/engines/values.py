"""Reading values of flags that have been brought to canonical names, and what all servers have in common."""

from __future__ import annotations

from collections.abc import Mapping

from aim_engine.catalog.flags import FlagTable
from aim_engine.engines import arguments

_LOADING_BYTES_PER_SECOND = 2**28
"""A quarter GiB/s: slower than a local disk, faster than a slow download; AMD allows about as much."""
_STARTUP_SECONDS = 720
"""Process start, kernel compilation on first use and graph capture."""
_UNKNOWN_STARTUP_SECONDS = 3600
_BUDGET_STEP_SECONDS = 600


def startup_budget_seconds(checkpoint_bytes: int | None) -> int:
    """Time a server may take from start to ready, with the weights read from slow storage."""
    if checkpoint_bytes is None:
        return _UNKNOWN_STARTUP_SECONDS
    needed = _STARTUP_SECONDS + checkpoint_bytes // _LOADING_BYTES_PER_SECOND
    return -(-needed // _BUDGET_STEP_SECONDS) * _BUDGET_STEP_SECONDS


def count(normal: Mapping[str, object], name: str) -> int:
    """A size of at least 1."""
    return max(1, arguments.parse_human_int(normal.get(name)) or 1)


def number(normal: Mapping[str, object], name: str) -> float | None:
    """A number; None where there is none."""
    value = normal.get(name)
    try:
        return None if value is None or isinstance(value, bool) else float(str(value))
    except ValueError:
        return None


def text(normal: Mapping[str, object], name: str) -> str | None:
    """A word; None where there is none."""
    value = normal.get(name)
    return value if isinstance(value, str) else None


def batch_defaults(table: FlagTable, memory_bytes: int) -> tuple[int, int]:
    """(tokens, sequences) of a batch that the engine chooses on a device of so much memory."""
    row = next(row for row in table.batch_defaults if memory_bytes >= row.minimum_bytes)
    return row.max_num_batched_tokens, row.max_num_seqs

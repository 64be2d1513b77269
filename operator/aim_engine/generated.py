"""Files that are made from the code and committed: written, or compared with what is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def keep(
    directory: Path,
    made: Mapping[str, str],
    *,
    check: bool,
    by: str = "make generate",
    alone: str | None = None,
) -> int:
    """Write what differs below `directory`; 0.

    With `check` nothing is written: 1 where a file is out of date, each named on standard error with `by`, the command that
    writes it. Files that match the pattern `alone` and are not made belong to nothing any more: they are removed, or told.
    """
    strays = [path for path in sorted(directory.glob(alone)) if path.name not in made] if alone else []
    stale = [directory / name for name, text in made.items() if _read(directory / name) != text]
    if check:
        for path in sorted([*stale, *strays]):
            sys.stderr.write(f"{path} is out of date; run `{by}`\n")
        return 1 if stale or strays else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[str(path.relative_to(directory))], encoding="utf-8")
    for path in strays:
        path.unlink()
    return 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None

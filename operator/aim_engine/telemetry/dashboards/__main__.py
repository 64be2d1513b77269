"""`python -m aim_engine.telemetry.dashboards [--check] [DIR ...]`: write the dashboards, or say which files differ."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from aim_engine.telemetry.dashboards import UnknownMetricError, files


def main() -> int:
    """Exit code 0, or 1 with what is wrong on standard error."""
    parser = argparse.ArgumentParser(prog="python -m aim_engine.telemetry.dashboards", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; name the files that are out of date"
    )
    parser.add_argument(
        "directories",
        nargs="*",
        type=Path,
        default=[Path("dashboards")],
        metavar="DIR",
        help="where to write (default: dashboards)",
    )
    options = parser.parse_args()  # fmt: skip
    try:
        made = files()
    except UnknownMetricError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    stale = [path for directory in options.directories for path in outdated(directory, made)]
    for path in stale:
        if options.check:
            print(f"{path} is out of date; run `make generate`", file=sys.stderr)  # noqa: T201
        elif path.name in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path.name], encoding="utf-8")
        else:
            path.unlink()
    return 1 if options.check and stale else 0


def outdated(directory: Path, made: Mapping[str, str] | None = None) -> list[Path]:
    """Files of a folder that are not as generated: missing, changed, or of no board."""
    made = files() if made is None else made
    there = {path.name for path in directory.glob("*.json")}
    return [
        directory / name
        for name in sorted(there | set(made))
        if name not in there
        or name not in made
        or (directory / name).read_text(encoding="utf-8") != made[name]
    ]


if __name__ == "__main__":
    sys.exit(main())

"""`python -m aim_engine.telemetry.dashboards [--check] [DIR ...]`: write the dashboards, or say which files differ."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aim_engine.generated import keep
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
    codes = [keep(directory, made, check=options.check, alone="*.json") for directory in options.directories]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

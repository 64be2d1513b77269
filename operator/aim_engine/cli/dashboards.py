"""`aim-engine dashboards`: the Grafana dashboards as files to import, or as pictures drawn from Prometheus."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aim_engine.cli.output import CommandError, Exit

EXAMPLES = """\
examples:
  aim-engine dashboards export dashboards/
  aim-engine dashboards preview --prometheus http://localhost:9090
  aim-engine dashboards preview deployment --var namespace=team-a --var aimdeployment=qwen --since 6h"""
BOARDS = ("fleet", "recipes", "deployment", "recommendations", "operator")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    about = "write the dashboards as JSON files"
    export = actions.add_parser("export", help=about, description=about)
    export.add_argument("directory", type=Path, metavar="DIR", help="folder to write to")
    about = "draw the dashboards as PNG files, without Grafana, from what Prometheus answers"
    preview = actions.add_parser("preview", help=about, description=about)
    preview.add_argument("boards", nargs="*", metavar="BOARD", help=f"{', '.join(BOARDS)} (default: all)")
    preview.add_argument(
        "--prometheus", default="http://localhost:9090", metavar="URL",
        help="address of Prometheus (default: http://localhost:9090)",
    )  # fmt: skip
    preview.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="folder to write to (default: this one)"
    )
    preview.add_argument(
        "--since", type=duration, default=10800.0, metavar="TIME", help="length of the time range, for example 30m (default: 3h)"
    )  # fmt: skip
    preview.add_argument(
        "--scrape-interval", type=duration, default=30.0, metavar="TIME",
        help="time between two scrapes, as Prometheus has it (default: 30s)",
    )  # fmt: skip
    preview.add_argument(
        "--var", action="append", default=[], metavar="NAME=VALUE", help="value of a variable of the dashboards; may be repeated"
    )  # fmt: skip


def duration(text: str) -> float:
    """Seconds of a text such as 90s, 30m, 6h or 2d."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is no time; write for example 90s, 30m, 6h or 2d")
    return float(int(found[1]) * _SECONDS[found[2]])


def run(arguments: argparse.Namespace) -> int:
    """Write files and say which."""
    if arguments.action == "export":
        from aim_engine.telemetry.dashboards import files

        for name, text in files().items():
            _write(arguments.directory / name, text.encode())
        return Exit.OK
    return _preview(arguments)


def _preview(arguments: argparse.Namespace) -> int:
    draw = _drawer()
    from aim_engine.telemetry.dashboards import dashboards
    from aim_engine.telemetry.preview.client import Client, PrometheusError, Window

    boards = {name.removesuffix(".json"): board for name, board in dashboards().items()}
    wanted = arguments.boards or list(boards)
    for name in wanted:
        if name not in boards:
            raise CommandError(f"'{name}' is no dashboard; there are {', '.join(boards)}", Exit.USAGE)
    now = time.time()
    window = Window(now - arguments.since, now, arguments.scrape_interval)
    chosen = _chosen(arguments.var)
    try:
        for name in wanted:
            png = draw(boards[name], Client(arguments.prometheus), window, chosen)
            _write(arguments.output / f"{name}.png", png)
    except PrometheusError as error:
        raise CommandError(str(error)) from error
    return Exit.OK


def _drawer() -> Callable[[dict[str, Any], Any, Any, Mapping[str, str]], bytes]:
    try:
        from aim_engine.telemetry.preview.figure import picture
    except ImportError as error:
        raise CommandError(
            f"drawing needs matplotlib ({error}); install it with pip install '.[preview]' in a clone of the repository"
        ) from error
    return picture


def _chosen(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise CommandError(
                f"--var {pair}: write NAME=VALUE, for example --var namespace=team-a", Exit.USAGE
            )
        found[name] = value
    return found


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    print(path, file=sys.stdout)

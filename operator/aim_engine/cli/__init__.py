"""`aim-engine`: one file per command, imported only when the command is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from aim_engine import __version__

COMMANDS = {"operator": "run the operator", "recipes": "work with recipe files"}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 ok, 1 error, 2 usage."""
    parser = argparse.ArgumentParser(prog="aim-engine", description="LLM recipes on AMD GPUs in Kubernetes.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name, about in COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about)
        if name in arguments:
            import_module(f"aim_engine.cli.{name}").add_arguments(sub)
    parsed = parser.parse_args(arguments)
    code: int = import_module(f"aim_engine.cli.{parsed.command}").run(parsed)
    return code

"""`aim-engine`: one file per command, imported only when the command runs."""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path

from aim_engine import __version__
from aim_engine.cli.arguments import add_arguments

COMMANDS = {
    "operator": "run the operator",
    "webhook": "run the validator, which the API server asks before it stores our objects",
    "select": "show the recipe a model would get",
    "explain": "show why a deployment has, or would get, its recipe",
    "render": "show the objects a deployment would become",
    "diff": "show what applying a deployment would change in the cluster",
    "fit": "show whether a model fits GPUs, with every number on the way",
    "recipes": "list, show, check and import recipes",
    "snapshot": "write what the operator decides from as one file",
    "status": "show deployments, what they deliver, and the GPUs there are",
    "bench": "put a model server under load and show how fast it answers",
    "doctor": "look for what keeps a cluster from serving models",
    "dashboards": "write the Grafana dashboards, or draw them from Prometheus",
    "hook": "run a step of an installation, as the chart's Jobs do",
    "completion": "print the completion script of a shell",
}
SERVERS = {"operator", "webhook"}
"""Commands that run until they are told to end."""
DEBUG_VARIABLE = "AIM_ENGINE_DEBUG"
_CLOSED_PIPE = 141
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 ok, 1 error, 2 usage, 3 no recipe can serve, 4 invalid input."""
    typed = list(sys.argv[1:] if argv is None else argv)
    if argv is None and not SERVERS & set(typed[:1]):
        _hurry()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode shows what it can
    try:
        parser = build_parser(typed)
        parsed = parser.parse_args(typed)
        if list(vars(parsed).values()).count(Path("-")) > 1:
            parser.error("only one file can be standard input (-)")
        code: int = import_module(f"aim_engine.cli.{parsed.command}").run(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        sys.stderr.close()
        return _CLOSED_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        return _told(error)


def _hurry() -> None:
    """A command ends before its garbage would matter, and pydantic need not look for plugins that nobody has."""
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def build_parser(words: Collection[str]) -> argparse.ArgumentParser:
    """The parser of the whole program; only commands that are among the words typed have their flags in it."""
    parser = argparse.ArgumentParser(
        prog="aim-engine",
        description="LLM recipes on AMD GPUs in Kubernetes.",
        epilog="`aim-engine COMMAND --help` shows the flags and examples of a command.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        sub = commands.add_parser(
            name, help=about, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name in words:
            add_arguments(name, sub, words)
    return parser


def _told(error: Exception) -> int:
    """An error as one line. One that no reader foresaw is a fault of ours, and says how to make it known."""
    from aim_engine.cli.output import CommandError, Exit, tell

    if isinstance(error, CommandError):
        tell(f"aim-engine: {error}")
        return error.code
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    tell(
        f"aim-engine: a fault of ours: {type(error).__name__}: {str(error)[:200]}; please report it with the command, its "
        f"input and version {__version__}; {DEBUG_VARIABLE}=1 shows where it happened"
    )
    return Exit.ERROR

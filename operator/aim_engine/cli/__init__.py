"""`aim-engine`: one file per command, imported only when the command is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from aim_engine import __version__

COMMANDS = {
    "operator": "run the operator",
    "select": "show the recipe a model would get",
    "explain": "show why a deployment has, or would get, its recipe",
    "render": "show the objects a deployment would become",
    "diff": "show what applying a deployment would change in the cluster",
    "fit": "show whether a model fits GPUs, with every number on the way",
    "recipes": "list, show, check and import recipes",
    "snapshot": "write what the operator decides from as one file",
    "status": "show all deployments and the GPUs there are",
    "doctor": "look for what keeps a cluster from serving models",
    "completion": "print the completion script of a shell",
}
_CLOSED_PIPE = 141
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 ok, 1 error, 2 usage, 3 no recipe can serve, 4 invalid input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(next((word for word in arguments if not word.startswith("-")), None))
    parsed = parser.parse_args(arguments)
    try:
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


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser of the whole program; only the flags of one command are in it, for its module must be loaded for them."""
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
        if name == command:
            module = import_module(f"aim_engine.cli.{name}")
            module.add_arguments(sub)
            sub.epilog = getattr(module, "EXAMPLES", None)
    return parser


def _told(error: Exception) -> int:
    """A command's own error as one line; any other is a fault of ours and keeps its traceback for the report."""
    from aim_engine.cli.output import CommandError, tell

    if not isinstance(error, CommandError):
        raise error
    tell(f"aim-engine: {error}")
    return error.code

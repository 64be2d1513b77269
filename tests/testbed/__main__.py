"""``python -m testbed up|down``: a control plane that outlives the command that started it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from testbed import background, tools
from testbed.background import down
from testbed.gobuild import say
from testbed.plane import ControlPlane


def hold(directory: Path, nodes: Sequence[str]) -> int:
    """Run a plane in this process until SIGTERM or SIGINT."""
    with ControlPlane.start(directory) as plane:
        plane.add_nodes(*nodes)
        background.hold(directory)
    return 0


def up(directory: Path, nodes: Sequence[str]) -> int:
    """Start a plane in the background, print its kubeconfig's path, and return."""
    try:
        tools.ensure()
    except tools.ToolUnavailable as error:
        say(str(error))
        return 1
    return background.up("testbed", directory, ["--nodes", *nodes])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("up", up), ("down", down), ("hold", hold)):
        command = commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        command.add_argument("--dir", type=Path, required=True, help="where the plane keeps its files")
        if function is not down:
            command.add_argument("--nodes", nargs="*", default=[], metavar="KIND", help="kinds of nodes.yaml")
    options = parser.parse_args()
    directory = options.dir.absolute()
    if options.command == "down":
        return down(directory)
    return (up if options.command == "up" else hold)(directory, options.nodes)


if __name__ == "__main__":
    sys.exit(main())

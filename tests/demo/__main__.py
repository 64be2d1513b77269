"""`python -m demo up|down`, as `make demo` and `make demo-down` call it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from demo.down import take_down
from demo.holder import hold
from demo.place import MARK, Place
from demo.scenario import NODES
from demo.up import up

OWN_CLUSTER = "KUBECONFIG_DEMO"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("up", "start the demo and show it"),
        ("down", "end it"),
        ("hold", "run the operator and the engines (used by up)"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("--dir", type=Path, default=Path(".demo"), help="where the demo keeps its files")
        if name == "hold":
            command.add_argument("--mark", choices=[MARK], required=True)
            command.add_argument("--engines-kubeconfig", type=Path)
        if name == "up":
            own = os.environ.get(OWN_CLUSTER)
            command.add_argument(
                "--kubeconfig", type=Path, default=Path(own) if own else None,
                help=f"use this cluster instead of a simulated one (default: ${OWN_CLUSTER})",
            )  # fmt: skip
            command.add_argument(
                "--nodes",
                nargs="+",
                default=NODES,
                metavar="KIND",
                help="simulated nodes, kinds of tests/testbed/nodes.yaml",
            )
            command.add_argument(
                "--patience", type=float, default=60.0, help="seconds that a sample may take"
            )
    options = parser.parse_args()
    place = Place(options.dir.absolute())
    if options.command == "hold":
        return hold(place, options.engines_kubeconfig)
    if options.command == "down":
        code = take_down(place)
        print("the demo has ended" if code == 0 else "the demo could not be ended completely")
        return code
    own_kubeconfig = options.kubeconfig.absolute() if options.kubeconfig else None
    return up(place, own_kubeconfig, options.nodes, options.patience)


if __name__ == "__main__":
    sys.exit(main())

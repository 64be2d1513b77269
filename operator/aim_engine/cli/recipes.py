"""`aim-engine recipes`: list, show, check and import recipes."""

from __future__ import annotations

import argparse
from importlib import import_module

ACTIONS = {
    "list": "list recipes",
    "show": "print recipes",
    "validate": "check recipe files",
    "import": "turn recipes of another project into AIMRecipes",
}
EXAMPLES = """\
examples:
  aim-engine recipes list --model Qwen/Qwen3-32B --gpu MI300X
  aim-engine recipes show qwen3-32b-mi300x-1x-fp8
  aim-engine recipes validate my-recipes/
  aim-engine recipes import aim-build ../aim-build --output my-recipes"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, about in ACTIONS.items():
        import_module(f"aim_engine.cli.recipes_{name}").add_arguments(
            actions.add_parser(name, help=about, description=about)
        )


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    code: int = import_module(f"aim_engine.cli.recipes_{arguments.action}").run(arguments)
    return code

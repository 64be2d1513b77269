"""`aim-engine recipes`: work with recipe files."""

from __future__ import annotations

import argparse

from aim_engine.cli import recipes_import


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    about = "turn recipes of another project into AIMRecipes"
    recipes_import.add_arguments(actions.add_parser("import", help=about, description=about))


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    return recipes_import.run(arguments)

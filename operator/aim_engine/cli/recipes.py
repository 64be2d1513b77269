"""`aim-engine recipes`: list, show, check and import recipes."""

from __future__ import annotations

import argparse
from importlib import import_module


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    code: int = import_module(f"aim_engine.cli.recipes_{arguments.action}").run(arguments)
    return code

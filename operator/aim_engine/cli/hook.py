"""`aim-engine hook`: the steps of an installation that run in the cluster."""

from __future__ import annotations

import argparse
from importlib import import_module


def run(arguments: argparse.Namespace) -> int:
    """Run the step."""
    code: int = import_module(f"aim_engine.cli.hooks.{arguments.step}").run(arguments)
    return code

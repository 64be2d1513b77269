"""`aim-engine recipes validate`: the checks that the shipped recipes pass, for anybody's files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aim_engine.cli.files import read_manifests
from aim_engine.cli.output import Exit
from aim_engine.selection import CatalogueFacts, catalogue_problems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="recipe file, or folder of them")


def run(arguments: argparse.Namespace) -> int:
    """Validate; 4 when anything is wrong."""
    files = {each.where: each.obj for path in arguments.paths for each in read_manifests(path)}
    problems = catalogue_problems(files, CatalogueFacts())
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    wrong = len({problem.file for problem in problems})
    sys.stdout.write(f"{len(files)} recipes, {wrong} with problems\n")
    return Exit.INVALID_INPUT if problems else Exit.OK

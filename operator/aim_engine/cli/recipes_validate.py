"""`aim-engine recipes validate`: the checks that the shipped recipes pass, for anybody's files."""

from __future__ import annotations

import argparse
import sys

from aim_engine.cli.files import Found, manifest_files, read_manifest
from aim_engine.cli.output import CommandError, Exit, invalid, printable
from aim_engine.selection import CatalogueFacts, catalogue_problems


def run(arguments: argparse.Namespace) -> int:
    """Validate; 4 when anything is wrong."""
    found: list[Found] = []
    unreadable: list[CommandError] = []
    for path in [file for given in arguments.paths for file in manifest_files(given)]:
        try:
            found += read_manifest(path)
        except CommandError as error:
            unreadable.append(error)
    if not found and not unreadable:
        raise invalid(
            f"{', '.join(map(str, arguments.paths))}: there are no recipes; name files that have some"
        )
    problems = catalogue_problems({each.where: each.obj for each in found}, CatalogueFacts())
    for told in (*unreadable, *problems):
        sys.stdout.write(f"{printable(str(told))}\n")
    wrong = len(unreadable) + len({problem.file for problem in problems})
    sys.stdout.write(f"{len(found)} recipes, {wrong} with problems\n")
    return Exit.INVALID_INPUT if wrong else Exit.OK

"""`aim-engine recipes validate`: the checks that the shipped recipes pass, and the gate's for recipes in ConfigMaps, for anybody's files."""

from __future__ import annotations

import argparse
import sys

from aim_engine.admission.recipes import judge_config_map, labelled
from aim_engine.cli.files import Found, manifest_files, read_manifest
from aim_engine.cli.gate import warn
from aim_engine.cli.output import CommandError, Exit, invalid, printable
from aim_engine.inventory.quantities import mapping
from aim_engine.reconcile.cache import RECIPE_FILE
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.selection import CatalogueFacts, Check, catalogue_problems

_BESIDE = ("AIMDeployment", "Namespace")
"""Kinds that may stand in the files of a team."""


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
    recipes, of_teams = _sorted(found)
    problems = catalogue_problems({each.where: each.obj for each in recipes}, CatalogueFacts())
    refusals = [(each.where, text) for each in of_teams for text in _refusals(each)]
    for told in (*unreadable, *problems, *(f"{where}: {text}" for where, text in refusals)):
        sys.stdout.write(f"{printable(str(told))}\n")
    wrong = len(unreadable) + len(
        {*(problem.file for problem in problems), *(where for where, _ in refusals)}
    )
    count = len(recipes) + len(of_teams)
    sys.stdout.write(f"{count} recipe{'' if count == 1 else 's'}, {wrong} with problems\n")
    return Exit.INVALID_INPUT if wrong else Exit.OK


def _sorted(found: list[Found]) -> tuple[list[Found], list[Found]]:
    """AIMRecipes with whatever else is no recipe, and ConfigMaps. Beside a ConfigMap its deployment may stand."""
    of_teams = [each for each in found if _holds_recipe(each)]
    others = [each for each in found if not _holds_recipe(each)]
    if of_teams:
        others = [each for each in others if each.obj["kind"] not in _BESIDE]
    return others, of_teams


def _holds_recipe(found: Found) -> bool:
    return found.obj["kind"] == "ConfigMap" and (
        labelled(found.obj) or RECIPE_FILE in mapping(found.obj.get("data"))
    )


def _refusals(found: Found) -> tuple[str, ...]:
    """What the gate refuses in a ConfigMap, be it labelled or only named by a deployment; its warnings are told."""
    allowed = OperatorConfig().allowed_images
    answer = judge_config_map(found.obj, None, {}, allowed, CatalogueFacts(), frozenset(Check))
    warn(found, answer)
    return answer.refusals

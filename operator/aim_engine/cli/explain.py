"""`aim-engine explain`: why a deployment has, or would get, its recipe."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.cli.changes import Change, Wrong, read_file, read_folder
from aim_engine.cli.cluster import home, named, put, world_of
from aim_engine.cli.decision import decide, decision_table, exit_code, hint_at_hub
from aim_engine.cli.files import Found
from aim_engine.cli.gate import refuse_wrong, through_the_gate, warn_of_deployment
from aim_engine.cli.output import CommandError, Exit, columns, emit, tell
from aim_engine.reconcile.world import World

_COLOURS = {"Selected": "green", "Waiting": "yellow", "NoRecipe": "red", "Invalid": "red"}


def run(arguments: argparse.Namespace) -> int:
    """Explain; the highest exit code of all deployments counts."""
    if (arguments.name is None) == (arguments.filename is None):
        raise CommandError("name an AIMDeployment, or give a file with -f", Exit.USAGE)
    if arguments.name is not None:
        world = world_of(arguments)
        document, _ = decide(
            world, named(world.cache.deployments, arguments.name, home(arguments)), arguments.name
        )
        return _show_one(arguments, world, document)
    folder = arguments.filename.is_dir()
    change = (read_folder if folder else read_file)(arguments.filename, home(arguments))
    world = world_of(arguments, change.objects)
    change = through_the_gate(world, change, home(arguments))
    if not folder:
        refuse_wrong(change)
    if not folder and len(change.parts) == 1:
        (found,) = change.deployments
        return _show_one(arguments, world, _explained(world, arguments, found))
    return _show_all(arguments, world, change)


def _show_one(arguments: argparse.Namespace, world: World, document: dict[str, Any]) -> Exit:
    hint_at_hub(world, document, asked=arguments.hub)
    emit(arguments.output, document, lambda wide: decision_table(document, wide=wide))
    return exit_code(document)


def _show_all(arguments: argparse.Namespace, world: World, change: Change) -> Exit:
    """Each deployment of a change, those that are wrong included."""
    entries: list[dict[str, Any]] = []
    codes: list[Exit] = []
    for part in change.parts:
        try:
            if isinstance(part, Wrong):
                raise part.error
            entries.append(_explained(world, arguments, part))
            codes.append(exit_code(entries[-1]))
            hint_at_hub(world, entries[-1], asked=arguments.hub)
        except CommandError as error:
            tell(f"aim-engine: {error}")
            entries.append({"file": part.where, **part.identity(home(arguments)), "error": str(error)})
            codes.append(error.code)
    emit(arguments.output, entries, lambda _: _summary(entries))
    return max(codes)


def _explained(world: World, arguments: argparse.Namespace, found: Found) -> dict[str, Any]:
    """The decision on a deployment of a file. What is chosen for it counts as taken for the next, as it would in the cluster."""
    key = put(world, found, home(arguments))
    document, plan = decide(world, key, found.where)
    warn_of_deployment(world, found, key)
    world.settle(key, plan)
    return {"file": found.where, **document}


def _summary(entries: list[dict[str, Any]]) -> str:
    rows = [
        (
            each["file"], f"{each['namespace']}/{each['name']}" if "name" in each else "-",
            each.get("outcome", "Invalid"), each.get("error") or each["message"],
        )
        for each in entries
    ]  # fmt: skip
    return columns(("FILE", "DEPLOYMENT", "OUTCOME", "MESSAGE"), rows, {2: _COLOURS})

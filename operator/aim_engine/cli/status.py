"""`aim-engine status`: all deployments and the GPUs there are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from aim_engine.cli.cluster import add_cluster, world_of
from aim_engine.cli.output import Exit, add_output, coloured, columns, emit
from aim_engine.reconcile.cache import StoredDeployment
from aim_engine.selection import inventory_summary

EXAMPLES = """\
examples:
  aim-engine status
  aim-engine status -n team-a -o wide"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add_cluster(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the fleet; one namespace with -n, else all."""
    world = world_of(arguments)
    rows = [
        _row(stored)
        for key, stored in sorted(world.cache.deployments.items())
        if arguments.namespace in (None, key[0])
    ]
    document = {"deployments": rows, "inventory": inventory_summary(world.tracker.inventory())}
    emit(arguments.output, document, lambda wide: _table(document, wide=wide))
    return Exit.OK


def _row(stored: StoredDeployment) -> dict[str, Any]:
    status = stored.status
    recipe = status.get("recipe") or {}
    ready: dict[str, Any] = next((c for c in status.get("conditions") or [] if c.get("type") == "Ready"), {})
    advice = status.get("recommendation") or {}
    return {
        "namespace": stored.namespace,
        "name": stored.name,
        "model": status.get("modelID"),
        "recipe": recipe.get("name"),
        "tier": recipe.get("tier"),
        "gpus": recipe.get("gpus"),
        "precision": recipe.get("precision"),
        "replicas": status.get("ready"),
        "ready": ready.get("status"),
        "reason": ready.get("reason"),
        "message": ready.get("message") or stored.error,
        "recommended": advice.get("recipe"),
    }


def _table(document: Mapping[str, Any], *, wide: bool) -> str:
    names = ["namespace", "name", "ready", "reason", "recipe", "gpus", "precision", "replicas"]
    if wide:
        names += ["tier", "model", "recommended", "message"]
    rows = [
        ["-" if row[name] is None else str(row[name]) for name in names] for row in document["deployments"]
    ]
    first, *lines = columns([name.upper() for name in names], rows).splitlines(keepends=True)
    colours = {"True": "green", "False": "red", "Unknown": "yellow"}
    painted = [
        line.replace(f" {row[2]} ", f" {coloured(row[2], colours[row[2]])} ", 1)
        if row[2] in colours
        else line
        for row, line in zip(rows, lines, strict=True)
    ]
    gpus = [
        (
            each["gpuModel"],
            each["partition"] or "-",
            str(each["nodes"]),
            str(each["allocatable"]),
            str(each["free"]),
        )
        for each in document["inventory"]["gpus"]
    ]
    fleet = columns(("GPU", "PARTITION", "NODES", "GPUS", "FREE"), gpus)
    return "".join([first, *painted]) + f"\n{fleet}"

"""`aim-engine status`: all deployments and the GPUs there are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from aim_engine.cli.cluster import world_of
from aim_engine.cli.decision import inventory_table
from aim_engine.cli.output import Exit, columns, emit
from aim_engine.inventory.quantities import items, mapping
from aim_engine.reconcile.cache import StoredDeployment
from aim_engine.selection import inventory_summary

_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}


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
    recipe, advice = mapping(status.get("recipe")), mapping(status.get("recommendation"))
    ready = next((each for each in items(status.get("conditions")) if each.get("type") == "Ready"), {})
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
    fleet = columns([name.upper() for name in names], rows, {names.index("ready"): _COLOURS})
    return f"{fleet}\n{inventory_table(document['inventory'])}"

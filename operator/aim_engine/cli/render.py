"""`aim-engine render`: the objects that a deployment becomes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from aim_engine.cli.changes import read_one
from aim_engine.cli.cluster import home, named, put, world_of
from aim_engine.cli.decision import decide, exit_code, hint_at_hub
from aim_engine.cli.output import CommandError, Exit, emit, tell
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.plan import Plan
from aim_engine.reconcile.revision import Revision
from aim_engine.reconcile.world import World


@dataclass(frozen=True, slots=True)
class Outlook:
    """What becomes of one deployment."""

    key: Key
    document: dict[str, Any]
    current: Revision | None
    """What runs now."""
    revision: Revision | None
    """What will run: at once, or, while it waits for GPUs with nothing running, when they are free."""

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """The objects; raises CommandError when there will never be any."""
        if self.revision is None:
            raise CommandError(
                f"{_named(self.key)}: nothing is rendered: {told(self.document)}", Exit.NO_RECIPE
            )
        return [dict(manifest) for manifest in self.revision.manifests]


def run(arguments: argparse.Namespace) -> int:
    """Render; what waits for GPUs is rendered as it will be, and said to wait."""
    outlook = outlook_of(arguments)
    items = outlook.manifests
    if outlook.document["outcome"] != "Selected":
        tell(f"{_named(outlook.key)}: {told(outlook.document)}{_until(outlook)}")
    emit(arguments.output, {"apiVersion": "v1", "kind": "List", "items": items}, lambda _: "")
    return exit_code(outlook.document)


def outlook_of(arguments: argparse.Namespace) -> Outlook:
    """What becomes of the deployment that the flags mean; raises CommandError."""
    if (arguments.name is None) == (arguments.filename is None):
        raise CommandError("name an AIMDeployment, or give a file with -f", Exit.USAGE)
    if arguments.name is not None:
        world = world_of(arguments)
        key = named(world, arguments.name, home(arguments))
    else:
        found, change = read_one(arguments.filename, home(arguments))
        world = world_of(arguments, change.objects)
        key = put(world, found, home(arguments))
    current = world.planner.current(key)
    document, plan = decide(world, key, arguments.name or found.where)
    hint_at_hub(world, document, asked=arguments.hub)
    return Outlook(key, document, current, _revision(world, key, document, plan))


def _revision(world: World, key: Key, document: dict[str, Any], plan: Plan) -> Revision | None:
    waits = plan.revision is None and document["outcome"] == "Waiting"
    return (world.pending(key) if waits else plan).revision


def told(document: dict[str, Any]) -> str:
    """The outcome with what would help."""
    remedy = f"; {document['remedy']}" if document["remedy"] else ""
    return f"{document['message']}{remedy}"


def _until(outlook: Outlook) -> str:
    return "" if outlook.current else "; until then nothing is created, and this is what will be"


def _named(key: Key) -> str:
    return "/".join(key)

"""`aim-engine render`: the objects that a deployment becomes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from aim_engine.cli.changes import read_one
from aim_engine.cli.cluster import home, named, put, world_of
from aim_engine.cli.decision import decide, exit_code, hint_at_hub
from aim_engine.cli.gate import refuse_wrong, through_the_gate
from aim_engine.cli.output import CommandError, Exit, emit, tell
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.desired import with_replicas
from aim_engine.reconcile.plan import Plan


@dataclass(frozen=True, slots=True)
class Outlook:
    """What becomes of one deployment."""

    key: Key
    document: dict[str, Any]
    now: list[dict[str, Any]]
    """The objects there are."""
    plan: Plan
    """What will run: at once, or, while it waits for GPUs with nothing running, when they are free."""
    asked: int
    """Replicas asked for."""

    @property
    def manifests(self) -> list[dict[str, Any]]:
        """The objects there will be; raises CommandError when there will never be any."""
        if self.plan.revision is None:
            raise CommandError(
                f"{_named(self.key)}: nothing is rendered: {told(self.document)}", Exit.NO_RECIPE
            )
        return with_replicas(self.plan.revision.manifests, running=self.plan.granted, asked=self.asked)

    @property
    def short_of(self) -> str:
        """What further replicas wait for; empty where there is nothing to say."""
        granted = f"{self.plan.granted} of {self.asked} replicas run until GPUs are freed"
        return f"; {granted}: {self.plan.short_of}" if self.plan.short_of and self.plan.granted else ""


def run(arguments: argparse.Namespace) -> int:
    """Render; what waits for GPUs is rendered as it will be, and said to wait."""
    outlook = outlook_of(arguments)
    items = outlook.manifests
    if outlook.document["outcome"] != "Selected":
        tell(f"{_named(outlook.key)}: {told(outlook.document)}{_until(outlook)}")
    elif outlook.short_of:
        tell(f"{_named(outlook.key)}{outlook.short_of.replace('; ', ': ', 1)}")
    emit(arguments.output, {"apiVersion": "v1", "kind": "List", "items": items}, lambda _: "")
    return exit_code(outlook.document)


def outlook_of(arguments: argparse.Namespace) -> Outlook:
    """What becomes of the deployment that the flags mean; raises CommandError."""
    if (arguments.name is None) == (arguments.filename is None):
        raise CommandError("name an AIMDeployment, or give a file with -f", Exit.USAGE)
    if arguments.name is not None:
        world = world_of(arguments)
        key, where = named(world.cache.deployments, arguments.name, home(arguments)), arguments.name
        now = world.running(key)
    else:
        found, change = read_one(arguments.filename, home(arguments))
        world, where = world_of(arguments, change.objects), found.where
        refuse_wrong(through_the_gate(world, change, home(arguments)))
        who = found.identity(home(arguments))
        now = world.running((who["namespace"], who["name"]))
        key = put(world, found, home(arguments))
    document, plan = decide(world, key, where)
    hint_at_hub(world, document, asked=arguments.hub)
    waits = plan.revision is None and document["outcome"] == "Waiting"
    return Outlook(key, document, now, world.pending(key) if waits else plan, world.asked(key))


def told(document: dict[str, Any]) -> str:
    """The outcome with what would help."""
    remedy = f"; {document['remedy']}" if document["remedy"] else ""
    return f"{document['message']}{remedy}"


def _until(outlook: Outlook) -> str:
    return "" if outlook.now else "; until then nothing is created, and this is what will be"


def _named(key: Key) -> str:
    return "/".join(key)

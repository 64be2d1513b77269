"""`aim-engine render`: the objects that a deployment becomes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aim_engine.cli.cluster import add_cluster, named, put, world_of
from aim_engine.cli.explain import decision_of
from aim_engine.cli.files import read_manifests
from aim_engine.cli.output import CommandError, Exit, emit, invalid
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.revision import Revision
from aim_engine.reconcile.world import World

EXAMPLES = """\
examples:
  aim-engine render qwen -n team-a
  aim-engine render -f deploy/samples/qwen3-32b.yaml --cluster snapshot.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add_deployment(parser)
    add_cluster(parser)
    parser.add_argument(
        "-o", "--output", choices=["yaml", "json"], default="yaml", help="format (default: yaml)"
    )


def add_deployment(parser: argparse.ArgumentParser) -> None:
    """The flags that say which one deployment is meant."""
    parser.add_argument("name", nargs="?", help="name of an AIMDeployment of the cluster")
    parser.add_argument("-f", "--filename", type=Path, metavar="FILE", help="file with one AIMDeployment")


def run(arguments: argparse.Namespace) -> int:
    """Render."""
    world = world_of(arguments)
    manifests = manifests_of(world, chosen_key(world, arguments))
    emit(arguments.output, {"apiVersion": "v1", "kind": "List", "items": manifests}, lambda _: "")
    return Exit.OK


def chosen_key(world: World, arguments: argparse.Namespace) -> Key:
    """The deployment that the flags mean; raises CommandError."""
    if (arguments.name is None) == (arguments.filename is None):
        raise CommandError("name an AIMDeployment, or give a file with -f", Exit.USAGE)
    if arguments.name is not None:
        return named(world, arguments.name, arguments.namespace)
    found = [each for each in read_manifests(arguments.filename) if each.obj["kind"] == "AIMDeployment"]
    if len(found) != 1:
        raise invalid(f"{arguments.filename}: holds {len(found)} AIMDeployments; give a file that has one")
    return put(world, found[0], arguments.namespace)


def manifests_of(world: World, key: Key) -> list[dict[str, Any]]:
    """The objects a pass would make of a deployment; raises CommandError when there is nothing to make."""
    revision: Revision | None = world.plan(key).revision
    if revision is None:
        document = decision_of(world, key, f"{key[0]}/{key[1]}")
        remedy = f"; {document['remedy']}" if document["remedy"] else ""
        raise CommandError(
            f"{key[0]}/{key[1]}: nothing is rendered: {document['message']}{remedy}", Exit.NO_RECIPE
        )
    return [dict(manifest) for manifest in revision.manifests]

"""`aim-engine explain`: why a deployment has, or would get, its recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aim_engine.cli.cluster import add_cluster, named, put, world_of
from aim_engine.cli.decision import decision_document, decision_table, exit_code
from aim_engine.cli.files import Found, read_manifests
from aim_engine.cli.output import CommandError, Exit, add_output, coloured, columns, emit, invalid, tell
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.world import World

EXAMPLES = """\
examples:
  aim-engine explain qwen -n team-a
  aim-engine explain -f deploy/samples/qwen3-32b.yaml --cluster snapshot.yaml
  aim-engine explain -f apps/ --cluster snapshot.yaml -o json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("name", nargs="?", help="name of an AIMDeployment of the cluster")
    parser.add_argument(
        "-f", "--filename", type=Path, metavar="FILE",
        help="AIMDeployments of a file, or of all files of a folder, as if they were applied in the order of their names",
    )  # fmt: skip
    add_cluster(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explain; the highest exit code of all deployments counts."""
    if (arguments.name is None) == (arguments.filename is None):
        raise CommandError("name an AIMDeployment, or give a file with -f", Exit.USAGE)
    if arguments.name is not None:
        world = world_of(arguments)
        document = decision_of(world, named(world, arguments.name, arguments.namespace), arguments.name)
        emit(arguments.output, document, lambda wide: decision_table(document, wide=wide))
        return exit_code(document)
    manifests = read_manifests(arguments.filename)
    found = [each for each in manifests if each.obj["kind"] == "AIMDeployment"]
    if not found:
        raise invalid(f"{arguments.filename}: there is no AIMDeployment; name a file that has one")
    return _explain_files(
        arguments, found, [each for each in manifests if each.obj["kind"] != "AIMDeployment"]
    )


def decision_of(world: World, key: Key, where: str) -> dict[str, Any]:
    """The decision on one deployment; raises CommandError when its spec cannot work whatever the cluster does."""
    stored = world.cache.deployments[key]
    problem = stored.error or world.problem(key)
    if problem is not None:
        raise invalid(f"{where}: {problem}")
    return decision_document(world, key)


def _explain_files(arguments: argparse.Namespace, found: list[Found], beside: list[Found]) -> int:
    """Each file of a change, with the recipes and namespaces that come with it.

    What is chosen for one counts as taken for the next, as it would in the cluster.
    """
    world = world_of(arguments, beside)
    documents: list[dict[str, Any]] = []
    codes: list[Exit] = []
    for each in found:
        try:
            key = put(world, each, arguments.namespace)
            document = {"file": each.where, **decision_of(world, key, each.where)}
        except CommandError as error:
            tell(f"aim-engine: {error}")
            codes.append(error.code)
            continue
        world.settle(key)
        documents.append(document)
        codes.append(exit_code(document))
    if len(found) == 1 and documents:
        emit(arguments.output, documents[0], lambda wide: decision_table(documents[0], wide=wide))
    else:
        emit(arguments.output, documents, lambda _: _summary(documents))
    return max(codes)


def _summary(documents: list[dict[str, Any]]) -> str:
    colours = {"Selected": "green", "Waiting": "yellow", "NoRecipe": "red"}
    rows = [
        (each["file"], f"{each['namespace']}/{each['name']}", each["outcome"], each["message"])
        for each in documents
    ]
    first, *others = columns(("FILE", "DEPLOYMENT", "OUTCOME", "MESSAGE"), rows).splitlines(keepends=True)
    painted = [
        line.replace(f" {each['outcome']} ", f" {coloured(each['outcome'], colours[each['outcome']])} ", 1)
        for each, line in zip(documents, others, strict=True)
    ]
    return "".join([first, *painted])

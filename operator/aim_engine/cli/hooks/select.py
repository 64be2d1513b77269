"""`aim-engine hook select`: the recipe of a release chosen before it is installed, told step by step, and recorded.

It decides with the operator's own code. It fails only where nothing could ever serve; what waits for GPUs is installed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aim_engine import __version__
from aim_engine.api.meta import GROUP, LABEL_RECIPE
from aim_engine.cli.cluster import check_deployment, put, world_of
from aim_engine.cli.files import Found, read_manifests
from aim_engine.cli.hooks.account import account
from aim_engine.cli.live import with_client
from aim_engine.cli.output import CommandError, Exit, to_yaml
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.decisions import DECISION_FILE, chose_nothing, read_decision
from aim_engine.reconcile.plan import Plan
from aim_engine.reconcile.resources import CONFIG_MAPS
from aim_engine.reconcile.world import World
from aim_engine.selection import Recorded

FIELD_MANAGER = "aim-engine-selector"
INSTANCE = "app.kubernetes.io/instance"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    document: dict[str, Any]
    plan: Plan
    text: str
    """The account of the six steps."""
    can_ever_serve: bool


def run(arguments: argparse.Namespace) -> int:
    """Select, tell and record; 3 when nothing could ever serve, 4 when the values cannot be used."""
    logging.basicConfig(level=arguments.log_level, stream=sys.stderr)
    (found,) = read_manifests(arguments.request)
    request = Found(check_deployment(found, "default"), "the values of this release")
    namespace = request.obj["metadata"]["namespace"]
    world = world_of(arguments, with_client(lambda client: _custom_recipe(client, request)))
    key = put(world, request, namespace)
    restored = (
        with_client(lambda client: _recorded(client, key[0], arguments.record))
        if arguments.keep_recorded
        else None
    )
    if restored is not None:
        world.cache.decisions[(key[0], arguments.record)] = restored
    else:
        world.cache.decisions.pop((key[0], arguments.record), None)
        if arguments.keep_recorded:
            sys.stdout.write(f"ConfigMap {key[0]}/{arguments.record} records no choice; choosing anew\n")
    outcome = _select(world, key)
    sys.stdout.write(outcome.text)
    if restored is not None:
        return _keep(restored, outcome)
    if not outcome.can_ever_serve:
        raise CommandError(
            f"nothing can serve this, whatever becomes free: {outcome.document['message']}; "
            f"{outcome.document['remedy'] or 'see the steps above'}",
            Exit.NO_RECIPE,
        )
    content = _config_map(key, arguments.record, outcome)
    with_client(lambda client: _write(client, content))
    sys.stdout.write(f"recorded in ConfigMap {key[0]}/{arguments.record}\n")
    return 0


def _select(world: World, key: Key) -> Outcome:
    problem = world.cache.deployments[key].error or world.problem(key)
    if problem is not None:
        raise CommandError(f"these values cannot work whatever the cluster: {problem}", Exit.INVALID_INPUT)
    document, plan = world.explain(key)
    served = document["outcome"] != "NoRecipe" or world.may_be_served(key)
    return Outcome(document, plan, account(world, key, document), served)


def _keep(restored: Recorded, outcome: Outcome) -> int:
    """A restored record stands when it is what would be taken."""
    chosen = outcome.document["chosen"]
    if chosen and (chosen["recipe"], chosen["hash"]) == (restored.recipe, restored.hash):
        sys.stdout.write(f"the restored decision, {restored.recipe}, can serve here and is kept\n")
        return 0
    raise CommandError(
        f"the restored decision, {restored.recipe}, cannot serve here: {outcome.document['message']}; set "
        "aim_engine.restore_from_backup=false to choose anew",
        Exit.NO_RECIPE,
    )


async def _custom_recipe(client: KubeClient, request: Found) -> list[Found]:
    """The ConfigMap that the values name; where it is not there, the account says so."""
    name = ((request.obj["spec"] or {}).get("recipe") or {}).get("configMap")
    if not name:
        return []
    try:
        obj = await client.get(CONFIG_MAPS, request.obj["metadata"]["namespace"], name)
    except ApiError as error:
        if error.code != 404:
            raise
        return []
    return [Found({**obj, "kind": CONFIG_MAPS.kind}, f"ConfigMap {name}")]


async def _recorded(client: KubeClient, namespace: str, name: str) -> Recorded | None:
    try:
        return kept(await client.get(CONFIG_MAPS, namespace, name))
    except ApiError as error:
        if error.code != 404:
            raise
        raise CommandError(
            f"there is no ConfigMap {namespace}/{name} to keep; restore it first, or set aim_engine.restore_from_backup=false",
            Exit.INVALID_INPUT,
        ) from None


def kept(obj: Mapping[str, Any]) -> Recorded | None:
    """The decision that a ConfigMap records; None where its release waited, so that there is nothing to keep."""
    found = read_decision(obj)
    if isinstance(found, Recorded):
        return found
    if chose_nothing(obj):
        return None
    metadata = obj["metadata"]
    raise CommandError(f"ConfigMap {metadata['namespace']}/{metadata['name']}: {found}", Exit.INVALID_INPUT)


def _config_map(key: Key, name: str, outcome: Outcome) -> dict[str, Any]:
    """The record: the decision for the operator, and the rest for people."""
    document = outcome.document
    chosen = document["chosen"] or {}
    revision = outcome.plan.revision
    recipe = dict(revision.recipe_spec) if revision and chosen else {}
    data = {
        DECISION_FILE: to_yaml(document),
        "explanation.txt": outcome.text,
        "hardware.yaml": to_yaml(document["inventory"]),
        "engine-args.yaml": to_yaml(chosen.get("engineArgs", {})),
        "resources.yaml": to_yaml(recipe.get("resources", {})),
        "recorded-at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "catalogue-version": __version__,
    }
    if recipe:
        data["recipe.yaml"] = to_yaml({"name": chosen["recipe"], "spec": recipe})
    return {
        "apiVersion": "v1",
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "name": name,
            "namespace": key[0],
            "labels": {
                LABEL_RECIPE: "decision",
                "app.kubernetes.io/name": "aim-engine",
                "app.kubernetes.io/component": "decision",
                INSTANCE: key[1],
            },
            "annotations": {f"{GROUP}/recorded-by": f"aim-engine hook select {__version__}"},
        },
        "data": data,
    }


async def _write(client: KubeClient, content: dict[str, Any]) -> None:
    metadata = content["metadata"]
    await client.request(
        "PATCH", CONFIG_MAPS.path(metadata["namespace"], metadata["name"]), content,
        params={"fieldManager": FIELD_MANAGER, "force": "true"}, content_type="application/apply-patch+yaml",
    )  # fmt: skip

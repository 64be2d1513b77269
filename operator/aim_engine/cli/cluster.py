"""Where a command's cluster comes from: a snapshot, a file of nodes, or the cluster of the kubeconfig."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources as package_resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.meta import API_VERSION
from aim_engine.api.recipe import AIMRecipe
from aim_engine.cli.files import LOADER, Found, Object, read_manifests
from aim_engine.cli.output import CommandError, Exit, invalid, progress
from aim_engine.cli.snapshot_file import Snapshot, read_snapshot
from aim_engine.reconcile.cache import Key, explain
from aim_engine.reconcile.config import OperatorConfig, load
from aim_engine.reconcile.world import BY_KIND, World, build_world

_NAMESPACED = {kind for kind, resource in BY_KIND.items() if resource.namespaced}


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """The flags that say which cluster is meant."""
    group = parser.add_argument_group("cluster", "default: the cluster of the kubeconfig")
    group.add_argument(
        "--cluster", type=Path, metavar="FILE", help="snapshot written by `aim-engine snapshot`"
    )
    group.add_argument(
        "--nodes", type=Path, metavar="FILE", help="nodes alone, from kubectl get nodes -o yaml"
    )
    group.add_argument(
        "--recipes", type=Path, metavar="DIR",
        help="AIMRecipe files to use instead of the cluster's; the shipped ones are used when there are none",
    )  # fmt: skip
    group.add_argument("--config", type=Path, metavar="FILE", help="configuration of the operator")
    group.add_argument("-n", "--namespace", help="namespace (default: default)")


_APPLIED = ("AIMRecipe", "ConfigMap", "Namespace", "PriorityClass")
"""What a change may bring beside deployments that bears on them."""


def world_of(
    arguments: argparse.Namespace, applied: Iterable[Found] = (), model_id: str | None = None
) -> World:
    """The world that the flags name, with objects `applied` over it; raises CommandError.

    `model_id`: shipped recipes of other models need not be read.
    """
    snapshot = _snapshot(arguments)
    config = read_config(arguments.config) if arguments.config else snapshot.config
    objects = snapshot.objects
    if arguments.recipes is not None:
        objects = [
            *(each for each in objects if each.obj["kind"] != "AIMRecipe"),
            *read_recipes(arguments.recipes),
        ]
    elif not any(each.obj["kind"] == "AIMRecipe" for each in objects):
        objects = [*objects, *_shipped(model_id)]
    return _build([*objects, *_changes(applied, arguments.namespace)], config, snapshot)


def _changes(applied: Iterable[Found], namespace: str | None) -> Iterator[Found]:
    for each in applied:
        if each.obj["kind"] == "AIMRecipe":
            check_recipe(each)
        if each.obj["kind"] in _APPLIED:
            metadata = {"namespace": namespace or "default", **each.obj["metadata"]}
            yield Found({**each.obj, "metadata": metadata}, each.where)


def read_config(path: Path) -> OperatorConfig:
    """The operator's configuration file."""
    try:
        return load(path)
    except ValidationError as error:
        raise invalid(f"{path}: {explain(error)}; correct it") from None
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}; name a file that can be read") from None
    except ValueError as error:
        raise invalid(f"{path}: {error}; correct it") from None


def shipped_recipes() -> Path:
    """The catalogue that ships with the program: in the installed package, or in the source tree."""
    installed = Path(str(package_resources.files("aim_engine"))) / "data" / "recipes"
    tree = Path(__file__).parents[3] / "recipes"
    found = next((path for path in (installed, tree) if path.is_dir()), None)
    if found is None:
        raise CommandError("the shipped recipes are missing; name a folder with --recipes")
    return found


def _shipped(model_id: str | None) -> Iterator[Found]:
    """The shipped recipes, without the checks that other people's files need: the tests made them."""
    for path in sorted(shipped_recipes().rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if model_id is None or f"\n  modelID: {model_id}\n" in text:
            yield Found(yaml.load(text, Loader=LOADER), str(path))  # noqa: S506 (a safe loader)


def read_recipes(path: Path) -> list[Found]:
    """AIMRecipes of a file or folder; raises CommandError for anything else in it."""
    found = read_manifests(path)
    for each in found:
        check_recipe(each)
    return found


def check_recipe(found: Found) -> AIMRecipe:
    """The recipe in an object; raises CommandError with file, field and value."""
    if found.obj["kind"] != "AIMRecipe":
        raise invalid(f"{found.where}: kind '{found.obj['kind']}' is not AIMRecipe; keep only recipes there")
    try:
        return AIMRecipe.strict_load({name: value for name, value in found.obj.items() if name != "status"})
    except ValidationError as error:
        raise invalid(f"{found.where}: {explain(error)}; see `kubectl explain aimrecipe.spec`") from None


def check_deployment(found: Found, namespace: str | None) -> Object:
    """The AIMDeployment in an object, complete with namespace and uid; raises CommandError with file, field and value."""
    obj = found.obj
    if obj["kind"] != "AIMDeployment" or obj.get("apiVersion") != API_VERSION:
        told = f"{obj.get('apiVersion')} {obj['kind']}"
        raise invalid(f"{found.where}: '{told}' is not {API_VERSION} AIMDeployment; write one")
    metadata = {"namespace": namespace or "default", "generation": 1, **obj["metadata"]}
    metadata.setdefault("uid", f"{metadata['namespace']}/{metadata['name']}")
    complete = {**obj, "metadata": metadata}
    try:
        AIMDeployment.model_validate({**complete, "metadata": _plain(metadata), "status": {}}, extra="forbid")
    except ValidationError as error:
        raise invalid(f"{found.where}: {explain(error)}; see `kubectl explain aimdeployment.spec`") from None
    return {name: value for name, value in complete.items() if name != "status"}


def put(world: World, found: Found, namespace: str | None) -> Key:
    """An AIMDeployment of a file, as if it had been applied."""
    return world.put(check_deployment(found, namespace))


def named(world: World, name: str, namespace: str | None) -> Key:
    """The key of a deployment of the world; raises CommandError when there is none."""
    key = (namespace or "default", name)
    if key in world.cache.deployments:
        return key
    there = sorted(other for ns, other in world.cache.deployments if ns == key[0])
    told = f"there are {', '.join(there[:5])}" if there else "there is none in that namespace"
    raise invalid(f"AIMDeployment '{name}' does not exist in namespace '{key[0]}'; {told}")


def _plain(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metadata without what users may write and we never read."""
    known = ("name", "namespace", "uid", "generation", "annotations")
    return {name: metadata[name] for name in known if metadata.get(name) is not None}


def _snapshot(arguments: argparse.Namespace) -> Snapshot:
    if arguments.cluster is not None and arguments.nodes is not None:
        raise CommandError(
            "--cluster and --nodes exclude each other; a snapshot has nodes of its own", Exit.USAGE
        )
    path = arguments.cluster or arguments.nodes
    if path is not None:
        progress(f"reading {path}")
        return read_snapshot(path, time.time())
    from aim_engine.cli.live import fetch_snapshot

    progress("reading the cluster")
    return fetch_snapshot()


def _build(objects: Iterable[Found], config: OperatorConfig, snapshot: Snapshot) -> World:
    ready = [_complete(each) for each in objects if each.obj["kind"] in BY_KIND]
    try:
        return build_world((each.obj for each in ready), config, snapshot.facts, snapshot.clock)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise _culprit(ready, config, snapshot) from None


def _complete(found: Found) -> Found:
    """With what the API server always adds."""
    metadata = dict(found.obj["metadata"])
    if found.obj["kind"] in _NAMESPACED:
        metadata.setdefault("namespace", "default")
    metadata.setdefault("uid", f"{found.obj['kind']}/{metadata.get('namespace', '')}/{metadata['name']}")
    return Found({**found.obj, "metadata": metadata}, found.where)


def _culprit(objects: list[Found], config: OperatorConfig, snapshot: Snapshot) -> CommandError:
    """The object that cannot be read, found by reading each alone."""
    for each in objects:
        try:
            build_world([each.obj], config, snapshot.facts, snapshot.clock)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
            return invalid(
                f"{each.where}: {each.name} {what}; export it again with kubectl or `aim-engine snapshot`"
            )
    return CommandError("the objects cannot be read together; write the snapshot again")

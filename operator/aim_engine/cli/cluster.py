"""Where a command's cluster comes from: a snapshot, a file of nodes, or the cluster of the kubeconfig."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import resources as package_resources
from pathlib import Path

from pydantic import ValidationError

from aim_engine.admission.recipes import labelled
from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.recipe import AIMRecipe
from aim_engine.api.rules import DEPLOYMENT_RULES, NAMESPACE_FORM, RECIPE_RULES, Rule, broken, is_namespace
from aim_engine.cli.documents import documents, short
from aim_engine.cli.facts import facts_of_records, places_of_models
from aim_engine.cli.files import Found, Object, read_manifests, refuse_twins
from aim_engine.cli.output import CommandError, Exit, invalid, progress, tell
from aim_engine.cli.snapshot_file import Snapshot, read_snapshot
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import Key, controller_uid, explain
from aim_engine.reconcile.config import OperatorConfig, load
from aim_engine.reconcile.facts import RecordedFacts
from aim_engine.reconcile.revision import read_record
from aim_engine.reconcile.world import BY_KIND, World, build_world

NAMESPACED = {kind: resource.namespaced for kind, resource in BY_KIND.items()}
"""Kinds that count, and whether they live in namespaces."""
_RULES: Mapping[str, tuple[Rule, ...]] = {"AIMDeployment": DEPLOYMENT_RULES, "AIMRecipe": RECIPE_RULES}
APPLIED = ("AIMRecipe", "ConfigMap", "Namespace", "PriorityClass")
"""What a change may bring beside deployments that bears on them."""


def home(arguments: argparse.Namespace) -> str:
    """The namespace that the flags mean, else that of the kubeconfig's context where its cluster is asked.

    Raises CommandError for what cannot be one.
    """
    name, where = arguments.namespace, "--namespace"
    if name is None and _from_file(arguments) is None:
        from aim_engine.kube.connection import context_namespace

        name, where = context_namespace(), "the namespace of the kubeconfig's context,"
    if name is None:
        return "default"
    if not is_namespace(name):
        raise invalid(f"{where} '{short(name)}' must be {NAMESPACE_FORM}")
    return str(name)


def _from_file(arguments: argparse.Namespace) -> Path | None:
    """The file that stands for the cluster; None where the cluster of the kubeconfig is asked."""
    path: Path | None = getattr(arguments, "cluster", None) or getattr(arguments, "nodes", None)
    return path


def world_of(
    arguments: argparse.Namespace,
    applied: Iterable[Found] = (),
    model_id: str | None = None,
    *,
    everywhere: bool = False,
) -> World:
    """The world that the flags name, with objects `applied` over it; raises CommandError.

    `model_id`: shipped recipes of other models need not be read. `everywhere`: what is wrong in any namespace is told,
    else only in those asked for.
    """
    namespace, change = home(arguments), list(applied)
    given = read_config(arguments.config) if arguments.config else None
    snapshot = _snapshot(arguments, given.watch_namespaces if given else ())
    config = given or snapshot.config
    objects = known_objects(snapshot.objects)
    refuse_twins(objects, NAMESPACED, "default")
    if arguments.recipes is not None:
        objects = [
            *(each for each in objects if each.obj["kind"] != "AIMRecipe"),
            *read_recipes(arguments.recipes),
        ]
    elif getattr(arguments, "shipped", True) and not any(each.obj["kind"] == "AIMRecipe" for each in objects):
        objects = [*objects, *_shipped(model_id)]
    stored, objects = objects, [*objects, *_changes(change, objects, namespace)]
    facts = snapshot.facts.over(facts_of_records(objects))
    world = _build(objects, config, facts, snapshot.clock)
    asked = {namespace, *(each.identity(namespace)["namespace"] for each in change)}
    _tell_unreadable(world, stored, None if everywhere else asked)
    if getattr(arguments, "hub", False):
        from aim_engine.cli.inquiry import ask

        places = places_of_models([each.obj for each in (*objects, *change)], model_id)
        world.learn(ask(places, facts, config.hub))
    return world


def known_objects(objects: Iterable[Found]) -> list[Found]:
    """Objects of the kinds that count. What their API server cannot have given us is told, and passed over."""
    kept = []
    for each in objects:
        kind, version = each.obj["kind"], each.obj.get("apiVersion")
        resource = BY_KIND.get(kind)
        if resource is None or (version is not None and _group(version) != resource.group):
            continue  # nobody's, or somebody else's of that name
        problem = None
        if version not in (None, resource.api_version):
            problem = f"apiVersion '{short(version)}' is not {resource.api_version}"
        elif kind in _RULES:
            whole = {
                "apiVersion": resource.api_version,
                **_complete(each).obj,
            }  # items of a raw list have none
            problem = next((rule.message for rule, _ in broken(whole, _RULES[kind])), None)
        if problem is None:
            kept.append(each)
        else:
            tell(f"aim-engine: {each.where}: {each.name} is passed over: {problem}")
    return kept


def _group(version: object) -> str:
    group, slash, _ = str(version).rpartition("/")
    return group if slash else ""


def _changes(applied: Iterable[Found], objects: list[Found], namespace: str) -> Iterator[Found]:
    """What a change brings beside deployments, checked as its API server would against what is there."""
    recipes = {each.obj["metadata"]["name"]: each.obj for each in objects if each.obj["kind"] == "AIMRecipe"}
    for each in applied:
        kind = each.obj["kind"]
        if kind == "AIMRecipe":
            check_recipe(each, recipes.get(each.obj["metadata"]["name"]))
        if kind in APPLIED:
            metadata = {**each.obj["metadata"]}
            if NAMESPACED[kind]:
                metadata["namespace"] = metadata.get("namespace") or namespace
            yield Found({**each.obj, "metadata": metadata}, each.where)


def _tell_unreadable(world: World, objects: list[Found], namespaces: Collection[str] | None) -> None:
    """A stored recipe that cannot be read takes no part, and nobody would know why."""
    where = {each.obj["metadata"]["name"]: each.where for each in objects if each.obj["kind"] == "AIMRecipe"}
    for name, stored in sorted(world.cache.recipes.items()):
        if stored.error is not None:
            tell(f"aim-engine: {where.get(name, '')}: AIMRecipe {name} is passed over: {stored.error}")
    for each in objects:
        if each.obj["kind"] == "ConfigMap" and labelled(each.obj):
            home, name = each.identity("default").values()
            error = world.cache.config_errors.get((home, name))
            if error is not None and (namespaces is None or home in namespaces):
                tell(f"aim-engine: {each.where}: ConfigMap {home}/{name} is passed over: {error}")


def read_config(path: Path) -> OperatorConfig:
    """The operator's configuration file."""
    try:
        return load(path)
    except ValidationError as error:
        raise invalid(f"{path}: {explain(error, '')}") from None
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}; name a file that can be read") from None
    except ValueError as error:
        raise invalid(f"{path}: {error}") from None


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
            (recipe,) = documents(text, str(path))
            yield Found(recipe, str(path))


def read_recipes(path: Path) -> list[Found]:
    """AIMRecipes of a file or folder; raises CommandError for anything else in it."""
    found = read_manifests(path)
    refuse_twins(found, NAMESPACED, "")
    for each in found:
        check_recipe(each)
    return found


def check_recipe(found: Found, before: Object | None = None) -> AIMRecipe:
    """The recipe in an object; raises CommandError with file, field and value. `before`: the object it replaces."""
    if found.obj["kind"] != "AIMRecipe":
        raise invalid(
            f"{found.where}: kind '{short(found.obj['kind'])}' is not AIMRecipe; keep only recipes there"
        )
    try:
        return AIMRecipe.strict_load({k: v for k, v in found.obj.items() if k != "status"}, before)
    except ValidationError as error:
        raise invalid(f"{found.where}: {explain(error, 'aimrecipe')}") from None


def put(world: World, found: Found, namespace: str) -> Key:
    """An AIMDeployment of a file, as if it had been applied."""
    return world.put(check_deployment(found, namespace))


def check_deployment(found: Found, namespace: str) -> Object:
    """The AIMDeployment in an object, complete with namespace and uid; raises CommandError with file, field and value."""
    obj = {name: value for name, value in found.obj.items() if name != "status"}
    metadata = {"generation": 1, **obj["metadata"]}
    metadata["namespace"] = metadata.get("namespace") or namespace
    metadata["uid"] = metadata.get("uid") or f"{metadata['namespace']}/{metadata['name']}"
    complete = {**obj, "metadata": metadata}
    try:
        AIMDeployment.strict_load(complete)
    except ValidationError as error:
        raise invalid(f"{found.where}: {explain(error, 'aimdeployment')}") from None
    return complete


def named(deployments: Collection[Key], name: str, namespace: str) -> Key:
    """The key of one of the deployments; raises CommandError when there is none of that name."""
    key = (namespace, name)
    if key in deployments:
        return key
    there = sorted(other for ns, other in deployments if ns == namespace)
    told = f"there are {', '.join(there[:5])}" if there else "there is none in that namespace"
    raise invalid(f"AIMDeployment '{name}' does not exist in namespace '{namespace}'; {told}")


def _snapshot(arguments: argparse.Namespace, namespaces: Sequence[str]) -> Snapshot:
    if arguments.cluster is not None and arguments.nodes is not None:
        raise CommandError(
            "--cluster and --nodes exclude each other; a snapshot has nodes of its own", Exit.USAGE
        )
    path = _from_file(arguments)
    if path is not None:
        progress(f"reading {path}")
        return read_snapshot(path, time.time())
    from aim_engine.cli.live import fetch_snapshot

    progress("reading the cluster")
    return fetch_snapshot(namespaces)


def _build(objects: Iterable[Found], config: OperatorConfig, facts: RecordedFacts, clock: float) -> World:
    ready = [_complete(each) for each in objects]
    for each in ready:
        if each.obj["kind"] == resources.REVISIONS.kind:
            _check_record(each)
    try:
        return build_world((each.obj for each in ready), config, facts, clock)
    except _UNREADABLE:
        raise _culprit(ready, config, facts) from None


_UNREADABLE = (KeyError, TypeError, AttributeError, ValueError, IndexError)
"""What reading an object of a wrong shape ends in."""


def _check_record(found: Found) -> None:
    """A record of ours is read only when its deployment is looked at, which is late for saying where it stands."""
    owner = controller_uid(found.obj["metadata"])
    if owner is None:
        return
    try:
        read_record(found.obj, owner).revision()
    except ValueError as error:
        told = str(error).replace("\n", "; ")
        raise invalid(
            f"{found.where}: {told}; export it again with kubectl or `aim-engine snapshot`"
        ) from None


def _complete(found: Found) -> Found:
    """With what the API server always adds."""
    metadata = dict(found.obj["metadata"])
    if NAMESPACED.get(found.obj["kind"]):
        metadata["namespace"] = metadata.get("namespace") or "default"
    metadata["uid"] = (
        metadata.get("uid") or f"{found.obj['kind']}/{metadata.get('namespace', '')}/{metadata['name']}"
    )
    return Found({**found.obj, "metadata": metadata}, found.where)


def _culprit(objects: list[Found], config: OperatorConfig, facts: RecordedFacts) -> CommandError:
    """The object that cannot be read, found by reading each alone."""
    for each in objects:
        try:
            build_world([each.obj], config, facts, 0.0)
        except _UNREADABLE as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
            return invalid(
                f"{each.where}: {each.name} {what}; export it again with kubectl or `aim-engine snapshot`"
            )
    return CommandError("the objects cannot be read together; write the snapshot again")

"""Facts of models for a command, as far as the operator wrote them down, and of which models they are wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.configmap_yaml import Faults
from aim_engine.cli.documents import short
from aim_engine.cli.files import Found, Object
from aim_engine.cli.output import invalid
from aim_engine.reconcile.cache import read_config_recipe, read_stored_recipe
from aim_engine.reconcile.facts import (
    NO_FACTS,
    Place,
    RecordedFacts,
    beyond_catalogue,
    read_facts,
)
from aim_engine.selection import Candidate


def facts_of_records(objects: Iterable[Found]) -> RecordedFacts:
    """Facts in the records of decisions, as far as the catalogue, which the operator asks first, does not have them."""
    found = NO_FACTS
    for each in objects:
        data = each.obj.get("data")
        if each.obj["kind"] == "ControllerRevision" and isinstance(data, dict) and data.get("facts"):
            found = facts_in(data["facts"], f"{each.where}: data.facts").over(found)
    return beyond_catalogue(found)


def facts_in(rows: Any, where: str) -> RecordedFacts:
    """Facts from rows of a file; raises CommandError with place, row, field and value."""
    if not isinstance(rows, Mapping):
        raise invalid(f"{where}: '{short(rows)}' is not a mapping; write the snapshot again")
    try:
        return read_facts(rows)
    except ValueError as error:
        raise invalid(f"{where}: {error}; write the snapshot again") from None


def places_of_models(objects: Collection[Object], model_id: str | None = None) -> set[Place]:
    """Models that deployments ask for, or the one named, and all weights of them that recipes would load."""
    recipes = list(_recipes(objects))
    asked = {Place(model_id)} if model_id else set(_asked(objects, recipes))
    return asked | {weights for each in asked for weights in _weights(each, recipes)}


def places_of_all(objects: Collection[Object]) -> set[Place]:
    """Every model and checkpoint that is named anywhere."""
    recipes = list(_recipes(objects))
    named = {where for each in recipes for where in (Place(each.model), Place.of(each.source, each.revision))}
    return named | places_of_models(objects)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What a recipe loads."""

    name: str
    model: str
    source: str
    revision: str | None


def _weights(asked: Place, recipes: Iterable[_Recipe]) -> Iterator[Place]:
    """A deployment's revision goes before a recipe's."""
    for each in recipes:
        if each.model == asked.name:
            own = each.revision if asked == Place(asked.name) else asked.revision
            yield Place.of(each.source, own)


def _asked(objects: Iterable[Object], recipes: Iterable[_Recipe]) -> Iterator[Place]:
    models = {each.name: each.model for each in recipes}
    for obj in objects:
        if obj["kind"] == "AIMDeployment":
            spec = _part(obj, "spec")
            model, wishes = _part(spec, "model"), _part(spec, "recipe")
            revision = model.get("revision")
            names = (wishes.get("name"), f"configmap/{wishes.get('configMap')}")
            found = (model.get("id"), *(models.get(str(name)) for name in names))
            for name in found:
                if isinstance(name, str):
                    yield Place.of(name, revision if isinstance(revision, str) else None)


def _recipes(objects: Iterable[Object]) -> Iterator[_Recipe]:
    """Recipes of AIMRecipes and ConfigMaps, as far as they can be read."""
    for obj in objects:
        if obj["kind"] == "AIMRecipe":
            stored = read_stored_recipe(obj).candidate
            found: Iterable[Candidate] = () if stored is None else (stored,)
        elif obj["kind"] == "ConfigMap":
            read = read_config_recipe({**obj, "metadata": {"namespace": "", **obj["metadata"]}})
            found = () if isinstance(read, Faults) else read
        else:
            continue
        for each in found:
            spec = each.spec
            yield _Recipe(each.name, spec.model_id, spec.source or spec.model_id, spec.revision)


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}

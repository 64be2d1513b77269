"""A translated configuration as an AIMRecipe: name, provenance, resources, published numbers, and every check."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import ValidationError

from aim_engine.api.configmap_yaml import ReadError, dotted, shown
from aim_engine.api.enums import Backend, Objective, Precision
from aim_engine.api.meta import ANNOTATION_LICENCE, ANNOTATION_NOTES, ANNOTATION_ORIGIN, API_VERSION
from aim_engine.api.recipe import AIMRecipe, AIMRecipeSpec, Hardware
from aim_engine.catalog.flags import PINNED_VLLM
from aim_engine.catalog.imports import Origin, import_rules
from aim_engine.catalog.measurements import Setting, published
from aim_engine.engines import Problem, Trust, engine, version_of
from aim_engine.importers.results import Configuration, Imported, Rejected
from aim_engine.selection import CatalogueFacts, recipe_file_problems

MEMORY_UNKNOWN = "memory was not checked: the dimensions of the model are not known here"
_SLUG = re.compile(r"[^a-z0-9]+")


def build(found: Configuration, origin: Origin) -> Imported | Rejected:
    """The recipe of a configuration, or the first thing that is wrong with it."""
    try:
        recipe = AIMRecipe.strict_load(_manifest(found, origin))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = dotted(tuple(first["loc"]))
        return rejected(found, field, first["input"], first["msg"], "correct it in the source")
    problems = (*recipe_file_problems(recipe, CatalogueFacts()), *_beyond_a_tenant(recipe.spec))
    if problems:
        return _refused(found, problems[0])
    return Imported(recipe, found.sources)


def _beyond_a_tenant(spec: AIMRecipeSpec) -> tuple[Problem, ...]:
    """What only an admin could ask for; we take nothing of the kind from others unread."""
    backend = engine(spec.backend)
    return (
        *backend.check_args(spec.engine_args, version_of(spec), trust=Trust.TENANT),
        *backend.check_env(spec.env, trust=Trust.TENANT),
    )


def rejected(found: Configuration, field: str, value: object, message: str, remedy: str) -> Rejected:
    """A refusal of a whole configuration."""
    return Rejected(found.sources, ReadError(field, shown(value), message, remedy))


def recipe_name(
    model_id: str, hardware: Hardware, precision: Precision, backend: Backend, objective: Objective
) -> str:
    """Name of a shipped recipe: what it is, in the order people ask for it; what is usual goes without saying."""
    slug = _SLUG.sub("-", model_id.rsplit("/", 1)[-1].lower()).strip("-")
    parts = [slug, hardware.gpu_model.lower(), f"{hardware.gpu_count}x"]
    if hardware.partition is not None:
        parts.append(hardware.partition.replace("_", "-"))
    parts.append(precision)
    if backend is not Backend.VLLM:
        parts.append(backend)
    if objective is not Objective.THROUGHPUT:
        parts.append(objective)
    return "-".join(parts)


def file_path(recipe: AIMRecipe) -> str:
    """Where a recipe is kept in a catalogue: `FAMILY/NAME.yaml`."""
    model_id = recipe.spec.model_id
    known = (folder for begins, folder in import_rules().families if model_id.startswith(begins))
    organisation = _SLUG.sub("-", model_id.split("/", 1)[0].lower()).strip("-")
    return f"{next(known, organisation)}/{recipe.metadata.name}.yaml"


def to_yaml(recipe: AIMRecipe) -> str:
    """The recipe as it is kept in a file: nothing empty, nothing that only a server sets."""
    wire = recipe.wire()
    meta = {"name": recipe.metadata.name, "annotations": dict(recipe.metadata.annotations)}
    spec = {name: value for name, value in wire["spec"].items() if value not in ({}, [])}
    document = {"apiVersion": wire["apiVersion"], "kind": wire["kind"], "metadata": meta, "spec": spec}
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _manifest(found: Configuration, origin: Origin) -> dict[str, Any]:
    hardware = Hardware(gpu_model=found.gpu_model, gpu_count=found.gpu_count)
    name = recipe_name(found.model_id, hardware, found.precision, Backend.VLLM, found.objective)
    annotations = {
        ANNOTATION_ORIGIN: f"https://github.com/{origin.repository}/blob/{origin.commit}/{found.sources[0]}",
        ANNOTATION_LICENCE: origin.licence,
    }
    notes = list(dict.fromkeys(found.notes))
    if CatalogueFacts().model(found.model_id) is None:
        notes.append(MEMORY_UNKNOWN)
    if notes:
        annotations[ANNOTATION_NOTES] = "\n".join(notes)
    resources = import_rules().resources.get(found.gpu_count)
    spec: dict[str, object] = {
        "modelID": found.model_id,
        "source": None if found.source == found.model_id else found.source,
        "hardware": {"gpuModel": found.gpu_model, "gpuCount": found.gpu_count},
        "precision": found.precision,
        "backend": Backend.VLLM,
        "engineVersion": PINNED_VLLM,
        "engineArgs": found.engine_args,
        "env": found.env,
        "objective": found.objective,
        "maturity": found.maturity,
        "performance": _performance(found),
    }
    if resources is not None:
        spec["resources"] = resources
    return {
        "apiVersion": API_VERSION,
        "kind": "AIMRecipe",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def _performance(found: Configuration) -> list[Any]:
    if found.objective is not Objective.THROUGHPUT:
        return []
    setting = Setting(
        found.source or found.model_id, found.gpu_model, found.gpu_count, found.precision, Backend.VLLM
    )
    return list(published(setting))


def _refused(found: Configuration, problem: Problem) -> Rejected:
    value = "" if problem.field.startswith("env.") else problem.value
    return rejected(found, problem.field, value, problem.message, problem.remedy)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as lines."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)

"""A translated configuration as an AIMRecipe: name, provenance, resources, published numbers, and every check."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import ValidationError

from aim_engine.api.configmap_yaml import ReadError
from aim_engine.api.enums import Backend, Objective, Precision
from aim_engine.api.meta import ANNOTATION_LICENCE, ANNOTATION_NOTES, ANNOTATION_ORIGIN, API_VERSION
from aim_engine.api.recipe import AIMRecipe, AIMRecipeSpec, Hardware
from aim_engine.api.wording import dotted, shown
from aim_engine.catalog.flags import PINNED_VLLM
from aim_engine.catalog.imports import Origin, import_rules
from aim_engine.catalog.measurements import Setting, published
from aim_engine.engines import Problem, Trust, engine, version_of
from aim_engine.importers.results import Configuration, Imported, Rejected
from aim_engine.importers.translate import REMOTE_CODE
from aim_engine.selection import CatalogueFacts, recipe_file_problems

_ADD_FACTS = "add it to catalog/models.yaml with a source, then import again"
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
    unsized = not_sizable(found)
    if unsized is not None:
        return unsized
    return Imported(recipe, found.sources)


def not_sizable(found: Configuration) -> Rejected | None:
    """The refusal of a configuration whose memory could not be checked; a shipped recipe is known to fit."""
    facts, source = CatalogueFacts(), found.source or found.model_id
    if facts.model(found.model_id) is None:
        message = "the dimensions of the model are not known"
        return rejected(found, "modelID", found.model_id, message, _ADD_FACTS)
    if facts.checkpoint(source) is None:
        return rejected(found, "source", source, "the format of the checkpoint is not known", _ADD_FACTS)
    return None


def allowed_trust(model_id: str) -> Trust:
    """What an imported recipe may ask: a tenant's flags, and code of the repository for the models that do not start without."""
    known = import_rules().remote_code_of(model_id)
    return Trust.TENANT_WITH_REMOTE_CODE if known is not None and known.needed else Trust.TENANT


def _beyond_a_tenant(spec: AIMRecipeSpec) -> tuple[Problem, ...]:
    """What only an admin could ask for; we take nothing of the kind from others unread."""
    backend, version = engine(spec.backend), version_of(spec)
    if REMOTE_CODE in spec.engine_args and import_rules().remote_code_of(spec.model_id) is None:
        message = f"whether {spec.model_id} needs code of its repository is not known"
        remedy = "add it to remoteCode of catalog/imports.yaml with the evidence, then import again"
        return (Problem(f"engineArgs.{REMOTE_CODE}", True, message, remedy),)
    trust = allowed_trust(spec.model_id)
    return (
        *backend.check_args(spec.engine_args, version, trust=trust),
        *backend.check_env(spec.env, trust=trust),
    )


def rejected(found: Configuration, field: str, value: object, message: str, remedy: str) -> Rejected:
    """A refusal of a whole configuration."""
    return Rejected(found.about or found.sources, ReadError(field, shown(value), message, remedy))


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


def checkpoint_suffix(spec: AIMRecipeSpec) -> str:
    """What tells a recipe from another of the same name that loads another checkpoint: what its repository's name says more."""
    organisation, _, name = (spec.source or spec.model_id).partition("/")
    own = _SLUG.sub("-", spec.model_id.rsplit("/", 1)[-1].lower()).strip("-")
    more = _SLUG.sub("-", name.lower()).strip("-").removeprefix(own).strip("-")
    if spec.source is None:
        return "native"
    return more if more not in ("", spec.precision) else _SLUG.sub("-", organisation.lower()).strip("-")


def renamed(recipe: AIMRecipe) -> AIMRecipe:
    """The recipe with its checkpoint in its name."""
    name = f"{recipe.metadata.name}-{checkpoint_suffix(recipe.spec)}"
    return recipe.model_copy(update={"metadata": recipe.metadata.model_copy(update={"name": name})})


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

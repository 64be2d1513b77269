"""Recipes in ConfigMaps: our own form, the flat form and AMD's AIM forms, all read into AIMRecipeSpec.

A ConfigMap is written by a tenant: it is read with limits, nothing in it is executed, and what it does not say
clearly is refused with field, value, line and remedy. Whether its flags may be used is the engine's check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from aim_engine.api.configmap_fields import (
    boolean,
    declared_performance,
    engine_args,
    environment,
    gpu_model,
    hardware,
    mapping_at,
    only_fields,
    precision,
    resources,
)
from aim_engine.api.configmap_yaml import Document, Path, ReadError, RefusedError, dotted, load
from aim_engine.api.enums import Backend
from aim_engine.api.meta import API_VERSION
from aim_engine.api.recipe import AIMRecipeSpec

RECIPE_KEY = "recipe.yaml"
_COUNT_KEY = re.compile(r"^([0-9]{1,3})_gpus?$")

_BACKENDS = {f"{backend}_serve": backend for backend in Backend}
_ENTRY = re.compile(rf"(-\d+gpu(-({'|'.join(Backend)}))?)?")
_INFORMATIVE = {"recipe_id", "name", "description", "version", "author", "maintainer", "labels", "tags"}
_FLAT = _INFORMATIVE | {
    "huggingface_id", "model_id", "hardware", "gpu_count", "precision", "backend", "config", "performance", "resources",
}  # fmt: skip
_SERVE = _INFORMATIVE | {"huggingface_id", "model_id", "hardware", "precision", *_BACKENDS}
_PROFILE = _INFORMATIVE | {"aim_id", "model_id", "metadata", "engine_args", "env_vars", "container"}
_METADATA = {
    "engine", "gpu", "accelerator_model", "accelerator_type", "accelerator_family", "gpu_count", "accelerator_count",
    "precision", "metric", "type", "manual_selection_only", "capabilities", "features", "primary", "variant",
}  # fmt: skip


class RecipeForm(StrEnum):
    """The forms a recipe document may have."""

    AIM_RECIPE = "AIMRecipe"
    FLAT = "flat"
    SERVE = "vllm_serve"
    PROFILE = "AIM profile"


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """One recipe of a document; the name is the ConfigMap's, with GPU count and engine where there are several."""

    name: str
    spec: AIMRecipeSpec


@dataclass(frozen=True, slots=True)
class RecipeDocument:
    """A document that was understood: at least one recipe."""

    form: RecipeForm
    recipes: tuple[NamedRecipe, ...]
    notes: tuple[str, ...] = ()
    """What was left out, and why."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A recipe in our own words, and where in the document each field came from."""

    spec: dict[str, Any]
    origins: Mapping[str, Path]


def read_recipe(text: str, *, name: str, namespace: str) -> RecipeDocument | ReadError:
    """The recipes in a ConfigMap's `recipe.yaml`, or the first thing that is wrong with it. Never raises."""
    notes: list[str] = []
    try:
        document = load(text)
        form = _form(document)
        match form:
            case RecipeForm.AIM_RECIPE:
                drafts = {name: _own(document)}
            case RecipeForm.FLAT:
                drafts = {name: _flat(document, f"configmap/{namespace}/{name}", notes)}
            case RecipeForm.PROFILE:
                drafts = {name: _profile(document, notes)}
            case RecipeForm.SERVE:
                drafts = {f"{name}-{end}": draft for end, draft in _serve(document, notes).items()}
        recipes = tuple(NamedRecipe(key, _validate(document, draft)) for key, draft in drafts.items())
    except RefusedError as refused:
        return refused.error
    return RecipeDocument(form, recipes, tuple(dict.fromkeys(notes)))


def is_recipe_of(recipe: str, document: str) -> bool:
    """Whether a recipe's name is that of a document, or of one entry of its serve form."""
    return recipe.startswith(document) and _ENTRY.fullmatch(recipe, len(document)) is not None


def read_profile(document: Document) -> AIMRecipeSpec | ReadError:
    """The configuration in an AIM profile, flags and variables as written there. Never raises."""
    try:
        return _validate(document, _profile(document, []))
    except RefusedError as refused:
        return refused.error


def _form(document: Document) -> RecipeForm:
    data = document.data
    if "spec" in data or "kind" in data or "modelID" in data:
        return RecipeForm.AIM_RECIPE
    if "aim_id" in data or "engine_args" in data:
        return RecipeForm.PROFILE
    if any(field in data for field in _BACKENDS):
        return RecipeForm.SERVE
    if "huggingface_id" in data or "recipe_id" in data or "model_id" in data:
        return RecipeForm.FLAT
    raise document.refuse(
        (),
        "",
        "this is no recipe of a known form",
        "start with `modelID:` (the spec of an AIMRecipe) or `huggingface_id:`",
    )


def _own(document: Document) -> _Draft:
    data = document.data
    if "spec" not in data and "kind" not in data:
        return _Draft(dict(data), {"": ()})
    for field, wanted in (("apiVersion", API_VERSION), ("kind", "AIMRecipe")):
        if data.get(field, wanted) != wanted:
            raise document.refuse(
                (field,), data[field], f"{field} is not {wanted}", f"write {field}: {wanted}"
            )
    only_fields(document, (), {"apiVersion", "kind", "metadata", "spec"})
    return _Draft(dict(mapping_at(document, ("spec",))), {"": ("spec",)})


def _flat(document: Document, source: str, notes: list[str]) -> _Draft:
    data = document.data
    only_fields(document, (), _FLAT)
    gpus, origins = hardware(document)
    if "gpu_count" in data:
        gpus["gpuCount"], origins["hardware.gpuCount"] = data["gpu_count"], ("gpu_count",)
    model_field = "huggingface_id" if "huggingface_id" in data else "model_id"
    model = data.get(model_field)
    only_fields(document, ("config",), {"args", "env", "image", "engine_version"})
    config = mapping_at(document, ("config",))
    spec: dict[str, Any] = {
        "modelID": model,
        "hardware": gpus,
        "precision": precision(data.get("precision")),
        "engineArgs": engine_args(document, ("config", "args"), model, gpus.get("gpuCount"), notes),
        "env": environment(document, ("config", "env")),
        "resources": resources(document, gpus.get("gpuCount"), notes),
        "performance": declared_performance(document, source),
    }
    spec |= {
        ours: config[theirs]
        for theirs, ours in (("image", "image"), ("engine_version", "engineVersion"))
        if theirs in config
    }
    if "backend" in data:
        spec["backend"] = str(data["backend"]).lower()
    origins |= {"modelID": (model_field,), "engineArgs": ("config", "args"), "env": ("config", "env")}
    origins |= {"image": ("config", "image"), "engineVersion": ("config", "engine_version")}
    return _Draft(spec, origins)


def _serve(document: Document, notes: list[str]) -> dict[str, _Draft]:
    """The enabled entries by the end of their recipe's name: `4gpu`, or `4gpu-sglang` beside vLLM's."""
    only_fields(document, (), _SERVE)
    drafts: dict[str, _Draft] = {}
    for field, backend in _BACKENDS.items():
        suffix = "" if backend is Backend.VLLM else f"-{backend}"
        entries = _entries(document, field)
        drafts |= {
            f"{count}gpu{suffix}": _entry(document, (field, entries[count]), count, backend, notes)
            for count in sorted(entries)
        }
    if not drafts:
        field = next(field for field in _BACKENDS if field in document.data)
        raise document.refuse((field,), "", "no GPU count is enabled", "set enabled: true on one of them")
    return drafts


def _entries(document: Document, field: str) -> dict[int, str]:
    """Keys of the enabled entries by their GPU count."""
    keys: dict[int, str] = {}
    for key in mapping_at(document, (field,)):
        path: Path = (field, key)
        entry = mapping_at(document, path)
        matched = _COUNT_KEY.match(key)
        if not matched:
            raise document.refuse(path, key, "the key is not a GPU count", "write for example 4_gpu")
        only_fields(document, path, {"enabled", "args", "env"})
        if boolean(entry.get("enabled", True)) is False:
            continue
        count = int(matched.group(1))
        if count in keys:
            message = f"there are two entries for {count} GPUs"
            raise document.refuse(path, key, message, "remove one of the two")
        keys[count] = key
    return keys


def _entry(document: Document, path: Path, count: int, backend: Backend, notes: list[str]) -> _Draft:
    data = document.data
    model_field = "huggingface_id" if "huggingface_id" in data else "model_id"
    model = data.get(model_field)
    gpus, origins = hardware(document)
    gpus["gpuCount"] = count
    origins |= {
        "modelID": (model_field,),
        "hardware.gpuCount": path,
        "engineArgs": (*path, "args"),
        "env": (*path, "env"),
    }
    spec = {
        "modelID": model,
        "hardware": gpus,
        "precision": precision(data.get("precision")),
        "backend": backend.value,
        "engineArgs": engine_args(document, (*path, "args"), model, count, notes),
        "env": environment(document, (*path, "env")),
    }
    return _Draft(spec, origins)


def _profile(document: Document, notes: list[str]) -> _Draft:
    data = document.data
    only_fields(document, (), _PROFILE)
    only_fields(document, ("metadata",), _METADATA)
    metadata = mapping_at(document, ("metadata",))
    gpu = "accelerator_model" if "accelerator_model" in metadata else "gpu"
    count = "accelerator_count" if "accelerator_count" in metadata else "gpu_count"
    source = data.get("model_id")
    aim_id = data.get("aim_id")
    model_field = "aim_id" if isinstance(aim_id, str) and "/" in aim_id else "model_id"
    spec: dict[str, Any] = {
        "modelID": data.get(model_field),
        "hardware": {"gpuModel": gpu_model(metadata.get(gpu)), "gpuCount": metadata.get(count)},
        "precision": precision(metadata.get("precision")),
        "engineArgs": engine_args(document, ("engine_args",), source, metadata.get(count), notes),
        "env": environment(document, ("env_vars",)),
    }
    if source is not None and source != spec["modelID"]:
        spec["source"] = source
    spec |= {
        ours: metadata[theirs]
        for theirs, ours in (("engine", "backend"), ("metric", "objective"), ("type", "maturity"))
        if theirs in metadata
    }
    if boolean(metadata.get("manual_selection_only")) is True:
        notes.append(
            "manual_selection_only has no meaning here: leave the ConfigMap unlabelled to serve only where it is named"
        )
    origins: dict[str, Path] = {
        "modelID": (model_field,),
        "source": ("model_id",),
        "engineArgs": ("engine_args",),
        "env": ("env_vars",),
    }
    origins |= {"hardware.gpuModel": ("metadata", gpu), "hardware.gpuCount": ("metadata", count)}
    origins |= {"precision": ("metadata", "precision"), "backend": ("metadata", "engine")}
    origins |= {"objective": ("metadata", "metric"), "maturity": ("metadata", "type")}
    return _Draft(spec, origins)


def _validate(document: Document, draft: _Draft) -> AIMRecipeSpec:
    try:
        return AIMRecipeSpec.strict_load(draft.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        loc = tuple(first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise document.refuse(
            _origin(draft, loc), first["input"], message, _remedy(first["type"], loc)
        ) from None


def _origin(draft: _Draft, loc: Path) -> Path:
    """Where in the document a field of the spec came from: by the longest known part of its path."""
    for length in range(len(loc), -1, -1):
        start = draft.origins.get(dotted(loc[:length]))
        if start is not None:
            return (*start, *loc[length:])
    return loc


def _remedy(kind: str, loc: Path) -> str:
    match kind:
        case "missing":
            return "add the field"
        case "extra_forbidden":
            return "remove the field, or correct its name"
        case _:
            field = ".".join(str(part) for part in loc if not isinstance(part, int))
            return f"see `kubectl explain aimrecipe.spec{'.' + field if field else ''}`"

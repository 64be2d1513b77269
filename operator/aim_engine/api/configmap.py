"""Recipes in ConfigMaps: our own form, the flat form and AMD's AIM forms, all read into AIMRecipeSpec.

A ConfigMap is written by a tenant: it is read with limits, nothing in it is executed, and what it does not say
clearly is refused with field, value, line and remedy. Whether its flags may be used is the engine's check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from aim_engine.api.configmap_fields import (
    Reading,
    boolean,
    declared_performance,
    engine_args,
    environment,
    gpu_model,
    hardware,
    precision,
    resources,
)
from aim_engine.api.configmap_yaml import Document, Faults, ReadError, RefusedError, parse
from aim_engine.api.enums import Backend
from aim_engine.api.meta import API_VERSION
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.api.schema_faults import found
from aim_engine.api.wording import Path, dotted

RECIPE_KEY = "recipe.yaml"
_PARTS = re.compile(r"[^.\[\]]+")
_COUNT_KEY = re.compile(r"^([0-9]{1,3})_gpus?$")

_BACKENDS = {f"{backend}_serve": backend for backend in Backend}
_ENTRY = re.compile(rf"(-\d+gpu(-({'|'.join(Backend)}))?)?")
_INFORMATIVE = {"recipe_id", "name", "description", "version", "author", "maintainer", "labels", "tags"}
_FLAT = _INFORMATIVE | {
    "huggingface_id", "model_id", "hardware", "gpu_count", "precision", "backend", "config", "performance", "resources",
}  # fmt: skip
_SERVE = _INFORMATIVE | {"huggingface_id", "model_id", "hardware", "precision", *_BACKENDS}
_PROFILE = _INFORMATIVE | {"aim_id", "model_id", "metadata", "engine_args", "env_vars", "container"}
_FLAGS = ("backend", "engineVersion", "engineArgs", "env")
_ANY = {"modelID": "any", "hardware": {"gpuModel": "any", "gpuCount": 1}, "precision": "bf16"}
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
    document: Document
    origins: Mapping[str, Path]
    """Where in the document the fields of the spec stand; "" is the spec itself, for all that are not named."""

    def place(self, field: str) -> str:
        """Line and field, as written in the document, of a field of the spec."""
        known = max((each for each in self.origins if _holds(each, field)), key=len, default="")
        rest = field[len(known) :]
        start = self.origins.get(known, ())
        parts = (int(part) if part.isdecimal() else part for part in _PARTS.findall(rest))
        line = self.document.line((*start, *parts))
        written = f"{dotted(start)}{rest if known else f'.{rest}'}".removeprefix(".")
        return f"line {line}, {written}" if line else written


def _holds(known: str, field: str) -> bool:
    return known in ("", field) or (field.startswith(known) and field[len(known)] in ".[")


@dataclass(frozen=True, slots=True)
class RecipeDocument:
    """A document that was understood: at least one recipe."""

    form: RecipeForm
    recipes: tuple[NamedRecipe, ...]
    notes: tuple[str, ...] = ()
    """What was left out, and why."""


@dataclass(frozen=True, slots=True)
class Unreadable(Faults):
    """A document of a known form in which something is wrong."""

    flags: tuple[NamedRecipe, ...] = ()
    """Flags and variables that could be read, in recipes of nothing else, so that they can be checked beside the rest."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A recipe in our own words, and where in the document each field came from."""

    spec: dict[str, Any]
    origins: Mapping[str, Path]


def read_recipe(text: str, *, name: str, namespace: str) -> RecipeDocument | Faults:
    """The recipes in a ConfigMap's `recipe.yaml`, or all that is wrong with it. Never raises."""
    try:
        document = parse(text)
        form = _form(document)
    except RefusedError as refused:
        return refused.faults
    reading = Reading(document)
    try:
        drafts = _drafts(reading, form, name, namespace)
    except RefusedError as refused:
        return refused.faults
    specs = {key: _validate(reading, draft) for key, draft in drafts.items()}
    if reading.faults:
        return Unreadable(reading.faults, tuple(_flags_alone(reading, drafts)))
    recipes = tuple(
        NamedRecipe(key, spec, document, drafts[key].origins)
        for key, spec in specs.items()
        if spec is not None
    )
    return RecipeDocument(form, recipes, tuple(dict.fromkeys(reading.notes)))


def _drafts(reading: Reading, form: RecipeForm, name: str, namespace: str) -> dict[str, _Draft]:
    """The document's recipes by name; raises RefusedError when it is another kind of object."""
    match form:
        case RecipeForm.AIM_RECIPE:
            return {name: _own(reading)}
        case RecipeForm.FLAT:
            return {name: _flat(reading, f"configmap/{namespace}/{name}")}
        case RecipeForm.PROFILE:
            return {name: _profile(reading)}
        case RecipeForm.SERVE:
            return {f"{name}-{end}": draft for end, draft in _serve(reading).items()}


def is_recipe_of(recipe: str, document: str) -> bool:
    """Whether a recipe's name is that of a document, or of one entry of its serve form."""
    return recipe.startswith(document) and _ENTRY.fullmatch(recipe, len(document)) is not None


def read_profile(document: Document) -> AIMRecipeSpec | ReadError:
    """The configuration in an AIM profile, flags and variables as written there, or what is wrong first. Never raises."""
    reading = Reading(document)
    spec = _validate(reading, _profile(reading))
    return spec if spec is not None and not reading.faults else reading.faults[0]


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
    remedy = "start with `modelID:` (the spec of an AIMRecipe) or `huggingface_id:`"
    raise RefusedError(
        document.error((), "", "this is no recipe of a known form", remedy), *document.spoilt.values()
    )


def _own(reading: Reading) -> _Draft:
    data = reading.document.data
    if "spec" not in data and "kind" not in data:
        return _Draft(dict(data), {"": ()})
    for field, wanted in (("apiVersion", API_VERSION), ("kind", "AIMRecipe")):
        if data.get(field, wanted) != wanted:
            reading.fault((field,), data[field], f"{field} is not {wanted}", f"write {field}: {wanted}")
    if reading.is_wrong(("kind",)):
        raise RefusedError(*reading.faults)
    reading.only_fields({"apiVersion", "kind", "metadata", "spec"})
    if "spec" not in data:
        reading.fault(("spec",), "", "the field is missing", "write the recipe below `spec:`")
    return _Draft(dict(reading.mapping("spec")), {"": ("spec",)})


def _flat(reading: Reading, source: str) -> _Draft:
    data = reading.document.data
    reading.only_fields(_FLAT)
    gpus, origins = hardware(reading)
    origins["hardware"] = ("hardware",)
    origins.setdefault("hardware.gpuCount", ("gpu_count",))
    if "gpu_count" in data:
        gpus["gpuCount"], origins["hardware.gpuCount"] = data["gpu_count"], ("gpu_count",)
    reading.only_fields({"args", "env", "image", "engine_version"}, "config")
    config = reading.mapping("config")
    model, origins["modelID"] = _model(reading)
    count = gpus.get("gpuCount")
    args, flags = engine_args(reading, ("config", "args"), model, count)
    host, amounts = resources(reading, count)
    spec: dict[str, Any] = {
        "hardware": gpus,
        "engineArgs": args,
        "env": environment(reading, "config", "env"),
        "resources": host,
        "performance": declared_performance(reading, source),
        **_said(modelID=model, precision=precision(data.get("precision"))),
    }
    for theirs, ours in (("image", "image"), ("engine_version", "engineVersion")):
        origins[ours] = ("config", theirs)
        if theirs in config:
            spec[ours] = config[theirs]
    if "backend" in data:
        spec["backend"] = str(data["backend"]).lower()
    origins |= {"engineArgs": ("config", "args"), "env": ("config", "env"), **flags, **amounts}
    return _Draft(spec, origins)


def _model(reading: Reading) -> tuple[Any, Path]:
    """The model that is served, and the field that says so."""
    data = reading.document.data
    field = "model_id" if "model_id" in data and "huggingface_id" not in data else "huggingface_id"
    return data.get(field), (field,)


def _said(**fields: Any) -> dict[str, Any]:
    """The fields that the document has; what it leaves out is told as missing."""
    return {name: value for name, value in fields.items() if value is not None}


def _serve(reading: Reading) -> dict[str, _Draft]:
    """The enabled entries by the end of their recipe's name: `4gpu`, or `4gpu-sglang` beside vLLM's."""
    reading.only_fields(_SERVE)
    drafts: dict[str, _Draft] = {}
    for field, backend in _BACKENDS.items():
        suffix = "" if backend is Backend.VLLM else f"-{backend}"
        entries = _entries(reading, field)
        drafts |= {
            f"{count}gpu{suffix}": _entry(reading, (field, entries[count]), count, backend)
            for count in sorted(entries)
        }
    if not drafts and not reading.faults:
        field = next(field for field in _BACKENDS if field in reading.document.data)
        reading.fault((field,), "", "no GPU count is enabled", "set enabled: true on one of them")
    return drafts


def _entries(reading: Reading, field: str) -> dict[int, str]:
    """Keys of the enabled entries by their GPU count."""
    keys: dict[int, str] = {}
    for key in reading.mapping(field):
        path = (field, key)
        matched = _COUNT_KEY.match(key)
        if not matched:
            reading.fault(path, key, "the key is not a GPU count", "write for example 4_gpu")
            continue
        entry = reading.mapping(*path)
        reading.only_fields({"enabled", "args", "env"}, *path)
        enabled = boolean(entry.get("enabled", True))
        if not isinstance(enabled, bool):
            reading.fault((*path, "enabled"), enabled, "is neither true nor false", "write true or false")
        if enabled is False:
            continue
        count = int(matched.group(1))
        if count in keys:
            message = f"there are two entries for {count} GPUs"
            reading.fault(path, key, message, "remove one of the two")
        else:
            keys[count] = key
    return keys


def _entry(reading: Reading, path: tuple[str, str], count: int, backend: Backend) -> _Draft:
    gpus, origins = hardware(reading)
    gpus["gpuCount"] = count
    model, origins["modelID"] = _model(reading)
    args, flags = engine_args(reading, (*path, "args"), model, count)
    spec = {
        "hardware": gpus,
        "backend": backend.value,
        "engineArgs": args,
        "env": environment(reading, *path, "env"),
        **_said(modelID=model, precision=precision(reading.document.data.get("precision"))),
    }
    origins |= {"hardware.gpuCount": path, "engineArgs": (*path, "args"), "env": (*path, "env"), **flags}
    return _Draft(spec, origins)


def _profile(reading: Reading) -> _Draft:
    data = reading.document.data
    reading.only_fields(_PROFILE)
    reading.only_fields(_METADATA, "metadata")
    metadata = reading.mapping("metadata")
    gpu = "accelerator_model" if "accelerator_model" in metadata else "gpu"
    count = "accelerator_count" if "accelerator_count" in metadata else "gpu_count"
    source = data.get("model_id")
    aim_id = data.get("aim_id")
    model_field = "aim_id" if isinstance(aim_id, str) and "/" in aim_id else "model_id"
    args, flags = engine_args(reading, ("engine_args",), source, metadata.get(count))
    spec: dict[str, Any] = {
        "hardware": _said(gpuModel=gpu_model(metadata.get(gpu)), gpuCount=metadata.get(count)),
        "engineArgs": args,
        "env": environment(reading, "env_vars"),
        **_said(modelID=data.get(model_field), precision=precision(metadata.get("precision"))),
    }
    if source is not None and source != spec.get("modelID"):
        spec["source"] = source
    spec |= {
        ours: metadata[theirs]
        for theirs, ours in (("engine", "backend"), ("metric", "objective"), ("type", "maturity"))
        if theirs in metadata
    }
    if boolean(metadata.get("manual_selection_only")) is True:
        reading.notes.append(
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
    origins |= {"objective": ("metadata", "metric"), "maturity": ("metadata", "type"), **flags}
    return _Draft(spec, origins)


def _validate(reading: Reading, draft: _Draft) -> AIMRecipeSpec | None:
    try:
        return AIMRecipeSpec.strict_load(draft.spec)
    except ValidationError as error:
        for path, value, message, remedy in found(error, "aimrecipe", "spec"):
            reading.fault(_origin(draft, path), value, message, remedy)
        return None


def _flags_alone(reading: Reading, drafts: Mapping[str, _Draft]) -> Iterator[NamedRecipe]:
    for name, draft in drafts.items():
        read = {field: draft.spec[field] for field in _FLAGS if field in draft.spec}
        try:
            spec = AIMRecipeSpec.strict_load({**_ANY, **read})
        except ValidationError:
            continue
        yield NamedRecipe(name, spec, reading.document, draft.origins)


def _origin(draft: _Draft, loc: Path) -> Path:
    """Where in the document a field of the spec came from: by the longest known part of its path."""
    for length in range(len(loc), -1, -1):
        start = draft.origins.get(dotted(loc[:length]))
        if start is not None:
            return (*start, *loc[length:])
    return loc

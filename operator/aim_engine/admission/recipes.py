"""Recipes at the gate: AIMRecipes of administrators, and ConfigMaps that are labelled as recipes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from aim_engine.admission.answer import Answer, Object, answer, plain, unreadable
from aim_engine.api.configmap import NamedRecipe, Unreadable
from aim_engine.api.configmap_yaml import Faults, ReadError
from aim_engine.api.meta import LABEL_RECIPE
from aim_engine.api.recipe import AIMRecipe
from aim_engine.api.schema_faults import schema_faults
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import Problem, engine
from aim_engine.reconcile.cache import RECIPE_FILE, config_candidate, recipe_document
from aim_engine.selection import (
    Candidate,
    Check,
    Facts,
    Source,
    SpecProblem,
    candidate,
    image_problems,
    recipe_fit,
    recipe_problems,
    validity_problems,
)
from aim_engine.sizing import FitVerdict

_DATA = f"data[{RECIPE_FILE}]"


def judge_recipe(new: Object, old: Object | None, facts: Facts, checks: frozenset[Check]) -> Answer:
    """An AIMRecipe. Its author is an administrator."""
    before = () if old is None else _recipe_problems(old, facts)
    made = _read(new)
    warnings = () if made is None else _warnings(made, facts, "spec.env")
    return answer(checks, _recipe_problems(new, facts), before, warnings)


def judge_config_map(
    new: Object,
    old: Object | None,
    namespace_labels: Mapping[str, str],
    allowed_images: Sequence[str],
    facts: Facts,
    checks: frozenset[Check],
) -> Answer:
    """A ConfigMap with our label. Its author is a tenant of the namespace."""
    before = (
        ()
        if old is None or not labelled(old)
        else _config_map_problems(old, namespace_labels, allowed_images, facts)
    )
    read = recipe_document(_complete(new))
    warnings = (
        ()
        if isinstance(read, Faults)
        else [
            each
            for found in read.recipes
            for each in _warnings(config_candidate(found), facts, _place(found, "env"))
        ]
    )
    return answer(
        checks, _config_map_problems(new, namespace_labels, allowed_images, facts), before, warnings
    )


def _read(obj: Object) -> Candidate | None:
    try:
        loaded = AIMRecipe.model_validate(plain(obj))
    except ValidationError:
        return None
    return candidate(loaded.metadata.name, Source.CATALOGUE, loaded.spec)


def _recipe_problems(obj: Object, facts: Facts) -> tuple[SpecProblem, ...]:
    try:
        loaded = AIMRecipe.strict_load(plain(obj))
    except ValidationError as error:
        return tuple(unreadable(schema_faults(error, "aimrecipe")))
    made = candidate(loaded.metadata.name, Source.CATALOGUE, loaded.spec)
    return tuple(_sorted_out(validity_problems(made, facts), "spec.{}".format, Check.RECIPE_COMPATIBILITY))


def _config_map_problems(
    obj: Object, namespace_labels: Mapping[str, str], allowed_images: Sequence[str], facts: Facts
) -> tuple[SpecProblem, ...]:
    read = recipe_document(_complete(obj))
    if isinstance(read, Faults):
        return (*unreadable(map(_in_data, read.errors)), *_flag_problems(read, namespace_labels))
    return tuple(
        problem
        for found in read.recipes
        for problem in (
            *_sorted_out(
                validity_problems(config_candidate(found), facts, namespace_labels), partial(_place, found)
            ),
            *_image_problems(found, allowed_images),
        )
    )


def _image_problems(found: NamedRecipe, allowed: Sequence[str]) -> Iterator[SpecProblem]:
    for problem in image_problems(found.spec.image, allowed, _place(found, "image")):
        yield SpecProblem(Check.SPEC, problem)


def _in_data(error: ReadError) -> ReadError:
    """An error of the document as one of the ConfigMap."""
    field = ", ".join(part for part in (f"line {error.line}" if error.line else "", error.field) if part)
    return replace(
        error, field=error.field if error.field.startswith("data.") else f"{_DATA} {field}".strip()
    )


def _flag_problems(read: Faults, namespace_labels: Mapping[str, str]) -> Iterator[SpecProblem]:
    """Of flags and variables, where only other fields are at fault."""
    for found in read.flags if isinstance(read, Unreadable) else ():
        problems = recipe_problems(config_candidate(found), namespace_labels)
        own = (each for each in problems if each.field.startswith(("engineArgs", "env")))
        yield from _sorted_out(own, partial(_place, found))


def _place(found: NamedRecipe, field: str) -> str:
    return f"{_DATA} {found.place(field)}"


def _sorted_out(
    problems: Iterable[Problem], place: Callable[[str], str], flags: Check = Check.SPEC
) -> Iterator[SpecProblem]:
    """Each under its check. `flags`: that of flags and variables, which for a tenant nobody turns off."""
    for problem in problems:
        match re.split(r"[.\[]", problem.field)[0]:
            case "hardware" | "precision":
                check = Check.RESOURCE_LIMITS
            case "engineArgs" | "env":
                check = flags
            case _:
                check = Check.RECIPE_COMPATIBILITY
        yield SpecProblem(check, replace(problem, field=place(problem.field)))


def _warnings(made: Candidate, facts: Facts, env: str) -> Iterator[str]:
    spec = made.spec
    for text in engine(spec.backend).env_warnings(spec.env, gpu_catalog().get(spec.hardware.gpu_model)):
        yield f"{env}.{text}"
    fit = recipe_fit(made, facts)
    if fit is not None and fit.verdict is FitVerdict.UNKNOWN:
        yield f"the dimensions of {spec.model_id} are not known, so whether it fits its GPUs was not checked"


def labelled(obj: Object) -> bool:
    """Whether a ConfigMap carries the label of a recipe."""
    labels = _metadata(obj).get("labels")
    return isinstance(labels, Mapping) and labels.get(LABEL_RECIPE) == "true"


def _complete(obj: Object) -> dict[str, Any]:
    """A ConfigMap of a request may lack a name (generateName)."""
    return {**obj, "metadata": {"name": "recipe", "namespace": "default", **_metadata(obj)}}


def _metadata(obj: Object) -> Mapping[str, Any]:
    found = obj.get("metadata")
    return found if isinstance(found, Mapping) else {}

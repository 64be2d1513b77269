"""Rules for a set of recipe files: each can run, says where its numbers come from, and is there once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from aim_engine.api.enums import Precision, ProvenanceKind
from aim_engine.api.recipe import AIMRecipe, AIMRecipeSpec
from aim_engine.api.schema_faults import schema_faults
from aim_engine.api.wording import is_secret, shown
from aim_engine.catalog.flags import flag_table, flag_versions
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.catalog.models import checkpoint_catalog
from aim_engine.engines import Problem, engine, version_of
from aim_engine.selection.types import Facts, Source, candidate
from aim_engine.selection.validity import validity_problems
from aim_engine.selection.weights import stored_weights

_DTYPES = {
    "bfloat16": Precision.BF16,
    "float16": Precision.FP16,
    "half": Precision.FP16,
}


@dataclass(frozen=True, slots=True)
class FileProblem:
    """What is wrong with one file, by field, value and remedy."""

    file: str
    problem: Problem

    def __str__(self) -> str:
        told = self.problem
        value = "" if is_secret(told.field) or told.value is None else f" '{shown(told.value)}'"
        return f"{self.file}: {told.field}{value}: {told.message}; {told.remedy}"


def catalogue_problems(files: Mapping[str, object], facts: Facts) -> tuple[FileProblem, ...]:
    """All problems of recipe files, given by name and parsed content, in the order of the names."""
    read = {name: _load(files[name]) for name in sorted(files)}
    recipes = {name: each for name, each in read.items() if isinstance(each, AIMRecipe)}
    unreadable = (FileProblem(name, each) for name, each in read.items() if isinstance(each, Problem))
    single = (
        FileProblem(name, problem)
        for name, recipe in recipes.items()
        for problem in recipe_file_problems(recipe, facts)
    )
    return (*unreadable, *single, *_twins(recipes))


def recipe_file_problems(recipe: AIMRecipe, facts: Facts) -> tuple[Problem, ...]:
    """What is wrong with one recipe by itself."""
    spec = recipe.spec
    made = candidate(recipe.metadata.name, Source.CATALOGUE, spec)
    return (
        *_spelling(spec),
        *_version(spec),
        *validity_problems(made, facts),
        *_conversion(spec, facts),
        *_ignored(spec),
        *_performance(spec),
    )


def _load(content: object) -> AIMRecipe | Problem:
    try:
        return AIMRecipe.strict_load(content)
    except ValidationError as error:
        first = schema_faults(error, "aimrecipe")[0]
        return Problem(first.field, first.value or None, first.message, first.remedy)


def _spelling(spec: AIMRecipeSpec) -> Iterator[Problem]:
    """Hub ids are written in one case only: a twin in another would be a model of its own to us."""
    known = {name.lower(): name for name in checkpoint_catalog()}
    for field, value in (("modelID", spec.model_id), ("source", spec.source)):
        right = known.get(value.lower()) if value else None
        if right is not None and right != value:
            yield Problem(
                f"spec.{field}", value, "is a known model in other upper and lower case", f"write {right}"
            )


def _version(spec: AIMRecipeSpec) -> Iterator[Problem]:
    """An administrator may run any version; a file that others take must be one that can be checked."""
    known, version = flag_versions(spec.backend), version_of(spec)
    if known and flag_table(spec.backend, version) is None:
        message = "is a version whose flags are not known here, so the arguments cannot be checked"
        yield Problem("spec.engineVersion", version, message, f"use one of {', '.join(known)}")


def _conversion(spec: AIMRecipeSpec, facts: Facts) -> Iterator[Problem]:
    """16-bit weights are served in the format that `dtype` names, else in their own."""
    stored = stored_weights(facts, spec)
    formats = set(_DTYPES.values())
    if stored is None or not {stored.precision, spec.precision} <= formats:
        return
    dtype = engine(spec.backend).merge_args(spec.engine_args, {}).get("dtype", "auto")
    served = _DTYPES.get(str(dtype), stored.precision)
    if served is not spec.precision:
        wanted = next(name for name, precision in _DTYPES.items() if precision is spec.precision)
        message = (
            f"the weights of {stored.id} are {stored.precision}, and dtype {dtype} serves them in {served}"
        )
        yield Problem(
            "precision", spec.precision, message, f"set dtype to {wanted}, or precision to {served}"
        )


def _ignored(spec: AIMRecipeSpec) -> Iterator[Problem]:
    gpu = gpu_catalog().get(spec.hardware.gpu_model)
    for warning in engine(spec.backend).env_warnings(spec.env, gpu):
        field = f"env.{warning.split()[0]}"
        yield Problem(field, None, warning, "remove the variable, or correct its name")


def _performance(spec: AIMRecipeSpec) -> Iterator[Problem]:
    for index, entry in enumerate(spec.performance):
        field = f"spec.performance[{index}].provenance"
        provenance = entry.provenance
        if provenance.kind is ProvenanceKind.DECLARED:
            yield Problem(
                f"{field}.kind",
                provenance.kind,
                "is a bare claim",
                "give a published source, or remove the entry",
            )
        elif not provenance.source.startswith("https://"):
            yield Problem(
                f"{field}.source", provenance.source, "is not a public address", "write its https:// URL"
            )
        elif provenance.engine_version is None or provenance.date is None:
            yield Problem(
                field, provenance.source, "lacks engineVersion or date", "say what was measured, and when"
            )


def _twins(recipes: Mapping[str, AIMRecipe]) -> Iterator[FileProblem]:
    names: dict[str, str] = {}
    identities: dict[object, str] = {}
    for file, recipe in recipes.items():
        first = names.setdefault(recipe.metadata.name, file)
        if first != file:
            message = f"is also the name of the recipe in {first}"
            yield FileProblem(
                file, Problem("metadata.name", recipe.metadata.name, message, "rename one of the two")
            )
        first = identities.setdefault(identity(recipe.spec), file)
        if first != file:
            message = f"is the configuration of {first} again"
            yield FileProblem(file, Problem("spec", recipe.metadata.name, message, "keep one of the two"))


def identity(spec: AIMRecipeSpec) -> tuple[object, ...]:
    """What makes a configuration that one; two recipes of a catalogue never share it."""
    hardware = spec.hardware
    return (
        spec.model_id,
        spec.source or spec.model_id,
        hardware.gpu_model,
        hardware.gpu_count,
        hardware.partition,
        spec.precision,
        spec.backend,
        spec.objective,
    )

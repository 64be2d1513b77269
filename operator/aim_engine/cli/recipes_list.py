"""`aim-engine recipes list`: the recipes of a folder, a snapshot, or the shipped catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from aim_engine.api.enums import ProvenanceKind
from aim_engine.api.recipe import AIMRecipe
from aim_engine.catalog.gpus import whole_partition
from aim_engine.cli.cluster import check_recipe, known_objects, read_recipes, shipped_recipes
from aim_engine.cli.files import Found, read_list
from aim_engine.cli.output import Exit, columns, emit, tell
from aim_engine.cli.words import known_gpu, known_precision
from aim_engine.reconcile.cache import explain


def run(arguments: argparse.Namespace) -> int:
    """List."""
    asked = {
        "modelID": arguments.model,
        "gpuModel": None if arguments.gpu is None else known_gpu(arguments.gpu).model,
        "precision": known_precision(arguments.precision),
    }
    every = list(map(_row, _recipes(arguments)))
    rows = [row for row in every if all(value is None or row[name] == value for name, value in asked.items())]
    if every and not rows:
        tell(_nothing(arguments, {row["modelID"] for row in every}))
    rows.sort(key=lambda row: (row["modelID"], row["gpuModel"], row["gpuCount"], row["name"]))
    emit(arguments.output, rows, lambda wide: _table(rows, wide=wide))
    return Exit.OK


def _nothing(arguments: argparse.Namespace, models: Iterable[str]) -> str:
    by_case = {model.lower(): model for model in models}
    near = get_close_matches((arguments.model or "").lower(), by_case, n=1, cutoff=0.7)
    hint = f"; did you mean {by_case[near[0]]}?" if near and by_case[near[0]] != arguments.model else ""
    return f"no recipe is for all that is asked{hint}"


def found_recipes(arguments: argparse.Namespace) -> list[Found]:
    """The recipes that the flags mean."""
    if arguments.cluster is None:
        return read_recipes(arguments.recipes or shipped_recipes())
    return [
        each for each in known_objects(read_list(arguments.cluster)[1]) if each.obj["kind"] == "AIMRecipe"
    ]


def _recipes(arguments: argparse.Namespace) -> Iterator[AIMRecipe]:
    """Files are checked; what a cluster stores is read as the operator reads it, and told where it cannot be."""
    for each in found_recipes(arguments):
        if arguments.cluster is None:
            yield check_recipe(each)
            continue
        try:
            yield AIMRecipe.model_validate({**each.obj, "status": {}})
        except ValidationError as error:
            tell(f"aim-engine: {each.where}: {each.name} is passed over: {explain(error, 'aimrecipe')}")


def _row(recipe: AIMRecipe) -> dict[str, Any]:
    spec = recipe.spec
    rates = (
        each.tokens_per_second
        for each in spec.performance
        if each.provenance.kind is not ProvenanceKind.DECLARED
    )
    return {
        "name": recipe.metadata.name,
        "modelID": spec.model_id,
        "source": spec.source,
        "gpuModel": spec.hardware.gpu_model,
        "gpuCount": spec.hardware.gpu_count,
        "partition": spec.hardware.partition,
        "precision": spec.precision.value,
        "backend": spec.backend.value,
        "objective": spec.objective.value,
        "maturity": spec.maturity.value,
        "publishedTokensPerSecond": max((rate for rate in rates if rate), default=None),
    }


def _table(rows: list[dict[str, Any]], *, wide: bool) -> str:
    names = ["name", "modelID", "gpuModel", "gpuCount", "precision", "maturity", "publishedTokensPerSecond"]
    heads = ["NAME", "MODEL", "GPU", "COUNT", "PRECISION", "MATURITY", "TOK/S"]
    if wide:
        names += ["backend", "objective", "source"]
        heads += ["BACKEND", "OBJECTIVE", "SOURCE"]
    shown = ({**row, "gpuModel": _gpu(row)} for row in rows)
    return columns(heads, [["-" if row[name] is None else str(row[name]) for name in names] for row in shown])


def _gpu(row: dict[str, Any]) -> str:
    """The GPU model, with the mode of partitioned ones."""
    mode = whole_partition(row["partition"])
    return f"{row['gpuModel']}/{mode}" if mode else row["gpuModel"]

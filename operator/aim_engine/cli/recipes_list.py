"""`aim-engine recipes list`: the recipes of a folder, a snapshot, or the shipped catalogue."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aim_engine.api.recipe import AIMRecipe
from aim_engine.cli.cluster import check_recipe, read_recipes, shipped_recipes
from aim_engine.cli.files import Found, read_list
from aim_engine.cli.output import Exit, add_output, columns, emit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add_source(parser)
    parser.add_argument("--model", metavar="ID", help="only of this model")
    parser.add_argument("--gpu", metavar="MODEL", help="only for this GPU model")
    parser.add_argument("--precision", metavar="P", help="only in this format")
    add_output(parser)


def add_source(parser: argparse.ArgumentParser) -> None:
    """The flags that say where recipes come from."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--recipes", type=Path, metavar="DIR", help="folder of recipe files (default: the shipped ones)"
    )
    source.add_argument(
        "--cluster", type=Path, metavar="FILE", help="snapshot written by `aim-engine snapshot`"
    )


def run(arguments: argparse.Namespace) -> int:
    """List."""
    recipes = [check_recipe(each) for each in found_recipes(arguments)]
    asked = {"modelID": arguments.model, "gpuModel": arguments.gpu, "precision": arguments.precision}
    rows = [
        row
        for row in map(_row, recipes)
        if all(not value or row[name] == value for name, value in asked.items())
    ]
    rows.sort(key=lambda row: (row["modelID"], row["gpuModel"], row["gpuCount"], row["name"]))
    emit(arguments.output, rows, lambda wide: _table(rows, wide=wide))
    return Exit.OK


def found_recipes(arguments: argparse.Namespace) -> list[Found]:
    """The recipes that the flags mean."""
    if arguments.cluster is None:
        return read_recipes(arguments.recipes or shipped_recipes())
    return [each for each in read_list(arguments.cluster)[1] if each.obj["kind"] == "AIMRecipe"]


def _row(recipe: AIMRecipe) -> dict[str, Any]:
    spec = recipe.spec
    rate = next((p.tokens_per_second for p in spec.performance if p.tokens_per_second), None)
    return {
        "name": recipe.metadata.name,
        "modelID": spec.model_id,
        "source": spec.source,
        "gpuModel": spec.hardware.gpu_model,
        "gpuCount": spec.hardware.gpu_count,
        "precision": spec.precision.value,
        "backend": spec.backend.value,
        "objective": spec.objective.value,
        "maturity": spec.maturity.value,
        "publishedTokensPerSecond": rate,
    }


def _table(rows: list[dict[str, Any]], *, wide: bool) -> str:
    names = ["name", "modelID", "gpuModel", "gpuCount", "precision", "maturity", "publishedTokensPerSecond"]
    heads = ["NAME", "MODEL", "GPU", "COUNT", "PRECISION", "MATURITY", "TOK/S"]
    if wide:
        names += ["backend", "objective", "source"]
        heads += ["BACKEND", "OBJECTIVE", "SOURCE"]
    return columns(heads, [["-" if row[name] is None else str(row[name]) for name in names] for row in rows])

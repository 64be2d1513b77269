"""`aim-engine recipes import`: recipes of another project as AIMRecipe files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from aim_engine.api.configmap_yaml import Document, ReadError, RefusedError, load
from aim_engine.api.meta import ANNOTATION_ORIGIN
from aim_engine.catalog.imports import Origin, origins
from aim_engine.cli.output import CommandError, Exit, invalid
from aim_engine.importers.aim_build import import_profiles
from aim_engine.importers.recipe import file_path, to_yaml
from aim_engine.importers.results import Imported, Rejected, SourceFile
from aim_engine.importers.vllm_recipes import import_models

Importer = Callable[[Sequence[SourceFile], Origin], list[Imported | Rejected]]
IMPORTERS: dict[str, Importer] = {"aim-build": import_profiles, "vllm-recipes": import_models}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("source", choices=sorted(IMPORTERS), help="project the files come from")
    parser.add_argument("path", type=Path, help="checkout of its repository, or the folder of its recipes")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="write one file per recipe, foldered by model family (default: all to standard output)",
    )  # fmt: skip
    parser.add_argument("--commit", help="commit the files are of (default: the one the rules were made for)")
    parser.add_argument("--licence", help="licence of the files, as an SPDX id (default: the project's)")


def run(arguments: argparse.Namespace) -> int:
    """Import; 0 when every file was read, 4 when there is nothing to read, or a file is not one of the project's."""
    known = origins()[arguments.source]
    origin = replace(
        known, commit=arguments.commit or known.commit, licence=arguments.licence or known.licence
    )
    files = read_files(arguments.path, origin)
    if not files:
        raise invalid(
            f"{arguments.path}: no YAML files of {origin.repository} there; name its checkout, or the folder of its recipes"
        )
    results = IMPORTERS[arguments.source](files, origin)
    imported = [each for each in results if isinstance(each, Imported)]
    refused = [each for each in results if isinstance(each, Rejected)]
    kept = _write(imported, arguments.output)
    for each, path, origin_found in kept:
        print(
            f"left alone: {path} of {', '.join(each.sources)} has another origin: {origin_found}",
            file=sys.stderr,
        )
    beside = _beside(arguments.path, origin)
    for told in (*refused, *beside):
        print(f"not imported: {told}", file=sys.stderr)
    alone = [each for each, _, _ in kept]
    _print_counts(len(files), [each for each in imported if each not in alone], alone, refused, len(beside))
    return Exit.INVALID_INPUT if any(isinstance(file.content, ReadError) for file in files) else Exit.OK


def read_files(path: Path, origin: Origin) -> list[SourceFile]:
    """The project's recipe files below `path`, named from the root of its repository."""
    root = path / origin.folder if (path / origin.folder).is_dir() else path
    return [
        SourceFile(f"{origin.folder}/{each.relative_to(root).as_posix()}", _read(each))
        for each in _yaml(root)
    ]


def _beside(path: Path, origin: Origin) -> list[Rejected]:
    """YAML files of a checkout that are no recipes by their place: told, so that every file is accounted for."""
    if not (path / origin.folder).is_dir():
        return []
    names = (each.relative_to(path) for each in _yaml(path))
    outside = [name for name in names if name.parts[0] != origin.folder and not name.parts[0].startswith(".")]
    message = f"lies outside {origin.folder}/, where {origin.repository} keeps its configurations"
    return [
        Rejected((name.as_posix(),), ReadError("", "", message, "nothing is to be done")) for name in outside
    ]


def _yaml(root: Path) -> list[Path]:
    return sorted(each for each in root.rglob("*") if each.suffix in (".yaml", ".yml") and each.is_file())


def _read(path: Path) -> Document | ReadError:
    try:
        return load(path.read_text(encoding="utf-8"))
    except RefusedError as refused:
        return refused.faults.errors[0]
    except (OSError, UnicodeDecodeError) as error:
        return ReadError("", "", f"the file cannot be read: {error}", "make it readable UTF-8 text")


def _write(imported: list[Imported], folder: Path | None) -> list[tuple[Imported, Path, str]]:
    """Write the recipes; those in whose place is one from elsewhere are returned with its path and origin."""
    left: list[tuple[Imported, Path, str]] = []
    for each in imported:
        text = to_yaml(each.recipe)
        if folder is None:
            print(f"---\n{text}", end="")
            continue
        target = folder / file_path(each.recipe)
        elsewhere = _other_origin(target, each.recipe.metadata.annotations[ANNOTATION_ORIGIN])
        if elsewhere is not None:
            left.append((each, target, elsewhere))
            continue
        _save(target, text)
    return left


def _save(target: Path, text: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{target}: {error.strerror}; name a folder that can be written with --output"
        ) from None


def _other_origin(target: Path, origin: str) -> str | None:
    """Where an existing file comes from, when that is another project; None when it may be written."""
    if not target.exists():
        return None
    found = _read(target)
    metadata = found.data.get("metadata") if isinstance(found, Document) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    said = annotations.get(ANNOTATION_ORIGIN) if isinstance(annotations, dict) else None
    project = origin.split("/blob/", 1)[0]
    return None if isinstance(said, str) and said.startswith(f"{project}/") else str(said or "not told")


def _print_counts(
    files: int, imported: list[Imported], alone: list[Imported], refused: list[Rejected], beside: int
) -> None:
    """The counts of what was read, so that they add up."""
    models = {each.recipe.spec.model_id for each in imported}
    taken, kept, left = (sum(len(each.sources) for each in results) for results in (imported, alone, refused))
    print(
        f"{files} files with {taken + kept + left} configurations: {taken} imported as {len(imported)} recipes of "
        f"{len(models)} models, {kept} left alone, {left} not imported; {beside} other files not read",
        file=sys.stderr,
    )

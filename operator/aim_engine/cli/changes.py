"""What a file or folder would apply: deployments, and what stands beside them and bears on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aim_engine.cli.cluster import APPLIED, NAMESPACED, check_recipe
from aim_engine.cli.files import Found, Twins, manifest_files, read_manifest, refuse_twins
from aim_engine.cli.output import CommandError, invalid

_COUNT = {kind: NAMESPACED[kind] for kind in ("AIMDeployment", *APPLIED)}
"""Kinds that bear on a decision; others of a folder are nobody's business here."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A part of a change that cannot be used, and why."""

    where: str
    error: CommandError
    found: Found | None = None
    """Where it could be read at all."""

    def identity(self, namespace: str) -> dict[str, str]:
        """Namespace and name of a deployment."""
        return self.found.identity(namespace) if self.found else {}


@dataclass(frozen=True, slots=True)
class Change:
    """What would be applied."""

    parts: tuple[Found | Wrong, ...]
    """Deployments, and whatever is wrong, in order."""
    beside: tuple[Found, ...]
    """Objects of other kinds."""

    @property
    def deployments(self) -> tuple[Found, ...]:
        return tuple(part for part in self.parts if isinstance(part, Found))

    @property
    def objects(self) -> tuple[Found, ...]:
        return (*self.beside, *self.deployments)


def read_file(path: Path, namespace: str) -> Change:
    """What one file would apply; raises CommandError when anything in it is wrong."""
    found = read_manifest(path)
    refuse_twins(found, _COUNT, namespace)
    return _with_deployments(path, found)


def read_folder(folder: Path, namespace: str) -> Change:
    """What the files of a folder would apply: one that is wrong must not hide what is to be said of the others."""
    found: list[Found | Wrong] = []
    twins = Twins(_COUNT, namespace)
    for path in manifest_files(folder):
        try:
            objects = read_manifest(path)
        except CommandError as error:
            found.append(Wrong(str(path), error))
            continue
        for each in objects:
            try:
                twins.refuse(each)
                if each.obj["kind"] == "AIMRecipe":
                    check_recipe(each)
                found.append(each)
            except CommandError as error:
                found.append(Wrong(each.where, error, each if _is_deployment(each) else None))
    return _with_deployments(folder, found)


def read_one(path: Path, namespace: str) -> tuple[Found, Change]:
    """The only deployment of a file, and all that the file would apply."""
    change = read_file(path, namespace)
    if len(change.deployments) != 1:
        raise invalid(f"{path}: holds {len(change.deployments)} AIMDeployments; give a file that has one")
    return change.deployments[0], change


def _with_deployments(path: Path, found: Iterable[Found | Wrong]) -> Change:
    known = list(found)
    parts = tuple(each for each in known if isinstance(each, Wrong) or _is_deployment(each))
    if not parts:
        raise invalid(f"{path}: there is no AIMDeployment; name a file that has one")
    return Change(
        parts, tuple(each for each in known if isinstance(each, Found) and not _is_deployment(each))
    )


def _is_deployment(found: Found) -> bool:
    return bool(found.obj["kind"] == "AIMDeployment")

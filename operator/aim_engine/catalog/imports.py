"""Rules for recipes of other projects, from `imports.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from aim_engine.api.enums import Maturity
from aim_engine.api.recipe import RecipeResources
from aim_engine.catalog.data import read_yaml


@dataclass(frozen=True, slots=True)
class Origin:
    """A project that publishes recipes, at one commit."""

    name: str
    repository: str
    commit: str
    licence: str
    folder: str
    """Folder of the repository that holds the recipes."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """A setting that shows what a profile was tuned for, and the maturity it can still claim."""

    value: str
    maturity_at_most: Maturity
    why: str


@dataclass(frozen=True, slots=True)
class Sibling:
    """A GPU model that is the same chip as another."""

    of: str
    why: str


@dataclass(frozen=True, slots=True)
class RemoteCode:
    """Whether a model starts without code of its repository."""

    needed: bool
    why: str


@dataclass(frozen=True, slots=True)
class ImportRules:
    """What happens to flags and variables that the pinned engine does not have, or that no recipe may set."""

    dropped_flags: Mapping[str, str]
    defaults: Mapping[str, object]
    """Values of flags that the pinned engine uses anyway."""
    renamed_variables: Mapping[str, str]
    dropped_variables: Mapping[str, str]
    outdated: Mapping[str, Outdated]
    resources: Mapping[int, RecipeResources]
    """Host resources by GPUs per replica."""
    features: tuple[str, ...]
    """Abilities of a vLLM recipe that are turned on."""
    siblings: Mapping[str, Sibling]
    families: tuple[tuple[str, str], ...]
    """Beginnings of model ids with the folder of their recipes; the first that matches counts."""
    remote_code: tuple[tuple[str, RemoteCode], ...]
    """By beginnings of model ids; the first that matches counts."""

    def remote_code_of(self, model_id: str) -> RemoteCode | None:
        """What is known of a model; None: nothing."""
        return next((known for begins, known in self.remote_code if model_id.startswith(begins)), None)


@cache
def origins() -> Mapping[str, Origin]:
    """The projects we import from, by name."""
    rows = read_yaml("imports.yaml")["origins"]
    return MappingProxyType({name: Origin(name=name, **row) for name, row in rows.items()})


@cache
def import_rules() -> ImportRules:
    """The rules for all projects."""
    content = read_yaml("imports.yaml")
    outdated = {
        name: Outdated(row["value"], Maturity(row["maturityAtMost"]), row["why"])
        for name, row in content["outdated"].items()
    }
    resources = {count: RecipeResources(**row) for count, row in content["resources"].items()}
    return ImportRules(
        dropped_flags=MappingProxyType(content["droppedFlags"]),
        defaults=MappingProxyType(content["defaults"]),
        renamed_variables=MappingProxyType(content["renamedVariables"]),
        dropped_variables=MappingProxyType(content["droppedVariables"]),
        outdated=MappingProxyType(outdated),
        resources=MappingProxyType(resources),
        features=tuple(content["features"]),
        siblings=MappingProxyType(
            {model: Sibling(row["of"], row["why"]) for model, row in content["siblings"].items()}
        ),
        families=tuple((row["begins"], row["folder"]) for row in content["families"]),
        remote_code=tuple(
            (row["begins"], RemoteCode(row["needed"], row["why"])) for row in content["remoteCode"]
        ),
    )

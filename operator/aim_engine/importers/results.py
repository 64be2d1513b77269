"""What comes of a file of another project: a recipe, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.api.configmap_yaml import Document, ReadError
from aim_engine.api.enums import Maturity, Objective, Precision
from aim_engine.api.recipe import AIMRecipe


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of another project, or why it cannot be read."""

    path: str
    """From the root of the project's repository."""
    content: Document | ReadError


@dataclass(frozen=True, slots=True)
class Imported:
    """A recipe that passed every check, and the files it was made from."""

    recipe: AIMRecipe
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A configuration that does not become a recipe."""

    sources: tuple[str, ...]
    """Files, with the variant and GPU where one holds several configurations."""
    error: ReadError

    def __str__(self) -> str:
        return f"{', '.join(self.sources)}: {self.error}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration as its source has it, in our vocabulary, before flags are translated and anything is checked."""

    sources: tuple[str, ...]
    model_id: str
    source: str | None
    """Checkpoint, where it is not the model's own."""
    gpu_model: str
    gpu_count: int
    precision: Precision
    engine_args: dict[str, object]
    env: dict[str, str]
    objective: Objective
    maturity: Maturity
    notes: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    """What a refusal names, where that is more than the place in the source."""

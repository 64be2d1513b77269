"""Reads the YAML files that ship inside this package."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: str) -> Any:
    """Parsed content of a file given by its path relative to the catalogue."""
    text = resources.files(__package__).joinpath(path).read_text(encoding="utf-8")
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 (a safe loader)


def file_names(folder: str) -> tuple[str, ...]:
    """Names of the YAML files in a folder of the catalogue, sorted."""
    entries = resources.files(__package__).joinpath(folder).iterdir()
    return tuple(sorted(entry.name for entry in entries if entry.name.endswith(".yaml")))

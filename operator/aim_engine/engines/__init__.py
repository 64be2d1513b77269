"""Inference engines: one module per backend in `backends`, all behind the same functions."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import cast

from aim_engine.api.enums import Backend
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.engines.types import ApiKey, Diagnosis, Engine, Problem, Server, Trust

__all__ = [
    "ApiKey",
    "Diagnosis",
    "Engine",
    "Problem",
    "Server",
    "Trust",
    "engine",
    "image_repositories",
    "version_of",
]


@cache
def engine(backend: Backend) -> Engine:
    """The engine module of a backend."""
    return cast(Engine, import_module(f"{__name__}.backends.{backend}"))


def version_of(spec: AIMRecipeSpec) -> str:
    """The engine version of a recipe: the one it names, else its backend's default."""
    return spec.engine_version or engine(spec.backend).DEFAULT_VERSION


def image_repositories() -> list[str]:
    """Repositories that engines publish their images in, as they are written with and without the registry's name."""
    own = [name for backend in Backend for name in engine(backend).REPOSITORIES]
    return [spelling for name in own for spelling in (name, f"docker.io/{name}")]

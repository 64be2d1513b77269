"""Inference engines: one module per backend, all behind the same functions."""

from __future__ import annotations

from aim_engine.api.enums import Backend
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.engines import aim, sglang, vllm
from aim_engine.engines.types import ApiKey, Diagnosis, Engine, Problem, Server, Trust

__all__ = ["ApiKey", "Diagnosis", "Engine", "Problem", "Server", "Trust", "engine", "version_of"]

_ENGINES: dict[Backend, Engine] = {Backend.VLLM: vllm, Backend.SGLANG: sglang, Backend.AIM: aim}


def engine(backend: Backend) -> Engine:
    """The engine module of a backend."""
    return _ENGINES[backend]


def version_of(spec: AIMRecipeSpec) -> str:
    """The engine version of a recipe: the one it names, else its backend's default."""
    return spec.engine_version or engine(spec.backend).DEFAULT_VERSION

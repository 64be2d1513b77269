"""Inference engines: one module per backend, all behind the same functions."""

from __future__ import annotations

from aim_engine.api.enums import Backend
from aim_engine.engines import vllm
from aim_engine.engines.types import Diagnosis, Engine, Problem, Trust

__all__ = ["Diagnosis", "Engine", "Problem", "Trust", "engine"]

_ENGINES: dict[Backend, Engine] = {Backend.VLLM: vllm}


def engine(backend: Backend) -> Engine:
    """The engine module of a backend."""
    return _ENGINES[backend]

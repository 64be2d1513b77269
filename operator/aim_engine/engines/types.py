"""Values that every engine module answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.plan import EnginePlan


class Trust(StrEnum):
    """Who wrote the arguments: an admin (cluster recipe) or a tenant (AIMDeployment, ConfigMap recipe)."""

    ADMIN = "admin"
    TENANT_WITH_REMOTE_CODE = "tenant-with-remote-code"
    """A tenant of a namespace where an admin allowed code from model repositories."""
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that would stop the engine, told by field, value and remedy."""

    field: str
    value: object
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Cause of an engine's end."""

    reason: str
    message: str
    remedy: str


class Engine(Protocol):
    """What the operator needs to know of an inference engine. One module per backend implements it."""

    HEALTH_PATH: str
    PORT: int
    METRICS: Mapping[str, str]

    def check_args(
        self, args: Mapping[str, object], version: str, *, trust: Trust
    ) -> tuple[Problem, ...]: ...

    def check_env(self, env: Mapping[str, str], *, trust: Trust) -> tuple[Problem, ...]: ...

    def env_warnings(self, env: Mapping[str, str]) -> tuple[str, ...]: ...

    def check_combination(self, args: Mapping[str, object]) -> tuple[Problem, ...]: ...

    def check_parallelism(self, args: Mapping[str, object], gpu_count: int) -> tuple[Problem, ...]: ...

    def merge_args(self, base: Mapping[str, object], override: Mapping[str, object]) -> dict[str, object]: ...

    def plan(
        self, args: Mapping[str, object], gpu_count: int, gpu: GPU, partition: str | None = None
    ) -> EnginePlan: ...

    def command(
        self,
        model_source: str,
        args: Mapping[str, object],
        gpu_count: int,
        served_names: Sequence[str],
        port: int,
        version: str,
        *,
        revision: str | None = None,
        shutdown_timeout_seconds: int | None = None,
    ) -> tuple[list[str], list[str]]: ...

    def default_image(self, version: str) -> str: ...

    def base_env(self) -> Mapping[str, str]: ...

    def startup_budget_seconds(self, checkpoint_bytes: int | None) -> int: ...

    def classify_termination(
        self, message: str, exit_code: int | None, reason: str | None
    ) -> Diagnosis | None: ...

"""Values that every engine module answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aim_engine.api.recipe import AIMRecipeSpec
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


@dataclass(frozen=True, slots=True)
class ApiKey:
    """How a server is given the key that its clients must show."""

    variable: str
    """Environment variable that holds it, from the user's Secret."""
    args: tuple[str, ...] = ()
    """Arguments that pass it on, where the server reads no variable. `$(NAME)` is expanded by the kubelet."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server as a pod runs it."""

    recipe: AIMRecipeSpec
    args: Mapping[str, object]
    """Engine arguments: the recipe's, then the workload's, then the user's."""
    cache_path: str
    startup_seconds: int


class Engine(Protocol):
    """What the operator needs to know of an inference engine. A module in `backends` implements it; its file's name is the backend's.

    What it reads, refuses and says in its end may stand in data beside it: `catalog/engines/NAME-VERSION.yaml` (flags),
    `NAME-env.yaml` and `NAME-terminations.yaml`, each of which it may lack.
    """

    NOTE: str
    """One paragraph for docs/reference/engines.md."""
    REPOSITORIES: tuple[str, ...]
    """Where its images are published; a trailing slash means all below. Tenants may use these unless an administrator says otherwise."""

    DEFAULT_VERSION: str
    """Version of recipes that name none."""
    HEALTH_PATH: str
    PORT: int
    METRICS: Mapping[str, tuple[str, ...]]
    """Names of the engine's metrics by what they mean, the newest name first; see docs/reference/engines.md."""
    FIRST_TOKEN_BOUNDS: tuple[float, ...]
    """Bucket bounds in seconds of its histogram of times to the first token, as it is started by us; () where they are not known."""
    API_KEY: ApiKey
    CHOOSES_WEIGHTS: bool
    """The image picks a checkpoint of the model by the precision; else the one that the recipe names is loaded."""

    def check_args(
        self, args: Mapping[str, object], version: str, *, trust: Trust
    ) -> tuple[Problem, ...]: ...

    def check_gpu(self, gpu: GPU) -> tuple[Problem, ...]: ...

    def check_env(self, env: Mapping[str, str], *, trust: Trust) -> tuple[Problem, ...]: ...

    def env_warnings(self, env: Mapping[str, str], gpu: GPU | None = None) -> tuple[str, ...]: ...

    def check_combination(
        self, args: Mapping[str, object], device_bytes: int | None = None
    ) -> tuple[Problem, ...]: ...

    def check_parallelism(self, args: Mapping[str, object], gpu_count: int) -> tuple[Problem, ...]: ...

    def merge_args(self, base: Mapping[str, object], override: Mapping[str, object]) -> dict[str, object]: ...

    def workload_args(
        self,
        args: Mapping[str, object],
        max_batch_size: int | None,
        context: int | None,
        device_bytes: int,
        version: str,
    ) -> dict[str, object]: ...

    def plan(
        self,
        args: Mapping[str, object],
        gpu_count: int,
        gpu: GPU,
        partition: str | None = None,
        version: str = "",
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

    def default_image(self, version: str, gpu: GPU, model_source: str) -> str: ...

    def base_env(self) -> Mapping[str, str]: ...

    def pod_env(self, server: Server) -> Mapping[str, str]: ...

    def startup_budget_seconds(self, checkpoint_bytes: int | None) -> int: ...

    def classify_termination(
        self, message: str, exit_code: int | None, reason: str | None
    ) -> Diagnosis | None: ...

"""AMD's AIM containers: an image per model that brings its own vLLM and profiles, steered by environment variables.

Sources: amd-enterprise-ai/aim-build and aim-deploy (environment, images, probes). Which profile runs is the container's
choice within the GPU count, precision and metric it is given; engine arguments go to its vLLM, whose version is not ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aim_engine.api.enums import Backend, Precision
from aim_engine.catalog.flags import env_rules
from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import environment
from aim_engine.engines.backends import vllm
from aim_engine.engines.types import Diagnosis, Problem, Server, Trust

HEALTH_PATH = vllm.HEALTH_PATH
PORT = vllm.PORT
API_KEY = vllm.API_KEY
CHOOSES_WEIGHTS = True
METRICS = vllm.METRICS
FIRST_TOKEN_BOUNDS = vllm.FIRST_TOKEN_BOUNDS
check_gpu = vllm.check_gpu
check_parallelism = vllm.check_parallelism
merge_args = vllm.merge_args
workload_args = vllm.workload_args
startup_budget_seconds = vllm.startup_budget_seconds
_SELF = Backend("aim")
NOTE = (
    "AMD's AIM containers: one image per model with its own vLLM and tuning profiles. The operator gives it GPU count, precision and metric "
    "by environment and no command line; `engineArgs` go to the vLLM inside as `AIM_ENGINE_ARGS`. Name `image`, or the tag in `engineVersion`: AMD "
    "publishes per model."
)
REPOSITORIES: tuple[str, ...] = ("amdenterpriseai/",)
DEFAULT_VERSION = "0.11.0"
"""Tag of the images; AMD publishes per model, so a recipe should name its own."""
_IMAGE = "amdenterpriseai/aim"
_PRECISIONS = {Precision.MXFP4: "fp4"}
_NO_VERSION = "0"
"""Of no table: an administrator may use flags that ours do not know."""


def check_args(args: Mapping[str, object], version: str, *, trust: Trust) -> tuple[Problem, ...]:  # noqa: ARG001
    """Problems of arguments for the vLLM inside, whose version the image decides."""
    return vllm.check_args(args, _NO_VERSION, trust=trust)


def check_env(env: Mapping[str, str], *, trust: Trust) -> tuple[Problem, ...]:
    """Problems of environment variables."""
    return environment.check(env, env_rules(_SELF), trust=trust)


def env_warnings(env: Mapping[str, str], gpu: GPU | None = None) -> tuple[str, ...]:
    """Variables that the container would ignore, each with what to do."""
    return environment.warnings(env, env_rules(_SELF), "AIM_", gpu)


def check_combination(
    args: Mapping[str, object],
    device_bytes: int | None = None,  # noqa: ARG001  the container's profile has defaults of its own
) -> tuple[Problem, ...]:
    """Problems between arguments that are fine by themselves."""
    return vllm.check_combination(args)


def plan(
    args: Mapping[str, object],
    gpu_count: int,
    gpu: GPU,
    partition: str | None = None,
    version: str = DEFAULT_VERSION,  # noqa: ARG001
) -> EnginePlan:
    """What vLLM would do with these arguments; the container's profile may set more, so nothing is held against a default."""
    planned = vllm.plan(args, gpu_count, gpu, partition)
    stated = "max-num-seqs" in vllm.merge_args(args, {})
    return replace(planned, state_for_all_seqs=planned.state_for_all_seqs and stated)


def command(
    model_source: str,  # noqa: ARG001  the image is made for its model
    args: Mapping[str, object],  # noqa: ARG001  they go by AIM_ENGINE_ARGS
    gpu_count: int,  # noqa: ARG001
    served_names: Sequence[str],  # noqa: ARG001
    port: int,  # noqa: ARG001
    version: str,  # noqa: ARG001
    *,
    revision: str | None = None,  # noqa: ARG001
    shutdown_timeout_seconds: int | None = None,  # noqa: ARG001
) -> tuple[list[str], list[str]]:
    """Nothing: the image's entrypoint reads its environment."""
    return [], []


def default_image(version: str, gpu: GPU, model_source: str) -> str:  # noqa: ARG001
    """AMD's image of a model: `amdenterpriseai/aim-qwen-qwen3-32b:0.10.0`."""
    slug = re.sub(r"[^a-z0-9]+", "-", model_source.lower()).strip("-")
    return f"{_IMAGE}-{slug}:{version}"


def base_env() -> Mapping[str, str]:
    """Environment of every server; recipe and user may override it."""
    return {"AIM_ALLOW_UNOPTIMIZED": "true", **vllm.base_env()}


def pod_env(server: Server) -> Mapping[str, str]:
    """Environment that the operator owns: what to run, where, and with what."""
    recipe = server.recipe
    count = str(recipe.hardware.gpu_count)
    owned = {
        "AIM_ACCELERATOR_COUNT": count,
        "AIM_CACHE_PATH": server.cache_path,
        "AIM_ENGINE": "vllm",
        "AIM_GPU_COUNT": count,
        "AIM_METRIC": recipe.objective.value,
        "AIM_PORT": str(PORT),
        "AIM_PRECISION": _PRECISIONS.get(recipe.precision, recipe.precision.value),
    }
    if server.args:
        owned["AIM_ENGINE_ARGS"] = json.dumps(server.args, sort_keys=True, separators=(",", ":"))
    return owned


def classify_termination(message: str, exit_code: int | None, reason: str | None) -> Diagnosis | None:
    """Cause of a server's end; the engine inside is vLLM."""
    return vllm.classify_termination(message, exit_code, reason)

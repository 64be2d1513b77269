"""vLLM on ROCm: `vllm serve MODEL --flag value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines.types import Diagnosis, Problem, Trust

HEALTH_PATH = "/health"
PORT = 8000
METRICS: Mapping[str, str] = MappingProxyType(
    {
        "requestsRunning": "vllm:num_requests_running",
        "requestsWaiting": "vllm:num_requests_waiting",
        "promptTokens": "vllm:prompt_tokens_total",
        "generationTokens": "vllm:generation_tokens_total",
        "kvCacheUsage": "vllm:kv_cache_usage_perc",
        "timeToFirstToken": "vllm:time_to_first_token_seconds",
        "interTokenLatency": "vllm:inter_token_latency_seconds",
        "requestLatency": "vllm:e2e_request_latency_seconds",
        "requestsFinished": "vllm:request_success_total",
        "preemptions": "vllm:num_preemptions_total",
    }
)


def check_args(args: Mapping[str, object], version: str, *, trust: Trust) -> tuple[Problem, ...]:
    return ()


def check_env(env: Mapping[str, str], *, trust: Trust) -> tuple[Problem, ...]:
    return ()


def env_warnings(env: Mapping[str, str]) -> tuple[str, ...]:
    return ()


def check_parallelism(args: Mapping[str, object], gpu_count: int) -> tuple[Problem, ...]:
    return ()


def merge_args(base: Mapping[str, object], override: Mapping[str, object]) -> dict[str, object]:
    return {**base, **override}


def plan(args: Mapping[str, object], gpu_count: int, gpu: GPU, partition: str | None = None) -> EnginePlan:
    return EnginePlan(tensor_parallel=gpu_count)


def command(
    model_source: str,
    args: Mapping[str, object],
    gpu_count: int,
    served_names: Sequence[str],
    port: int,
    version: str,
) -> tuple[list[str], list[str]]:
    flags = [f"--{name}={value}" for name, value in sorted(args.items())]
    return ["vllm", "serve"], [model_source, *flags, "--tensor-parallel-size", str(gpu_count)]


def default_image(version: str) -> str:
    return f"vllm/vllm-openai-rocm:v{version}"


def base_env() -> Mapping[str, str]:
    return {}


def startup_budget_seconds(checkpoint_bytes: int | None) -> int:
    return 3600


def classify_termination(message: str, exit_code: int | None, reason: str | None) -> Diagnosis | None:
    return None

"""SGLang on ROCm: `python3 -m sglang.launch_server --model-path MODEL --flag value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from aim_engine.api.enums import Backend
from aim_engine.catalog.flags import FlagTable, env_rules, flag_table
from aim_engine.catalog.gpus import GPU, partition_vram_bytes
from aim_engine.catalog.plan import EnginePlan, FlagNames
from aim_engine.catalog.terminations import termination_rules
from aim_engine.engines import arguments, environment, grammar, termination, values
from aim_engine.engines.types import ApiKey, Diagnosis, Problem, Server, Trust

_SELF = Backend("sglang")
NOTE = (
    "SGLang on ROCm. `engineArgs` are flags of `sglang.launch_server`; vLLM's spellings are refused with the right one named. "
    "Upstream builds an image per GPU generation, and none for MI210 and MI250X."
)
REPOSITORIES: tuple[str, ...] = ("lmsysorg/sglang",)
DEFAULT_VERSION = "0.5.12"
HEALTH_PATH = "/health"
PORT = 30000
API_KEY = ApiKey("SGLANG_API_KEY", ("--api-key", "$(SGLANG_API_KEY)"))
CHOOSES_WEIGHTS = False
METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "requestsRunning": ("sglang:num_running_reqs",),
        "requestsWaiting": ("sglang:num_queue_reqs",),
        "requestsFinished": ("sglang:num_requests_total",),
        "preemptions": ("sglang:num_retracted_requests_total",),
        "promptTokens": ("sglang:prompt_tokens_total",),
        "generationTokens": ("sglang:generation_tokens_total",),
        "kvCacheUsage": ("sglang:token_usage",),
        "prefixCacheHits": ("sglang:cached_tokens_total",),
        "timeToFirstToken": ("sglang:time_to_first_token_seconds",),
        "interTokenLatency": ("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        "requestLatency": ("sglang:e2e_request_latency_seconds",),
        "queueTime": ("sglang:queue_time_seconds",),
    }
)
FIRST_TOKEN_BOUNDS: tuple[float, ...] = (
    *(0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0),
)
startup_budget_seconds = values.startup_budget_seconds

_NAMES = FlagNames(
    context="context-length",
    kv_cache_fp8="kv-cache-dtype fp8_e4m3",
    expert_parallel="expert-parallel-size",
    expert_parallel_on="expert-parallel-size to the tensor parallel size",
    batch="chunked-prefill-size",
    chunked_prefill_on="remove chunked-prefill-size",
    utilization="mem-fraction-static",
)
_IMAGE = "lmsysorg/sglang"
_IMAGE_OF_ARCHITECTURE = MappingProxyType({"gfx942": "rocm700-mi30x", "gfx950": "rocm700-mi35x"})
"""Upstream builds an image per GPU generation; there is none for gfx90a."""


def check_args(args: Mapping[str, object], version: str, *, trust: Trust) -> tuple[Problem, ...]:
    """Problems of engine arguments; no table of the version is needed to know what is owned or denied."""
    table = flag_table(_SELF, version)
    return arguments.check(args, table or _table(), trust=trust, same_version=table is not None)


def check_gpu(gpu: GPU) -> tuple[Problem, ...]:
    """Problems of the engine's own image on a GPU."""
    if gpu.architecture in _IMAGE_OF_ARCHITECTURE:
        return ()
    built = ", ".join(_IMAGE_OF_ARCHITECTURE)
    message = f"SGLang has no image for {gpu.architecture}, only for {built}"
    remedy = "use backend vllm, name an image of your own in image, or use another GPU model"
    return (Problem("hardware.gpuModel", gpu.model, message, remedy),)


def check_env(env: Mapping[str, str], *, trust: Trust) -> tuple[Problem, ...]:
    """Problems of environment variables."""
    return environment.check(env, env_rules(_SELF), trust=trust)


def env_warnings(env: Mapping[str, str], gpu: GPU | None = None) -> tuple[str, ...]:
    """Variables that the engine would ignore, each with what to do."""
    return environment.warnings(env, env_rules(_SELF), "SGLANG_", gpu)


def check_parallelism(args: Mapping[str, object], gpu_count: int) -> tuple[Problem, ...]:
    """Problem when pipeline stages do not divide the GPUs; tensor parallelism takes the rest.

    Data parallelism is within the tensor parallel group (`enable-dp-attention`) or multiplies the GPUs; only the first
    keeps to the recipe's count.
    """
    normal = grammar.normalise(args, _table())
    stages, data = values.count(normal, "pipeline-parallel-size"), values.count(normal, "data-parallel-size")
    replicas = 1 if normal.get("enable-dp-attention") is True else data
    if gpu_count % (stages * replicas) == 0:
        return ()
    name = "pipeline-parallel-size" if stages > 1 else "data-parallel-size"
    message = f"pipeline {stages} x data {replicas} do not divide {gpu_count} GPUs"
    remedy = f"choose sizes whose product divides {gpu_count}, or change hardware.gpuCount"
    return (Problem(f"engineArgs.{name}", normal.get(name), message, remedy),)


def check_combination(
    args: Mapping[str, object],
    device_bytes: int | None = None,  # noqa: ARG001  what SGLang chooses holds whatever is asked for
) -> tuple[Problem, ...]:
    """Problems between arguments that are fine by themselves; meant for the merged arguments of a server."""
    normal = grammar.normalise(args, _table())
    data, whole = values.count(normal, "data-parallel-size"), normal.get("enable-dp-attention") is True
    if whole and data == 1:
        message = "enable-dp-attention needs data-parallel-size above 1"
        return (
            Problem("engineArgs.enable-dp-attention", True, message, "set data-parallel-size, or remove it"),
        )
    return ()


def merge_args(base: Mapping[str, object], override: Mapping[str, object]) -> dict[str, object]:
    """Arguments of a recipe with a user's over them, under canonical names."""
    return grammar.merge(base, override, _table())


def workload_args(
    args: Mapping[str, object],
    max_batch_size: int | None,
    context: int | None,
    device_bytes: int,  # noqa: ARG001
    version: str,  # noqa: ARG001
) -> dict[str, object]:
    """Arguments of a recipe made to hold a load: sequences at a time, and tokens of one request."""
    wanted: dict[str, object] = {} if max_batch_size is None else {"max-running-requests": max_batch_size}
    normal = merge_args(args, {})
    current = arguments.parse_human_int(normal.get("context-length"))
    if context is not None and current is not None and current < context:
        wanted["context-length"] = context
    return merge_args(normal, wanted)


def plan(
    args: Mapping[str, object],
    gpu_count: int,
    gpu: GPU,
    partition: str | None = None,
    version: str = DEFAULT_VERSION,
) -> EnginePlan:
    """What the engine would do with these arguments on these GPUs; malformed values count as absent.

    `mem-fraction-static` covers weights and KV cache without activations; it is taken as the whole, which errs on the
    careful side.
    """
    table = flag_table(_SELF, version) or _table()
    normal = grammar.normalise(args, table)
    stages, data = values.count(normal, "pipeline-parallel-size"), values.count(normal, "data-parallel-size")
    inner = normal.get("enable-dp-attention") is True
    tokens, sequences = values.batch_defaults(table, partition_vram_bytes(gpu, partition) or gpu.vram_bytes)
    chunk = arguments.parse_human_int(normal.get("chunked-prefill-size"))
    running = arguments.parse_human_int(normal.get("max-running-requests"))
    return EnginePlan(
        tensor_parallel=max(1, gpu_count // (stages * (1 if inner else data))),
        pipeline_parallel=stages,
        data_parallel=1 if inner else data,
        expert_parallel=values.count(normal, "expert-parallel-size") > 1,
        max_model_len=arguments.parse_human_int(normal.get("context-length")),
        max_num_batched_tokens=chunk if chunk is not None and chunk > 0 else tokens,
        max_num_seqs=running if running is not None and running > 0 else sequences,
        whole_prompts=chunk is not None and chunk <= 0,
        drafts=bool(normal.get("speculative-algorithm")),
        graphs=normal.get("disable-cuda-graph") is not True,
        gpu_memory_utilization=values.number(normal, "mem-fraction-static") or table.gpu_memory_utilization,
        kv_cache_bytes_per_element=table.kv_cache_bytes_per_element.get(str(normal.get("kv-cache-dtype"))),
        kv_cache_precision=table.kv_cache_precisions.get(str(normal.get("kv-cache-dtype"))),
        weights_offload_bytes=int((values.number(normal, "cpu-offload-gb") or 0) * 2**30),
        quantization=values.text(normal, "quantization"),
        online_precision=table.online_quantization.get(values.text(normal, "quantization") or ""),
        hybrid_kv_cache=normal.get("disable-hybrid-swa-memory") is not True,
        context_extended="json-model-override-args" in normal,
        names=_NAMES,
    )


def command(
    model_source: str,
    args: Mapping[str, object],
    gpu_count: int,
    served_names: Sequence[str],
    port: int,
    version: str,
    *,
    revision: str | None = None,
    shutdown_timeout_seconds: int | None = None,  # noqa: ARG001  the server ends its requests on SIGTERM by itself
) -> tuple[list[str], list[str]]:
    """Container command and arguments; what the operator owns is set here, whatever `args` say."""
    table = flag_table(_SELF, version) or _table()
    normal = grammar.normalise(args, table)
    stages, data = values.count(normal, "pipeline-parallel-size"), values.count(normal, "data-parallel-size")
    replicas = 1 if normal.get("enable-dp-attention") is True else data
    owned: dict[str, object] = {
        "model-path": model_source,
        "host": "0.0.0.0",  # noqa: S104  a pod's server listens for the Service
        "port": port,
        "served-model-name": served_names[0],
        "tensor-parallel-size": max(1, gpu_count // (stages * replicas)),
        "enable-metrics": True,
    }
    if revision is not None:
        owned["revision"] = revision
    return ["python3", "-m", "sglang.launch_server"], grammar.render({**normal, **owned}, table)


def default_image(version: str, gpu: GPU, model_source: str) -> str:  # noqa: ARG001
    """Upstream's ROCm image of an engine version for a GPU generation; where there is none, `check_gpu` says so."""
    build = _IMAGE_OF_ARCHITECTURE.get(gpu.architecture, _IMAGE_OF_ARCHITECTURE["gfx942"])
    return f"{_IMAGE}:v{version}-{build}"


def base_env() -> Mapping[str, str]:
    """Environment of every server; recipe and user may override it."""
    return {"SGLANG_USE_AITER": "1"}


def pod_env(server: Server) -> Mapping[str, str]:
    """Environment that the operator owns."""
    return {"SGLANG_CACHE_DIR": f"{server.cache_path}/sglang"}


def classify_termination(message: str, exit_code: int | None, reason: str | None) -> Diagnosis | None:
    """Cause of a server's end, from the container's termination message, exit code and reason."""
    return termination.classify(message, exit_code, reason, termination_rules(_SELF))


def _table() -> FlagTable:
    table = flag_table(_SELF, DEFAULT_VERSION)
    if table is None:
        raise LookupError(f"no flag table for SGLang {DEFAULT_VERSION}")
    return table

"""vLLM on ROCm: `vllm serve MODEL --flag value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from aim_engine.api.enums import Backend
from aim_engine.catalog.flags import PINNED_VLLM, FlagTable, env_rules, flag_table
from aim_engine.catalog.gpus import GPU, partition_vram_bytes
from aim_engine.catalog.plan import EnginePlan
from aim_engine.catalog.terminations import termination_rules
from aim_engine.engines import arguments, environment, grammar, termination, values
from aim_engine.engines.types import ApiKey, Diagnosis, Problem, Server, Trust

NOTE = "vLLM on ROCm, the default. `engineArgs` are flags of `vllm serve`."
REPOSITORIES: tuple[str, ...] = ("vllm/vllm-openai-rocm", "rocm/vllm")
DEFAULT_VERSION = PINNED_VLLM
HEALTH_PATH = "/health"
PORT = 8000
API_KEY = ApiKey("VLLM_API_KEY")
CHOOSES_WEIGHTS = False
METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "requestsRunning": ("vllm:num_requests_running",),
        "requestsWaiting": ("vllm:num_requests_waiting",),
        "requestsFinished": ("vllm:request_success_total",),
        "preemptions": ("vllm:num_preemptions_total",),
        "promptTokens": ("vllm:prompt_tokens_total",),
        "generationTokens": ("vllm:generation_tokens_total",),
        "kvCacheUsage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "prefixCacheQueries": ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "prefixCacheHits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "timeToFirstToken": ("vllm:time_to_first_token_seconds",),
        "interTokenLatency": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "requestLatency": ("vllm:e2e_request_latency_seconds",),
        "queueTime": ("vllm:request_queue_time_seconds",),
    }
)
FIRST_TOKEN_BOUNDS: tuple[float, ...] = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
startup_budget_seconds = values.startup_budget_seconds

_IMAGE = "vllm/vllm-openai-rocm"
_STATE_FORMS = frozenset({"block-size", "mamba-block-size", "mamba-cache-dtype", "mamba-ssm-cache-dtype"})
"""Flags that change how large a recurrent state, and the block that holds it, are."""
_DRAFTS = ("speculative-config", "spec-method", "spec-model", "spec-tokens")
_NEEDS = MappingProxyType(
    {
        "enable-auto-tool-choice": "tool-call-parser",
        "enable-log-outputs": "enable-log-requests",
    }
)


def check_args(args: Mapping[str, object], version: str, *, trust: Trust) -> tuple[Problem, ...]:
    """Problems of engine arguments; no table of the version is needed to know what is owned or denied."""
    table = flag_table(Backend.VLLM, version)
    return arguments.check(args, table or _pinned(), trust=trust, same_version=table is not None)


def check_gpu(gpu: GPU) -> tuple[Problem, ...]:  # noqa: ARG001
    """Problems of the engine's own image on a GPU; upstream's is one for all of them."""
    return ()


def check_env(env: Mapping[str, str], *, trust: Trust) -> tuple[Problem, ...]:
    """Problems of environment variables."""
    return environment.check(env, env_rules(Backend.VLLM), trust=trust)


def env_warnings(env: Mapping[str, str], gpu: GPU | None = None) -> tuple[str, ...]:
    """Variables that the engine would ignore, each with what to do."""
    return environment.warnings(env, env_rules(Backend.VLLM), "VLLM_", gpu)


def check_parallelism(args: Mapping[str, object], gpu_count: int) -> tuple[Problem, ...]:
    """Problem when pipeline and data parallelism do not divide the GPUs; tensor parallelism takes the rest."""
    normal = grammar.normalise(args, _pinned())
    pipeline, data = (
        values.count(normal, "pipeline-parallel-size"),
        values.count(normal, "data-parallel-size"),
    )
    if gpu_count % (pipeline * data) == 0:
        return ()
    name = "pipeline-parallel-size" if pipeline > 1 else "data-parallel-size"
    return (
        Problem(
            f"engineArgs.{name}",
            normal.get(name),
            f"pipeline {pipeline} x data {data} do not divide {gpu_count} GPUs",
            f"choose sizes whose product divides {gpu_count}, or change hardware.gpuCount",
        ),
    )


def check_combination(args: Mapping[str, object], device_bytes: int | None = None) -> tuple[Problem, ...]:
    """Problems between arguments that are fine by themselves; meant for the merged arguments of a server.

    With the memory of a device, also against what the engine would choose there for a batch.
    """
    normal = grammar.normalise(args, _pinned())
    missing = (
        Problem(f"engineArgs.{name}", True, f"{name} needs {needed}", f"set {needed}, or remove {name}")
        for name, needed in _NEEDS.items()
        if normal.get(name) is True and normal.get(needed) in (None, False)
    )
    tokens = arguments.parse_human_int(normal.get("max-num-batched-tokens"))
    sequences = arguments.parse_human_int(normal.get("max-num-seqs"))
    least = {"max-num-seqs": sequences}
    if normal.get("enable-chunked-prefill") is False:
        least["max-model-len without chunked prefill"] = arguments.parse_human_int(
            normal.get("max-model-len")
        )
    if tokens is None and device_bytes:
        tokens, least = _batching(normal, _pinned(), device_bytes)[0], {"max-num-seqs": sequences}
    small = (
        Problem(
            "engineArgs.max-num-batched-tokens", tokens,
            f"max-num-batched-tokens {tokens} is less than {name} {needed}",
            f"set max-num-batched-tokens >= {needed}",
        )
        for name, needed in least.items()
        if tokens is not None and needed is not None and tokens < needed
    )  # fmt: skip
    return (*missing, *small)


def merge_args(base: Mapping[str, object], override: Mapping[str, object]) -> dict[str, object]:
    """Arguments of a recipe with a user's over them, under canonical names."""
    return grammar.merge(base, override, _pinned())


def workload_args(
    args: Mapping[str, object],
    max_batch_size: int | None,
    context: int | None,
    device_bytes: int,
    version: str,
) -> dict[str, object]:
    """Arguments of a recipe made to hold a load: sequences at a time in all data parallel ranks together, and tokens of
    one request, on devices of so much memory.

    A context that is long enough is kept: the recipe was tuned with it. So is the number of tokens of a step, unless it
    is less than the sequences, with which vLLM does not start.
    """
    normal, table = merge_args(args, {}), flag_table(Backend.VLLM, version) or _pinned()
    wanted: dict[str, object] = {}
    if max_batch_size is not None:
        sequences = -(-max_batch_size // values.count(normal, "data-parallel-size"))
        wanted["max-num-seqs"] = sequences
        if _batching({**normal, **wanted}, table, device_bytes)[0] < sequences:
            wanted["max-num-batched-tokens"] = sequences
    current = arguments.parse_human_int(normal.get("max-model-len"))
    if context is not None and current is not None and current < context:
        wanted["max-model-len"] = context
    return merge_args(normal, wanted)


def plan(
    args: Mapping[str, object],
    gpu_count: int,
    gpu: GPU,
    partition: str | None = None,
    version: str = PINNED_VLLM,
) -> EnginePlan:
    """What the engine would do with these arguments on these GPUs; malformed values count as absent."""
    table = flag_table(Backend.VLLM, version) or _pinned()
    normal = grammar.normalise(args, table)
    pipeline, data = (
        values.count(normal, "pipeline-parallel-size"),
        values.count(normal, "data-parallel-size"),
    )
    tokens, sequences = _batching(normal, table, partition_vram_bytes(gpu, partition) or gpu.vram_bytes)
    length = arguments.parse_human_int(normal.get("max-model-len"))
    automatic = str(normal.get("max-model-len")).lower() in {"auto", "-1"}
    quantization = values.text(normal, "quantization")
    return EnginePlan(
        tensor_parallel=max(1, gpu_count // (pipeline * data)),
        pipeline_parallel=pipeline,
        data_parallel=data,
        decode_context_parallel=values.count(normal, "decode-context-parallel-size"),
        expert_parallel=normal.get("enable-expert-parallel") is True,
        max_model_len=None if automatic else length,
        max_model_len_auto=automatic,
        max_num_batched_tokens=tokens,
        whole_prompts=normal.get("enable-chunked-prefill") is False,
        max_num_seqs=sequences,
        drafts=any(normal.get(name) for name in _DRAFTS),
        graphs=_captures_graphs(normal),
        state_for_all_seqs=_needs_all_states(normal),
        gpu_memory_utilization=values.number(normal, "gpu-memory-utilization")
        or table.gpu_memory_utilization,
        kv_cache_bytes_per_element=table.kv_cache_bytes_per_element.get(str(normal.get("kv-cache-dtype"))),
        kv_cache_precision=table.kv_cache_precisions.get(str(normal.get("kv-cache-dtype"))),
        kv_cache_memory_bytes=arguments.parse_human_int(normal.get("kv-cache-memory-bytes")),
        weights_offload_bytes=int((values.number(normal, "cpu-offload-gb") or 0) * 2**30),
        quantization=quantization,
        online_precision=table.online_quantization.get(quantization or ""),
        hybrid_kv_cache=not (
            normal.get("disable-hybrid-kv-cache-manager") is True
            or normal.get("disable-sliding-window") is True
        ),
        context_extended="hf-overrides" in normal,
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
    shutdown_timeout_seconds: int | None = None,
) -> tuple[list[str], list[str]]:
    """Container command and arguments; what the operator owns is set here, whatever `args` say."""
    table = flag_table(Backend.VLLM, version) or _pinned()
    normal = grammar.normalise(args, table)
    spread = values.count(normal, "pipeline-parallel-size") * values.count(normal, "data-parallel-size")
    owned: dict[str, object] = {
        "host": "0.0.0.0",  # noqa: S104  a pod's server listens for the Service
        "port": port,
        "served-model-name": list(served_names),
        "tensor-parallel-size": max(1, gpu_count // spread),
    }
    if revision is not None:
        owned["revision"] = revision
    if shutdown_timeout_seconds is not None:
        owned["shutdown-timeout"] = shutdown_timeout_seconds
    return ["vllm", "serve"], [model_source, *grammar.render({**normal, **owned}, table)]


def default_image(version: str, gpu: GPU, model_source: str) -> str:  # noqa: ARG001
    """Upstream's ROCm image of an engine version; one for all GPUs and models."""
    return f"{_IMAGE}:v{version}"


def base_env() -> Mapping[str, str]:
    """Environment of every server; recipe and user may override it."""
    return {"VLLM_NO_USAGE_STATS": "1"}


def pod_env(server: Server) -> Mapping[str, str]:
    """Environment that the operator owns."""
    return {
        "VLLM_CACHE_ROOT": f"{server.cache_path}/vllm",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(server.startup_seconds),
    }


def classify_termination(message: str, exit_code: int | None, reason: str | None) -> Diagnosis | None:
    """Cause of a server's end, from the container's termination message, exit code and reason."""
    return termination.classify(message, exit_code, reason, termination_rules(Backend.VLLM))


def _pinned() -> FlagTable:
    table = flag_table(Backend.VLLM, PINNED_VLLM)
    if table is None:
        raise LookupError(f"no flag table for the pinned vLLM {PINNED_VLLM}")
    return table


def _batching(normal: Mapping[str, object], table: FlagTable, memory_bytes: int) -> tuple[int, int]:
    usual_tokens, usual_sequences = values.batch_defaults(table, memory_bytes)
    factor = 2 if normal.get("performance-mode") == "throughput" else 1
    tokens = arguments.parse_human_int(normal.get("max-num-batched-tokens"))
    tokens = tokens if tokens is not None and tokens > 0 else usual_tokens * factor
    sequences = arguments.parse_human_int(normal.get("max-num-seqs"))
    if sequences is None or sequences < 1:
        sequences = min(usual_sequences * factor, tokens)
    return tokens, sequences


def _captures_graphs(normal: Mapping[str, object]) -> bool:
    return normal.get("enforce-eager") is not True and _graph_mode(normal) != "NONE"


def _graph_mode(normal: Mapping[str, object]) -> str:
    compilation = normal.get("compilation-config")
    return str(compilation.get("cudagraph_mode", "")).upper() if isinstance(compilation, Mapping) else ""


def _needs_all_states(normal: Mapping[str, object]) -> bool:
    """Graphs of whole decode steps are captured with the states of all sequences. States of another form are not sized."""
    whole = _captures_graphs(normal) and _graph_mode(normal) != "PIECEWISE"
    return whole and str(normal.get("optimization-level")) != "0" and not normal.keys() & _STATE_FORMS

"""Does a model fit on some GPUs with some engine settings? Answers with numbers and the smallest change that helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from aim_engine.api.enums import Precision, Reason
from aim_engine.catalog.gpus import GPU, partition_divisor, partition_vram_bytes
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.kv_cache import kv_bytes_for_context
from aim_engine.sizing.memory import MemoryModel, memory_model
from aim_engine.sizing.parallelism import parallelism_problem
from aim_engine.sizing.weights import weight_format

_GIB = 2**30
_CONTEXT_STEP = 1024


class FitVerdict(StrEnum):
    """Whether a model fits; `Unknown` is said where facts are missing and never excludes."""

    FITS = "Fits"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Fit:
    """Verdict with the numbers behind it and the smallest change that would help."""

    verdict: FitVerdict
    message: str
    reason: Reason | None = None
    remedy: str | None = None
    needed: str | None = None
    has: str | None = None
    memory: MemoryModel | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """One question, so that its parts need not be passed one by one."""

    model: ModelFacts
    checkpoint: Checkpoint | None
    gpu: GPU
    partition: str | None
    precision: Precision
    plan: EnginePlan
    required_context: int | None
    vram_bytes: int


def fit(
    model: ModelFacts | None,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    required_context: int | None = None,
) -> Fit:
    """Verdict on one replica. What no fact contradicts is never refused."""
    vram_bytes = partition_vram_bytes(gpu, partition)
    if vram_bytes is None:
        return _partition_unknown(gpu, partition)
    if not _runnable(gpu, checkpoint, precision, plan):
        wanted = weight_format(checkpoint, precision, plan)
        return _precision_unsupported(gpu, precision if precision not in gpu.runnable_precisions else wanted)
    if model is None:
        return Fit(
            FitVerdict.UNKNOWN, "the model's dimensions are not in the catalogue, so its memory is not known"
        )
    return _fit(_Case(model, checkpoint, gpu, partition, precision, plan, required_context, vram_bytes))


def smallest_gpu_count(
    model: ModelFacts,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    required_context: int | None = None,
) -> int | None:
    """Fewest GPUs of one node on which the model fits by tensor parallelism alone; None when no count does."""
    vram_bytes = partition_vram_bytes(gpu, partition)
    if vram_bytes is None or not _runnable(gpu, checkpoint, precision, plan):
        return None
    case = _Case(model, checkpoint, gpu, partition, precision, plan, required_context, vram_bytes)
    return next((count for count in _counts(gpu, partition) if _obstacle(_over(case, count)) is None), None)


class _Obstacle(StrEnum):
    """Rules in the order they are tried."""

    PARALLELISM = "parallelism"
    MODEL_CONTEXT = "model context"
    SERVED_CONTEXT = "served context"
    WEIGHTS = "weights"
    KV_CACHE = "KV cache"


def _obstacle(case: _Case) -> _Obstacle | None:
    memory = _memory(case)
    broken = {
        _Obstacle.PARALLELISM: parallelism_problem(case.model, case.checkpoint, case.plan) is not None,
        _Obstacle.MODEL_CONTEXT: not case.plan.context_extended
        and (case.plan.max_model_len or 0) > case.model.max_position_embeddings,
        _Obstacle.SERVED_CONTEXT: (case.required_context or 0) > memory.max_context,
        _Obstacle.WEIGHTS: memory.weights_bytes_per_gpu + memory.overhead_bytes >= _room(case, memory),
        _Obstacle.KV_CACHE: _context_to_hold(case, memory) > memory.kv_tokens,
    }
    return next((obstacle for obstacle in _Obstacle if broken[obstacle]), None)


def _fit(case: _Case) -> Fit:
    memory = _memory(case)
    match _obstacle(case):
        case None:
            return _fits(memory)
        case _Obstacle.PARALLELISM:
            return _parallelism_invalid(case, memory)
        case _Obstacle.MODEL_CONTEXT:
            return _beyond_model(case, memory)
        case _Obstacle.SERVED_CONTEXT:
            return _beyond_served(case, memory)
        case _Obstacle.WEIGHTS:
            return _weights_too_large(case, memory)
        case _Obstacle.KV_CACHE:
            return _kv_cache_too_small(case, memory)


def _fits(memory: MemoryModel) -> Fit:
    message = (
        f"needs {_gib(memory.weights_bytes_per_gpu)} per GPU for weights and {_gib(memory.overhead_bytes)} overhead; "
        f"{_gib(memory.usable_bytes)} usable; the KV cache holds {memory.kv_tokens:,} tokens"
    )
    return Fit(FitVerdict.FITS, message, memory=memory)


def _parallelism_invalid(case: _Case, memory: MemoryModel) -> Fit:
    problem = parallelism_problem(case.model, case.checkpoint, case.plan)
    message, remedy = ("", "") if problem is None else (problem.message, problem.remedy)
    return _no(Reason.PARALLELISM_INVALID, message, remedy, memory)


def _beyond_model(case: _Case, memory: MemoryModel) -> Fit:
    planned, limit = case.plan.max_model_len or 0, case.model.max_position_embeddings
    message = f"max-model-len {planned:,} exceeds the {limit:,} tokens the model supports"
    remedy = f"set max-model-len <= {limit}"
    return _no(Reason.CONTEXT_TOO_LONG, message, remedy, memory, _tokens(planned), _tokens(limit))


def _beyond_served(case: _Case, memory: MemoryModel) -> Fit:
    required, served = case.required_context or 0, memory.max_context
    message = f"requests of {required:,} tokens exceed the {served:,} tokens served"
    remedy = f"set maxInputTokens + maxOutputTokens <= {served}"
    if served < required <= case.model.max_position_embeddings:
        remedy += f", or raise max-model-len to {required}"
    return _no(Reason.CONTEXT_TOO_LONG, message, remedy, memory, _tokens(required), _tokens(served))


def _weights_too_large(case: _Case, memory: MemoryModel) -> Fit:
    needed, room = memory.weights_bytes_per_gpu + memory.overhead_bytes, _room(case, memory)
    message = (
        f"weights need {_gib(memory.weights_bytes_per_gpu)} and overhead {_gib(memory.overhead_bytes)} per GPU; "
        f"{_gib(room)} of {_gib(case.vram_bytes)} are usable"
    )
    return _no(Reason.MEMORY_INSUFFICIENT, message, _more_memory(case), memory, _gib(needed), _gib(room))


def _kv_cache_too_small(case: _Case, memory: MemoryModel) -> Fit:
    served = _context_to_hold(case, memory)
    needed = kv_bytes_for_context(case.model, case.plan, served)
    message = (
        f"a context of {served:,} tokens needs {_gib(needed)} of KV cache per GPU; "
        f"{_gib(memory.kv_bytes)} are free and hold {memory.kv_tokens:,} tokens"
    )
    remedy = ", or ".join([*_shorter_context(case, memory), *_smaller_kv_cache(case), _more_memory(case)])
    return _no(Reason.CONTEXT_TOO_LONG, message, remedy, memory, _tokens(served), _tokens(memory.kv_tokens))


def _context_to_hold(case: _Case, memory: MemoryModel) -> int:
    """Context the KV cache must hold for the engine to start, and for the requests to be served."""
    if case.plan.max_model_len_auto:
        return min(case.required_context or 1, memory.max_context)
    return memory.max_context


def _room(case: _Case, memory: MemoryModel) -> int:
    return memory.usable_bytes if case.plan.kv_cache_memory_bytes is None else case.vram_bytes


def _shorter_context(case: _Case, memory: MemoryModel) -> Iterator[str]:
    limit = memory.kv_tokens // _CONTEXT_STEP * _CONTEXT_STEP
    if limit < _CONTEXT_STEP:
        return
    if limit >= (case.required_context or 1):
        yield f"set max-model-len <= {limit}"
    else:
        yield f"set maxInputTokens + maxOutputTokens <= {limit} and max-model-len to {limit}"


def _smaller_kv_cache(case: _Case) -> Iterator[str]:
    element = case.plan.kv_cache_bytes_per_element or 2
    if element <= 1 or Precision.FP8 not in case.gpu.hardware_precisions:
        return
    smaller = replace(case, plan=replace(case.plan, kv_cache_bytes_per_element=1.0))
    if _obstacle(smaller) is None:
        yield "use kv-cache-dtype fp8"


def _more_memory(case: _Case) -> str:
    name = case.gpu.model if case.partition is None else f"{case.gpu.model} in {case.partition}"
    enough = (n for n in _counts(case.gpu, case.partition) if _obstacle(_over(case, n)) is None)
    count = next(enough, None)
    if count is None:
        return "choose a GPU with more memory or a smaller precision"
    return "use tensor parallelism over all GPUs" if count == case.plan.gpus else f"use {count} x {name}"


def _over(case: _Case, gpus: int) -> _Case:
    """The same question over a number of GPUs by tensor parallelism."""
    plan = replace(
        case.plan, tensor_parallel=gpus, pipeline_parallel=1, data_parallel=1, decode_context_parallel=1
    )
    return replace(case, plan=plan)


def _memory(case: _Case) -> MemoryModel:
    return memory_model(case.model, case.checkpoint, case.precision, case.plan, case.vram_bytes)


def _runnable(gpu: GPU, checkpoint: Checkpoint | None, precision: Precision, plan: EnginePlan) -> bool:
    return {precision, weight_format(checkpoint, precision, plan)} <= gpu.runnable_precisions


def _counts(gpu: GPU, partition: str | None) -> Iterator[int]:
    most = gpu.gpus_per_node * (partition_divisor(gpu, partition) or 1)
    count = 1
    while count <= most:
        yield count
        count *= 2


def _partition_unknown(gpu: GPU, partition: str | None) -> Fit:
    modes = ", ".join(gpu.partitions)
    message = f"{gpu.model} has no partition mode {partition}"
    return _no(Reason.PARTITION_MISMATCH, message, f"use one of: {modes}", None)


def _precision_unsupported(gpu: GPU, precision: Precision) -> Fit:
    choices = ", ".join(sorted(gpu.runnable_precisions))
    message = f"{gpu.model} ({gpu.architecture}) cannot run {precision}"
    return _no(Reason.PRECISION_UNSUPPORTED, message, f"use one of: {choices}", None)


def _no(
    reason: Reason,
    message: str,
    remedy: str,
    memory: MemoryModel | None,
    needed: str | None = None,
    has: str | None = None,
) -> Fit:
    return Fit(FitVerdict.DOES_NOT_FIT, message, reason, remedy, needed, has, memory)


def _tokens(count: int) -> str:
    return f"{count} tokens"


def _gib(amount: float) -> str:
    return f"{max(amount, 0) / _GIB:.1f} GiB"

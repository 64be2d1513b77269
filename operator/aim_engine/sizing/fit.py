"""Does a model fit on some GPUs with some engine settings? Answers with the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from aim_engine.api.enums import Precision, Reason
from aim_engine.catalog.assumptions import division_sizes
from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.case import Case, context_to_hold, memory_of, room, sequences_to_start
from aim_engine.sizing.kv_cache import kv_bytes_for_context
from aim_engine.sizing.memory import MemoryModel
from aim_engine.sizing.obstacle import Obstacle, fits, obstacle
from aim_engine.sizing.parallelism import parallelism_problem

_GIB = 2**30


class FitVerdict(StrEnum):
    """Whether a model fits; `Unknown` is said where facts are missing and never excludes."""

    FITS = "Fits"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Fit:
    """Verdict with the numbers behind it. What would help is found by `remedies`, where somebody wants to know."""

    verdict: FitVerdict
    message: str
    reason: Reason | None = None
    needed: str | None = None
    has: str | None = None
    memory: MemoryModel | None = None


def fit(
    model: ModelFacts | None,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    required_context: int | None = None,
    node_gpus: int | None = None,
) -> Fit:
    """Verdict on one replica. What no fact contradicts is never refused.

    `node_gpus`: devices of the largest node at hand, where that is known better than by the catalogue.
    """
    return judged(Case(model, checkpoint, gpu, partition, precision, plan, required_context, node_gpus))


def smallest_gpu_count(
    model: ModelFacts,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    required_context: int | None = None,
    node_gpus: int | None = None,
) -> int | None:
    """Fewest GPUs of one node on which the model fits by tensor parallelism alone; None when no count does."""
    case = Case(model, checkpoint, gpu, partition, precision, plan, required_context, node_gpus)
    counts = (size for size in division_sizes() if size <= case.most_gpus)
    return next((count for count in counts if fits(over(case, count))), None)


def most_sequences(
    model: ModelFacts,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
) -> int | None:
    """The most sequences at a time, up to those planned, with which the engine starts; None where no recurrent states bind it."""
    case = Case(model, checkpoint, gpu, partition, precision, plan)
    return None if case.vram_bytes is None else sequences_to_start(case)


def over(case: Case, gpus: int) -> Case:
    """The same question over a number of GPUs by tensor parallelism."""
    plan = replace(
        case.plan, tensor_parallel=gpus, pipeline_parallel=1, data_parallel=1, decode_context_parallel=1
    )
    return replace(case, plan=plan)


def judged(case: Case) -> Fit:
    """Verdict on one question."""
    found = obstacle(case)
    match found:
        case Obstacle.PARTITION:
            return _partition_unknown(case)
        case Obstacle.PRECISION:
            return _precision_unsupported(case)
        case Obstacle.KV_CACHE_FORMAT:
            return _kv_cache_unsupported(case)
    if case.model is None:
        return _without_facts(case, found)
    memory = memory_of(case, case.model)
    match found:
        case None:
            return _fits(memory)
        case Obstacle.PARALLELISM:
            return _parallelism_invalid(case, memory)
        case Obstacle.MODEL_CONTEXT:
            return _beyond_model(case, case.model, memory)
        case Obstacle.SERVED_CONTEXT:
            return _beyond_served(case, memory)
        case Obstacle.WEIGHTS:
            return _weights_too_large(case, memory)
        case Obstacle.STATES:
            return _states_too_large(case, memory)
        case _:
            return _kv_cache_too_small(case, case.model, memory)


def _fits(memory: MemoryModel) -> Fit:
    message = (
        f"needs {_gib(memory.weights_bytes_per_gpu)} per GPU for weights and {_gib(memory.overhead_bytes)} overhead; "
        f"{_gib(memory.usable_bytes)} usable; the KV cache holds {memory.kv_tokens:,} tokens"
    )
    return Fit(FitVerdict.FITS, message, memory=memory)


def _without_facts(case: Case, found: Obstacle | None) -> Fit:
    if found is not None:
        return _parallelism_invalid(case, None)
    return Fit(
        FitVerdict.UNKNOWN, "the model's dimensions are not in the catalogue, so its memory is not known"
    )


def _partition_unknown(case: Case) -> Fit:
    modes = ", ".join(case.gpu.partitions)
    message = f"{case.gpu.model} has no partition mode {case.partition}; it has {modes}"
    return _no(Reason.PARTITION_MISMATCH, message, None, case.partition, modes)


def _precision_unsupported(case: Case) -> Fit:
    runnable = case.gpu.runnable_precisions
    wanted = case.precision if case.precision not in runnable else min(case.formats - runnable)
    choices = ", ".join(sorted(runnable))
    message = f"{case.gpu.model} ({case.gpu.architecture}) cannot run {wanted}; it runs {choices}"
    return _no(Reason.PRECISION_UNSUPPORTED, message, None, wanted, choices)


def _kv_cache_unsupported(case: Case) -> Fit:
    wanted = case.plan.kv_cache_precision
    name, gpu = case.plan.names.kv_cache, case.gpu
    message = f"{gpu.model} ({gpu.architecture}) cannot read a KV cache in {wanted}, which {name} asks for"
    return _no(Reason.PRECISION_UNSUPPORTED, message, None, f"{wanted} KV cache", "16-bit KV cache")


def _parallelism_invalid(case: Case, memory: MemoryModel | None) -> Fit:
    return _no(Reason.PARALLELISM_INVALID, parallelism_problem(case) or "", memory)


def _beyond_model(case: Case, model: ModelFacts, memory: MemoryModel) -> Fit:
    planned, limit = case.plan.max_model_len or 0, model.max_position_embeddings
    message = f"{case.plan.names.context} {planned:,} exceeds the {limit:,} tokens the model supports"
    return _no(Reason.CONTEXT_TOO_LONG, message, memory, _tokens(planned), _tokens(limit))


def _beyond_served(case: Case, memory: MemoryModel) -> Fit:
    required, served = case.required_context or 0, memory.max_context
    message = f"requests of {required:,} tokens exceed the {served:,} tokens served"
    return _no(Reason.CONTEXT_TOO_LONG, message, memory, _tokens(required), _tokens(served))


def _weights_too_large(case: Case, memory: MemoryModel) -> Fit:
    needed, usable = memory.weights_bytes_per_gpu + memory.overhead_bytes, room(case, memory)
    message = (
        f"weights need {_gib(memory.weights_bytes_per_gpu)} and overhead {_gib(memory.overhead_bytes)} per GPU; "
        f"{_gib(usable)} of {_gib(case.vram_bytes or 0)} are usable"
    )
    return _no(Reason.MEMORY_INSUFFICIENT, message, memory, _gib(needed), _gib(usable))


def _kv_cache_too_small(case: Case, model: ModelFacts, memory: MemoryModel) -> Fit:
    served = context_to_hold(case, memory)
    needed = kv_bytes_for_context(model, case.plan, served)
    message = (
        f"a context of {served:,} tokens needs {_gib(needed)} of KV cache per GPU; "
        f"{_gib(memory.kv_bytes)} are free and hold {memory.kv_tokens:,} tokens"
    )
    return _no(Reason.CONTEXT_TOO_LONG, message, memory, _tokens(served), _tokens(memory.kv_tokens))


def _states_too_large(case: Case, memory: MemoryModel) -> Fit:
    wanted, most = case.plan.max_num_seqs, sequences_to_start(case) or 0
    message = (
        f"{case.plan.names.sequences} {wanted:,} needs KV cache for as many recurrent states at once; "
        f"memory is left for {most:,}"
    )
    return _no(Reason.MEMORY_INSUFFICIENT, message, memory, f"{wanted} sequences", f"{most} sequences")


def _no(
    reason: Reason,
    message: str,
    memory: MemoryModel | None,
    needed: str | None = None,
    has: str | None = None,
) -> Fit:
    return Fit(FitVerdict.DOES_NOT_FIT, message, reason, needed, has, memory)


def _tokens(count: int) -> str:
    return f"{count} tokens"


def _gib(amount: float) -> str:
    return f"{max(amount, 0) / _GIB:.1f} GiB"

"""What is wrong with a request whatever recipe and cluster there are or will be. Admission, operator and command line ask here.

Only what is provably wrong counts: no recipe, node or checkpoint that somebody might still add could make it work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum

from aim_engine.api.deployment import RecipeWishes, Targets
from aim_engine.api.enums import Backend, Precision
from aim_engine.api.quantity import format_bytes, milli, whole
from aim_engine.api.wording import is_secret, printable, shown
from aim_engine.catalog.assumptions import division_sizes, memory_assumptions
from aim_engine.catalog.gpus import GPU, gpu_catalog
from aim_engine.catalog.models import ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import Problem, engine
from aim_engine.inventory import every_gpu
from aim_engine.selection.cluster_rules import scheduling_problems, service_problems
from aim_engine.selection.generate import generated
from aim_engine.selection.images import image_problems
from aim_engine.selection.stages import Context, Memo, assess, tenant_trust
from aim_engine.selection.types import Assessment, Facts, Request
from aim_engine.sizing import Bound, hardware_bound

LEAST_MEMORY_BYTES = 2**30
LEAST_CPU_MILLI = 100
"""No engine starts with less; such a value is a slip."""
_LARGEST_BATCH = 65536


class Check(StrEnum):
    """Groups of checks that an administrator may turn off at admission."""

    SPEC = "spec"
    """Never turned off: what the spec says, and what a tenant may ask for."""
    RESOURCE_LIMITS = "resource_limits"
    RECIPE_COMPATIBILITY = "recipe_compatibility"
    PERFORMANCE_CONSTRAINTS = "performance_constraints"


@dataclass(frozen=True, slots=True)
class SpecProblem:
    """One thing that is wrong, by field, value and remedy."""

    check: Check
    problem: Problem

    def __str__(self) -> str:
        return told(self.problem)


def told(problem: Problem) -> str:
    """A problem with its remedy in one line. Values that may be secret are never repeated."""
    value = "" if problem.value is None or is_secret(problem.field) else f" '{shown(str(problem.value))}'"
    return printable(f"{problem.field}{value}: {problem.message}; {problem.remedy}")


def spec_problems(request: Request, facts: Facts) -> tuple[SpecProblem, ...]:
    """Everything that is wrong, in the order of the fields."""
    model = facts.model(request.model_id) if request.model_id else None
    groups = (
        (Check.RECIPE_COMPATIBILITY, _gpu(request)),
        (Check.RESOURCE_LIMITS, _memory(request, model, facts)),
        (
            Check.SPEC,
            image_problems(request.spec.overrides.image, request.allowed_images, "spec.overrides.image"),
        ),
        (Check.SPEC, _arguments(request)),
        (Check.RESOURCE_LIMITS, _host(request)),
        (Check.RESOURCE_LIMITS, _length(request)),
        (Check.PERFORMANCE_CONSTRAINTS, _targets(request, model, facts)),
        (Check.SPEC, service_problems(request.spec.service, "spec.service")),
        (Check.SPEC, scheduling_problems(request.spec.scheduling, "spec.scheduling")),
    )
    return tuple(SpecProblem(check, problem) for check, problems in groups for problem in problems)


def _gpu(request: Request) -> Iterator[Problem]:
    wishes = request.spec.recipe
    if wishes.gpu_model is None:
        return
    gpu = _known(wishes.gpu_model)
    if gpu is None:
        near = get_close_matches(wishes.gpu_model.upper(), gpu_catalog(), n=1, cutoff=0.6)
        remedy = f"did you mean {near[0]}?" if near else f"use one of {', '.join(gpu_catalog())}"
        yield Problem("spec.recipe.gpuModel", wishes.gpu_model, "is not a known GPU model", remedy)
    elif wishes.precision is not None and wishes.precision not in gpu.runnable_precisions:
        runnable = ", ".join(sorted(gpu.runnable_precisions))
        yield Problem(
            "spec.recipe.precision", wishes.precision, f"{gpu.model} ({gpu.architecture}) cannot compute it",
            f"use one of {runnable}, or another spec.recipe.gpuModel",
        )  # fmt: skip


def _memory(request: Request, model: ModelFacts | None, facts: Facts) -> Iterator[Problem]:
    """Weights alone, in the smallest format the wishes allow, against all memory of the GPUs."""
    wishes = request.spec.recipe
    gpu = _known(wishes.gpu_model) if wishes.gpu_model else None
    if model is None or gpu is None or wishes.gpu_count is None or _offloads(request):
        return
    need = math.ceil(model.parameters * least_bytes(wishes.precision))
    if need <= wishes.gpu_count * gpu.vram_bytes:
        return
    enough = _enough(request, facts)
    more = f"set spec.recipe.gpuCount to {enough}, " if enough else ""
    form = f"in {wishes.precision}" if wishes.precision else "even in 4 bit"
    yield Problem(
        "spec.recipe.gpuCount", wishes.gpu_count,
        f"weights of {model.id} need at least {format_bytes(need)} {form}; {wishes.gpu_count} x {gpu.model} have "
        f"{format_bytes(wishes.gpu_count * gpu.vram_bytes)}",
        f"{more}use a larger GPU model, or leave them out",
    )  # fmt: skip


def _enough(request: Request, facts: Facts) -> int | None:
    """The fewest GPUs of the model on which a generated configuration fits; None where no number is known to do."""
    fitting = (count for count in division_sizes() if any(_configurations(request, facts, count)))
    return next(fitting, None)


def _configurations(request: Request, facts: Facts, gpus: int) -> Iterator[Assessment]:
    """What is generated for so many GPUs under the wishes, were the cluster to have every kind, without targets."""
    everything, wishes = every_gpu(), request.spec.recipe
    wider = RecipeWishes(gpu_model=wishes.gpu_model, gpu_count=gpus, precision=wishes.precision)
    spec = request.spec.model_copy(update={"recipe": wider, "targets": Targets()})
    asked = replace(request, spec=spec, identity=None, recorded=None)
    context = Context(asked, everything, facts, Memo())
    for each in generated(asked, everything, facts):
        assessment, verdict = assess(context, each)
        if verdict is None:
            yield assessment


def _expected(request: Request, facts: Facts) -> str:
    """What the fastest generated configuration is expected to reach: a bound of the hardware alone is no help."""
    counts = (request.spec.recipe.gpu_count,) if request.spec.recipe.gpu_count else division_sizes()
    found = [
        (each.rate, each.candidate.spec.hardware)
        for count in counts
        for each in _configurations(request, facts, count)
        if each.rate is not None
    ]
    if not found:
        return ""
    rate, hardware = max(found, key=lambda each: each[0].value)
    return f" ({hardware.gpu_count} x {hardware.gpu_model} is {rate} to reach {math.floor(rate.value)})"


def least_bytes(precision: Precision | None) -> float:
    """Bytes that a parameter takes, in the smallest format where none is asked for."""
    formats = memory_assumptions().formats
    return formats[precision].bytes if precision else min(form.bytes for form in formats.values())


def _offloads(request: Request) -> bool:
    """Weights may lie in host memory."""
    backend = engine(request.spec.recipe.backend or Backend.VLLM)
    return "cpu-offload-gb" in backend.merge_args(request.spec.overrides.engine_args, {})


def _arguments(request: Request) -> Iterator[Problem]:
    overrides, trust = request.spec.overrides, tenant_trust(request.namespace_labels)
    backend = engine(request.spec.recipe.backend or Backend.VLLM)
    for problem in (
        *backend.check_args(overrides.engine_args, backend.DEFAULT_VERSION, trust=trust),
        *backend.check_env(overrides.env, trust=trust),
    ):
        yield replace(problem, field=f"spec.overrides.{problem.field}")
    if request.spec.recipe.gpu_count is not None:
        for problem in backend.check_parallelism(overrides.engine_args, request.spec.recipe.gpu_count):
            yield replace(problem, field=f"spec.overrides.{problem.field}")


def _host(request: Request) -> Iterator[Problem]:
    wanted = request.spec.overrides.resources
    if wanted.memory and whole(wanted.memory) < LEAST_MEMORY_BYTES:
        yield Problem(
            "spec.overrides.resources.memory", wanted.memory, "is less than 1Gi",
            "give at least 1Gi; is a unit such as Gi missing?",
        )  # fmt: skip
    if wanted.cpu and milli(wanted.cpu) < LEAST_CPU_MILLI:
        yield Problem(
            "spec.overrides.resources.cpu", wanted.cpu, "is less than 100m", "give at least a tenth of a core"
        )


def _length(request: Request) -> Iterator[Problem]:
    spec = request.spec
    asked = request.required_context or 0
    backend = engine(spec.recipe.backend or Backend.VLLM)
    explicit = backend.merge_args(spec.overrides.engine_args, {}).get("max-model-len")
    if isinstance(explicit, int) and not isinstance(explicit, bool) and 0 < explicit < asked:
        yield Problem(
            "spec.overrides.engineArgs.max-model-len", explicit,
            f"is below workload.maxInputTokens + maxOutputTokens ({asked})", f"raise it to {asked} or leave it out",
        )  # fmt: skip


def _targets(request: Request, model: ModelFacts | None, facts: Facts) -> Iterator[Problem]:
    """Against the fastest hardware that the wishes allow: nothing that anybody writes makes it faster."""
    targets = request.spec.targets
    if model is None or (
        targets.min_tokens_per_second is None and targets.max_time_to_first_token_milliseconds is None
    ):
        return
    bounds = list(_bounds(request, model))
    if not bounds:
        return
    fastest, soonest = max(b.tokens_per_second for b in bounds), min(b.first_token_ms for b in bounds)
    if targets.min_tokens_per_second is not None and targets.min_tokens_per_second > fastest:
        yield Problem(
            "spec.targets.minTokensPerSecond", targets.min_tokens_per_second,
            f"no hardware within the wishes exceeds {math.floor(fastest)} for one replica",
            f"set it <= {math.floor(fastest)}{_expected(request, facts)}, or use more replicas",
        )  # fmt: skip
    wanted = targets.max_time_to_first_token_milliseconds
    if wanted is not None and wanted < soonest:
        yield Problem(
            "spec.targets.maxTimeToFirstTokenMilliseconds", wanted,
            f"no hardware within the wishes answers before {math.ceil(soonest)} ms", f"set it >= {math.ceil(soonest)}",
        )  # fmt: skip


def _bounds(request: Request, model: ModelFacts) -> Iterator[Bound]:
    wishes = request.spec.recipe
    wished = _known(wishes.gpu_model) if wishes.gpu_model else None
    for gpu in [wished] if wished else gpu_catalog().values():
        precisions = [wishes.precision] if wishes.precision else sorted(gpu.runnable_precisions)
        for precision in precisions:
            plan = EnginePlan(
                tensor_parallel=wishes.gpu_count or gpu.gpus_per_node,
                max_num_batched_tokens=_LARGEST_BATCH,
                max_num_seqs=request.spec.workload.max_batch_size or _LARGEST_BATCH,
                gpu_memory_utilization=1.0,
                drafts=True,  # as some recipe may
            )
            bound = hardware_bound(model, None, gpu, plan, precision)
            if bound is not None:
                yield bound


def _known(gpu_model: str) -> GPU | None:
    return next((gpu for name, gpu in gpu_catalog().items() if name.lower() == gpu_model.lower()), None)

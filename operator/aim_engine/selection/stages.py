"""The stages that a candidate passes, in order. Each gives the verdict that ends the candidate, or None to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import Reason
from aim_engine.api.meta import LABEL_ALLOW_REMOTE_CODE
from aim_engine.api.recipe import LabelSelectorRequirement, NamespaceSelector
from aim_engine.api.wording import briefly, is_secret, printable, shown
from aim_engine.catalog.assumptions import division_sizes
from aim_engine.catalog.gpus import GPU, gpu_catalog, partition_divisor
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import Problem, Trust, engine, version_of
from aim_engine.inventory import Inventory, PoolKey, place, whole_partition
from aim_engine.selection.capacity import pod_need
from aim_engine.selection.cluster_rules import selector_problems
from aim_engine.selection.images import image_problems
from aim_engine.selection.memory import Help, device_bytes, helping, sized
from aim_engine.selection.performance import with_performance
from aim_engine.selection.targets import missed_target
from aim_engine.selection.tuning import own_words
from aim_engine.selection.types import Assessment, Candidate, Facts, Request, Source, Verdict
from aim_engine.selection.weights import weights_problems
from aim_engine.sizing import FitVerdict


@dataclass(frozen=True, slots=True)
class Context:
    """Everything the stages look at beside the candidate."""

    request: Request
    inventory: Inventory
    facts: Facts
    memo: Memo


_MEMO_LIMIT = 20_000
Stage = Callable[[Context, Assessment], "Verdict | Assessment"]


def assess(
    context: Context, candidate: Candidate, *, any_hardware: bool = False
) -> tuple[Assessment, Verdict | None]:
    """Run the stages; the verdict is None when only ranking is left. `any_hardware`: as if the GPUs were there."""
    context = replace(context, facts=_facts_at_revision(context, candidate))
    early = context.memo.get(context, candidate, _BEFORE_CLUSTER)
    if early.verdict is not None:
        return early.assessment, early.verdict
    if not any_hardware:
        there = _gpu_in_cluster(context, early.assessment)
        if isinstance(there, Verdict):
            return early.assessment, there
    late = context.memo.get(context, candidate, _AFTER_CLUSTER)
    if late.verdict is not None:
        return late.assessment, late.verdict
    return _capacity(context, late.assessment), None


def _facts_at_revision(context: Context, candidate: Candidate) -> Facts:
    """Facts of the checkpoint as it will be loaded: at the deployment's revision, else at the recipe's."""
    spec = candidate.spec
    return context.facts.at(
        context.request.spec.model.revision or spec.revision, spec.source or spec.model_id
    )


def _run(context: Context, current: Assessment, stages: tuple[Stage, ...]) -> Judged:
    for stage in stages:
        result = stage(context, current)
        if isinstance(result, Verdict):
            return Judged(current, result)
        current = result
    return Judged(current, None)


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate after some stages: the verdict that ended it, or None."""

    assessment: Assessment
    verdict: Verdict | None


class Memo:
    """What the stages that look at no cluster found, by request and recipe: they would find the same again.

    Everything in the key decides; recipes and requests are known by hashes of their content.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Judged] = {}
        self._problems: dict[tuple[object, ...], tuple[Problem, ...]] = {}

    def get(self, context: Context, candidate: Candidate, part: tuple[Stage, ...]) -> Judged:
        """The result of a part of the stages, computed where it is not known."""
        request = context.request
        if request.identity is None:
            return self._compute(context, candidate, part)
        labels = tuple(sorted(request.namespace_labels.items()))
        key = (
            len(part),
            request.identity,
            labels,
            request.namespace,
            candidate.source,
            candidate.name,
            candidate.hash,
            candidate.observed,
        )
        if key not in self._known:
            if len(self._known) >= _MEMO_LIMIT:
                self._known.clear()
            self._known[key] = self._compute(context, candidate, part)
        return self._known[key]

    def problems(self, candidate: Candidate, namespace_labels: Mapping[str, str]) -> tuple[Problem, ...]:
        """What is wrong with a recipe by itself, whatever is asked."""
        key = (candidate.hash, candidate.source, tenant_trust(namespace_labels))
        if key not in self._problems:
            if len(self._problems) >= _MEMO_LIMIT:
                self._problems.clear()
            self._problems[key] = recipe_problems(candidate, namespace_labels)
        return self._problems[key]

    def _compute(self, context: Context, candidate: Candidate, part: tuple[Stage, ...]) -> Judged:
        if part is _BEFORE_CLUSTER:
            return _run(context, Assessment(candidate, effective_args(candidate, context.request.spec)), part)
        return _run(context, self.get(context, candidate, _BEFORE_CLUSTER).assessment, part)


def effective_args(candidate: Candidate, spec: AIMDeploymentSpec) -> dict[str, object]:
    """Engine arguments by precedence: `overrides.engineArgs` > `workload` > recipe."""
    backend, load = engine(candidate.spec.backend), spec.workload
    asked = (load.max_input_tokens or 0) + (load.max_output_tokens or 0)
    memory, version = device_bytes(candidate.spec.hardware), version_of(candidate.spec)
    args = backend.workload_args(
        candidate.spec.engine_args, load.max_batch_size, asked or None, memory, version
    )
    return backend.merge_args(args, spec.overrides.engine_args)


def tenant_trust(namespace_labels: Mapping[str, str]) -> Trust:
    """What tenants of a namespace may ask of an engine."""
    allowed = namespace_labels.get(LABEL_ALLOW_REMOTE_CODE) == "true"
    return Trust.TENANT_WITH_REMOTE_CODE if allowed else Trust.TENANT


def recipe_problems(candidate: Candidate, namespace_labels: Mapping[str, str]) -> tuple[Problem, ...]:
    """What makes the recipe unusable whatever the cluster: engine, arguments, environment, GPU or partition.

    Cluster recipes are written by administrators, ConfigMaps by tenants of the namespace with these labels.
    """
    spec = candidate.spec
    backend = engine(spec.backend)
    trust = tenant_trust(namespace_labels) if candidate.source is Source.CUSTOM else Trust.ADMIN
    problems = [
        *backend.check_args(spec.engine_args, version_of(spec), trust=trust),
        *backend.check_env(spec.env, trust=trust),
        *backend.check_combination(spec.engine_args, device_bytes(spec.hardware)),
        *selector_problems(spec.allowed_namespaces, "allowedNamespaces"),
    ]
    gpu = gpu_catalog().get(spec.hardware.gpu_model)
    if gpu is None:
        known = ", ".join(gpu_catalog())
        problems.append(
            Problem(
                "hardware.gpuModel",
                spec.hardware.gpu_model,
                "is not in the GPU catalogue",
                f"use one of {known}",
            )
        )
    elif partition_divisor(gpu, spec.hardware.partition) is None:
        problems.append(
            Problem(
                "hardware.partition",
                spec.hardware.partition,
                f"is not a mode of {gpu.model}",
                f"use one of {', '.join(gpu.partitions) or 'none: leave it out'}",
            )
        )
    if gpu is not None and spec.image is None:
        problems += backend.check_gpu(gpu)
    return tuple(problems)


def describe(problem: Problem) -> str:
    """A problem in one line. Values that may be secret are never repeated."""
    value = "" if is_secret(problem.field) else f" '{shown(str(problem.value))}'"
    return printable(f"{problem.field}{value}: {problem.message}")


def _verdict(
    current: Assessment, reason: Reason, message: str, *, remedy: str | None, needed: str | None = None, has: str | None = None
) -> Verdict:  # fmt: skip
    return Verdict(current.candidate.name, reason, message, remedy, needed, has)


def _valid(context: Context, current: Assessment) -> Verdict | Assessment:
    request, spec = context.request, current.candidate.spec
    problems = (
        *context.memo.problems(current.candidate, request.namespace_labels),
        *weights_problems(spec, context.facts),
        *(
            image_problems(spec.image, request.allowed_images, "image")
            if current.candidate.source is Source.CUSTOM
            else ()
        ),
    )
    if problems:
        return _verdict(
            current,
            Reason.RECIPE_INVALID,
            "; ".join(briefly([describe(each) for each in problems])),
            remedy=problems[0].remedy,
        )
    backend, overrides, trust = (
        engine(spec.backend),
        request.spec.overrides,
        tenant_trust(request.namespace_labels),
    )
    own = [
        *backend.check_args(overrides.engine_args, version_of(spec), trust=trust),
        *backend.check_env(overrides.env, trust=trust),
    ]
    together = own or backend.check_combination(current.args, device_bytes(spec.hardware))
    if together:
        told = "; ".join(briefly([describe(each) for each in together]))
        return _verdict(
            current, Reason.RECIPE_INVALID, f"with spec.overrides: {told}", remedy=together[0].remedy
        )
    return replace(current, gpu=gpu_catalog()[spec.hardware.gpu_model])


def _namespace(context: Context, current: Assessment) -> Verdict | Assessment:
    selector = current.candidate.spec.allowed_namespaces
    if selector is None or selects(selector, context.request.namespace_labels):
        return current
    return _verdict(
        current, Reason.NAMESPACE_NOT_ALLOWED,
        f"the recipe is not open to namespace {context.request.namespace}",
        remedy="ask an administrator to label the namespace as the recipe's allowedNamespaces asks",
    )  # fmt: skip


def _wishes(context: Context, current: Assessment) -> Verdict | Assessment:
    wishes, spec = context.request.spec.recipe, current.candidate.spec
    for field, reason, wanted, offered in (
        ("gpuModel", Reason.GPU_MODEL_MISMATCH, wishes.gpu_model, spec.hardware.gpu_model),
        ("gpuCount", Reason.GPU_COUNT_MISMATCH, wishes.gpu_count, spec.hardware.gpu_count),
        ("precision", Reason.PRECISION_MISMATCH, wishes.precision, spec.precision),
        ("backend", Reason.BACKEND_MISMATCH, wishes.backend, spec.backend),
    ):
        if wanted is not None and str(wanted).lower() != str(offered).lower():
            unknown = _unknown_gpu(str(wanted)) if field == "gpuModel" else None
            return _verdict(
                current, reason, f"spec.recipe.{field} asks for {wanted}, {unknown or f'the recipe is for {offered}'}",
                remedy=f"set spec.recipe.{field} to {offered} or leave it out", needed=str(wanted), has=str(offered),
            )  # fmt: skip
    if spec.maturity.rank > wishes.minimum_maturity.rank:
        return _verdict(
            current, Reason.MATURITY_TOO_LOW,
            f"spec.recipe.minimumMaturity asks for {wishes.minimum_maturity}, the recipe is {spec.maturity}",
            remedy=f"allow maturity {spec.maturity}", needed=wishes.minimum_maturity, has=spec.maturity,
        )  # fmt: skip
    return current


def _unknown_gpu(wanted: str) -> str | None:
    """What to say of a GPU model that does not exist."""
    if wanted.lower() in {model.lower() for model in gpu_catalog()}:
        return None
    near = get_close_matches(wanted.upper(), gpu_catalog(), n=1, cutoff=0.6)
    return f"which is no known GPU model; did you mean {near[0]}?" if near else "which is no known GPU model"


def _precision(context: Context, current: Assessment) -> Verdict | Assessment:
    gpu, precision = _gpu(current), current.candidate.spec.precision
    if precision in gpu.runnable_precisions:
        return current
    runnable = ", ".join(sorted(gpu.runnable_precisions))
    told = _helping(context, current, _plan(current))
    return _verdict(
        current, Reason.PRECISION_UNSUPPORTED,
        f"{gpu.model} ({gpu.architecture}) cannot compute {precision}, only {runnable}{told.note}",
        remedy=told.remedy, needed=precision, has=runnable,
    )  # fmt: skip


def _parallelism(context: Context, current: Assessment) -> Verdict | Assessment:
    spec = current.candidate.spec
    backend = engine(spec.backend)
    problems = backend.check_parallelism(current.args, spec.hardware.gpu_count)
    if problems:
        return _verdict(current, Reason.PARALLELISM_INVALID, describe(problems[0]), remedy=problems[0].remedy)
    plan = _plan(current)
    answer = sized(context.facts, spec, _gpu(current), plan, context.request.required_context)
    if answer.reason in (Reason.PARALLELISM_INVALID, Reason.PRECISION_UNSUPPORTED):
        told = _helping(context, current, plan)
        return _verdict(
            current,
            answer.reason,
            answer.message + told.note,
            remedy=_other_counts(context, current) or told.remedy,
            needed=answer.needed,
            has=answer.has,
        )
    return replace(current, plan=plan, fit=answer)


def _other_counts(context: Context, current: Assessment) -> str | None:
    """The nearest GPU counts that fit, where the configuration was made for the count that the user asked for."""
    asked, spec = context.request.spec.recipe.gpu_count, current.candidate.spec
    if asked is None or current.candidate.source is not Source.GENERATED:
        return None
    fitting = []
    for count in division_sizes():
        wider = spec.model_copy(update={"hardware": spec.hardware.model_copy(update={"gpu_count": count})})
        plan = engine(spec.backend).plan(
            current.args, count, _gpu(current), spec.hardware.partition, version_of(spec)
        )
        answer = sized(context.facts, wider, _gpu(current), plan, context.request.required_context)
        if answer.verdict is FitVerdict.FITS:
            fitting.append(count)
    below, above = [c for c in fitting if c < asked], [c for c in fitting if c > asked]
    near = " or ".join(str(count) for count in (*below[-1:], *above[:1]))
    return f"set spec.recipe.gpuCount to {near}" if near else None


def _plan(current: Assessment) -> EnginePlan:
    spec = current.candidate.spec
    hardware = spec.hardware
    return engine(spec.backend).plan(
        current.args, hardware.gpu_count, _gpu(current), hardware.partition, version_of(spec)
    )


def _helping(context: Context, current: Assessment, plan: EnginePlan) -> Help:
    """What would help the candidate, where nothing the user wrote is to blame."""
    return helping(
        context.facts, current.candidate.spec, _gpu(current), plan, context.request.required_context
    )


def _gpu_in_cluster(context: Context, current: Assessment) -> Verdict | Assessment:
    hardware = current.candidate.spec.hardware
    pools = context.inventory.pools
    if PoolKey(hardware.gpu_model, whole_partition(hardware.partition)) in pools:
        return current
    modes = [mode or "whole GPUs" for mode in context.inventory.partitions(hardware.gpu_model)]
    if modes:
        asked = hardware.partition or "whole GPUs"
        return _verdict(
            current, Reason.PARTITION_MISMATCH, f"the recipe is for {asked}; the cluster's {hardware.gpu_model} nodes are in {', '.join(modes)}",
            remedy=f"repartition a node, or use a recipe for {modes[0]}", needed=asked, has=", ".join(modes),
        )  # fmt: skip
    present = ", ".join(sorted({key.gpu_model for key in pools})) or "none"
    return _verdict(
        current, Reason.GPU_MODEL_NOT_IN_CLUSTER, f"no node has {hardware.gpu_model}; the cluster has {present}",
        remedy=f"add a {hardware.gpu_model} node, or check the node labels amd.com/gpu.device-id",
        needed=hardware.gpu_model, has=present,
    )  # fmt: skip


def _memory(context: Context, current: Assessment) -> Verdict | Assessment:
    answer, plan = current.fit, current.plan
    if answer is None or plan is None or answer.verdict is not FitVerdict.DOES_NOT_FIT:
        return current
    reason = answer.reason or Reason.MEMORY_INSUFFICIENT
    own = own_words(context.request, context.facts, current)
    if own is not None:
        message = f"{own.asked}; {answer.message}"
        return _verdict(current, reason, message, remedy=own.remedy, needed=answer.needed, has=answer.has)
    told = _helping(context, current, plan)
    message = answer.message + told.note
    return _verdict(current, reason, message, remedy=told.remedy, needed=answer.needed, has=answer.has)


def _targets(context: Context, current: Assessment) -> Verdict | Assessment:
    """Only evidence and the laws of the hardware refuse: an estimate is too uncertain for a no."""
    judged = with_performance(context.facts, current, context.request.spec.workload.max_input_tokens)
    missed = missed_target(context.request.spec.targets, judged)
    if missed is None:
        return judged
    return _verdict(
        judged,
        Reason.TARGET_NOT_REACHABLE,
        missed.message,
        remedy=missed.remedy,
        needed=missed.needed,
        has=missed.has,
    )


def _capacity(context: Context, current: Assessment) -> Assessment:
    """Where the pods fit now. Never the end: `decide` ranks first and looks at capacity afterwards."""
    need = pod_need(current.candidate, context.request.spec)
    return replace(current, need=need, placement=place(context.inventory, need))


_BEFORE_CLUSTER: tuple[Stage, ...] = (_valid, _namespace, _wishes, _precision, _parallelism)
_AFTER_CLUSTER: tuple[Stage, ...] = (_memory, _targets)
STAGES: tuple[Stage, ...] = (*_BEFORE_CLUSTER, _gpu_in_cluster, *_AFTER_CLUSTER, _capacity)
"""All stages in order. The two groups look at no cluster."""


def selects(selector: NamespaceSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches."""
    exact = all(labels.get(key) == value for key, value in (selector.match_labels or {}).items())
    return exact and all(_expression(expression, labels) for expression in selector.match_expressions or [])


def _expression(expression: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    values = expression.values or []
    match expression.operator:
        case "In":
            return labels.get(expression.key) in values
        case "NotIn":
            return labels.get(expression.key) not in values
        case "Exists":
            return expression.key in labels
        case _:
            return expression.key not in labels


def _gpu(current: Assessment) -> GPU:
    if current.gpu is None:
        raise AssertionError("the validity stage sets the GPU before any later stage runs")
    return current.gpu

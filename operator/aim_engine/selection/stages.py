"""The stages that a candidate passes, in order. Each gives the verdict that ends the candidate, or None to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import Reason
from aim_engine.api.meta import LABEL_ALLOW_REMOTE_CODE
from aim_engine.api.quantity import format_bytes, milli, whole
from aim_engine.api.recipe import LabelSelectorRequirement, NamespaceSelector
from aim_engine.catalog.gpus import GPU, gpu_catalog, partition_divisor
from aim_engine.engines import Problem, Trust, engine
from aim_engine.inventory import Inventory, PodNeed, PoolKey, Shortage, place, whole_partition
from aim_engine.selection.performance import with_performance
from aim_engine.selection.types import Assessment, Candidate, Facts, Request, Source, Verdict
from aim_engine.sizing import FitVerdict, fit


@dataclass(frozen=True, slots=True)
class Context:
    """Everything the stages look at beside the candidate."""

    request: Request
    inventory: Inventory
    facts: Facts


Stage = Callable[[Context, Assessment], "Verdict | Assessment"]


def assess(
    context: Context, candidate: Candidate, *, any_hardware: bool = False
) -> tuple[Assessment, Verdict | None]:
    """Run the stages; the verdict is None when only ranking is left. `any_hardware`: as if the GPUs were there."""
    current = Assessment(candidate, effective_args(candidate, context.request.spec))
    for stage in STAGES:
        if any_hardware and stage is _gpu_in_cluster:
            continue
        result = stage(context, current)
        if isinstance(result, Verdict):
            return current, result
        current = result
    return current, None


def effective_args(candidate: Candidate, spec: AIMDeploymentSpec) -> dict[str, object]:
    """Engine arguments by precedence: `overrides.engineArgs` > `workload` > recipe."""
    backend = engine(candidate.spec.backend)
    args = dict(backend.merge_args(candidate.spec.engine_args, {}))
    load = spec.workload
    if load.max_batch_size is not None:
        args = backend.merge_args(args, {"max-num-seqs": load.max_batch_size})
    asked = (load.max_input_tokens or 0) + (load.max_output_tokens or 0)
    current = args.get("max-model-len")
    if asked and isinstance(current, int) and current < asked:
        args = backend.merge_args(args, {"max-model-len": asked})
    return backend.merge_args(args, spec.overrides.engine_args)


def tenant_trust(namespace_labels: Mapping[str, str]) -> Trust:
    """What tenants of a namespace may ask of an engine."""
    allowed = namespace_labels.get(LABEL_ALLOW_REMOTE_CODE) == "true"
    return Trust.TENANT_WITH_REMOTE_CODE if allowed else Trust.TENANT


def recipe_problems(candidate: Candidate, namespace_labels: Mapping[str, str]) -> tuple[Problem, ...]:
    """What makes the recipe unusable whatever the cluster: engine, arguments, environment, unknown GPU or partition.

    Cluster recipes are written by administrators, ConfigMaps by tenants of the namespace with these labels.
    """
    spec = candidate.spec
    backend = engine(spec.backend)
    trust = tenant_trust(namespace_labels) if candidate.source is Source.CUSTOM else Trust.ADMIN
    problems = [
        *backend.check_args(spec.engine_args, spec.engine_version, trust=trust),
        *backend.check_env(spec.env, trust=trust),
        *backend.check_combination(spec.engine_args),
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
    return tuple(problems)


def describe(problem: Problem) -> str:
    """A problem in one line."""
    return f"{problem.field} '{problem.value}' {problem.message}"


def _verdict(current: Assessment, reason: Reason, message: str, **more: str | None) -> Verdict:
    return Verdict(current.candidate.name, reason, message, **more)


def _valid(context: Context, current: Assessment) -> Verdict | Assessment:
    request, spec = context.request, current.candidate.spec
    problems = recipe_problems(current.candidate, request.namespace_labels)
    if problems:
        return _verdict(
            current, Reason.RECIPE_INVALID, "; ".join(map(describe, problems)), remedy=problems[0].remedy
        )
    if current.candidate.source is Source.CUSTOM and spec.image and not request.may_use_image(spec.image):
        return _verdict(
            current, Reason.RECIPE_INVALID, f"image '{spec.image}' is not from a repository the operator allows",
            remedy=f"use one of {', '.join(request.allowed_images or ())}, or leave image out",
        )  # fmt: skip
    backend, overrides, trust = (
        engine(spec.backend),
        request.spec.overrides,
        tenant_trust(request.namespace_labels),
    )
    own = [
        *backend.check_args(overrides.engine_args, spec.engine_version, trust=trust),
        *backend.check_env(overrides.env, trust=trust),
    ]
    together = own or backend.check_combination(current.args)
    if together:
        told = "; ".join(map(describe, together))
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
            return _verdict(
                current, reason, f"spec.recipe.{field} asks for {wanted}, the recipe is for {offered}",
                remedy=f"set spec.recipe.{field} to {offered} or leave it out", needed=str(wanted), has=str(offered),
            )  # fmt: skip
    if spec.maturity.rank > wishes.minimum_maturity.rank:
        return _verdict(
            current, Reason.MATURITY_TOO_LOW,
            f"spec.recipe.minimumMaturity asks for {wishes.minimum_maturity}, the recipe is {spec.maturity}",
            remedy=f"allow maturity {spec.maturity}", needed=wishes.minimum_maturity, has=spec.maturity,
        )  # fmt: skip
    return current


def _precision(_: Context, current: Assessment) -> Verdict | Assessment:
    gpu, precision = _gpu(current), current.candidate.spec.precision
    if precision in gpu.runnable_precisions:
        return current
    runnable = ", ".join(sorted(gpu.runnable_precisions))
    return _verdict(
        current, Reason.PRECISION_UNSUPPORTED, f"{gpu.model} ({gpu.architecture}) cannot compute {precision}",
        remedy=f"use a recipe in {runnable}, or another GPU model", needed=precision, has=runnable,
    )  # fmt: skip


def _parallelism(context: Context, current: Assessment) -> Verdict | Assessment:
    spec = current.candidate.spec
    backend = engine(spec.backend)
    problems = backend.check_parallelism(current.args, spec.hardware.gpu_count)
    if problems:
        return _verdict(current, Reason.PARALLELISM_INVALID, describe(problems[0]), remedy=problems[0].remedy)
    plan = backend.plan(current.args, spec.hardware.gpu_count, _gpu(current), spec.hardware.partition)
    sized = fit(
        context.facts.model(spec.model_id), context.facts.checkpoint(spec.source or spec.model_id), _gpu(current),
        spec.hardware.partition, spec.precision, plan, required_context=context.request.required_context,
    )  # fmt: skip
    if sized.verdict is FitVerdict.DOES_NOT_FIT and sized.reason in (
        Reason.PARALLELISM_INVALID,
        Reason.PRECISION_UNSUPPORTED,
    ):
        return _verdict(
            current, sized.reason, sized.message, remedy=sized.remedy, needed=sized.needed, has=sized.has
        )
    return replace(current, plan=plan, fit=sized)


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


def _memory(_: Context, current: Assessment) -> Verdict | Assessment:
    sized = current.fit
    if sized is None or sized.verdict is not FitVerdict.DOES_NOT_FIT:
        return current
    reason = sized.reason or Reason.MEMORY_INSUFFICIENT
    return _verdict(current, reason, sized.message, remedy=sized.remedy, needed=sized.needed, has=sized.has)


def _targets(context: Context, current: Assessment) -> Verdict | Assessment:
    judged = with_performance(context.facts, current)
    wanted = context.request.spec.targets.min_tokens_per_second
    bound = judged.estimated_tokens_per_second
    if wanted is None or judged.published_tokens_per_second is not None or bound is None or bound >= wanted:
        return judged
    return _verdict(
        judged, Reason.TARGET_NOT_REACHABLE,
        f"spec.targets.minTokensPerSecond asks for {wanted}; the hardware bound is about {bound:.0f}",
        remedy=f"lower the target to {bound:.0f} or use more replicas", needed=str(wanted), has=f"{bound:.0f}",
    )  # fmt: skip


def _capacity(context: Context, current: Assessment) -> Verdict | Assessment:
    """Where the pods fit now. Not a failure yet: `decide` ranks first and looks at capacity afterwards."""
    need = pod_need(current.candidate, context.request.spec)
    return replace(current, need=need, placement=place(context.inventory, need))


STAGES: tuple[Stage, ...] = (
    _valid, _namespace, _wishes, _precision, _parallelism, _gpu_in_cluster, _memory, _targets, _capacity,
)  # fmt: skip


def pod_need(candidate: Candidate, spec: AIMDeploymentSpec) -> PodNeed:
    """What one replica takes from a node."""
    hardware, own, wanted = candidate.spec.hardware, candidate.spec.resources, spec.overrides.resources
    return PodNeed(
        gpu_model=hardware.gpu_model,
        partition=hardware.partition,
        gpus=hardware.gpu_count,
        cpu_milli=milli(wanted.cpu or own.cpu),
        memory_bytes=whole(wanted.memory or own.memory),
        node_selector=dict(spec.scheduling.node_selector),
        tolerations=tuple(spec.scheduling.tolerations),
    )


def capacity_verdict(current: Assessment, replicas: int) -> Verdict | None:
    """Why the replicas do not fit now, or None when they do."""
    placement, need = current.placement, current.need
    if placement is None or need is None or placement.fits >= replicas:
        return None
    gpus = f"{_gpus(need.gpus, f'free {need.gpu_model}')} on one node"
    if placement.usable_nodes == 0:
        blocked = "; ".join(f"{node}: {why}" for node, why in placement.blocked[:3]) or "no node qualifies"
        return _verdict(
            current, Reason.NODE_NOT_USABLE, f"needs {gpus}; {blocked}",
            remedy="uncordon the node, wait until it is Ready, or add a toleration or node", needed=gpus, has="0 usable nodes",
        )  # fmt: skip
    if placement.short_of in (Shortage.CPU, Shortage.MEMORY, Shortage.PODS):
        what, best = {
            Shortage.CPU: (_cpus(need.cpu_milli), f"at most {_cpus(placement.best_free_cpu_milli)}"),
            Shortage.MEMORY: (
                f"{format_bytes(need.memory_bytes)} of memory", f"at most {format_bytes(placement.best_free_memory_bytes)}"
            ),
            Shortage.PODS: ("a free pod slot", "none"),
        }[placement.short_of]  # fmt: skip
        return _verdict(
            current, Reason.NODE_RESOURCES_INSUFFICIENT,
            f"needs {what} beside {gpus}; free on a node with the GPUs: {best}",
            remedy=f"free {placement.short_of} on a node, or lower spec.overrides.resources", needed=what, has=best,
        )  # fmt: skip
    where = f" ({placement.largest_free_node})" if placement.largest_free_node else ""
    has = f"at most {placement.largest_free} on one node{where}, {placement.total_free} in all"
    if placement.fits:
        return _verdict(
            current, Reason.CAPACITY_INSUFFICIENT, f"{placement.fits} of {replicas} replicas fit now; each needs {gpus}",
            remedy=f"free or add {(replicas - placement.fits) * need.gpus} GPUs", needed=f"{replicas} replicas", has=f"{placement.fits}",
        )  # fmt: skip
    missing = need.gpus - placement.largest_free
    on = f" on {placement.largest_free_node}" if placement.largest_free_node else ""
    return _verdict(
        current, Reason.CAPACITY_INSUFFICIENT, f"needs {gpus}; free: {has}",
        remedy=f"free {_gpus(missing)}{on}, or add a {need.gpu_model} node", needed=gpus, has=has,
    )  # fmt: skip


def never_here(current: Assessment) -> Verdict | None:
    """Why no node of the cluster is big enough, however empty; None when one is."""
    placement, need = current.placement, current.need
    if placement is None or need is None or placement.matching_nodes:
        return None
    if placement.largest_allocatable >= need.gpus:
        what = f"{_cpus(need.cpu_milli)} and {format_bytes(need.memory_bytes)} of memory"
        return _verdict(
            current, Reason.NODE_RESOURCES_INSUFFICIENT,
            f"needs {what}; no node with {_gpus(need.gpus, need.gpu_model)} has as much even when empty",
            remedy="lower spec.overrides.resources, or add a larger node", needed=what, has="less on every node",
        )  # fmt: skip
    return _verdict(
        current, Reason.CAPACITY_INSUFFICIENT,
        f"needs {_gpus(need.gpus, need.gpu_model)} on one node; the largest node has {placement.largest_allocatable}",
        remedy="use a recipe with fewer GPUs, or add a larger node",
        needed=f"{_gpus(need.gpus)} on one node", has=str(placement.largest_allocatable),
    )  # fmt: skip


def _cpus(milli_cores: int) -> str:
    return f"{milli_cores / 1000:g} CPUs"


def _gpus(count: int, model: str = "") -> str:
    return f"{count} {model} GPU{'' if count == 1 else 's'}".replace("  ", " ")


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

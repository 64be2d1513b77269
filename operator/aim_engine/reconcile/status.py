"""The status of an AIMDeployment from what was decided and what the cluster shows. Pure; the clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aim_engine.api.conditions import Condition, ConditionReason, ConditionType
from aim_engine.api.configmap_yaml import Faults
from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.deployment_status import (
    AIMDeploymentStatus,
    CandidateStatus,
    ChosenRecipe,
    Recommendation,
    RolloutStatus,
    SelectionStatus,
)
from aim_engine.api.enums import Backend, Outcome, Tier
from aim_engine.api.meta import LABEL_DEPLOYMENT
from aim_engine.api.performance import PerformanceStatus
from aim_engine.catalog.gpus import devices
from aim_engine.inventory.quantities import items
from aim_engine.reconcile.pods import Cause, PodHealth, cause
from aim_engine.reconcile.revision import Revision
from aim_engine.selection import Decision, Verdict

MAX_CANDIDATES = 10
_MESSAGE = 1024
_CONDITION = 32768
_LATE = "the model did not load within its startup budget; see the pod's log"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Status, reason and message of one condition, before it is dated."""

    status: str
    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class Workload:
    """What the rendered Deployment shows."""

    exists: bool = False
    replicas: int = 0
    ready: int = 0
    updated: bool = True
    """The Deployment controller has seen the newest template and replaced all pods."""
    refused: str | None = None
    """Why pods cannot be created."""
    late: bool = False
    """The progress deadline has passed."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a status is made from."""

    generation: int
    namespace: str
    name: str
    spec: AIMDeploymentSpec
    selected: Judgement
    prerequisites: Judgement
    revision: Revision | None
    revision_name: str | None
    selection: SelectionStatus | None
    recommendation: Recommendation | None
    workload: Workload
    pods: tuple[PodHealth, ...]
    granted: int
    """Replicas that the operator asked of the Deployment."""
    short_of: str | None = None
    """What the replicas beyond the granted ones wait for."""
    performance: PerformanceStatus | None = None
    on_target: Judgement | None = None
    """PerformanceOnTarget; None: not measured."""


UNJUDGED = Judgement("Unknown", ConditionReason.RECONCILING, "not looked at yet")
NOT_MEASURED = Judgement("Unknown", ConditionReason.NOT_MEASURED, "the engines have not been measured yet")
NOTHING_TO_MEASURE = Judgement(
    "Unknown", ConditionReason.NOT_MEASURED, "no engine runs, so there is nothing to measure"
)
PREREQUISITES_MET = Judgement("True", ConditionReason.PREREQUISITES_MET, "nothing is missing")


def build(report: Report, previous: Mapping[str, Any], now: str) -> AIMDeploymentStatus:
    """The status to publish; transition times are kept where a condition's status did not change."""
    available = _available(report)
    judgements = {
        ConditionType.READY: _ready(report, available),
        ConditionType.RECIPE_SELECTED: report.selected,
        ConditionType.PREREQUISITES_MET: report.prerequisites,
        ConditionType.AVAILABLE: available,
        ConditionType.PERFORMANCE_ON_TARGET: _on_target(report),
    }
    revision = report.revision
    return AIMDeploymentStatus(
        observed_generation=report.generation,
        model_id=revision.model_id if revision else report.spec.model.id,
        recipe=_chosen(revision, report.revision_name) if revision else None,
        selection=report.selection,
        recommendation=report.recommendation,
        performance=report.performance,
        rollout=RolloutStatus(strategy=revision.strategy, reason=revision.strategy_reason)
        if revision
        else None,
        replicas=report.workload.replicas,
        ready_replicas=report.workload.ready,
        ready=f"{report.workload.ready}/{wanted(report.spec)}",
        selector=f"{LABEL_DEPLOYMENT}={report.name}",
        url=f"http://{report.name}-service.{report.namespace}.svc:{report.spec.service.port}/v1"
        if revision
        else None,
        conditions=conditions(judgements, previous, report.generation, now),
    )


def wanted(spec: AIMDeploymentSpec) -> int:
    """Replicas the user wants now."""
    return 0 if spec.suspend else spec.replicas


def conditions(
    judgements: Mapping[ConditionType, Judgement], previous: Mapping[str, Any], generation: int, now: str
) -> list[Condition]:
    """Dated conditions, in the order given."""
    before = {c.get("type"): c for c in previous.get("conditions") or []}
    dated = []
    for kind, judgement in judgements.items():
        old = before.get(kind.value) or {}
        since = old.get("lastTransitionTime") if old.get("status") == judgement.status else None
        dated.append(
            Condition(
                type=kind.value,
                status=judgement.status,
                reason=judgement.reason.value,
                message=judgement.message[:_CONDITION],
                observed_generation=generation,
                last_transition_time=since or now,
            )
        )
    return dated


def selection_status(decision: Decision, evaluated: int) -> SelectionStatus:
    """The decision as users read it; the ten most relevant verdicts."""
    chosen = decision.choice.assessment.candidate.name if decision.choice else None
    return SelectionStatus(
        outcome=decision.outcome,
        evaluated=evaluated,
        chosen=chosen,
        candidates=[candidate_status(verdict) for verdict in decision.verdicts[:MAX_CANDIDATES]],
    )


def candidate_status(verdict: Verdict) -> CandidateStatus:
    return CandidateStatus(
        recipe=verdict.recipe,
        reason=verdict.reason,
        message=verdict.message[:_MESSAGE],
        remedy=verdict.remedy[:_MESSAGE] if verdict.remedy else None,
        needed=verdict.needed[:100] if verdict.needed else None,
        has=verdict.has[:100] if verdict.has else None,
    )


def selected(revision: Revision, drift: str | None) -> Judgement:
    """RecipeSelected for a deployment that has a recipe."""
    if drift:
        return Judgement("True", ConditionReason.RECIPE_DRIFTED, drift)
    reason = (
        ConditionReason.RECIPE_SELECTED if revision.tier is Tier.PRIMARY else ConditionReason.FALLBACK_USED
    )
    return Judgement("True", reason, revision.message)


def not_selected(decision: Decision) -> Judgement:
    """RecipeSelected for a deployment that has none."""
    text = f"{decision.message}; {decision.remedy}" if decision.remedy else decision.message
    if decision.outcome is Outcome.WAITING:
        reason = ConditionReason.INSUFFICIENT_CAPACITY
    elif decision.verdicts:
        reason = ConditionReason.NO_ELIGIBLE_RECIPE
    else:
        reason = ConditionReason.RECIPE_NOT_FOUND
    return Judgement("False", reason, text)


def with_config_error(judgement: Judgement, name: str, error: Faults | None) -> Judgement:
    """A named ConfigMap that exists but cannot be read is told with line and field, not as missing."""
    if error is None or judgement.reason is not ConditionReason.RECIPE_NOT_FOUND:
        return judgement
    return Judgement("False", ConditionReason.RECIPE_INVALID, f"ConfigMap '{name}' cannot be read: {error}")


def workload_of(deployment: Mapping[str, Any] | None) -> Workload:
    """What a live Deployment shows; None when there is none."""
    if deployment is None:
        return Workload()
    status = deployment.get("status") or {}
    found = {c.get("type"): c for c in status.get("conditions") or []}
    failure = found.get("ReplicaFailure") or {}
    progress = found.get("Progressing") or {}
    wanted_replicas = deployment["spec"].get("replicas", 1)
    return Workload(
        exists=True,
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= wanted_replicas,
        refused=failure.get("message") if failure.get("status") == "True" else None,
        late=progress.get("reason") == "ProgressDeadlineExceeded",
    )


def _chosen(revision: Revision, name: str | None) -> ChosenRecipe:
    hardware = revision.recipe_spec["hardware"]
    return ChosenRecipe(
        name=revision.recipe,
        hash=revision.recipe_hash,
        tier=revision.tier,
        model_id=revision.model_id,
        gpu_model=hardware["gpuModel"],
        gpu_count=hardware["gpuCount"],
        gpus=devices(hardware["gpuCount"], hardware["gpuModel"], hardware.get("partition")),
        precision=revision.recipe_spec["precision"],
        backend=revision.recipe_spec.get("backend", Backend.VLLM.value),
        revision=name or "",
    )


def _ready(report: Report, available: Judgement) -> Judgement:
    if report.spec.suspend:
        return Judgement(
            "False", ConditionReason.SUSPENDED, "spec.suspend is true; set it to false to serve again"
        )
    for judgement in (report.selected, report.prerequisites, available):
        if judgement.status != "True":
            return judgement
    if report.spec.replicas == 0:
        return Judgement(
            "False", ConditionReason.SCALED_TO_ZERO,
            f"spec.replicas is 0; kubectl scale aimd {report.name} --replicas=1 starts it",
        )  # fmt: skip
    return Judgement(
        "True", ConditionReason.SERVING, f"{report.name}-service:{report.spec.service.port} answers"
    )


def _on_target(report: Report) -> Judgement:
    told = report.on_target or NOT_MEASURED
    unmeasured = told.reason in (ConditionReason.NOT_MEASURED, ConditionReason.MEASURING_DISABLED)
    return NOTHING_TO_MEASURE if unmeasured and not report.workload.exists else told


def _available(report: Report) -> Judgement:
    target, workload = wanted(report.spec), report.workload
    if report.revision is None:
        return Judgement("Unknown", ConditionReason.RECONCILING, "no recipe is in use, so nothing runs")
    if target == 0:
        return Judgement("True", ConditionReason.MINIMUM_REPLICAS_AVAILABLE, "no replicas are wanted")
    if not workload.exists and report.prerequisites.status == "False":
        return Judgement(
            "Unknown", ConditionReason.RECONCILING, "nothing runs before PrerequisitesMet is True"
        )
    if not workload.exists:
        return Judgement("Unknown", ConditionReason.RECONCILING, "the Deployment is not there yet")
    if workload.ready >= target and workload.updated:
        return Judgement(
            "True",
            ConditionReason.MINIMUM_REPLICAS_AVAILABLE,
            f"{workload.ready} of {target} replicas answer",
        )
    trouble = cause(report.pods, Backend(report.revision.recipe_spec.get("backend", Backend.VLLM.value)))
    if trouble is None and workload.refused:
        trouble = Cause(ConditionReason.POD_CREATION_REFUSED, workload.refused)
    late = Cause(ConditionReason.LOAD_TIMEOUT, _LATE) if workload.late else None
    waits = f"; the others wait: {report.short_of}" if report.short_of and report.granted < target else ""
    if workload.ready:
        why = trouble or late
        told = f"; {why.reason}: {why.message}" if why else ""
        enough = workload.ready >= report.granted and workload.updated
        reason = ConditionReason.INSUFFICIENT_CAPACITY if waits and enough else ConditionReason.ROLLING_OUT
        return Judgement("True", reason, f"{workload.ready} of {target} replicas answer{told}{waits}")
    if trouble:
        return Judgement("False", trouble.reason, f"{trouble.message}{waits}")
    if report.granted == 0 and waits:
        return Judgement("False", ConditionReason.INSUFFICIENT_CAPACITY, f"no replica runs{waits}")
    if late:
        return Judgement("False", late.reason, late.message)
    return Judgement(
        "False", ConditionReason.STARTING, f"0 of {target} replicas answer; the engine is loading{waits}"
    )


def by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Conditions of a raw status by their type; one from a file may have any shape."""
    return {str(condition.get("type")): condition for condition in items(status.get("conditions"))}


def time_to_ready(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> float | None:
    """Seconds from no replica being available to the first that answers; None where `Available` did not turn from False to True."""
    if before is None or after is None or (before["status"], after["status"]) != ("False", "True"):
        return None
    began, ended = (datetime.fromisoformat(each["lastTransitionTime"]) for each in (before, after))
    taken = ended - began
    return max(0.0, taken.total_seconds())


def merge_patch(old: Any, new: Any) -> Any:
    """RFC 7386 patch from `old` to `new`; {} when there is nothing to change."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value:
            patch[key] = merge_patch(old[key], value)
    return patch


def is_transition(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether readers must learn of the change at once: a condition, the recipe, or the generation. Counts may wait."""

    def essence(status: Mapping[str, Any]) -> tuple[Any, ...]:
        told = [(c.get("type"), c.get("status"), c.get("reason")) for c in status.get("conditions") or []]
        recommended = (status.get("recommendation") or {}).get("hash")
        return (
            told,
            status.get("observedGeneration"),
            status.get("recipe"),
            status.get("selector"),
            recommended,
        )

    return essence(old) != essence(new)

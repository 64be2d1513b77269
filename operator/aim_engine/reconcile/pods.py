"""How the pods of a deployment are doing, and why they are not, as far as their status tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.conditions import ConditionReason
from aim_engine.api.enums import Backend
from aim_engine.api.meta import LABEL_DEPLOYMENT
from aim_engine.engines import engine
from aim_engine.render.names import deployment_name
from aim_engine.render.pod import CONTAINER

_PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_FAILURES = frozenset({"CreateContainerConfigError", "CreateContainerError"})
_LIMIT = 400
_TEMPLATE_HASH = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class PodHealth:
    """What one pod's status says of its engine container."""

    name: str
    uid: str
    ready: bool
    terminating: bool
    bound: bool
    unschedulable: str | None = None
    waiting_reason: str | None = None
    waiting_message: str = ""
    restarts: int = 0
    exit_code: int | None = None
    exit_reason: str | None = None
    exit_message: str = ""
    address: str | None = None
    node: str | None = None
    is_replica: bool = True
    """Made by the ReplicaSet of our Deployment. Who may create pods may give one our labels, to answer for the engine."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why replicas do not answer."""

    reason: ConditionReason
    message: str


def read_health(obj: Mapping[str, Any]) -> PodHealth:
    """Health of a Pod object; missing parts count as not told yet."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    unschedulable = None
    if scheduled.get("status") == "False":
        unschedulable = scheduled.get("message") or "no node takes the pod"
    statuses = status.get("containerStatuses") or [{}]
    container = next((each for each in statuses if each.get("name") == CONTAINER), statuses[0])
    waiting = (container.get("state") or {}).get("waiting") or {}
    ended = (
        (container.get("state") or {}).get("terminated")
        or (container.get("lastState") or {}).get("terminated")
        or {}
    )
    return PodHealth(
        name=metadata["name"],
        uid=metadata["uid"],
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        terminating=metadata.get("deletionTimestamp") is not None,
        bound=bool((obj.get("spec") or {}).get("nodeName")),
        unschedulable=unschedulable,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message") or "",
        restarts=container.get("restartCount", 0),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason"),
        exit_message=ended.get("message") or "",
        address=status.get("podIP"),
        node=(obj.get("spec") or {}).get("nodeName"),
        is_replica=_is_replica(metadata),
    )


def _is_replica(metadata: Mapping[str, Any]) -> bool:
    """The controller of ReplicaSets deletes or releases a pod that names one without being its replica."""
    labels = metadata.get("labels") or {}
    expected = f"{deployment_name(labels.get(LABEL_DEPLOYMENT, ''))}-{labels.get(_TEMPLATE_HASH, '')}"
    return any(
        (owner.get("controller"), owner.get("kind"), owner.get("name")) == (True, "ReplicaSet", expected)
        for owner in metadata.get("ownerReferences") or []
    )


def cause(pods: Iterable[PodHealth], backend: Backend) -> Cause | None:
    """The first cause, by pod name, that keeps a replica from answering; None while they are merely starting."""
    candidates = sorted((p for p in pods if not p.ready and not p.terminating), key=lambda p: p.name)
    found = [c for p in candidates if (c := _cause(p, backend))]
    return next(
        (c for c in found if c.reason is not ConditionReason.PODS_UNSCHEDULABLE), found[0] if found else None
    )


def _cause(pod: PodHealth, backend: Backend) -> Cause | None:
    if pod.waiting_reason in _PULL_FAILURES:
        return Cause(
            ConditionReason.IMAGE_PULL_FAILED,
            f"pod {pod.name}: {_short(pod.waiting_message) or pod.waiting_reason}; check the image name, the registry and pull secrets",
        )
    if pod.waiting_reason in _CONFIG_FAILURES:
        reason = (
            ConditionReason.SECRET_NOT_FOUND
            if "secret" in pod.waiting_message.lower()
            else ConditionReason.ENGINE_CRASHED
        )
        return Cause(
            reason,
            f"pod {pod.name}: {_short(pod.waiting_message)}; create it in this namespace and the pod starts by itself",
        )
    if pod.exit_code is not None and (pod.exit_code != 0 or pod.waiting_reason == "CrashLoopBackOff"):
        return _crash(pod, backend)
    if pod.unschedulable and not pod.bound:
        return Cause(ConditionReason.PODS_UNSCHEDULABLE, f"pod {pod.name}: {_short(pod.unschedulable)}")
    return None


def _crash(pod: PodHealth, backend: Backend) -> Cause:
    diagnosis = engine(backend).classify_termination(pod.exit_message, pod.exit_code, pod.exit_reason)
    times = f", {pod.restarts} restarts" if pod.restarts else ""
    if diagnosis is None:
        last = _short(pod.exit_message.strip().rsplit("\n", 1)[-1]) or pod.exit_reason or "no message"
        return Cause(
            ConditionReason.ENGINE_CRASHED,
            f"pod {pod.name} ended with exit code {pod.exit_code}{times}: {last}; see kubectl logs --previous {pod.name}",
        )
    return Cause(
        ConditionReason(diagnosis.reason),
        f"pod {pod.name}{times}: {_short(diagnosis.message)}; {diagnosis.remedy}",
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"

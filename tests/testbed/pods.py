"""Pod statuses as a kubelet would write them. Pure functions from a pod to its next status."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]


def timestamp() -> str:
    """The present second as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _previous(pod: Mapping[str, Any]) -> dict[str, Json]:
    return {status["name"]: status for status in pod.get("status", {}).get("containerStatuses", [])}


def _conditions(pod: Mapping[str, Any], *, ready: bool, reason: str = "") -> list[Json]:
    """The pod's conditions with readiness set; transition times move only where the value changes."""
    wanted = "True" if ready else "False"
    kept = {condition["type"]: condition for condition in pod.get("status", {}).get("conditions", [])}
    for kind in ("Ready", "ContainersReady"):
        old = kept.get(kind, {})
        since = old.get("lastTransitionTime") if old.get("status") == wanted else None
        kept[kind] = {"type": kind, "status": wanted, "lastTransitionTime": since or timestamp()}
        if not ready:
            names = " ".join(container["name"] for container in pod["spec"]["containers"])
            kept[kind] |= {"reason": reason, "message": f"containers with unready status: [{names}]"}
    return list(kept.values())


def _containers(pod: Mapping[str, Any], next_status: Callable[[Json, Json], Json]) -> list[Json]:
    """Status of every container, from its specification and its previous status ({} at first)."""
    previous = _previous(pod)
    return [
        {"name": container["name"], "image": container.get("image", ""), "imageID": ""}
        | next_status(container, previous.get(container["name"], {}))
        for container in pod["spec"]["containers"]
    ]


def crashed_status(
    pod: Mapping[str, Any],
    *,
    exit_code: int = 1,
    message: str = "",
    reason: str = "Error",
    waiting: str = "CrashLoopBackOff",
) -> Json:
    """Status after every container ended and while the kubelet holds back the restart.

    ``message`` is what the container wrote last, as ``terminationMessagePolicy: FallbackToLogsOnError`` keeps it;
    ``reason`` is that of the end ("Error", "OOMKilled"), ``waiting`` that of the wait for the restart.
    """

    def ended(container: Json, old: Json) -> Json:
        started = old.get("state", {}).get("running", {}).get("startedAt") or timestamp()
        end = {"exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": timestamp()}
        return {
            "ready": False,
            "started": False,
            "restartCount": old.get("restartCount", 0) + 1,
            "state": {
                "waiting": {
                    "reason": waiting,
                    "message": f"back-off 10s restarting failed container={container['name']}",
                }
            },
            "lastState": {"terminated": end | ({"message": message} if message else {})},
        }

    return {
        "phase": "Running",
        "conditions": _conditions(pod, ready=False, reason="ContainersNotReady"),
        "containerStatuses": _containers(pod, ended),
    }


def image_pull_status(pod: Mapping[str, Any], message: str | None = None) -> Json:
    """Status of a pod whose images cannot be pulled; it stays Pending."""

    def pulling(container: Json, old: Json) -> Json:
        why = message or f'Back-off pulling image "{container.get("image", "")}"'
        return {
            "ready": False,
            "started": False,
            "restartCount": old.get("restartCount", 0),
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": why}},
            "lastState": {},
        }

    return {
        "phase": "Pending",
        "conditions": _conditions(pod, ready=False, reason="ContainersNotReady"),
        "containerStatuses": _containers(pod, pulling),
    }


def running_status(pod: Mapping[str, Any]) -> Json:
    """Status of a pod all of whose containers run and are ready."""

    def running(_: Json, old: Json) -> Json:
        return {
            "ready": True,
            "started": True,
            "restartCount": old.get("restartCount", 0),
            "state": {"running": {"startedAt": timestamp()}},
            "lastState": old.get("lastState", {}),
        }

    return {
        "phase": "Running",
        "conditions": _conditions(pod, ready=True),
        "containerStatuses": _containers(pod, running),
    }

"""Kubernetes Events, posted beside the work and never in its way: a lost Event is logged, not retried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aim_engine.api.conditions import ConditionReason, ConditionType
from aim_engine.api.meta import API_VERSION, FIELD_MANAGER
from aim_engine.kube.client import KubeClient
from aim_engine.reconcile.cache import StoredDeployment
from aim_engine.reconcile.resources import EVENTS

log = logging.getLogger(__name__)

_QUIET = frozenset(
    {
        ConditionReason.RECONCILING, ConditionReason.STARTING, ConditionReason.ROLLING_OUT, ConditionReason.NOT_MEASURED,
        ConditionReason.NO_DEMAND, ConditionReason.NO_TARGET, ConditionReason.MEASURING_DISABLED,
    }
)  # fmt: skip
_LIMIT = 1000


def transitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(type, reason, message) of the Events that a status change deserves: one per condition that changed its reason.

    Ready repeats the cause of another condition, so of Ready only the good news is told.
    """
    before = {c.get("type"): (c.get("status"), c.get("reason")) for c in old.get("conditions") or []}
    told = []
    for condition in new.get("conditions") or []:
        kind, status, reason = condition["type"], condition["status"], condition["reason"]
        if before.get(kind) == (status, reason) or reason in _QUIET:
            continue
        good = status == "True"
        if kind == ConditionType.READY:
            if good:
                told.append(("Normal", reason, condition["message"]))
        elif kind == ConditionType.RECIPE_SELECTED or not good:
            told.append(("Normal" if good else "Warning", reason, condition["message"]))
    return told


class Recorder:
    """Posts Events one after the other from a bounded queue."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(maxsize=1000)

    def record(
        self, about: StoredDeployment, kind: str, reason: str, message: str, action: str = "Reconcile"
    ) -> None:
        """Post an Event about a deployment soon; dropped with a log line when a thousand are waiting."""
        regarding = {
            "apiVersion": API_VERSION,
            "kind": "AIMDeployment",
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        }
        self._enqueue(regarding, kind, reason, message, action)

    def refuse_config_map(self, obj: Mapping[str, Any], message: str) -> None:
        """Post a warning about a ConfigMap that is labelled as a recipe and cannot be read as one."""
        metadata = obj["metadata"]
        regarding = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            **{key: metadata.get(key, "") for key in ("namespace", "name", "uid", "resourceVersion")},
        }
        self._enqueue(regarding, "Warning", "RecipeInvalid", f"takes no part in selection: {message}", "Read")

    def _enqueue(
        self, regarding: Mapping[str, str], kind: str, reason: str, message: str, action: str
    ) -> None:
        namespace, name = regarding["namespace"], regarding["name"]
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"{FIELD_MANAGER}-operator",
            "reportingInstance": FIELD_MANAGER,
            "action": action,
            "reason": reason,
            "type": kind,
            "note": message[:_LIMIT],
            "regarding": dict(regarding),
        }
        try:
            self._queue.put_nowait((namespace, event))
        except asyncio.QueueFull:
            log.warning("event %s of %s/%s dropped: too many are waiting", reason, namespace, name)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            namespace, event = await self._queue.get()
            try:
                await self._client.create(EVENTS, namespace, event)
            except Exception as error:
                log.info("event %s in %s not posted: %s", event["reason"], namespace, error)

"""The snapshot: everything the operator decides from, as one YAML List. What it never reads is not in it, secrets least of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aim_engine.api.meta import API_VERSION, LABEL_DEPLOYMENT
from aim_engine.catalog.models import (
    Checkpoint,
    ModelFacts,
    checkpoint_from_row,
    checkpoint_row,
    model_from_row,
    model_row,
)
from aim_engine.cli.files import Found, Object, read_list
from aim_engine.cli.output import invalid
from aim_engine.reconcile.cache import RECIPE_FILE, explain
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.selection import CatalogueFacts, Facts

KIND = "Snapshot"


@dataclass(frozen=True, slots=True)
class RecordedFacts:
    """Model facts of a snapshot, and the catalogue's for every other model."""

    models: Mapping[str, ModelFacts]
    checkpoints: Mapping[str, Checkpoint]

    def model(self, model_id: str) -> ModelFacts | None:
        return self.models.get(model_id) or CatalogueFacts().model(model_id)

    def checkpoint(self, source_id: str) -> Checkpoint | None:
        return self.checkpoints.get(source_id) or CatalogueFacts().checkpoint(source_id)

    def unknown(self, model_id: str) -> str | None:  # noqa: ARG002
        return None

    def at(self, revision: str | None, repository: str | None) -> Facts:  # noqa: ARG002
        """As they were recorded."""
        return self


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as read."""

    objects: list[Found]
    config: OperatorConfig
    facts: Facts
    clock: float
    """When it was taken, in seconds since the epoch."""


def read_snapshot(path: Path, now: float) -> Snapshot:
    """Read a snapshot, or any List of objects; what a plain List does not say is the default, the time `now`."""
    _, found = read_list(path)
    heads = [each for each in found if each.obj["kind"] == KIND]
    objects = [each for each in found if each.obj["kind"] != KIND]
    if not heads:
        return Snapshot(objects, OperatorConfig(), CatalogueFacts(), now)
    head = heads[0]
    if head.obj.get("apiVersion") != API_VERSION:
        version = head.obj.get("apiVersion")
        raise invalid(
            f"{head.where}: apiVersion '{version}' is not {API_VERSION}; use an aim-engine of that version"
        )
    count = head.obj.get("objects")
    if count != len(objects):
        raise invalid(
            f"{path}: holds {len(objects)} objects of {count}; it was cut, write the snapshot again"
        )
    try:
        config = OperatorConfig.strict_load(head.obj.get("configuration") or {})
    except ValidationError as error:
        raise invalid(f"{head.where}: configuration: {explain(error)}; correct it") from None
    return Snapshot(objects, config, _facts(head), _clock(head))


def write_snapshot(
    objects: Iterable[tuple[str, Object]], config: OperatorConfig, facts: Facts, models: Iterable[str], taken: datetime,
    version: str,
) -> Iterator[str]:  # fmt: skip
    """The lines of a snapshot: (kind, object) in, one line an object out."""
    items = [_kept(kind, obj) for kind, obj in objects]
    ids = sorted(set(models))
    known = [each for each in map(facts.model, ids) if each is not None]
    stored = [each for each in map(facts.checkpoint, ids) if each is not None]
    head = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": taken.strftime("snapshot-%Y%m%d-%H%M%S")},
        "time": taken.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "operatorVersion": version,
        "objects": len(items),
        "configuration": config.essence(),
        "modelFacts": [model_row(row) for row in known],
        "checkpoints": [checkpoint_row(row) for row in stored],
    }
    yield "apiVersion: v1\nkind: List\nitems:\n"
    for item in (head, *items):
        yield f"- {json.dumps(item, ensure_ascii=False)}\n"


def _facts(head: Found) -> RecordedFacts:
    try:
        models = [model_from_row(row) for row in head.obj.get("modelFacts") or []]
        checkpoints = [checkpoint_from_row(row) for row in head.obj.get("checkpoints") or []]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise invalid(
            f"{head.where}: modelFacts or checkpoints: {error!r}; write the snapshot again"
        ) from None
    return RecordedFacts({each.id: each for each in models}, {each.id: each for each in checkpoints})


def _clock(head: Found) -> float:
    told = str(head.obj.get("time"))
    try:
        return datetime.strptime(told, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise invalid(
            f"{head.where}: time '{told[:80]}' is not a time; write it as 2026-01-31T12:00:00Z"
        ) from None


def _kept(kind: str, obj: Object) -> Object:
    """The part of an object that decisions are made from."""
    keep = _KEEP.get(kind, _whole)
    return {"apiVersion": obj.get("apiVersion", "v1"), "kind": kind, **keep(obj)}


def _metadata(obj: Object, *fields: str) -> Object:
    metadata = obj["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", *fields)
    return {name: metadata[name] for name in names if metadata.get(name)}


def _pick(value: Mapping[str, Any] | None, *fields: str) -> Object:
    return {name: (value or {})[name] for name in fields if (value or {}).get(name) is not None}


def _whole(obj: Object) -> Object:
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {
        **{name: value for name, value in obj.items() if name not in ("kind", "apiVersion")},
        "metadata": metadata,
    }


def _node(obj: Object) -> Object:
    status = obj.get("status") or {}
    ready = [_pick(c, "type", "status") for c in status.get("conditions") or [] if c.get("type") == "Ready"]
    return {
        "metadata": _metadata(obj, "labels"),
        "spec": _pick(obj.get("spec"), "taints", "unschedulable"),
        "status": {**_pick(status, "allocatable", "capacity"), "conditions": ready},
    }


def _pod(obj: Object) -> Object:
    """Requests, node and phase. Neither environment nor volumes: that is where secrets are named."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    owner = (obj["metadata"].get("labels") or {}).get(LABEL_DEPLOYMENT)
    metadata = {**_metadata(obj), **({"labels": {LABEL_DEPLOYMENT: owner}} if owner else {})}
    return {
        "metadata": metadata,
        "spec": {
            **_pick(spec, "nodeName", "overhead", "resources"),
            **{
                name: [_pick(each, "name", "resources", "restartPolicy") for each in spec[name]]
                for name in ("containers", "initContainers")
                if spec.get(name)
            },
        },
        "status": _pick(status, "phase", *(("conditions",) if owner else ())),
    }


def _namespace(obj: Object) -> Object:
    return {"metadata": _metadata(obj, "labels"), "status": _pick(obj.get("status"), "phase")}


def _priority(obj: Object) -> Object:
    return {"metadata": _metadata(obj), **_pick(obj, "value", "globalDefault")}


def _config_map(obj: Object) -> Object:
    return {"metadata": _metadata(obj, "labels"), "data": _pick(obj.get("data"), RECIPE_FILE)}


def _rendered(obj: Object) -> Object:
    return {
        "metadata": _metadata(obj, "labels", "ownerReferences", "generation"),
        "spec": _pick(obj.get("spec"), "replicas"),
        "status": obj.get("status") or {},
    }


_KEEP: Mapping[str, Callable[[Object], Object]] = {
    "Node": _node,
    "Pod": _pod,
    "Namespace": _namespace,
    "PriorityClass": _priority,
    "ConfigMap": _config_map,
    "Deployment": _rendered,
}

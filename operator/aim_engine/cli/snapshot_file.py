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
from aim_engine.cli.documents import short
from aim_engine.cli.facts import facts_in
from aim_engine.cli.files import Found, Object, read_list
from aim_engine.cli.output import escaped, invalid
from aim_engine.reconcile.cache import RECIPE_FILE, explain
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.facts import NO_FACTS, UNKNOWN, Place, collect, reasons_of, rows_of
from aim_engine.reconcile.facts import RecordedFacts as RecordedFacts
from aim_engine.selection import Facts

KIND = "Snapshot"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as read."""

    objects: list[Found]
    config: OperatorConfig
    facts: RecordedFacts
    clock: float
    """When it was taken, in seconds since the epoch."""


def read_snapshot(path: Path, now: float) -> Snapshot:
    """Read a snapshot, or any List of objects; what a plain List does not say is the default, the time `now`."""
    _, found = read_list(path)
    heads = [each for each in found if each.obj["kind"] == KIND]
    objects = [each for each in found if each.obj["kind"] != KIND]
    if not heads:
        return Snapshot(objects, OperatorConfig(), NO_FACTS, now)
    head = heads[0]
    if head.obj.get("apiVersion") != API_VERSION:
        version = short(head.obj.get("apiVersion"))
        raise invalid(
            f"{head.where}: apiVersion '{version}' is not {API_VERSION}; use an aim-engine of that version"
        )
    count = head.obj.get("objects")
    if count != len(objects):
        count = short(count)
        raise invalid(
            f"{path}: holds {len(objects)} objects of {count}; it was cut, write the snapshot again"
        )
    try:
        config = OperatorConfig.strict_load(head.obj.get("configuration") or {})
    except ValidationError as error:
        raise invalid(f"{head.where}: configuration: {explain(error, '')}") from None
    return Snapshot(objects, config, facts_in(head.obj, head.where), _clock(head))


def write_snapshot(
    objects: Iterable[tuple[str, Object]], config: OperatorConfig, facts: Facts, places: Iterable[Place],
    taken: datetime, version: str,
) -> Iterator[str]:  # fmt: skip
    """The lines of a snapshot: (kind, object) in, one line an object out; with facts of the repositories at `places`."""
    items = [_kept(kind, obj) for kind, obj in objects]
    known = collect(places, facts)
    head = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": taken.strftime("snapshot-%Y%m%d-%H%M%S")},
        "time": taken.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "operatorVersion": version,
        "objects": len(items),
        "configuration": config.essence(),
        **rows_of(known),
        UNKNOWN: reasons_of(known),
    }
    yield "apiVersion: v1\nkind: List\nitems:\n"
    for item in (head, *items):
        yield f"- {escaped(json.dumps(item, ensure_ascii=False))}\n"


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

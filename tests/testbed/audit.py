"""What the API server's audit log says about who wrote, and who was refused."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})
FORBIDDEN = 403
FIRST_ERROR = 400


@dataclass(frozen=True)
class AuditRecord:
    """One answered request."""

    user: str
    verb: str
    resource: str
    """Plural, with its group unless core: "pods", "deployments.apps"."""
    subresource: str
    namespace: str
    name: str
    code: int
    """HTTP status of the answer."""
    at: datetime.datetime
    """When the request arrived."""


def parse_record(line: bytes) -> AuditRecord | None:
    """The record of one line of the log, None for what is no answered resource request."""
    event: dict[str, Any] = json.loads(line)
    reference = event.get("objectRef")
    # A watch is answered when it starts; its end would count it twice.
    expected_stage = "ResponseStarted" if event["verb"] == "watch" else "ResponseComplete"
    code = event.get("responseStatus", {}).get("code", 0)
    refused_watch = event["verb"] == "watch" and code >= FIRST_ERROR
    if reference is None or (event["stage"] != expected_stage and not refused_watch):
        return None
    group = reference.get("apiGroup", "")
    plural = reference.get("resource", "")
    return AuditRecord(
        user=event.get("user", {}).get("username", ""),
        verb=event["verb"],
        resource=f"{plural}.{group}" if group else plural,
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=code,
        at=datetime.datetime.fromisoformat(event["requestReceivedTimestamp"]),
    )


class AuditLog:
    """Reads the log as it grows. A mark is a position; queries look at what came after it.

    The API server answers a request only after its record is in the file, so a client's own requests are always seen.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: list[AuditRecord] = []
        self._offset = 0
        self._lock = threading.Lock()

    def mark(self) -> int:
        """Position after everything recorded so far."""
        return len(self._refresh())

    def records(self, since: int = 0) -> list[AuditRecord]:
        """Everything recorded after the mark ``since``, reads included where the policy logs them."""
        return self._refresh()[since:]

    def writes(
        self,
        since: int = 0,
        *,
        user: str | None = None,
        verb: str | None = None,
        resource: str | None = None,
        subresource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        include_events: bool = False,
        ok_only: bool = False,
    ) -> list[AuditRecord]:
        """Writing requests after ``since`` that match every given value.

        ``resource`` matches with or without the group ("deployments" or "deployments.apps"); ``subresource=""`` means
        the object itself. Events are left out unless asked for, refused and failed requests only with ``ok_only``.
        """
        return [
            record
            for record in self.records(since)
            if record.verb in WRITE_VERBS
            and (include_events or plural(record) != "events")
            and (not ok_only or record.code < FIRST_ERROR)
            and (resource is None or resource in (record.resource, plural(record)))
            and user in (None, record.user)
            and verb in (None, record.verb)
            and subresource in (None, record.subresource)
            and namespace in (None, record.namespace)
            and name in (None, record.name)
        ]

    def forbidden(self, since: int = 0, user: str | None = None) -> list[AuditRecord]:
        """Requests refused with 403 after ``since``: writes of everybody, reads of users outside the control plane."""
        return [
            record
            for record in self.records(since)
            if record.code == FORBIDDEN and user in (None, record.user)
        ]

    def _refresh(self) -> list[AuditRecord]:
        with self._lock:
            self._records.extend(record for line in self._new_lines() if (record := parse_record(line)))
            return self._records

    def _new_lines(self) -> Iterator[bytes]:
        try:
            log = self._path.open("rb")
        except FileNotFoundError:
            return
        with log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield line


def plural(record: AuditRecord) -> str:
    """The resource without its group."""
    return record.resource.partition(".")[0]

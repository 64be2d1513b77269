"""Who may read /metrics, where `metrics.authenticate` is on: the API server is asked whose token it is, and what its owner may do."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource

log = logging.getLogger(__name__)

TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
PATH = "/metrics"
_OK, _UNAUTHORIZED, _FORBIDDEN, _UNAVAILABLE = 200, 401, 403, 503
_REMEMBER_SECONDS = {_OK: 60.0, _UNAUTHORIZED: 10.0, _FORBIDDEN: 10.0}
_REMEMBERED = 256
_LONGEST_TOKEN = 16384
_AT_ONCE = 4
"""Questions to the API server at a time: who guesses tokens must not hold up what else we ask of it."""


@dataclass(slots=True)
class MetricsAccess:
    """Answers are remembered for a while, by the token's hash, so that neither scrapes nor guesses become requests one by one."""

    client: KubeClient
    _answers: dict[bytes, tuple[int, float]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def authorize(self, token: str | None) -> int:
        """200, 401 (no or unknown token), 403 (its owner may not) or 503 (the API server cannot be asked)."""
        if token is None or len(token) > _LONGEST_TOKEN:
            return _UNAUTHORIZED
        digest = hashlib.sha256(token.encode()).digest()
        known = self._answers.get(digest)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        try:
            async with self._turns:
                answer = await self._ask(token)
        except ApiError as error:
            log.warning("asking who may read %s: %s", PATH, error)
            return _UNAVAILABLE
        self._answers.pop(digest, None)
        while len(self._answers) >= _REMEMBERED:
            del self._answers[next(iter(self._answers))]
        self._answers[digest] = (answer, time.monotonic() + _REMEMBER_SECONDS[answer])
        return answer

    async def _ask(self, token: str) -> int:
        review = await self.client.create(TOKEN_REVIEWS, None, _object(TOKEN_REVIEWS, {"token": token}))
        status = review.get("status") or {}
        if not status.get("authenticated"):
            return _UNAUTHORIZED
        user: dict[str, Any] = status.get("user") or {}
        spec = {
            "user": user.get("username", ""), "uid": user.get("uid", ""), "groups": user.get("groups") or [],
            "extra": user.get("extra") or {}, "nonResourceAttributes": {"path": PATH, "verb": "get"},
        }  # fmt: skip
        access = await self.client.create(ACCESS_REVIEWS, None, _object(ACCESS_REVIEWS, spec))
        return _OK if (access.get("status") or {}).get("allowed") else _FORBIDDEN


def _object(resource: Resource, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}

"""`aim-engine hook test`: what `helm test` asks of an installation."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from aim_engine.api.meta import API_VERSION
from aim_engine.cli.live import with_client
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.resources import DEPLOYMENTS_AIM

_SECONDS = 10
_ATTEMPTS = 6
_PAUSE = 5.0


def run(arguments: argparse.Namespace) -> int:
    """1 when a step failed."""
    failed = False
    for what, problem in _steps(arguments):
        sys.stdout.write(f"{'FAILED' if problem else 'ok':<7} {what}{f': {problem}' if problem else ''}\n")
        failed = failed or problem is not None
    return int(failed)


def _steps(arguments: argparse.Namespace) -> Iterator[tuple[str, str | None]]:
    namespace, release = arguments.release
    good = with_client(lambda client: _create(client, namespace, {"model": {"id": "Qwen/Qwen3-32B"}}))
    yield "a good AIMDeployment is accepted (dry run)", good
    if arguments.validator:
        wrong = {"model": {"id": "Qwen/Qwen3-32B"}, "overrides": {"engineArgs": {"no-such-flag": True}}}
        refused = with_client(lambda client: _create(client, namespace, wrong))
        yield "a wrong one is refused (dry run)", None if refused else "it was accepted"
    if arguments.metrics:
        yield "the operator's metrics are read", _metrics(arguments.metrics)
    status = with_client(lambda client: _status(client, namespace, release))
    if status is not None and status.get("readyReplicas"):
        yield (
            "the model answers",
            _ask(f"http://{release}-service.{namespace}.svc:8000/v1/chat/completions", status),
        )
    else:
        sys.stdout.write("skipped the model: no replica is ready\n")


async def _create(client: KubeClient, namespace: str, spec: dict[str, Any]) -> str | None:
    """Why the API server refused; None when it did not."""
    obj = {
        "apiVersion": API_VERSION, "kind": DEPLOYMENTS_AIM.kind,
        "metadata": {"generateName": "helm-test-", "namespace": namespace}, "spec": spec,
    }  # fmt: skip
    try:
        await client.request("POST", DEPLOYMENTS_AIM.path(namespace), obj, params={"dryRun": "All"})
    except ApiError as error:
        return str(error)
    return None


async def _status(client: KubeClient, namespace: str, name: str) -> dict[str, Any] | None:
    try:
        return (await client.get(DEPLOYMENTS_AIM, namespace, name)).get("status") or {}
    except ApiError as error:
        if error.code == 404:
            return None
        raise


def _metrics(url: str) -> str | None:
    return _retry(
        lambda: None if b"aim_operator_build_info" in _request("GET", url) else "no metric of ours in it"
    )


def _ask(url: str, status: dict[str, Any]) -> str | None:
    model = (status.get("recipe") or {}).get("modelID") or status.get("modelID")
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 8})

    def once() -> str | None:
        answer = json.loads(_request("POST", url, body))
        return None if answer.get("choices") else "the answer has no choices"

    return _retry(once)


def _retry(once: Any) -> str | None:
    """A Service may need a moment after an installation."""
    problem: str | None = None
    for attempt in range(_ATTEMPTS):
        try:
            problem = once()
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        if problem is None:
            return None
        if attempt < _ATTEMPTS - 1:
            time.sleep(_PAUSE)
    return problem


def _request(method: str, url: str, body: str | None = None) -> bytes:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_SECONDS)
    try:
        connection.request(method, parts.path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}")
        return content
    finally:
        connection.close()

"""`aim-engine hook test`: what `helm test` asks of an installation."""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
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
        guarded = arguments.metrics_guarded
        yield (
            f"the operator's metrics {'ask for a token' if guarded else 'are read'}",
            metrics_problem(arguments.metrics, arguments.metrics_ca, guarded=guarded),
        )
    deployment = with_client(lambda client: _deployment(client, namespace, release))
    service = deployment["spec"].get("service") or {}
    if (deployment.get("status") or {}).get("readyReplicas"):
        url = f"http://{release}-service.{namespace}.svc:{service.get('port', 8000)}/v1/chat/completions"
        guarded = service.get("apiKeySecret") is not None
        yield (
            f"the model {'asks for its key' if guarded else 'answers'}",
            model_problem(url, deployment["status"], guarded=guarded),
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


async def _deployment(client: KubeClient, namespace: str, name: str) -> dict[str, Any]:
    """The release's AIMDeployment; one without status where it is not there."""
    try:
        return await client.get(DEPLOYMENTS_AIM, namespace, name)
    except ApiError as error:
        if error.code == 404:
            return {"spec": {}}
        raise


def metrics_problem(url: str, ca: Path | None, *, guarded: bool) -> str | None:
    """Why the operator's metrics cannot be had; those that are `guarded` must not be had without a token."""

    def once() -> str | None:
        status, content = _request("GET", url, ca=ca)
        if guarded:
            return None if status == http.HTTPStatus.UNAUTHORIZED else f"HTTP {status} without a token"
        if status != http.HTTPStatus.OK:
            return f"HTTP {status}"
        return None if b"aim_operator_build_info" in content else "no metric of ours in it"

    return _retry(once)


def model_problem(url: str, status: dict[str, Any], *, guarded: bool) -> str | None:
    """Why the engine does not answer a chat; one that is `guarded` has a key, which this test may not read, and must ask for it."""
    model = (status.get("recipe") or {}).get("modelID") or status.get("modelID")
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 8})

    def once() -> str | None:
        code, content = _request("POST", url, body)
        if guarded:
            return None if code == http.HTTPStatus.UNAUTHORIZED else f"HTTP {code} without a key"
        if code != http.HTTPStatus.OK:
            return f"HTTP {code}"
        return None if json.loads(content).get("choices") else "the answer has no choices"

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


def _request(method: str, url: str, body: str | None = None, ca: Path | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        trusting = ssl.create_default_context(cafile=str(ca) if ca else None)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, parts.port or 443, timeout=_SECONDS, context=trusting
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=_SECONDS)
    try:
        connection.request(method, parts.path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()

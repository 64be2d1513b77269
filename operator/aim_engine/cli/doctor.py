"""`aim-engine doctor`: what keeps a cluster from serving models, and what to do about it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from aim_engine.api.meta import GROUP
from aim_engine.cli.checks import Cluster, Finding, Forbidden, Health, findings
from aim_engine.cli.files import Object
from aim_engine.cli.live import fetch_objects, operator_config, with_client
from aim_engine.cli.output import CommandError, Exit, columns, emit
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.config import OperatorConfig

_CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
_WEBHOOKS = Resource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
    namespaced=False,
)  # fmt: skip
_NEEDED = (
    ("", "nodes", "list"), ("", "pods", "list"), ("", "configmaps", "list"), ("", "namespaces", "list"),
    ("", "services", "create"), ("apps", "deployments", "create"), ("apps", "controllerrevisions", "create"),
    (GROUP, "aimdeployments", "list"), (GROUP, "aimrecipes", "list"), (GROUP, "aimdeployments/status", "patch"),
    ("scheduling.k8s.io", "priorityclasses", "list"), ("events.k8s.io", "events", "create"),
)  # fmt: skip
_LEASE = "aim-engine-operator"

Answer = TypeVar("Answer")


def run(arguments: argparse.Namespace) -> int:
    """Look; 1 when something fails."""
    namespace, account = arguments.operator_namespace, arguments.service_account
    cluster = with_client(lambda client: _look(client, namespace, account))
    found = list(findings(cluster, datetime.now(UTC)))
    document = [
        {"check": f.check, "health": f.health.value, "message": f.message, "remedy": f.remedy} for f in found
    ]
    emit(arguments.output, document, lambda _: _table(found))
    return Exit.ERROR if any(f.health is Health.FAILED for f in found) else Exit.OK


async def _look(client: KubeClient, namespace: str, account: str) -> Cluster:
    """All that the checks look at. What may not be read is told, and hides nothing else."""
    return Cluster(
        crds=await _permitted(_crds(client)),
        denied=await _permitted(_denied(client, namespace, account)),
        lease=await _permitted(_lease(client, namespace)),
        webhooks=await _permitted(_webhooks(client)),
        objects=await fetch_objects(client),
        config=await _config(client),
        namespace=namespace,
    )


async def _permitted(question: Awaitable[Answer]) -> Answer | Forbidden:
    try:
        return await question
    except ApiError as error:
        if error.code == 403:
            return Forbidden(str(error))
        raise


async def _crds(client: KubeClient) -> frozenset[str]:
    pages = client.pages(_CRDS, metadata_only=True)
    return frozenset([obj["metadata"]["name"] async for page, _ in pages for obj in page])


async def _webhooks(client: KubeClient) -> tuple[str, ...]:
    pages = client.pages(_WEBHOOKS)
    return tuple([obj["metadata"]["name"] async for page, _ in pages for obj in page if _is_ours(obj)])


def _is_ours(webhook: Object) -> bool:
    return any(str(each.get("name", "")).endswith(GROUP) for each in webhook.get("webhooks") or [])


async def _lease(client: KubeClient, namespace: str) -> dict[str, Any] | None:
    try:
        return await client.get(resources.LEASES, namespace, _LEASE)
    except ApiError as error:
        if error.code == 404:
            return None
        raise


async def _config(client: KubeClient) -> OperatorConfig | str:
    try:
        return await operator_config(client)
    except CommandError as error:
        return str(error)


async def _denied(client: KubeClient, namespace: str, account: str) -> tuple[str, ...]:
    """The rights that the operator's ServiceAccount lacks."""
    answers = await asyncio.gather(*(_is_denied(client, namespace, account, need) for need in _NEEDED))
    return tuple(each for each in answers if each)


async def _is_denied(
    client: KubeClient, namespace: str, account: str, need: tuple[str, str, str]
) -> str | None:
    group, resource, verb = need
    name, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": subresource, "verb": verb}
    spec = {
        "user": f"system:serviceaccount:{namespace}:{account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
        "resourceAttributes": attributes,
    }
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = await client.create(_REVIEWS, None, body)
    return None if (answer.get("status") or {}).get("allowed") else f"{verb} {resource}"


def _table(found: Iterable[Finding]) -> str:
    colours = {Health.OK.value: "green", Health.WARNING.value: "yellow", Health.FAILED.value: "red"}
    rows = [(f.health.value, f.check, f.message + (f"; {f.remedy}" if f.remedy else "")) for f in found]
    return columns(("HEALTH", "CHECK", "MESSAGE"), rows, {0: colours})

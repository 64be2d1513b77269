"""The cluster of the kubeconfig, read once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from aim_engine.cli.files import Found, Object
from aim_engine.cli.output import CommandError, ForbiddenError, invalid
from aim_engine.cli.snapshot_file import Snapshot
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.connection import KubeconfigError, connect
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import explain
from aim_engine.reconcile.config import OperatorConfig, parse
from aim_engine.reconcile.facts import NO_FACTS

OPERATOR_CONFIG_MAPS = "app.kubernetes.io/name=aim-engine,app.kubernetes.io/component=operator"
CONFIG_FILE = "config.yaml"
_RUNNING_PODS = "status.phase!=Succeeded,status.phase!=Failed"
_NOT_NEEDED = (resources.SERVICES, resources.CLAIMS, resources.BUDGETS)

Result = TypeVar("Result")


def with_client(work: Callable[[KubeClient], Awaitable[Result]], otherwise: str = "") -> Result:
    """Run `work` against the cluster; what fails ends the command with one clear message.

    `otherwise`: what else the command would take, where no cluster is configured.
    """

    async def main() -> Result:
        connection = await connect()
        try:
            return await work(KubeClient(connection))
        finally:
            await connection.close()

    try:
        return asyncio.run(main())
    except KubeconfigError as error:
        remedy = f"set KUBECONFIG to a file that kubectl can use{otherwise}"
        raise CommandError(f"{error}; {remedy}") from None
    except ApiError as error:
        if error.code == 0:
            raise CommandError(
                f"the cluster does not answer: {error}; check the server of the kubeconfig and the network"
            ) from None
        told = f"the cluster refused: {error}; check `kubectl auth can-i --list`"
        raise (ForbiddenError(told) if error.code == 403 else CommandError(told)) from None


def fetch_snapshot(namespaces: Sequence[str] = ()) -> Snapshot:
    """Everything decisions are made from, as it is now; with `namespaces` no others are looked into."""
    objects, config = with_client(
        lambda client: fetch(client, namespaces), otherwise=", or name a snapshot with --cluster"
    )
    found = [Found({**obj, "kind": kind}, f"{kind} {obj['metadata']['name']}") for kind, obj in objects]
    return Snapshot(found, config, NO_FACTS, datetime.now(UTC).timestamp())


def fetch_deployments(namespace: str) -> list[Object]:
    """The AIMDeployments of one namespace, which its users may read."""
    return with_client(lambda client: _all(client, resources.DEPLOYMENTS_AIM, namespace))


async def fetch(
    client: KubeClient, namespaces: Sequence[str] = ()
) -> tuple[list[tuple[str, Object]], OperatorConfig]:
    """(kind, object) of all kinds that count, and the operator's configuration."""
    found = await fetch_objects(client, namespaces)
    return found, OperatorConfig() if namespaces else await operator_config(client)


async def fetch_objects(client: KubeClient, namespaces: Sequence[str] = ()) -> list[tuple[str, Object]]:
    """(kind, object) of all kinds that count."""
    found: list[tuple[str, Object]] = []
    for resource in (resources.NODES, resources.PODS, *resources.WATCHED):
        if resource in _NOT_NEEDED:
            continue
        if namespaces and resource is resources.NAMESPACES:
            found += [(resource.kind, await client.get(resource, None, name)) for name in namespaces]
            continue
        whole = not namespaces or not resource.namespaced or resource is resources.PODS
        for namespace in [None] if whole else namespaces:
            found += [(resource.kind, obj) for obj in await _all(client, resource, namespace)]
    return [*_newest_revisions(found), *await _unlabelled(client, found)]


async def operator_config(client: KubeClient) -> OperatorConfig:
    """The configuration in the operator's ConfigMap, which its labels tell; the default where there is none."""
    try:
        pages = client.pages(resources.CONFIG_MAPS, label_selector=OPERATOR_CONFIG_MAPS)
        found = [obj async for page, _ in pages for obj in page if CONFIG_FILE in (obj.get("data") or {})]
    except ApiError as error:
        if error.code == 403:
            return OperatorConfig()
        raise
    if not found:
        return OperatorConfig()
    obj = min(found, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))
    where = f"ConfigMap {obj['metadata']['namespace']}/{obj['metadata']['name']}"
    try:
        return parse((obj.get("data") or {}).get(CONFIG_FILE) or "")
    except ValidationError as error:
        raise invalid(f"{where}: {explain(error, '')}, or name a file with --config") from None
    except ValueError as error:
        raise invalid(f"{where}: {CONFIG_FILE}: {error}, or name a file with --config") from None


async def _all(client: KubeClient, resource: Resource, namespace: str | None) -> list[Object]:
    selector = resources.WATCHED.get(resource)
    phase = _RUNNING_PODS if resource is resources.PODS else None
    objects: list[Object] = []
    try:
        async for page, _ in client.pages(
            resource, namespace=namespace, label_selector=selector, field_selector=phase
        ):
            objects += [{**obj, "apiVersion": resource.api_version, "kind": resource.kind} for obj in page]
    except ApiError as error:
        if error.code == 404:  # our CRDs are not installed: a cluster before its first installation
            return []
        raise
    return objects


def _newest_revisions(found: list[tuple[str, Object]]) -> list[tuple[str, Object]]:
    """Only the decision in force of each deployment counts."""
    newest: dict[str, Object] = {}
    for kind, obj in found:
        if kind == resources.REVISIONS.kind:
            owner = str((obj["metadata"].get("ownerReferences") or [{}])[0].get("uid"))
            if owner not in newest or obj["revision"] > newest[owner]["revision"]:
                newest[owner] = obj
    kept = {obj["metadata"]["uid"] for obj in newest.values()}
    return [(k, o) for k, o in found if k != resources.REVISIONS.kind or o["metadata"]["uid"] in kept]


async def _unlabelled(client: KubeClient, found: list[tuple[str, Object]]) -> list[tuple[str, Object]]:
    """ConfigMaps that deployments name though they do not carry our label."""
    there = {_key(obj) for kind, obj in found if kind == resources.CONFIG_MAPS.kind}
    wanted = {
        (obj["metadata"]["namespace"], name)
        for kind, obj in found
        if kind == resources.DEPLOYMENTS_AIM.kind
        and (name := ((obj.get("spec") or {}).get("recipe") or {}).get("configMap"))
    }
    more: list[tuple[str, Object]] = []
    for namespace, name in sorted(wanted - there):
        try:
            obj = await client.get(resources.CONFIG_MAPS, namespace, name)
        except ApiError as error:
            if error.code in (403, 404):
                continue
            raise
        more.append((resources.CONFIG_MAPS.kind, obj))
    return more


def _key(obj: Any) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]

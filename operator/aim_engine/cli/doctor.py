"""`aim-engine doctor`: what keeps a cluster from serving models, and what to do about it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from aim_engine.api.meta import GROUP
from aim_engine.cli.files import Found, Object
from aim_engine.cli.live import fetch, with_client
from aim_engine.cli.output import Exit, columns, emit
from aim_engine.inventory import Inventory, standing
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.world import World, build_world
from aim_engine.selection import CatalogueFacts

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
_GPU_VENDOR_LABEL = "feature.node.kubernetes.io/pci-1002.present"


class Health(StrEnum):
    """How a finding stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    health: Health
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What the checks look at."""

    crds: frozenset[str]
    denied: tuple[str, ...]
    lease: Mapping[str, Any] | None
    webhooks: tuple[str, ...]
    objects: list[tuple[str, Object]]
    config: OperatorConfig


def run(arguments: argparse.Namespace) -> int:
    """Look; 1 when something fails."""
    namespace, account = arguments.operator_namespace, arguments.service_account
    cluster = with_client(lambda client: _look(client, namespace, account))
    objects = [Found({**obj, "kind": kind}, "") for kind, obj in cluster.objects]
    world = build_world((each.obj for each in objects), cluster.config, CatalogueFacts(), 0.0)
    findings = [*_installation(cluster, datetime.now(UTC)), *_gpus(cluster, world), *_recipes(world)]
    document = [
        {"check": f.check, "health": f.health.value, "message": f.message, "remedy": f.remedy}
        for f in findings
    ]
    emit(arguments.output, document, lambda _: _table(findings))
    return Exit.ERROR if any(f.health is Health.FAILED for f in findings) else Exit.OK


async def _look(client: KubeClient, namespace: str, account: str) -> _Cluster:
    crds = {
        obj["metadata"]["name"] async for page, _ in client.pages(_CRDS, metadata_only=True) for obj in page
    }
    denied = await asyncio.gather(*(_denied(client, namespace, account, need) for need in _NEEDED))
    webhooks = [
        obj["metadata"]["name"] async for page, _ in client.pages(_WEBHOOKS) for obj in page if _is_ours(obj)
    ]
    try:
        lease = await client.get(resources.LEASES, namespace, "aim-engine-operator")
    except ApiError as error:
        if error.code not in (403, 404):
            raise
        lease = None
    objects, config = await fetch(client)
    return _Cluster(
        frozenset(crds), tuple(each for each in denied if each), lease, tuple(webhooks), objects, config
    )


async def _denied(client: KubeClient, namespace: str, account: str, need: tuple[str, str, str]) -> str | None:
    """The right that the operator's ServiceAccount lacks; None when it has it, or when we may not ask."""
    group, resource, verb = need
    name, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": subresource, "verb": verb}
    spec = {
        "user": f"system:serviceaccount:{namespace}:{account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
        "resourceAttributes": attributes,
    }
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    try:
        answer = await client.create(_REVIEWS, None, body)
    except ApiError as error:
        if error.code == 403:
            return None
        raise
    return None if (answer.get("status") or {}).get("allowed") else f"{verb} {resource}"


def _is_ours(webhook: Object) -> bool:
    return any(str(each.get("name", "")).endswith(GROUP) for each in webhook.get("webhooks") or [])


def _installation(cluster: _Cluster, now: datetime) -> Iterator[Finding]:
    missing = [
        name for name in (f"aimdeployments.{GROUP}", f"aimrecipes.{GROUP}") if name not in cluster.crds
    ]
    if missing:
        yield Finding(
            "CRDs", Health.FAILED, f"missing: {', '.join(missing)}", "kubectl apply --server-side -f crds"
        )
    else:
        yield Finding("CRDs", Health.OK, "installed")
    if cluster.denied:
        remedy = "kubectl apply --server-side -k deploy/manifests"
        yield Finding("RBAC", Health.FAILED, f"the operator may not {', '.join(cluster.denied)}", remedy)
    else:
        yield Finding("RBAC", Health.OK, "the operator may do all it needs")
    yield _operator(cluster.lease, now)
    if cluster.webhooks:
        yield Finding(
            "webhook", Health.OK, f"{', '.join(cluster.webhooks)} checks objects as they are applied"
        )
    else:
        yield Finding("webhook", Health.OK, "none is installed; wrong objects are told in their status")


def _operator(lease: Mapping[str, Any] | None, now: datetime) -> Finding:
    spec = (lease or {}).get("spec") or {}
    renewed, holder = spec.get("renewTime"), spec.get("holderIdentity")
    if not renewed or not holder:
        remedy = "kubectl -n aim-engine get pods, and the log of deployment/aim-engine-operator"
        return Finding("operator", Health.FAILED, "no operator holds the Lease", remedy)
    age = (now - datetime.fromisoformat(renewed)).total_seconds()
    if age > 2 * spec.get("leaseDurationSeconds", 15):
        message = f"{holder} has not renewed the Lease for {age:.0f} s"
        return Finding("operator", Health.FAILED, message, "see the log of deployment/aim-engine-operator")
    return Finding("operator", Health.OK, f"{holder} works")


def _gpus(cluster: _Cluster, world: World) -> Iterator[Finding]:
    inventory = world.tracker.inventory()
    bare = sorted(
        obj["metadata"]["name"]
        for kind, obj in cluster.objects
        if kind == "Node" and _has_amd_gpu(obj) and obj["metadata"]["name"] not in inventory.nodes
    )
    if bare:
        remedy = "install AMD's GPU operator or its device plugin (DaemonSet amdgpu-device-plugin) there"
        message = f"AMD GPUs without the resource amd.com/gpu on {_some(bare)}"
        yield Finding("device plugin", Health.FAILED, message, remedy)
    elif not inventory.nodes:
        remedy = "add nodes with AMD Instinct GPUs and AMD's device plugin"
        yield Finding("device plugin", Health.FAILED, "no node offers amd.com/gpu", remedy)
    else:
        yield Finding("device plugin", Health.OK, f"{len(inventory.nodes)} nodes offer AMD GPUs")
    for name, problems in sorted(world.tracker.problems().items()):
        yield Finding("labels", Health.WARNING, f"node {name}: {problems[0]}")
    yield from _capacity(inventory)


def _has_amd_gpu(node: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    return labels.get(_GPU_VENDOR_LABEL) == "true" or any(name.startswith("amd.com/gpu") for name in labels)


def _capacity(inventory: Inventory) -> Iterator[Finding]:
    if not inventory.nodes:
        return
    closed = {name: why for name, state in inventory.nodes.items() if (why := standing(state.facts))}
    for name, why in sorted(closed.items())[:5]:
        yield Finding("capacity", Health.WARNING, f"node {name} takes no pods: {why}")
    free = {
        key: sum(gpus * len(b.nodes) for buckets in pool.values() for gpus, b in buckets.items())
        for key, pool in inventory.pools.items()
    }
    told = ", ".join(f"{count} {key.gpu_model}" for key, count in sorted(free.items()) if count)
    if told:
        yield Finding("capacity", Health.OK, f"free GPUs: {told}")
    else:
        yield Finding(
            "capacity", Health.WARNING, "no GPU is free", "new deployments wait until GPUs are freed"
        )


def _recipes(world: World) -> Iterator[Finding]:
    recipes = world.cache.recipes.values()
    if not recipes:
        yield Finding("recipes", Health.FAILED, "there are none", "kubectl apply --server-side -R -f recipes")
        return
    broken = sorted(stored.name for stored in recipes if stored.candidate is None)
    if broken:
        yield Finding(
            "recipes", Health.WARNING, f"cannot be read: {_some(broken)}", "see `aim-engine recipes validate`"
        )
    there = {key.gpu_model for key in world.tracker.inventory().pools}
    usable = sum(bool(s.candidate and s.candidate.spec.hardware.gpu_model in there) for s in recipes)
    yield Finding(
        "recipes", Health.OK, f"{len(world.cache.recipes)}, of which {usable} are for GPUs of this cluster"
    )
    for key, error in sorted(world.cache.config_errors.items()):
        yield Finding("recipes", Health.WARNING, f"ConfigMap {key[0]}/{key[1]} is no recipe: {error}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _table(findings: list[Finding]) -> str:
    colours = {Health.OK.value: "green", Health.WARNING.value: "yellow", Health.FAILED.value: "red"}
    rows = [(f.health.value, f.check, f.message + (f"; {f.remedy}" if f.remedy else "")) for f in findings]
    return columns(("HEALTH", "CHECK", "MESSAGE"), rows, {0: colours})

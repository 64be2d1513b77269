"""Deployment, Service, cache claim and disruption budget of one AIMDeployment."""

from __future__ import annotations

from typing import Any

import yaml

from aim_engine.api.enums import RolloutStrategy
from aim_engine.api.meta import API_VERSION
from aim_engine.render.inputs import Manifest, Manifests, RenderInput
from aim_engine.render.names import (
    ANNOTATION_MODEL,
    ANNOTATION_RECIPE,
    ANNOTATION_RECIPE_HASH,
    budget_name,
    claim_name,
    deployment_name,
    labels,
    selector_labels,
    service_name,
)
from aim_engine.render.pod import (
    PORT_NAME,
    grace_seconds,
    pod_template,
    served_names,
    startup_seconds,
)

IMAGE_PULL_SECONDS = 1800
"""Engine images are tens of gigabytes; a rollout is not late while one is being pulled."""
_GIB = 2**30
_SMALLEST_CACHE_GIB = 10


def render(inp: RenderInput) -> Manifests:
    """All objects of one AIMDeployment."""
    return Manifests(
        deployment=_deployment(inp),
        service=_service(inp),
        claim=_claim(inp),
        budget=disruption_budget(inp) if inp.replicas >= 2 else None,
    )


def to_yaml(manifests: Manifests) -> str:
    """The manifests as one YAML stream, keys sorted."""
    return yaml.dump_all(list(manifests), Dumper=_Dumper, sort_keys=True, width=1000)


class _Dumper(yaml.SafeDumper):
    """Writes repeated values out instead of as YAML aliases."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _metadata(inp: RenderInput, name: str, *, owned: bool = True) -> Manifest:
    metadata: Manifest = {
        "annotations": {
            ANNOTATION_MODEL: served_names(inp.spec, inp.recipe.spec)[0],
            ANNOTATION_RECIPE: inp.recipe.name,
            ANNOTATION_RECIPE_HASH: inp.recipe.hash,
        },
        "labels": labels(inp),
        "name": name,
        "namespace": inp.namespace,
    }
    if owned:
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "blockOwnerDeletion": True,
                "controller": True,
                "kind": "AIMDeployment",
                "name": inp.name,
                "uid": inp.uid,
            }
        ]
    return metadata


def _deployment(inp: RenderInput) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(inp, deployment_name(inp.name)),
        "spec": {
            "progressDeadlineSeconds": startup_seconds(inp) + grace_seconds(inp.spec) + IMAGE_PULL_SECONDS,
            "replicas": inp.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector_labels(inp.name)},
            "strategy": _strategy(inp),
            "template": pod_template(inp),
        },
    }


def _strategy(inp: RenderInput) -> Manifest:
    """Without spare GPUs a single replica is replaced, of several one after the other."""
    if inp.strategy is RolloutStrategy.SURGE:
        return {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}, "type": "RollingUpdate"}
    if inp.replicas > 1:
        return {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}, "type": "RollingUpdate"}
    return {"type": "Recreate"}


def _service(inp: RenderInput) -> Manifest:
    service = inp.spec.service
    metadata = _metadata(inp, service_name(inp.name))
    metadata["annotations"] = {**service.annotations, **metadata["annotations"]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "ports": [{"name": PORT_NAME, "port": service.port, "protocol": "TCP", "targetPort": PORT_NAME}],
            "selector": selector_labels(inp.name),
            "type": service.type.value,
        },
    }


def _claim(inp: RenderInput) -> Manifest | None:
    cache = inp.spec.cache
    if cache is None or cache.existing_claim is not None:
        return None
    spec: Manifest = {
        "accessModes": [cache.access_mode.value],
        "resources": {"requests": {"storage": f"{cache.size_gi_b or _cache_gib(inp)}Gi"}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(inp, claim_name(inp.name), owned=not cache.retain),
        "spec": spec,
    }


def _cache_gib(inp: RenderInput) -> int:
    """1.2 times the checkpoint, rounded up."""
    if inp.checkpoint_bytes is None:
        return inp.config.default_cache_gib
    return max(_SMALLEST_CACHE_GIB, -(-inp.checkpoint_bytes * 6 // (5 * _GIB)))


def disruption_budget(inp: RenderInput) -> Manifest:
    """Budget for several replicas; with one it would only block drains."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(inp, budget_name(inp.name)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector_labels(inp.name)}},
    }

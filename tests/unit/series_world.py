"""Caches of an operator with many deployments, as far as its series need them."""

from __future__ import annotations

from typing import Any

import yaml

from aim_engine.api.meta import API_VERSION
from aim_engine.inventory import Tracker
from aim_engine.reconcile.cache import Cache, read_deployment, read_stored_recipe
from aim_engine.reconcile.revision import Record, read_record, to_object
from aim_engine.reconcile.series import ObjectSeries
from aim_engine.telemetry.families import FAMILIES, PERFORMANCE
from aim_engine.telemetry.store import SeriesStore
from testbed.product import ROOT
from unit.reconcile_world import deployment, revision_of
from unit.selection_world import QWEN, cluster, node, recipe

Json = dict[str, Any]
CONDITIONS = ("Ready", "RecipeSelected", "PrerequisitesMet", "Available", "PerformanceOnTarget")


def aim_deployment(name: str, namespace: str = "team-a", version: int = 1, **spec: Any) -> Json:
    """An AIMDeployment that serves, as the API server stores it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AIMDeployment",
        "metadata": {
            "name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "generation": 3,
            "resourceVersion": str(version), "creationTimestamp": "2026-03-01T12:00:00Z",
        },
        "spec": {
            "model": {"id": QWEN}, "replicas": 2,
            "targets": {"minTokensPerSecond": 500, "maxTimeToFirstTokenMilliseconds": 400}, **spec,
        },
        "status": {
            "observedGeneration": 3,
            "recipe": {
                "name": "qwen3-32b-mi300x-1x-fp8", "hash": "h", "tier": "Primary", "modelID": QWEN, "gpuModel": "MI300X", "gpuCount": 1,
                "gpus": "1xMI300X", "precision": "fp8", "backend": "vllm", "revision": f"{name}-1",
            },
            "recommendation": {"recipe": "qwen3-32b-mi300x-2x-fp8", "hash": "g", "message": "m"},
            "replicas": 2,
            "readyReplicas": 2,
            "conditions": [
                {"type": kind, "status": "True", "reason": "Serving", "message": "m", "lastTransitionTime": "2026-03-01T12:05:00Z"}
                for kind in CONDITIONS
            ],
        },
    }  # fmt: skip


def record_of(uid: str, *figures: Json) -> Record:
    """The record of a decision for a recipe with published figures, one of 1500 tok/s unless told otherwise."""
    figure = {
        "tokensPerSecond": 1500,
        "provenance": {"kind": "vendor", "source": "https://example.com/figures"},
    }
    chosen = recipe(
        "qwen3-32b-mi300x-1x-fp8", performance=list(figures or [figure]), engineArgs={"max-model-len": 16384}
    )
    revision = revision_of(deployment(), [chosen], cluster(node()))
    return read_record(to_object("chat", "team-a", uid, revision), uid)


def many(deployments: int, recipes: int = 200) -> tuple[Cache, Tracker]:
    """Caches with so many deployments, all of which serve, and recipes of the catalogue."""
    cache, tracker = Cache(), Tracker()
    record = record_of("any")
    for index in range(deployments):
        stored = read_deployment(aim_deployment(f"deployment-{index:05}", f"team-{index % 40:02}"))
        cache.deployments[stored.namespace, stored.name] = stored
        cache.revisions[stored.uid][record.name] = record
    for path in sorted((ROOT / "recipes").rglob("*.yaml"))[:recipes]:
        recipe = read_stored_recipe(yaml.safe_load(path.read_text()))
        cache.recipes[recipe.name] = recipe
    return cache, tracker


def measured(store: SeriesStore, cache: Cache) -> None:
    """Performance of every deployment, as the operator's own measuring puts it."""
    for key in cache.deployments:
        samples = [
            (family, (*key, *extra), 0.123456)
            for family in PERFORMANCE
            for extra in ([(q,) for q in ("0.5", "0.95")] if "quantile" in family.labels else [()])
        ]
        store.put("performance", key, samples)


def series(cache: Cache, tracker: Tracker) -> ObjectSeries:
    """The operator's series of these caches."""
    return ObjectSeries(SeriesStore(FAMILIES), cache, tracker)

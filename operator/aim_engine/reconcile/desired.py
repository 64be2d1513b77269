"""The objects that a plan wants, as they are applied: the revision's manifests with what is not part of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

BUDGET = "PodDisruptionBudget"


def with_replicas(
    manifests: Iterable[Mapping[str, Any]], *, running: int, asked: int
) -> list[dict[str, Any]]:
    """The manifests with so many replicas running. A disruption budget is for several that are asked for; with one it
    would only block drains."""
    result = []
    for manifest in manifests:
        if manifest["kind"] == BUDGET and asked < 2:
            continue
        if manifest["kind"] == "Deployment":
            result.append({**manifest, "spec": {**manifest["spec"], "replicas": running}})
        else:
            result.append(dict(manifest))
    return result

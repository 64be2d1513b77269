"""A decision -> manifests. Pure and byte-stable: the same input gives the same bytes, always."""

from __future__ import annotations

from aim_engine.render.config import EngineConfig
from aim_engine.render.inputs import RENDERER_VERSION, Manifest, Manifests, RenderInput, ResolvedRecipe
from aim_engine.render.manifests import disruption_budget, render, to_yaml
from aim_engine.render.names import (
    ANNOTATION_MODEL,
    ANNOTATION_RECIPE,
    ANNOTATION_RECIPE_HASH,
    budget_name,
    claim_name,
    deployment_name,
    selector_labels,
    service_name,
)
from aim_engine.render.pod import pod_resources, served_names

__all__ = [
    "ANNOTATION_MODEL",
    "ANNOTATION_RECIPE",
    "ANNOTATION_RECIPE_HASH",
    "RENDERER_VERSION",
    "EngineConfig",
    "Manifest",
    "Manifests",
    "RenderInput",
    "ResolvedRecipe",
    "budget_name",
    "claim_name",
    "deployment_name",
    "disruption_budget",
    "pod_resources",
    "render",
    "selector_labels",
    "served_names",
    "service_name",
    "to_yaml",
]

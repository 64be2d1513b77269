"""What rendering takes and gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import RolloutStrategy
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.gpus import GPU
from aim_engine.render.config import EngineConfig

RENDERER_VERSION = 1
"""Grows with every change that alters a rendered manifest; a decision keeps the version it was rendered with."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """A recipe as one deployment uses it."""

    name: str
    """AIMRecipe name, `configmap/NAME` or `generated/NAME`."""
    hash: str
    spec: AIMRecipeSpec
    args: Mapping[str, object]
    """Engine arguments: the recipe's, then what follows from the workload, then the user's overrides."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment: the recipe's, then the user's overrides."""


@dataclass(frozen=True, slots=True)
class RenderInput:
    """All that the manifests depend on."""

    name: str
    namespace: str
    uid: str
    spec: AIMDeploymentSpec
    recipe: ResolvedRecipe
    gpu: GPU
    resource: str
    """Extended resource name that placement chose."""
    replicas: int
    strategy: RolloutStrategy
    """SURGE or RECREATE; AUTO counts as RECREATE, which needs no spare GPUs."""
    partition: str | None = None
    checkpoint_bytes: int | None = None
    config: EngineConfig = field(default_factory=EngineConfig)


@dataclass(frozen=True, slots=True)
class Manifests:
    """Rendered objects; iteration gives them in the order to create them."""

    deployment: Manifest
    service: Manifest
    claim: Manifest | None = None
    budget: Manifest | None = None

    def __iter__(self) -> Iterator[Manifest]:
        return (
            manifest
            for manifest in (self.claim, self.service, self.deployment, self.budget)
            if manifest is not None
        )

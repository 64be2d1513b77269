"""Configuration of the operator: one YAML file, every field with a default that works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from aim_engine.api.configmap_yaml import RefusedError
from aim_engine.api.configmap_yaml import load as load_yaml
from aim_engine.api.meta import Model
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import image_repositories
from aim_engine.render.config import EngineConfig


class LeaseConfig(Model):
    """Leader election. `duration_seconds` after the leader's last renewal another replica takes over."""

    name: str = "aim-engine-operator"
    duration_seconds: Annotated[int, Field(ge=3, le=3600)] = 15
    renew_seconds: Annotated[int, Field(ge=1, le=1200)] = 5


class HubConfig(Model):
    """Where facts of models come from that the catalogue does not know: two small files of the model's repository."""

    enabled: bool = True
    """false: never asked, as an air-gapped cluster wants. HF_HUB_OFFLINE=1 in the environment does the same."""
    endpoint: Annotated[str | None, Field(max_length=500, pattern=r"^https?://[^\s/]+(/[^\s]*)?$")] = None
    """The Hub or a mirror; default: HF_ENDPOINT of the environment, else https://huggingface.co."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """For all of one inquiry."""
    max_concurrent: Annotated[int, Field(ge=1, le=16)] = 2
    cache_directory: str | None = None
    """Keeps what was learned over restarts; default: in memory only."""


class OperatorConfig(Model):
    """Everything an administrator may set."""

    namespace: str = "aim-engine"
    """Namespace of the operator itself, for its Lease."""
    workers: Annotated[int, Field(ge=1, le=64)] = 16
    listen: str = "0.0.0.0:8080"
    allowed_images: Annotated[list[str], Field(default_factory=image_repositories)]
    """Repositories that `spec.overrides.image` and ConfigMap recipes may use; a trailing slash allows all below it."""
    lease: LeaseConfig = LeaseConfig()
    leader_election: bool = True
    resync_seconds: Annotated[int, Field(ge=30, le=86400)] = 600
    """How often the caches of watched kinds are compared with a fresh list."""
    recipe_status_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Least time between two status writes of one recipe."""
    move_cooldown_seconds: Annotated[int, Field(ge=0, le=604800)] = 3600
    """Least time between two moves of one deployment by `updatePolicy: Automatic`."""
    patience_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """So long smaller deployments may overtake one that waits for more GPUs; then a node is kept for it."""
    hub: HubConfig = HubConfig()
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _models_are_known(self) -> OperatorConfig:
        unknown = sorted(set(self.engine.gpu_labels.values()) - set(gpu_catalog()))
        if unknown:
            raise ValueError(
                f"engine.gpuLabels: {', '.join(unknown)} is not in the GPU catalogue; use one of {', '.join(gpu_catalog())}"
            )
        return self


def load(path: Path | None) -> OperatorConfig:
    """Read the file; raises OSError, or ValueError that names line or field, value and remedy."""
    return OperatorConfig() if path is None else parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> OperatorConfig:
    """The configuration in a text, within the limits that hold for YAML of tenants; raises ValueError."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    if not any(line not in ("", "---", "...") for line in lines):
        return OperatorConfig()
    try:
        return OperatorConfig.strict_load(load_yaml(text).data)
    except RefusedError as error:
        raise ValueError(str(error)) from None

"""Names, labels and annotations of rendered objects."""

from __future__ import annotations

import hashlib
import re

from aim_engine.api.meta import (
    GROUP,
    LABEL_DEPLOYMENT,
    LABEL_GPU_MODEL,
    LABEL_MANAGED_BY,
    LABEL_PRECISION,
    LABEL_RECIPE_NAME,
    MANAGED_BY,
)
from aim_engine.render.inputs import RenderInput

ANNOTATION_MODEL = f"{GROUP}/model-id"
ANNOTATION_RECIPE = f"{GROUP}/recipe"
ANNOTATION_RECIPE_HASH = f"{GROUP}/recipe-hash"
COMPONENT_LABEL = "app.kubernetes.io/component"
COMPONENT = "inference-engine"
_MAX_LABEL = 63
_HASH_DIGITS = 8


def deployment_name(name: str) -> str:
    """Deployment of an AIMDeployment."""
    return name


def service_name(name: str) -> str:
    """Service of an AIMDeployment."""
    return f"{name}-service"


def claim_name(name: str) -> str:
    """Cache claim of an AIMDeployment."""
    return f"{name}-cache"


def budget_name(name: str) -> str:
    """PodDisruptionBudget of an AIMDeployment."""
    return name


def selector_labels(name: str) -> dict[str, str]:
    """The labels that select an AIMDeployment's pods; they can never change."""
    return {COMPONENT_LABEL: COMPONENT, LABEL_DEPLOYMENT: name}


def labels(inp: RenderInput) -> dict[str, str]:
    """All labels of a rendered object."""
    return {
        **selector_labels(inp.name),
        "app.kubernetes.io/instance": inp.name,
        LABEL_MANAGED_BY: MANAGED_BY,
        "app.kubernetes.io/name": inp.recipe.spec.backend.value,
        "app.kubernetes.io/part-of": "aim-engine",
        LABEL_GPU_MODEL: inp.gpu.model,
        LABEL_PRECISION: inp.recipe.spec.precision.value,
        LABEL_RECIPE_NAME: label_value(inp.recipe.name),
    }


def label_value(text: str) -> str:
    """`text` as a label value: other characters become dots, what is too long ends in a hash of the whole."""
    value = re.sub(r"[^A-Za-z0-9._-]", ".", text)
    if len(value) > _MAX_LABEL:
        digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
        value = f"{value[: _MAX_LABEL - _HASH_DIGITS - 1]}.{digest}"
    return value.strip("._-")

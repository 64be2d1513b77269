"""Names that everything shares: group, labels, annotations, and the base class of all API models."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aim_engine.api.quantity import parse_quantity

GROUP = "aim.engine.amd.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "aim-engine"

LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_RECIPE = f"{GROUP}/recipe"
"""Of ConfigMaps: `true` for a recipe, `decision` for a recorded decision."""
LABEL_RECIPE_NAME = f"{GROUP}/recipe-name"
LABEL_GPU_MODEL = f"{GROUP}/gpu-model"
LABEL_PRECISION = f"{GROUP}/precision"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
ANNOTATION_ORIGIN = f"{GROUP}/origin"
ANNOTATION_LICENCE = f"{GROUP}/origin-licence"
ANNOTATION_NOTES = f"{GROUP}/notes"
LABEL_ALLOW_REMOTE_CODE = f"{GROUP}/allow-remote-code"
MANAGED_BY = "aim-engine"

MAX_DEPLOYMENT_NAME = 55
"""A Service is named `<name>-service` and Service names are DNS labels of at most 63 characters."""


class Model(BaseModel):
    """Base of every API type: camelCase on the wire, immutable in memory.

    Unknown fields of stored objects are ignored, so that a newer CRD never breaks an older operator;
    files written by people are read with `strict_load`, which refuses them.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    @classmethod
    def strict_load(cls, data: Any) -> Self:
        """Validate `data`, refusing fields the API does not have."""
        return cls.model_validate(data, extra="forbid")

    def wire(self) -> dict[str, Any]:
        """The object as Kubernetes stores it: camelCase keys, no nulls."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def essence(self) -> dict[str, Any]:
        """What differs from the defaults: a field that a later release adds does not change it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)


def _quantity(text: str) -> str:
    if parse_quantity(text) < 0:
        raise ValueError(f"'{text}' is negative; a quantity is at least 0")
    return text


def _as_text(value: Any) -> Any:
    """YAML gives `cpu: 8` as a number, and the CRD admits it."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _no_truth(value: Any) -> Any:
    """Python takes true for 1; the API server does not."""
    if isinstance(value, bool):
        raise ValueError("is not a whole number; write a whole number without quotes or unit")
    return value


_QUANTITY_PATTERN = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][-+]?[0-9]+))?$"

Quantity = Annotated[
    str,
    Field(
        max_length=32, json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": _QUANTITY_PATTERN}
    ),
    AfterValidator(_quantity),
    BeforeValidator(_as_text),
]
"""A non-negative Kubernetes quantity such as `16`, `500m` or `128Gi`."""

DNSLabel = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
DNSSubdomain = Annotated[
    str, Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
]
ModelID = Annotated[
    str,
    Field(
        min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
    ),
]
"""A Hugging Face repository id, `organisation/name`."""
GPUModel = Annotated[str, Field(min_length=2, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
Partition = Annotated[str, Field(max_length=16, pattern=r"^(spx|dpx|tpx|qpx|cpx)_nps(1|2|4|8)$")]
GPUCount = Annotated[int, Field(ge=1, le=64), BeforeValidator(_no_truth)]
Image = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")]
EnvMap = Annotated[
    dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=4096)]], Field(max_length=100)
]

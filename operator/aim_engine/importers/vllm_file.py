"""The shape of a file of vllm-project/recipes, as far as it is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Words = list[str | int | float | bool]


def _or_empty(value: object) -> object:
    return {} if value is None else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


Variables = Annotated[dict[str, str | int | float], BeforeValidator(_or_empty)]


class Override(_Part):
    """Flags and variables that are added."""

    extra_args: Words = []
    extra_env: Variables = {}


class Feature(_Part):
    """Flags that turn an ability on."""

    args: Words = []


class Strategy(_Part):
    """How the model is spread; `tp` for all GPUs, or by GPU."""

    tp: int | dict[str, int] | None = None


class Variant(_Part):
    """One checkpoint of the model, or a smaller or larger model beside it."""

    precision: str
    vram_minimum_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    model_id: str | None = None
    tp: int | dict[str, int] | None = None
    supported_hardware: list[str] | None = None
    precision_hardware: dict[str, str] | None = None
    extra_args: Words = []
    extra_env: Variables = {}
    hardware_overrides: dict[str, Override] = {}


class Meta(_Part):
    """What the model does, and where it was seen to run."""

    tasks: list[str] = []
    hardware: dict[str, str]


class Model(_Part):
    """The model and how it is served everywhere."""

    model_id: str
    min_vllm_version: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
    docker_image: str | dict[str, str | dict[str, str]] | None = None
    base_args: Words = []
    base_env: Variables = {}

    @property
    def amd_image(self) -> str | None:
        """The image the source used on AMD GPUs, where it names one."""
        named = self.docker_image.get("amd") if isinstance(self.docker_image, dict) else None
        return named if isinstance(named, str) else None


class ModelFile(_Part):
    """One file."""

    meta: Meta
    model: Model
    features: dict[str, Feature] = {}
    opt_in_features: list[str] = []
    variants: Annotated[dict[str, Variant], Field(min_length=1)]
    hardware_overrides: dict[str, Override] = {}
    strategy_overrides: dict[str, Strategy] = {}

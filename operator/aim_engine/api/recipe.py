"""AIMRecipe: one proven configuration of one model on one kind of GPU."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from aim_engine.api.conditions import Condition
from aim_engine.api.enums import Backend, Maturity, Objective, Precision
from aim_engine.api.meta import (
    DNSLabel,
    EnvMap,
    GPUCount,
    GPUModel,
    Image,
    Model,
    ModelID,
    Partition,
    Quantity,
)
from aim_engine.api.performance import Benchmark, Observed, Performance
from aim_engine.api.rules import RECIPE_RULES, is_deeper, load_strictly

DEEPEST = 32
"""Levels within engine arguments: more than any engine reads, and few enough for everybody who walks through them."""


def _not_too_deep(args: dict[str, Any]) -> dict[str, Any]:
    """The API server takes any depth; reading and hashing do not."""
    if not is_deeper(args, DEEPEST):
        return args
    raise ValueError(f"is nested more than {DEEPEST} levels deep; write it with fewer")


EngineArgs = Annotated[
    dict[str, Any],
    Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
    AfterValidator(_not_too_deep),
]


class Hardware(Model):
    """The GPUs that one replica takes, all on one node."""

    gpu_model: Annotated[GPUModel, Field(description="GPU model as in the catalogue, for example MI300X.")]
    gpu_count: Annotated[GPUCount, Field(description="GPUs per replica, all on one node.")]
    partition: Annotated[
        Partition | None,
        Field(
            description="Compute and memory partition mode the GPUs must be in, for example cpx_nps4; "
            "absent means whole GPUs (spx_nps1)."
        ),
    ] = None


class RecipeResources(Model):
    """Host resources of one replica; GPUs follow from hardware.gpuCount."""

    cpu: Annotated[Quantity, Field(description="CPU request and limit of one replica, in cores.")] = "8"
    memory: Annotated[Quantity, Field(description="Memory request and limit of one replica, in bytes.")] = (
        "64Gi"
    )


def _unique(values: list[str] | None) -> list[str] | None:
    """As the API server checks a list of type set."""
    twice = next((value for value in values or () if (values or []).count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"has '{twice}' twice; keep one")
    return values


class LabelSelectorRequirement(Model):
    """One expression of a label selector."""

    key: Annotated[str, Field(min_length=1, max_length=317, description="Label key.")]
    operator: Annotated[
        str,
        Field(
            pattern="^(In|NotIn|Exists|DoesNotExist)$",
            max_length=12,
            description="In, NotIn, Exists or DoesNotExist.",
        ),
    ]
    values: Annotated[
        list[Annotated[str, Field(max_length=63)]] | None,
        Field(
            max_length=50,
            description="Values for In and NotIn.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
        AfterValidator(_unique),
    ] = None


class NamespaceSelector(Model):
    """Label selector over namespaces; all of it must match."""

    match_labels: Annotated[
        dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]] | None,
        Field(max_length=50, description="Labels that must be present with these values."),
    ] = None
    match_expressions: Annotated[
        list[LabelSelectorRequirement] | None,
        Field(
            max_length=20,
            description="Label expressions that must all hold.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = None


_FORMER_DEFAULT = "0.32.0"


class AIMRecipeSpec(Model):
    """One configuration: a model on a GPU model, count and precision, with the engine arguments that make it work."""

    model_id: Annotated[
        ModelID,
        Field(
            alias="modelID",
            description="Model that users ask for, as a Hugging Face id such as Qwen/Qwen3-32B.",
        ),
    ]
    source: Annotated[
        ModelID | None,
        Field(
            description="Checkpoint that is really loaded, for example an FP8 repository; defaults to modelID."
        ),
    ] = None
    revision: Annotated[
        str | None,
        Field(
            max_length=100,
            pattern=r"^[A-Za-z0-9._/-]+$",
            description="Revision of the checkpoint: branch, tag or commit.",
        ),
    ] = None
    hardware: Annotated[Hardware, Field(description="GPUs of one replica.")]
    precision: Annotated[Precision, Field(description="Numeric format of the weights.")]
    backend: Annotated[Backend, Field(description="Inference engine.")] = Backend.VLLM
    engine_version: Annotated[
        str | None,
        Field(
            max_length=40,
            pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?([.+-][A-Za-z0-9.+-]+)?$",
            description="Engine version whose flags the recipe uses, for example 0.32.0; defaults to the operator's version of the backend.",
        ),
    ] = None
    image: Annotated[
        Image | None, Field(description="Container image; defaults to the engine's image for engineVersion.")
    ] = None
    engine_args: Annotated[
        EngineArgs,
        Field(
            description="Engine flags without leading dashes. true is a bare flag, false the --no- form, "
            "an object is passed as JSON. Flags that the operator owns (host, port, served-model-name) are refused.",
        ),
    ] = {}
    env: Annotated[EnvMap, Field(description="Environment variables of the engine.")] = {}
    resources: Annotated[RecipeResources, Field(description="Host resources of one replica.")] = (
        RecipeResources()
    )
    objective: Annotated[Objective, Field(description="What the configuration is tuned for.")] = (
        Objective.THROUGHPUT
    )
    maturity: Annotated[Maturity, Field(description="How far the configuration has been tuned.")] = (
        Maturity.GENERAL
    )
    performance: Annotated[
        list[Performance],
        Field(
            max_length=32,
            description="Known performance, each entry with its provenance.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = []
    allowed_namespaces: Annotated[
        NamespaceSelector | None,
        Field(description="Namespaces that may use the recipe; absent means all."),
    ] = None

    def essence(self) -> dict[str, Any]:
        """As for every model. A version that was the default once counts as none: recipes of then stay what they were."""
        told = super().essence()
        if self.backend is Backend.VLLM and told.get("engineVersion") == _FORMER_DEFAULT:
            del told["engineVersion"]
        return told


class AIMRecipeStatus(Model):
    """What the operator knows about the recipe in this cluster."""

    observed_generation: Annotated[
        int | None, Field(ge=0, description="Generation the status speaks of.")
    ] = None
    matching_nodes: Annotated[
        int | None, Field(ge=0, description="Usable nodes that have the recipe's GPUs.")
    ] = None
    fits: Annotated[int | None, Field(ge=0, description="Replicas that would fit on the free GPUs now.")] = (
        None
    )
    used_by: Annotated[int | None, Field(ge=0, description="AIMDeployments that use the recipe.")] = None
    observed: Annotated[
        Observed | None,
        Field(description="What the recipe did under load in this cluster, over all its users."),
    ] = None
    benchmarks: Annotated[
        list[Benchmark],
        Field(
            max_length=8,
            description="Benchmarks that were saved with `aim-engine bench --save`, the newest first.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = []
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=8,
            description="Valid and HardwareAvailable.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []


class RecipeMetadata(Model):
    """The part of ObjectMeta that a recipe needs."""

    name: DNSLabel
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generation: int = 0
    resource_version: str = ""
    uid: str = ""


class AIMRecipe(Model):
    """AIMRecipe is one configuration (model, GPU, count, precision, engine) that the operator can choose."""

    api_version: str
    kind: str
    metadata: RecipeMetadata
    spec: AIMRecipeSpec
    status: AIMRecipeStatus = AIMRecipeStatus()

    @classmethod
    def strict_load(cls, data: Any, before: Any = None) -> AIMRecipe:
        """Read an object of a file, with all that the API server would check; `before`: the object it replaces."""
        return load_strictly(cls, data, RECIPE_RULES, before)

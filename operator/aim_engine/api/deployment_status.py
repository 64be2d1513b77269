"""Status of an AIMDeployment: what the operator decided and what the cluster made of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aim_engine.api.conditions import Condition
from aim_engine.api.enums import GainKind, Outcome, Reason, RolloutStrategy, Tier
from aim_engine.api.meta import Model
from aim_engine.api.performance import PerformanceStatus


class ChosenRecipe(Model):
    """The recipe in use."""

    name: Annotated[
        str, Field(max_length=300, description="Name of the AIMRecipe, or configmap/NAME, or generated/NAME.")
    ]
    hash: Annotated[str, Field(max_length=64, description="Hash of the recipe's content as it was resolved.")]
    tier: Annotated[Tier, Field(description="How near the choice is to the best recipe for the wishes.")]
    model_id: Annotated[str, Field(alias="modelID", max_length=200, description="Model that is served.")]
    gpu_model: Annotated[str, Field(max_length=40, description="GPU model.")]
    gpu_count: Annotated[int, Field(description="GPUs per replica.")]
    gpus: Annotated[
        str,
        Field(
            max_length=60,
            description="GPU count and model for people, for example 4xMI300X, or 8xMI300X/cpx_nps4 of partitions.",
        ),
    ]
    precision: Annotated[str, Field(max_length=16, description="Numeric format of the weights.")]
    backend: Annotated[str, Field(max_length=16, description="Inference engine.")]
    revision: Annotated[
        str, Field(max_length=253, description="ControllerRevision that keeps the resolved decision.")
    ]


class CandidateStatus(Model):
    """Verdict on one recipe."""

    recipe: Annotated[str, Field(max_length=300, description="Recipe.")]
    reason: Annotated[Reason, Field(description="Chosen, Outranked, or the first stage it failed.")]
    message: Annotated[str, Field(max_length=1024, description="The verdict with its numbers.")]
    remedy: Annotated[str | None, Field(max_length=1024, description="Smallest change that would help.")] = (
        None
    )
    needed: Annotated[str | None, Field(max_length=100, description="What the recipe needs.")] = None
    has: Annotated[str | None, Field(max_length=100, description="What there is.")] = None


class SelectionStatus(Model):
    """How the recipe was chosen."""

    outcome: Annotated[Outcome, Field(description="Selected, Waiting or NoRecipe.")]
    evaluated: Annotated[int, Field(description="Recipes looked at.")]
    chosen: Annotated[str | None, Field(max_length=300, description="Recipe that was chosen.")] = None
    candidates: Annotated[
        list[CandidateStatus],
        Field(
            max_length=10,
            description="The most relevant verdicts, best first.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["recipe"]},
        ),
    ] = []


class Recommendation(Model):
    """A recipe that would be chosen today instead of the one in use."""

    recipe: Annotated[str, Field(max_length=300, description="Recipe.")]
    hash: Annotated[str, Field(max_length=64, description="Hash of its content.")]
    message: Annotated[str, Field(max_length=1024, description="Why it would be chosen and how to take it.")]
    gain: Annotated[
        str | None, Field(max_length=1024, description="What it would bring; each number says its kind.")
    ] = None
    gain_kind: Annotated[
        GainKind | None, Field(description="What is better: Throughput, Latency, Tier or Other.")
    ] = None
    gain_percent: Annotated[
        int | None,
        Field(
            ge=0,
            le=1_000_000,
            description="How much better its predicted performance is, in percent, where both are known.",
        ),
    ] = None
    cost: Annotated[str | None, Field(max_length=1024, description="What taking it would cost.")] = None


class RolloutStatus(Model):
    """How the last change of the pod template was rolled out."""

    strategy: Annotated[RolloutStrategy, Field(description="Surge or Recreate.")]
    reason: Annotated[str, Field(max_length=1024, description="Why.")]


class AIMDeploymentStatus(Model):
    """What the operator decided and what the cluster made of it."""

    observed_generation: Annotated[
        int | None, Field(ge=0, description="Generation the status speaks of.")
    ] = None
    model_id: Annotated[
        str | None,
        Field(alias="modelID", max_length=200, description="Model that is served, or else asked for."),
    ] = None
    recipe: Annotated[ChosenRecipe | None, Field(description="The recipe in use.")] = None
    selection: Annotated[SelectionStatus | None, Field(description="How the recipe was chosen.")] = None
    recommendation: Annotated[
        Recommendation | None, Field(description="A better choice, not followed by itself.")
    ] = None
    performance: Annotated[
        PerformanceStatus | None, Field(description="What the engines deliver, measured.")
    ] = None
    rollout: Annotated[RolloutStatus | None, Field(description="How pods are replaced.")] = None
    replicas: Annotated[int, Field(ge=0, description="Pods that exist.")] = 0
    ready_replicas: Annotated[int, Field(ge=0, description="Pods that answer.")] = 0
    ready: Annotated[
        str | None, Field(max_length=24, description="Ready and wanted replicas for people, for example 1/2.")
    ] = None
    selector: Annotated[str | None, Field(max_length=1024, description="Label selector of the pods.")] = None
    url: Annotated[
        str | None, Field(max_length=512, description="OpenAI-compatible endpoint within the cluster.")
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=8,
            description="Ready (summary), RecipeSelected, PrerequisitesMet, Available, PerformanceOnTarget.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []

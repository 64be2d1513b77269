"""Values that selection takes and gives: the user's wishes, candidate recipes, verdicts and the decision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from aim_engine.api.deployment import AIMDeployment, AIMDeploymentSpec
from aim_engine.api.enums import Outcome, Reason, Tier, WhenNoCapacity
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint, model_facts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.inventory import Placement, PodNeed, PoolKey
from aim_engine.sizing import Bound, Estimate, Fit


class Source(StrEnum):
    """Where a candidate comes from; on equal footing custom ones go before the catalogue."""

    CUSTOM = "custom"
    CATALOGUE = "catalogue"
    GENERATED = "generated"


class Facts(Protocol):
    """Model facts by id; None means unknown, which never excludes a recipe."""

    def model(self, model_id: str) -> ModelFacts | None: ...

    def checkpoint(self, source_id: str) -> Checkpoint | None: ...

    def unknown(self, model_id: str) -> str | None:
        """Why the facts of a model are not known and what helps; None when there is nothing to say."""
        ...

    def at(self, revision: str | None, repository: str | None) -> Facts:
        """The facts with one repository at a revision, where that makes a difference; None for either: as they are."""
        ...


class CatalogueFacts:
    """Facts from the shipped catalogue."""

    def model(self, model_id: str) -> ModelFacts | None:
        known = checkpoint(model_id)
        return model_facts(model_id) or (model_facts(known.model) if known else None)

    def checkpoint(self, source_id: str) -> Checkpoint | None:
        return checkpoint(source_id)

    def unknown(self, model_id: str) -> str | None:  # noqa: ARG002
        return None

    def at(self, revision: str | None, repository: str | None) -> Facts:  # noqa: ARG002
        """The catalogue's dimensions are those of the architecture, whatever the revision."""
        return self


class Evidence(StrEnum):
    """What a number rests on, strongest first."""

    OBSERVED = "observed"
    """Measured here, under load, on the same recipe, GPU model and engine version."""
    PUBLISHED = "published"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A number with what it rests on."""

    value: float
    kind: Evidence
    engine_version: str | None = None
    """Of the engine it was measured with."""

    @property
    def is_evidence(self) -> bool:
        """Somebody measured it."""
        return self.kind is not Evidence.ESTIMATED

    def __str__(self) -> str:
        """The kind in words: `published (vLLM 0.11.1)`."""
        return f"{self.kind} with {self.engine_version}" if self.engine_version else self.kind.value


@dataclass(frozen=True, slots=True)
class Point:
    """Numbers that were measured together, under one load."""

    kind: Evidence
    tokens_per_second: float | None
    inter_token_latency_ms: float | None
    first_token_ms: float | None
    concurrency: int | None
    """Requests at a time; None: as many as the server takes."""
    engine_version: str | None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a recipe did in this cluster under load. Numbers of another GPU model or engine version do not count."""

    gpu_model: str
    engine_version: str
    tokens_per_second: float | None = None
    inter_token_latency_ms: float | None = None
    first_token_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe that selection may choose."""

    name: str
    """Name of the AIMRecipe, `configmap/NAME` or `generated/NAME`."""
    source: Source
    spec: AIMRecipeSpec
    hash: str
    listed: bool = True
    """False: only for deployments that name it (an unlabelled ConfigMap)."""
    observed: Observation | None = None
    """Not part of the recipe, and so not of its hash."""


def content_hash(content: Mapping[str, Any]) -> str:
    """Twelve hex digits that change with any value of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def candidate(name: str, source: Source, spec: AIMRecipeSpec, *, listed: bool = True) -> Candidate:
    """A candidate with the hash of its content."""
    return Candidate(name, source, spec, content_hash(spec.essence()), listed)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision that somebody recorded: which recipe, with which content. Never taken for the content itself."""

    recipe: str
    hash: str

    def is_of(self, candidate: Candidate) -> bool:
        """Whether a candidate is that recipe, unchanged."""
        return (candidate.name, candidate.hash) == (self.recipe, self.hash)


@dataclass(frozen=True, slots=True)
class Request:
    """What one AIMDeployment asks of selection."""

    namespace: str
    spec: AIMDeploymentSpec
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    allowed_images: tuple[str, ...] | None = None
    """Repositories that tenants may take images from, a trailing slash allowing all below; None: not asked here."""
    identity: str | None = None
    """Equal for requests whose spec asks the same, so that work can be shared; None: not known."""
    recorded: Recorded | None = None
    """The decision of `spec.recipe.decisionConfigMap`."""

    @property
    def model_id(self) -> str | None:
        return self.spec.model.id

    @property
    def replicas(self) -> int:
        """Replicas to find room for; a suspended deployment is still decided, for one."""
        return max(1, 0 if self.spec.suspend else self.spec.replicas)

    @property
    def pinned_name(self) -> str | None:
        """Candidate name the user insists on."""
        wishes = self.spec.recipe
        if wishes.name:
            return wishes.name
        return f"configmap/{wishes.config_map}" if wishes.config_map else None

    @property
    def fallback(self) -> bool:
        wishes = self.spec.recipe
        return wishes.auto_select and wishes.fallback.enabled and self.pinned_name is None

    @property
    def create_pending(self) -> bool:
        return self.spec.recipe.when_no_capacity is WhenNoCapacity.CREATE_PENDING

    @property
    def required_context(self) -> int | None:
        """Tokens one request may need, prompt and answer together; None when the user said nothing."""
        load = self.spec.workload
        if load.max_input_tokens is None and load.max_output_tokens is None:
            return None
        return (load.max_input_tokens or 0) + (load.max_output_tokens or 0)


def request_of(deployment: AIMDeployment, namespace_labels: Mapping[str, str]) -> Request:
    """The request that an AIMDeployment makes."""
    return Request(deployment.metadata.namespace, deployment.spec, namespace_labels)


@dataclass(frozen=True, slots=True)
class Assessment:
    """A candidate with everything that was computed about it, so that nothing is computed twice."""

    candidate: Candidate
    args: Mapping[str, object]
    """Engine arguments after workload and overrides."""
    gpu: GPU | None = None
    plan: EnginePlan | None = None
    fit: Fit | None = None
    need: PodNeed | None = None
    placement: Placement | None = None
    rate: Prediction | None = None
    """Generated tokens per second of one replica."""
    latency: Prediction | None = None
    """Milliseconds between two tokens of one request."""
    first_token: Prediction | None = None
    """Milliseconds to the first token. Never an estimate: nobody can make one without knowing the load."""
    points: tuple[Point, ...] = ()
    """The evidence that the numbers above are from."""
    elsewhere: Prediction | None = None
    """Tokens per second published for another engine version: told, and not used."""
    declared: int | None = None
    """Tokens per second that the recipe's author claims: told, and not used."""
    estimate: Estimate | None = None
    """The roofline estimate, also where there is evidence: it is the yardstick for the others."""
    bound: Bound | None = None

    @property
    def rate_per_gpu(self) -> float | None:
        """Tokens per second and GPU, whatever their kind."""
        return self.rate.value / self.candidate.spec.hardware.gpu_count if self.rate else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a candidate was chosen or not, with numbers and the smallest change that would help."""

    recipe: str
    reason: Reason
    message: str
    remedy: str | None = None
    needed: str | None = None
    has: str | None = None
    eligible: bool = False
    """It could serve here, were it preferred or its GPUs free."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate and what rendering needs to know about it."""

    assessment: Assessment
    tier: Tier
    fits: int
    """Replicas that fit now, at most the asked ones."""


@dataclass(frozen=True, slots=True)
class Want:
    """Capacity that would let a waiting deployment go on: so many GPUs free on one node of a pool."""

    pool: PoolKey
    gpus: int
    need: PodNeed | None = field(default=None, compare=False)
    """All that one replica takes, where it is known."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Outcome of one selection with the verdict on every candidate, most relevant first."""

    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    message: str
    remedy: str | None = None
    choice: Choice | None = None
    best: str | None = None
    """Candidate that would be chosen if capacity were free."""
    wants: tuple[Want, ...] = ()
    ahead: tuple[Assessment, ...] = ()
    """Candidates that would go before the choice, or all where there is none, had they free GPUs."""

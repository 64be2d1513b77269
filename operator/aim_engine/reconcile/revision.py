"""The record of a decision, kept in a ControllerRevision: what was chosen and exactly what was rendered.

The record, not the catalogue and not the renderer of the day, says what a deployment's children look like. So neither
an edited recipe, nor a restart, nor an upgrade of the operator changes a running model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import from_json, to_json

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.deployment_status import SelectionStatus
from aim_engine.api.enums import RolloutStrategy, Tier
from aim_engine.api.meta import API_VERSION, LABEL_DEPLOYMENT, LABEL_MANAGED_BY, MANAGED_BY
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.selection import Source, content_hash

HISTORY = 3
"""Revisions kept per deployment, the one in force included."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Hashes of what the user wrote, by what a change of it may cause."""

    wishes: str
    """Model id, recipe wishes, targets: a new selection."""
    shape: str
    """Model revision, overrides, workload, scheduling: the same recipe if it still can, else a new selection."""
    rendering: str
    """Token, service and cache: a new rendering of the same decision."""
    recorded: str = ""
    """Content of the decision of `spec.recipe.decisionConfigMap`, empty where there is none: a new selection."""


def inputs_of(spec: AIMDeploymentSpec) -> Inputs:
    """Hashes of a spec. Replicas, suspend, rollout and policies are not in it: they need no new record."""
    told = spec.essence()
    model = told.get("model", {})
    recipe = {k: v for k, v in told.get("recipe", {}).items() if k not in ("updatePolicy", "whenNoCapacity")}
    return Inputs(
        wishes=content_hash({"model": model.get("id"), "recipe": recipe, "targets": told.get("targets")}),
        shape=content_hash(
            {
                "revision": model.get("revision"),
                **{part: told.get(part) for part in ("overrides", "workload", "scheduling")},
            }
        ),
        rendering=content_hash(
            {"token": model.get("tokenSecret"), **{part: told.get(part) for part in ("service", "cache")}}
        ),
    )


@dataclass(frozen=True, slots=True)
class Revision:
    """A decision in full."""

    number: int
    renderer: int
    inputs: Inputs
    recipe: str
    source: str
    recipe_hash: str
    recipe_spec: Mapping[str, Any]
    model_id: str
    tier: Tier
    message: str
    selection: Mapping[str, Any]
    resource: str
    strategy: RolloutStrategy
    strategy_reason: str
    manifests: tuple[Mapping[str, Any], ...]
    moved_at: float | None = None
    """When `updatePolicy: Automatic` last moved the deployment, in seconds since the epoch."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts of models it was decided on that are not in the catalogue, as rows (reconcile/facts.py)."""

    def data(self) -> dict[str, Any]:
        """The record's content."""
        data = {
            "renderer": self.renderer,
            "inputs": {
                "wishes": self.inputs.wishes, "shape": self.inputs.shape, "rendering": self.inputs.rendering,
                **({"recorded": self.inputs.recorded} if self.inputs.recorded else {}),
            },
            "recipe": {
                "name": self.recipe, "source": self.source, "hash": self.recipe_hash, "spec": dict(self.recipe_spec),
            },
            "modelID": self.model_id,
            "tier": self.tier.value,
            "message": self.message,
            "selection": dict(self.selection),
            "resource": self.resource,
            "rollout": {"strategy": self.strategy.value, "reason": self.strategy_reason},
            "manifests": [dict(manifest) for manifest in self.manifests],
        }  # fmt: skip
        optional = {"movedAt": self.moved_at, "facts": dict(self.facts) or None}
        return {**data, **{name: value for name, value in optional.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Record:
    """A revision as stored; the content stays JSON until it is asked for."""

    name: str
    namespace: str
    owner_uid: str
    number: int
    uid: str
    body: bytes

    def lost(self) -> Record:
        """The record, to be stored again: nobody has it any more."""
        return replace(self, uid="")

    def is_readable(self) -> bool:
        """Whether the content is a decision that this operator understands."""
        try:
            self.revision()
        except ValueError:
            return False
        return True

    def revision(self) -> Revision:
        """Decode the content; raises ValueError that names what is wrong with it."""
        try:
            revision = self._decoded(from_json(self.body))
            _check(revision, self.namespace)
        except KeyError as error:
            raise ValueError(f"ControllerRevision {self.name}: data lacks {error}") from None
        except (TypeError, AttributeError, ValueError) as error:
            told = " ".join(str(error).split())[:300]
            raise ValueError(
                f"ControllerRevision {self.name}: data is no record of a decision: {told}"
            ) from None
        return revision

    def _decoded(self, data: Mapping[str, Any]) -> Revision:
        recipe, rollout = data["recipe"], data["rollout"]
        return Revision(
            number=self.number,
            renderer=data["renderer"],
            inputs=Inputs(**data["inputs"]),
            recipe=recipe["name"],
            source=recipe["source"],
            recipe_hash=recipe["hash"],
            recipe_spec=recipe["spec"],
            model_id=data["modelID"],
            tier=Tier(data["tier"]),
            message=data["message"],
            selection=data["selection"],
            resource=data["resource"],
            strategy=RolloutStrategy(rollout["strategy"]),
            strategy_reason=rollout["reason"],
            manifests=tuple(data["manifests"]),
            moved_at=data.get("movedAt"),
            facts=data.get("facts") or {},
        )


def _check(revision: Revision, namespace: str) -> None:
    """Types of what is used without another look; raises what a wrong one ends in."""
    inputs, rollout = revision.inputs, revision.strategy_reason
    texts = {
        "recipe.name": revision.recipe, "recipe.hash": revision.recipe_hash, "modelID": revision.model_id,
        "message": revision.message, "resource": revision.resource, "rollout.reason": rollout,
        "inputs.wishes": inputs.wishes, "inputs.shape": inputs.shape, "inputs.rendering": inputs.rendering,
    }  # fmt: skip
    for field_name, text in texts.items():
        if not isinstance(text, str):
            raise TypeError(f"{field_name} '{str(text)[:80]}' is not text")
    for field_name, count in {
        "revision": revision.number,
        "renderer": revision.renderer,
        "movedAt": revision.moved_at or 0,
    }.items():
        if not isinstance(count, int | float):
            raise TypeError(f"{field_name} '{str(count)[:80]}' is not a number")
    Source(revision.source)
    SelectionStatus.model_validate(revision.selection)
    AIMRecipeSpec.model_validate(revision.recipe_spec)
    for manifest in revision.manifests:
        told = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["metadata"]["namespace"] != namespace:
            raise ValueError(f"{told} is not for namespace {namespace}")


def revision_name(deployment: str, uid: str, revision: Revision) -> str:
    """`<deployment>-<hash>`: storing the same decision of the same object a second time meets the same name."""
    identity = {
        "uid": uid, "number": revision.number, "renderer": revision.renderer, "recipe": revision.recipe_hash,
        "wishes": revision.inputs.wishes, "shape": revision.inputs.shape, "rendering": revision.inputs.rendering,
        **({"recorded": revision.inputs.recorded} if revision.inputs.recorded else {}),
    }  # fmt: skip
    return f"{deployment}-{content_hash(identity)}"


def to_object(deployment: str, namespace: str, uid: str, revision: Revision) -> dict[str, Any]:
    """The ControllerRevision to create."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision_name(deployment, uid, revision),
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_DEPLOYMENT: deployment},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION, "kind": "AIMDeployment", "name": deployment, "uid": uid,
                    "controller": True, "blockOwnerDeletion": True,
                }
            ],
        },
        "revision": revision.number,
        "data": revision.data(),
    }  # fmt: skip


def read_record(obj: Mapping[str, Any], owner_uid: str) -> Record:
    """The record of a stored ControllerRevision."""
    metadata = obj["metadata"]
    body = to_json(obj.get("data") or {})
    return Record(
        metadata["name"],
        metadata.get("namespace", ""),
        owner_uid,
        obj.get("revision", 0),
        metadata.get("uid", ""),
        body,
    )

"""A decision as one document, the same wherever it is made: for programs, for comparison, for the command line's output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.api.enums import Outcome, Reason
from aim_engine.catalog.flags import PINNED_VLLM
from aim_engine.engines import version_of
from aim_engine.inventory import Inventory, PodNeed, best_fit, standing
from aim_engine.selection.capacity import capacity_verdict
from aim_engine.selection.types import Assessment, Choice, Decision, Evidence, Prediction, Request, Verdict


def report(request: Request, decision: Decision, inventory: Inventory) -> dict[str, Any]:
    """The decision with its verdicts and the inventory it was made on.

    Keys are those of docs/reference/decision.schema.json. Numbers are in bytes, tokens, tokens/s and milliseconds.
    """
    return {
        "outcome": decision.outcome.value,
        "model": _model(request, decision),
        "message": decision.message,
        "remedy": decision.remedy,
        "chosen": choice_document(decision.choice, inventory, request.replicas) if decision.choice else None,
        "best": decision.best,
        "candidates": [_candidate(verdict) for verdict in decision.verdicts],
        "inventory": inventory_summary(inventory),
        "engineVersion": choice_version(decision.choice),
    }


def choice_version(choice: Choice | None) -> str:
    """The engine version of what was chosen; the default engine's where nothing was."""
    return version_of(choice.assessment.candidate.spec) if choice else PINNED_VLLM


def inventory_summary(inventory: Inventory) -> dict[str, Any]:
    """GPUs by model and partition: nodes, GPUs that nodes offer, those that they have and do not offer, and those that are
    free on nodes that take pods."""
    return {
        "nodes": len(inventory.nodes),
        "gpus": [
            {
                "gpuModel": key.gpu_model,
                "partition": key.partition,
                **_pool(inventory, key.gpu_model, key.partition),
            }
            for key in sorted(inventory.pools, key=lambda key: (key.gpu_model, key.partition or ""))
        ],
        "unrecognised": sorted(
            state.facts.name
            for state in inventory.nodes.values()
            if any(group.gpu_model is None for group in state.facts.groups)
        ),
    }


def _model(request: Request, decision: Decision) -> str | None:
    if request.model_id is not None or decision.choice is None:
        return request.model_id
    return decision.choice.assessment.candidate.spec.model_id


def choice_document(choice: Choice, inventory: Inventory, replicas: int) -> dict[str, Any]:
    """What was chosen, where it would go, and what is expected of it. `replicas`: how many are asked for."""
    assessment = choice.assessment
    spec = assessment.candidate.spec
    memory = assessment.fit.memory if assessment.fit else None
    return {
        "recipe": assessment.candidate.name,
        "source": assessment.candidate.source.value,
        "hash": assessment.candidate.hash,
        "tier": choice.tier.value,
        "gpuModel": spec.hardware.gpu_model,
        "gpuCount": spec.hardware.gpu_count,
        "partition": spec.hardware.partition,
        "precision": spec.precision.value,
        "backend": spec.backend.value,
        "maturity": spec.maturity.value,
        "node": _node(assessment.need, assessment, inventory),
        "replicasThatFit": choice.fits,
        "waitsFor": _waits_for(choice, replicas),
        "engineArgs": dict(assessment.args),
        "kvCacheTokens": memory.kv_tokens if memory else None,
        "usableContext": memory.usable_context if memory else None,
        "performance": _performance(assessment),
    }


def _waits_for(choice: Choice, replicas: int) -> str | None:
    """What the replicas that do not fit now wait for."""
    lacking = capacity_verdict(choice.assessment, replicas) if choice.fits < replicas else None
    return None if lacking is None else f"{lacking.message}; {lacking.remedy}"


def _node(need: PodNeed | None, assessment: Assessment, inventory: Inventory) -> str | None:
    """Where the first replica would go: the node with room and the fewest free GPUs. The scheduler has the last word."""
    resource = assessment.placement.resource if assessment.placement else None
    return best_fit(inventory, need, resource) if need is not None and resource is not None else None


def _performance(assessment: Assessment) -> dict[str, Any] | None:
    """What is expected, each number with what it rests on."""
    if assessment.rate is None:
        return None
    return {
        "kind": assessment.rate.kind.value,
        "tokensPerSecond": round(assessment.rate.value, 1),
        "engineVersion": assessment.rate.engine_version,
        "interTokenLatencyMilliseconds": _number(assessment.latency),
        "timeToFirstTokenMilliseconds": _number(assessment.first_token),
    }


def _number(found: Prediction | None) -> dict[str, Any] | None:
    return None if found is None else {"kind": found.kind.value, "value": round(found.value, 2)}


def _candidate(verdict: Verdict) -> dict[str, Any]:
    return {
        "recipe": verdict.recipe,
        "verdict": "chosen"
        if verdict.reason is Reason.CHOSEN
        else "eligible"
        if verdict.eligible
        else "rejected",
        "reason": verdict.reason.value,
        "message": verdict.message,
        "remedy": verdict.remedy,
        "needed": verdict.needed,
        "has": verdict.has,
    }


def _pool(inventory: Inventory, gpu_model: str, partition: str | None) -> dict[str, int]:
    nodes = allocatable = unhealthy = free = 0
    for state in inventory.nodes.values():
        groups = [g for g in state.facts.groups if (g.gpu_model, g.partition) == (gpu_model, partition)]
        nodes += bool(groups)
        allocatable += sum(group.allocatable for group in groups)
        unhealthy += sum(max(0, group.capacity - group.allocatable) for group in groups)
        if not standing(state.facts):
            free += sum(state.free_gpus(group.resource) for group in groups)
    return {"nodes": nodes, "allocatable": allocatable, "unhealthy": unhealthy, "free": free}


_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: Mapping[str, Any] = {"type": "string"}
_MAYBE_TEXT: Mapping[str, Any] = {"type": ["string", "null"]}
_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_MAYBE_COUNT: Mapping[str, Any] = {"type": ["integer", "null"], "minimum": 0}


def schema() -> dict[str, Any]:
    """JSON Schema of a report."""
    kinds: Mapping[str, Any] = {"enum": [kind.value for kind in Evidence]}
    number = _or_null(_object({"kind": kinds, "value": {"type": "number"}}))
    chosen = _object(
        {
            "recipe": _TEXT,
            "source": {"enum": ["custom", "catalogue", "generated"]},
            "hash": _TEXT,
            "tier": {"enum": ["Primary", "Secondary", "Tertiary", "Default"]},
            "gpuModel": _TEXT,
            "gpuCount": _COUNT,
            "partition": _MAYBE_TEXT,
            "precision": _TEXT,
            "backend": _TEXT,
            "maturity": _TEXT,
            "node": _MAYBE_TEXT,
            "replicasThatFit": _COUNT,
            "waitsFor": _MAYBE_TEXT,
            "engineArgs": {"type": "object"},
            "kvCacheTokens": _MAYBE_COUNT,
            "usableContext": _MAYBE_COUNT,
            "performance": _or_null(
                _object(
                    {
                        "kind": kinds,
                        "tokensPerSecond": {"type": "number"},
                        "engineVersion": _MAYBE_TEXT,
                        "interTokenLatencyMilliseconds": number,
                        "timeToFirstTokenMilliseconds": number,
                    }
                )
            ),
        }
    )
    candidate = _object(
        {
            "recipe": _TEXT,
            "verdict": {"enum": ["chosen", "recommended", "eligible", "rejected"]},
            "reason": {"enum": [reason.value for reason in Reason]},
            "message": _TEXT,
            "remedy": _MAYBE_TEXT,
            "needed": _MAYBE_TEXT,
            "has": _MAYBE_TEXT,
        }
    )
    gpus = _object(
        {
            "gpuModel": _TEXT,
            "partition": _MAYBE_TEXT,
            "nodes": _COUNT,
            "allocatable": _COUNT,
            "unhealthy": _COUNT,
            "free": _COUNT,
        }
    )
    return {
        "$schema": _DIALECT,
        "title": "Decision of aim-engine select and explain",
        **_object(
            {
                "outcome": {"enum": [outcome.value for outcome in Outcome]},
                "model": _MAYBE_TEXT,
                "message": _TEXT,
                "remedy": _MAYBE_TEXT,
                "chosen": _or_null(chosen),
                "best": _MAYBE_TEXT,
                "candidates": {"type": "array", "items": candidate},
                "inventory": _object(
                    {
                        "nodes": _COUNT,
                        "gpus": {"type": "array", "items": gpus},
                        "unrecognised": {"type": "array", "items": _TEXT},
                    }
                ),
                "engineVersion": _TEXT,
                "inForce": _or_null(_in_force()),
                "change": {"enum": [None, "Recipe", "Rendering", "Replicas"]},
                "recommendation": _or_null(
                    _object(
                        {"recipe": _TEXT, "hash": _TEXT, "message": _TEXT},
                        optional={"gain": _TEXT, "gainKind": _TEXT, "gainPercent": _COUNT, "cost": _TEXT},
                    )
                ),
            },
            optional={"name": _TEXT, "namespace": _TEXT, "file": _TEXT, "operatorSays": _TEXT},
        ),
    }


def list_schema() -> dict[str, Any]:
    """JSON Schema of the reports on a folder: one for each deployment, those that are wrong included."""
    wrong = _object({"file": _TEXT, "error": _TEXT}, optional={"name": _TEXT, "namespace": _TEXT})
    return {
        "$schema": _DIALECT,
        "title": "Decisions of aim-engine explain -f FOLDER",
        "type": "array",
        "items": {"anyOf": [{name: part for name, part in schema().items() if name != "$schema"}, wrong]},
    }


def _in_force() -> dict[str, Any]:
    """Schema of what runs now (reconcile/explanation.py)."""
    return _object(
        {
            "recipe": _TEXT,
            "hash": _TEXT,
            "tier": _TEXT,
            "revision": _COUNT,
            "gpuModel": _TEXT,
            "gpuCount": _COUNT,
            "partition": _MAYBE_TEXT,
            "precision": _TEXT,
            "nodes": {"type": "array", "items": _TEXT},
            "waitsFor": _MAYBE_TEXT,
        }
    )


def _object(properties: Mapping[str, Any], *, optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }


def _or_null(schema_of: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "null"}, schema_of]}

"""AIMDeployments at the gate: refused only for what no cluster can mend, warned about for what may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from aim_engine.admission.answer import Answer, Object, answer, plain, unreadable
from aim_engine.api.conditions import ConditionType
from aim_engine.api.deployment import AIMDeployment, AIMDeploymentSpec
from aim_engine.api.enums import Backend
from aim_engine.api.quantity import format_bytes
from aim_engine.api.recipe import AIMRecipeStatus
from aim_engine.api.schema_faults import schema_faults
from aim_engine.catalog.cautions import cautions
from aim_engine.catalog.models import ModelFacts
from aim_engine.engines import engine
from aim_engine.reconcile.revision import inputs_of
from aim_engine.selection import (
    Assessment,
    Candidate,
    Check,
    Facts,
    Memo,
    Request,
    Source,
    SpecProblem,
    can_ever_serve,
    difference,
    eligible_anywhere,
    least_bytes,
    outranks,
    relevant,
    spec_problems,
)

_TIGHT = 2
"""Requests of full length at a time; with fewer the engine serves one after the other."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the gate knows around an AIMDeployment. No pods, no nodes: what is free is read from the recipes' status."""

    namespace: str
    namespace_labels: Mapping[str, str]
    candidates: Sequence[Candidate]
    """The catalogue's, and those of the namespace."""
    statuses: Mapping[str, AIMRecipeStatus]
    """Status of the AIMRecipes by name."""
    allowed_images: tuple[str, ...]
    facts: Facts
    checks: frozenset[Check]
    memo: Memo


def judge_deployment(new: Object, old: Object | None, scene: Scene) -> Answer:
    """An AIMDeployment that is created or whose spec changes."""
    before = () if old is None else _problems(old, scene)
    problems = _problems(new, scene)
    spec = None if problems else _spec(new)
    warnings = () if spec is None else _warnings(_request(spec, scene), scene)
    return answer(scene.checks, problems, before, warnings)


def _spec(obj: Object) -> AIMDeploymentSpec:
    """Raises ValidationError."""
    return AIMDeployment.strict_load(plain(obj)).spec


def _problems(obj: Object, scene: Scene) -> tuple[SpecProblem, ...]:
    try:
        spec = _spec(obj)
    except ValidationError as error:
        return tuple(unreadable(schema_faults(error, "aimdeployment")))
    return spec_problems(_request(spec, scene), scene.facts)


def _request(spec: AIMDeploymentSpec, scene: Scene) -> Request:
    inputs = inputs_of(spec)
    identity = f"{inputs.wishes}/{inputs.shape}"
    return Request(scene.namespace, spec, scene.namespace_labels, scene.allowed_images, identity)


def _warnings(request: Request, scene: Scene) -> Iterator[str]:
    yield from _of_the_spec(request, scene.facts)
    yield from _of_the_recipes(request, scene)


def _of_the_spec(request: Request, facts: Facts) -> Iterator[str]:
    spec = request.spec
    model = facts.model(request.model_id) if request.model_id else None
    if model is not None and model.gated and spec.model.token_secret is None:
        yield (
            f"spec.model.tokenSecret: {model.id} is gated; without a token the engine can load it only from a cache that has it"
        )
    if request.model_id and model is None:
        yield f"spec.model.id '{request.model_id}': its dimensions are not in the catalogue, so memory was not checked"
    if model is not None:
        yield from _small_cache(spec, model)
    backend = engine(spec.recipe.backend or Backend.VLLM)
    for text in backend.env_warnings(spec.overrides.env):
        yield f"spec.overrides.env.{text}"
    args = backend.merge_args(spec.overrides.engine_args, {})
    for caution in cautions():
        value: Any = (spec.overrides.env if caution.env else args).get(caution.name)
        if value is not None and caution.applies(value):
            kind = "env" if caution.env else "engineArgs"
            told = "" if caution.env else f" '{value}'"
            yield f"spec.overrides.{kind}.{caution.name}{told}: {caution.why}"


def _small_cache(spec: AIMDeploymentSpec, model: ModelFacts) -> Iterator[str]:
    """A volume may be larger than what was asked for, so this is no reason to refuse."""
    size = spec.cache.size_gi_b if spec.cache else None
    need = model.parameters * least_bytes(spec.recipe.precision)
    if size is not None and size * 2**30 < need:
        yield f"spec.cache.sizeGiB '{size}': the weights of {model.id} need at least {format_bytes(need)}"


def _of_the_recipes(request: Request, scene: Scene) -> Iterator[str]:
    if Check.RECIPE_COMPATIBILITY not in scene.checks:
        return
    pool = relevant(request, scene.candidates)
    if not pool:
        yield from _no_recipe(request)
        return
    order, rejected = eligible_anywhere(request, pool, scene.facts, scene.memo)
    if not order:
        nearest = rejected[0]
        made = can_ever_serve(request, (), scene.facts)
        until = "; until then a configuration made from the model's facts may" if made else ""
        yield f"no recipe can serve this yet; nearest is {nearest.recipe}: {nearest.message}{until}"
        return
    yield from _capacity(order, request, scene)
    yield from _tight(order[0], request)
    yield from _better(order[0], request, scene)


def _no_recipe(request: Request) -> Iterator[str]:
    wishes = request.spec.recipe
    if wishes.config_map:
        yield f"spec.recipe.configMap '{wishes.config_map}': no such recipe in the namespace yet; the deployment waits for it"
    elif wishes.name:
        yield f"spec.recipe.name '{wishes.name}': no such AIMRecipe yet, or for another model; the deployment waits for it"
    elif not request.fallback:
        yield f"no recipe for {request.model_id} exists yet, and fallback is off: the deployment waits for one"


def _capacity(order: Sequence[Assessment], request: Request, scene: Scene) -> Iterator[str]:
    """From what the operator wrote into the recipes' status; silent where it has not."""
    allowed = order if request.fallback else order[:1]
    known = [
        (each, scene.statuses[each.candidate.name])
        for each in allowed
        if each.candidate.source is Source.CATALOGUE and each.candidate.name in scene.statuses
    ]
    if not known or len(known) < len(allowed):
        return
    if all(_absent(status) for _, status in known):
        models = ", ".join(sorted({each.candidate.spec.hardware.gpu_model for each, _ in known}))
        yield f"no node of the cluster has {models} as the recipes need them; the deployment waits for one"
    elif all(status.fits == 0 for _, status in known):
        best = known[0][0].candidate
        gpus = f"{best.spec.hardware.gpu_count} x {best.spec.hardware.gpu_model}"
        yield f"no GPUs are free for it now; the best recipe, {best.name}, needs {gpus} on one node"


def _absent(status: AIMRecipeStatus) -> bool:
    return any(
        each.type == ConditionType.HARDWARE_AVAILABLE and each.status == "False" for each in status.conditions
    )


def _tight(best: Assessment, request: Request) -> Iterator[str]:
    memory, context = best.fit.memory if best.fit else None, request.required_context
    if memory is not None and context and memory.kv_tokens < _TIGHT * context:
        yield (
            f"spec.workload: {best.candidate.name} holds {memory.kv_tokens} tokens of KV cache, less than {_TIGHT} requests of {context} tokens"
        )


def _better(named: Assessment, request: Request, scene: Scene) -> Iterator[str]:
    wishes = request.spec.recipe
    model_id = request.model_id or named.candidate.spec.model_id
    if wishes.name is None and wishes.config_map is None:
        return
    opened = request.spec.model_copy(
        update={
            "model": request.spec.model.model_copy(update={"id": model_id}),
            "recipe": wishes.model_copy(update={"name": None, "config_map": None}),
        }
    )
    free = _request(opened, scene)
    order, _ = eligible_anywhere(free, relevant(free, scene.candidates), scene.facts, scene.memo)
    if (
        order
        and order[0].candidate.hash != named.candidate.hash
        and outranks(free, scene.facts, order[0], named)
    ):
        name, why = order[0].candidate.name, difference(free, scene.facts, named, order[0])
        yield f"spec.recipe: {name} would be preferred to {named.candidate.name}: {why}"

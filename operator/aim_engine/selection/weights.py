"""Which weights a recipe really loads: of which model, in which format, and whether that is what it says."""

from __future__ import annotations

from collections.abc import Iterator

from aim_engine.api.enums import Precision
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.flags import flag_table
from aim_engine.catalog.gpus import GPU, gpu_catalog
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint_catalog
from aim_engine.engines import Problem, engine, version_of
from aim_engine.selection.types import Facts
from aim_engine.sizing import weight_format

_SIXTEEN_BIT = frozenset({Precision.BF16, Precision.FP16})
"""Formats that convert into each other while loading."""


def source_of(spec: AIMRecipeSpec) -> str:
    """The repository that is loaded."""
    return spec.source or spec.model_id


def stored_weights(facts: Facts, spec: AIMRecipeSpec) -> Checkpoint | None:
    """The checkpoint that is loaded; None where nobody knows it, or the engine's image chooses it by the precision."""
    known = facts.checkpoint(source_of(spec))
    if known is None or not engine(spec.backend).CHOOSES_WEIGHTS or known.precision is spec.precision:
        return known
    return None


def loaded_model(facts: Facts, spec: AIMRecipeSpec) -> ModelFacts | None:
    """Dimensions of what is loaded: the checkpoint's own model, whatever name it is served under."""
    known = facts.checkpoint(source_of(spec))
    own = facts.model(known.model) if known is not None else None
    return own or facts.model(spec.model_id)


def weights_problems(spec: AIMRecipeSpec, facts: Facts) -> tuple[Problem, ...]:
    """What contradicts the recipe's model and precision; nothing where the checkpoint is not known."""
    return (*_of_another_model(spec, facts), *_in_another_format(spec, facts))


def _of_another_model(spec: AIMRecipeSpec, facts: Facts) -> Iterator[Problem]:
    stored, named = facts.checkpoint(source_of(spec)), facts.model(spec.model_id)
    if spec.source is None or stored is None or named is None or stored.model == named.id:
        return
    own = facts.model(stored.model)
    if stored.id not in checkpoint_catalog() and (own is None or _shape(own) == _shape(named)):
        return
    known = [each.id for each in checkpoint_catalog().values() if each.model == named.id]
    choices = f"use one of {', '.join(sorted(known))}" if known else "leave source out"
    yield Problem(
        "source",
        spec.source,
        f"holds weights of {stored.model}, and modelID is {spec.model_id}",
        f"set modelID to {stored.model}, or {choices}",
    )


def _shape(model: ModelFacts) -> tuple[object, ...]:
    """What two repositories of one model have in common, whatever each says of itself."""
    return (
        model.layers,
        model.hidden_size,
        model.attention_heads,
        model.kv_heads,
        model.head_dim,
        model.experts,
    )


def _in_another_format(spec: AIMRecipeSpec, facts: Facts) -> Iterator[Problem]:
    stored, gpu = stored_weights(facts, spec), gpu_catalog().get(spec.hardware.gpu_model)
    if stored is None or gpu is None:
        return
    hardware, version = spec.hardware, version_of(spec)
    plan = engine(spec.backend).plan(spec.engine_args, hardware.gpu_count, gpu, hardware.partition, version)
    loaded = weight_format(stored, spec.precision, plan)
    if loaded is spec.precision or {loaded, spec.precision} <= _SIXTEEN_BIT:
        return
    if loaded is not stored.precision:
        message = f"quantization {plan.quantization} turns the weights of {stored.id} into {loaded}"
        yield Problem(
            "precision", spec.precision, message, f"set precision to {loaded}, or remove quantization"
        )
        return
    message = f"the weights of {stored.id} are {loaded}"
    yield Problem("precision", spec.precision, message, ", or ".join(_ways(spec, stored, gpu)))


def _ways(spec: AIMRecipeSpec, stored: Checkpoint, gpu: GPU) -> Iterator[str]:
    """How to come by the precision that the recipe names, where the GPU runs it; last, how to name the one it has."""
    if spec.precision in gpu.runnable_precisions:
        known = (each for each in checkpoint_catalog().values() if each.model == stored.model)
        yield from (f"set source to {each.id}" for each in known if each.precision is spec.precision)
        table = flag_table(spec.backend, version_of(spec))
        methods = table.online_quantization if table is not None else {}
        if stored.precision in _SIXTEEN_BIT and spec.precision.value in methods:
            yield f"set quantization to {spec.precision}"
    yield f"set precision to {stored.precision}"

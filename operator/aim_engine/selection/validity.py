"""Is a recipe usable at all, whatever the cluster? The operator's status and every check of files ask here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from aim_engine.catalog.gpus import GPU, devices, gpu_catalog
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import Problem, engine, version_of
from aim_engine.selection.memory import helping, sized
from aim_engine.selection.stages import recipe_problems
from aim_engine.selection.types import Candidate, Facts
from aim_engine.selection.weights import source_of, weights_problems
from aim_engine.sizing import Fit, FitVerdict

_NO_REMEDY = "use another GPU model"


def validity_problems(
    candidate: Candidate, facts: Facts, namespace_labels: Mapping[str, str] = MappingProxyType({})
) -> tuple[Problem, ...]:
    """What stops a recipe on its own GPUs: arguments and weights, then parallelism, then precision, then memory.

    A later kind is told only when the earlier ones are in order: it would be about a server that cannot start.
    """
    spec, facts = candidate.spec, _at_revision(candidate, facts)
    return (
        (*recipe_problems(candidate, namespace_labels), *weights_problems(spec, facts))
        or engine(spec.backend).check_parallelism(spec.engine_args, spec.hardware.gpu_count)
        or tuple(_hardware_problems(candidate, facts))
    )


def recipe_fit(candidate: Candidate, facts: Facts) -> Fit | None:
    """The memory answer for a recipe as it stands; None where its GPU model is not known."""
    gpu, facts = gpu_catalog().get(candidate.spec.hardware.gpu_model), _at_revision(candidate, facts)
    return None if gpu is None else sized(facts, candidate.spec, gpu, _plan(candidate, gpu))


def _at_revision(candidate: Candidate, facts: Facts) -> Facts:
    return facts.at(candidate.spec.revision, source_of(candidate.spec))


def _plan(candidate: Candidate, gpu: GPU) -> EnginePlan:
    spec = candidate.spec
    hardware = spec.hardware
    return engine(spec.backend).plan(
        spec.engine_args, hardware.gpu_count, gpu, hardware.partition, version_of(spec)
    )


def _hardware_problems(candidate: Candidate, facts: Facts) -> Iterator[Problem]:
    spec = candidate.spec
    gpu = gpu_catalog().get(spec.hardware.gpu_model)
    if gpu is None:
        return
    plan = _plan(candidate, gpu)
    answer = sized(facts, spec, gpu, plan)
    if answer.verdict is not FitVerdict.DOES_NOT_FIT:
        return
    found = helping(facts, spec, gpu, plan)
    remedy = found.remedy or _NO_REMEDY
    if spec.precision not in gpu.runnable_precisions:
        runnable = ", ".join(sorted(gpu.runnable_precisions))
        message = f"is not supported by {gpu.model}, which runs {runnable}{found.note}"
        yield Problem("precision", spec.precision, message, remedy)
        return
    wanted = devices(spec.hardware.gpu_count, gpu.model, spec.hardware.partition)
    yield Problem("hardware", wanted, answer.message + found.note, remedy)

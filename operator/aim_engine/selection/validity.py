"""Is a recipe usable at all, whatever the cluster? The operator's status and every check of files ask here."""

from __future__ import annotations

from collections.abc import Iterator

from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import Problem, engine, version_of
from aim_engine.selection.stages import recipe_problems
from aim_engine.selection.types import Candidate, Facts
from aim_engine.sizing import Fit, FitVerdict, fit


def validity_problems(candidate: Candidate, facts: Facts) -> tuple[Problem, ...]:
    """What stops a recipe on its own GPUs: arguments, then parallelism, then precision, then memory.

    A later kind is told only when the earlier ones are in order: it would be about a server that cannot start.
    """
    spec = candidate.spec
    return (
        recipe_problems(candidate, {})
        or engine(spec.backend).check_parallelism(spec.engine_args, spec.hardware.gpu_count)
        or tuple(_hardware_problems(candidate, facts))
    )


def recipe_fit(candidate: Candidate, facts: Facts) -> Fit | None:
    """The memory answer for a recipe as it stands; None where its GPU model is not known."""
    spec = candidate.spec
    gpu = gpu_catalog().get(spec.hardware.gpu_model)
    if gpu is None:
        return None
    source = spec.source or spec.model_id
    facts = facts.at(spec.revision, source)
    stored = facts.checkpoint(source)
    hardware = spec.hardware
    plan = engine(spec.backend).plan(
        spec.engine_args, hardware.gpu_count, gpu, hardware.partition, version_of(spec)
    )
    return fit(facts.model(spec.model_id), stored, gpu, spec.hardware.partition, spec.precision, plan)


def _hardware_problems(candidate: Candidate, facts: Facts) -> Iterator[Problem]:
    spec = candidate.spec
    gpu = gpu_catalog().get(spec.hardware.gpu_model)
    if gpu is None:
        return
    if spec.precision not in gpu.runnable_precisions:
        runnable = ", ".join(sorted(gpu.runnable_precisions))
        message = f"is not supported by {gpu.model}"
        yield Problem("precision", spec.precision, message, f"use one of {runnable}")
        return
    sized = recipe_fit(candidate, facts)
    if sized is not None and sized.verdict is FitVerdict.DOES_NOT_FIT:
        wanted = f"{spec.hardware.gpu_count}x{gpu.model}"
        yield Problem("hardware", wanted, sized.message, sized.remedy or "use more or larger GPUs")

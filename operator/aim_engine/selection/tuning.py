"""What a user's own load and overrides ask of a recipe's GPUs, and the nearest value that they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aim_engine.api.deployment import WorkloadWishes
from aim_engine.engines import engine, version_of
from aim_engine.selection.memory import device_bytes, sized
from aim_engine.selection.types import Assessment, Facts, Request, Source
from aim_engine.sizing import FitVerdict

_UTILIZATION = ("gpu-memory-utilization", "mem-fraction-static")
_HIGHEST_UTILIZATION = 0.95
"""Above it other processes of the driver and the engine's own peaks find no room."""


@dataclass(frozen=True, slots=True)
class OwnWords:
    """A no in terms of what the user wrote."""

    asked: str
    remedy: str


def own_words(request: Request, facts: Facts, current: Assessment) -> OwnWords | None:
    """The field of the spec that is to blame and its nearest value that fits; None when the recipe itself is."""
    return (
        _context(request, facts, current)
        or _batch(request, facts, current)
        or _utilization(request, facts, current)
    )


def _context(request: Request, facts: Facts, current: Assessment) -> OwnWords | None:
    wanted = request.required_context
    if wanted is None:
        return None
    load = request.spec.workload
    most = _largest(wanted, lambda tokens: _fits(request, facts, current, context=tokens))
    if not most:
        return None
    field = _context_field(load)
    return OwnWords(f"{field} asks for {wanted}", f"set {field} <= {most}")


def _context_field(load: WorkloadWishes) -> str:
    names = [
        name
        for name, value in (
            ("maxInputTokens", load.max_input_tokens),
            ("maxOutputTokens", load.max_output_tokens),
        )
        if value is not None
    ]
    return f"spec.workload.{' + '.join(names)}"


def _batch(request: Request, facts: Facts, current: Assessment) -> OwnWords | None:
    wanted = request.spec.workload.max_batch_size
    if wanted is None:
        return None
    most = _largest(wanted, lambda size: _fits(request, facts, current, batch=size))
    if not most:
        return None
    field = "spec.workload.maxBatchSize"
    return OwnWords(f"{field} asks for {wanted}", f"set {field} <= {most}")


def _utilization(request: Request, facts: Facts, current: Assessment) -> OwnWords | None:
    normal = engine(current.candidate.spec.backend).merge_args(request.spec.overrides.engine_args, {})
    name = next((name for name in _UTILIZATION if isinstance(normal.get(name), int | float)), None)
    if name is None:
        return None
    now = float(str(normal[name]))
    steps = (step / 100 for step in range(1, round(_HIGHEST_UTILIZATION * 100) + 1) if step / 100 > now)
    enough = next((each for each in steps if _fits(request, facts, current, override={name: each})), None)
    if enough is None:
        return None
    field = f"spec.overrides.engineArgs.{name}"
    return OwnWords(f"{field} is {now:g}", f"set {field} >= {enough:g}")


def _fits(
    request: Request, facts: Facts, current: Assessment, *, context: int | None = None, batch: int | None = None,
    override: Mapping[str, object] | None = None,
) -> bool:  # fmt: skip
    """Whether the recipe would hold the load with one value changed."""
    spec, load = current.candidate.spec, request.spec.workload
    if current.gpu is None:
        return False
    backend, hardware = engine(spec.backend), spec.hardware
    tokens = context or request.required_context
    args = backend.workload_args(
        _own_args(current, context),
        batch or load.max_batch_size,
        tokens,
        device_bytes(hardware),
        version_of(spec),
    )
    args = backend.merge_args(args, {**request.spec.overrides.engine_args, **(override or {})})
    plan = backend.plan(args, hardware.gpu_count, current.gpu, hardware.partition, version_of(spec))
    return sized(facts, spec, current.gpu, plan, tokens).verdict is FitVerdict.FITS


def _own_args(current: Assessment, context: int | None) -> Mapping[str, object]:
    """The recipe's arguments; a generated one would be made for the context asked for."""
    args = current.candidate.spec.engine_args
    if context is None or current.candidate.source is not Source.GENERATED:
        return args
    return {**args, "max-model-len": context}


def _largest(wanted: int, fits: Callable[[int], bool]) -> int:
    """The largest value below `wanted` that fits; 0 when none does. What fits at a value fits below it."""
    low, high = 0, wanted
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low

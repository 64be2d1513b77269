"""Default tier: a plain configuration made from model facts, for models that no recipe serves here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from aim_engine.api.enums import Backend, Maturity, Precision
from aim_engine.api.recipe import AIMRecipeSpec, Hardware
from aim_engine.catalog.assumptions import division_sizes
from aim_engine.catalog.gpus import GPU, gpu_catalog, partition_divisor
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint_catalog
from aim_engine.engines import engine
from aim_engine.engines.arguments import parse_human_int
from aim_engine.inventory import Inventory, PoolKey
from aim_engine.selection.types import Candidate, Facts, Request, Source, candidate
from aim_engine.sizing import FitVerdict, fit, most_sequences

GENERATED_PREFIX = "generated/"
_DEFAULT_CONTEXT = 32768
_SHORTEST_CONTEXT = 2048
"""A server of less is of little use; with such a context or none at all, what is missing is told instead."""
_CONTEXT_STEP = 1024
_FEWEST_SEQUENCES = 32
"""With fewer at a time a server of several devices more is the better one."""
_WITHIN_ESTIMATE = 0.95
_SIXTEEN_BIT = {Precision.BF16: "bfloat16", Precision.FP16: "float16"}
"""Formats that convert into each other while loading, by vLLM's name."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """How a model is loaded in one precision."""

    model: ModelFacts
    checkpoint: Checkpoint | None
    precision: Precision
    source: str | None
    """Checkpoint, where it is not the model's own."""
    args: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """Devices of one pool of the cluster."""

    gpu_model: str
    partition: str | None
    most: int
    """Devices of its largest node, or of a usual one where that is larger: a node may be short of some for a while."""

    @property
    def gpu(self) -> GPU:
        return gpu_catalog()[self.gpu_model]


def generated(request: Request, inventory: Inventory, facts: Facts) -> list[Candidate]:
    """One configuration per pool of the cluster, within the wishes and with the fewest devices that hold it.

    Nothing is generated for a model whose facts are unknown: a guess could only crash.
    """
    model_id, wishes = request.model_id, request.spec.recipe
    model = facts.model(model_id) if model_id else None
    if (
        model is None
        or model_id is None
        or not request.fallback
        or wishes.backend not in (None, Backend.VLLM)
    ):
        return []
    weights = _weights(model_id, model, facts, wishes.precision)
    if weights is None:
        return []
    places = _places(inventory, (wishes.gpu_model or "").lower())
    made = (_configuration(model_id, weights, request, place) for place in places)
    return [each for each in made if each is not None]


def _places(inventory: Inventory, wished: str) -> list[_Place]:
    known = gpu_catalog()
    pools = sorted(
        (key for key in inventory.pools if key.gpu_model in known and wished in ("", key.gpu_model.lower())),
        key=lambda key: (key.gpu_model, key.partition or ""),
    )
    return [_place(inventory, key, known[key.gpu_model]) for key in pools]


def _place(inventory: Inventory, key: PoolKey, gpu: GPU) -> _Place:
    usual = gpu.gpus_per_node * (partition_divisor(gpu, key.partition) or 1)
    return _Place(
        key.gpu_model, key.partition, max(usual, *(kind.allocatable for kind in inventory.pools[key]))
    )


def _weights(model_id: str, model: ModelFacts, facts: Facts, wanted: Precision | None) -> _Weights | None:
    """The checkpoint as it is, another one in the precision asked for, or a conversion while loading; None: no way known."""
    known = facts.checkpoint(model_id)
    own = known.precision if known else model.native_precision
    if wanted in (None, own):
        return _Weights(model, known, own, None, ())
    if {own, wanted} <= set(_SIXTEEN_BIT):
        dtype = _SIXTEEN_BIT[Precision(wanted)]
        return _Weights(model, known, Precision(wanted), None, (("dtype", dtype),))
    others = sorted(each.id for each in checkpoint_catalog().values() if each.model == model.id)
    for name in others:
        other = facts.checkpoint(name)
        if other is not None and other.precision is wanted:
            return _Weights(model, other, Precision(wanted), name, ())
    if wanted is Precision.FP8 and own in _SIXTEEN_BIT:
        return _Weights(model, known, Precision.FP8, None, (("quantization", "fp8"),))
    return None


def _configuration(model_id: str, weights: _Weights, request: Request, place: _Place) -> Candidate | None:
    if weights.precision not in place.gpu.runnable_precisions:
        return None
    count, required = request.spec.recipe.gpu_count, request.required_context
    counts = (count,) if count else tuple(size for size in division_sizes() if size <= place.most)
    wanted = _wished_sequences(request) if _has_states(weights) else None
    shape = _shape(weights, place, counts, required, wanted)
    if shape is None and wanted is not None:
        # What was asked for is refused later, in the user's own words.
        wanted, shape = None, _shape(weights, place, counts, required, None)
    if shape is None:
        if count is None:
            return None
        sequences = _sequences(weights, place, counts[0], wanted)
        shape = counts[0], _wished_context(weights.model, required), sequences
    count, context, sequences = shape
    slug = re.sub(r"[^a-z0-9]+", "-", model_id.rsplit("/", 1)[-1].lower()).strip("-")
    where = [place.gpu_model.lower(), *([place.partition.replace("_", "-")] if place.partition else [])]
    spec = AIMRecipeSpec(
        model_id=model_id,
        source=weights.source,
        hardware=Hardware(gpu_model=place.gpu_model, gpu_count=count, partition=place.partition),
        precision=weights.precision,
        backend=Backend.VLLM,
        engine_args=_args(weights, context, sequences),
        maturity=Maturity.UNOPTIMIZED,
    )
    name = f"{GENERATED_PREFIX}{slug}-{'-'.join(where)}-{count}x-{weights.precision}"
    return candidate(name, Source.GENERATED, spec)


def _wished_context(model: ModelFacts, required: int | None) -> int:
    return min(required or _DEFAULT_CONTEXT, model.max_position_embeddings)


def _has_states(weights: _Weights) -> bool:
    return weights.model.state_bytes_per_sequence is not None


def _wished_sequences(request: Request) -> int | None:
    """Sequences at a time that the user asks of one replica; None where that is left to us."""
    own = engine(Backend.VLLM).merge_args(request.spec.overrides.engine_args, {}).get("max-num-seqs")
    found = parse_human_int(own)
    return found if found is not None and found > 0 else request.spec.workload.max_batch_size


@lru_cache(maxsize=4096)
def _shape(
    weights: _Weights, place: _Place, counts: tuple[int, ...], required: int | None, wanted: int | None
) -> tuple[int, int, int | None] | None:
    """(devices, context, sequences at a time): the fewest devices that hold the usual context, or what was asked for.

    Where none do, the longest context that some hold, unless one was asked for. Devices that leave room for a handful of
    sequences only are taken where more do not help. Kept, because a waiting deployment asks for it again and again.
    """
    context = _wished_context(weights.model, required)
    started = {count: _sequences(weights, place, count, wanted) for count in counts}
    few = [count for count, found in started.items() if found is not None and found < _FEWEST_SEQUENCES]
    for count in (*(count for count in counts if count not in few), *few):
        if _holds(weights, place, count, context, started[count]):
            return count, context, started[count]
    if required is not None:
        return None
    found = ((_longest(weights, place, count, context, started[count]), -count) for count in counts)
    longest, fewest = max(found, default=(0, 0))
    return (-fewest, longest, started[-fewest]) if longest else None


def _longest(weights: _Weights, place: _Place, count: int, context: int, sequences: int | None) -> int:
    """The longest context below a wished one that the devices hold; 0 where it is too short to be of use."""
    lengths: Iterable[int] = range(
        context // _CONTEXT_STEP * _CONTEXT_STEP, _SHORTEST_CONTEXT - 1, -_CONTEXT_STEP
    )
    return next((length for length in lengths if _holds(weights, place, count, length, sequences)), 0)


def _holds(weights: _Weights, place: _Place, count: int, context: int, sequences: int | None) -> bool:
    plan = engine(Backend.VLLM).plan(_args(weights, context, sequences), count, place.gpu, place.partition)
    answer = fit(
        weights.model, weights.checkpoint, place.gpu, place.partition, weights.precision, plan,
        required_context=context, node_gpus=place.most,
    )  # fmt: skip
    return answer.verdict is FitVerdict.FITS


def _args(weights: _Weights, context: int, sequences: int | None) -> dict[str, object]:
    """The context, how the weights are loaded, and the sequences at a time where they are not the engine's own choice."""
    asked = {} if sequences is None else {"max-num-seqs": sequences}
    return {"max-model-len": context, **dict(weights.args), **asked}


def _sequences(weights: _Weights, place: _Place, count: int, wanted: int | None) -> int | None:
    """Sequences at a time of a model with recurrent states: those that are wanted, else fewer than the engine's own where it
    could not start with those: a power of two, well within the estimate. None: the engine's own, and of other models."""
    if wanted is not None or not _has_states(weights):
        return wanted
    plan = engine(Backend.VLLM).plan(dict(weights.args), count, place.gpu, place.partition)
    most = most_sequences(
        weights.model, weights.checkpoint, place.gpu, place.partition, weights.precision, plan
    )
    if most is None or most == plan.max_num_seqs:
        return None
    return 1 << max(0, int(most * _WITHIN_ESTIMATE).bit_length() - 1)

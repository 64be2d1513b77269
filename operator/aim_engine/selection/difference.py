"""The first place of the order in which two candidates differ, in words: it is the one that decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aim_engine.api.enums import Objective
from aim_engine.catalog.gpus import whole_partition
from aim_engine.selection.order import Ranking, preference, ranking
from aim_engine.selection.performance import STEP, Yardstick
from aim_engine.selection.types import Assessment, Facts, Prediction, Request


def difference(
    request: Request, facts: Facts, loser: Assessment, winner: Assessment, among: Ranking | None = None
) -> str:
    """Why `winner` goes before `loser`. `among`: the order in which both stand, where it is of more than these two."""
    found = among or ranking(request, facts, (loser, winner))
    keys = (found.keys[each.candidate.name] for each in (loser, winner))
    unequal = (place for place, (ours, theirs) in enumerate(zip(*keys, strict=True)) if ours != theirs)
    return WORDS[next(unequal, -1)](_Pair(request, facts, found.scale, loser, winner))


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two candidates and all that their order depends on."""

    request: Request
    facts: Facts
    scale: Yardstick
    loser: Assessment
    winner: Assessment


def _source(pair: _Pair) -> str:
    return f"{pair.winner.candidate.source} recipes go before {pair.loser.candidate.source} ones"


def _targets(_: _Pair) -> str:
    return "it is known by evidence to meet spec.targets"


def _four_bit(pair: _Pair) -> str:
    precision = pair.loser.candidate.spec.precision
    return f"4-bit weights ({precision}) go last where neither the model is published so nor spec.recipe.precision asks for it"


def _maturity(pair: _Pair) -> str:
    return f"maturity {pair.winner.candidate.spec.maturity} over {pair.loser.candidate.spec.maturity}"


def _objective(pair: _Pair) -> str:
    return f"tuned for {pair.winner.candidate.spec.objective}"


def _performance(pair: _Pair) -> str:
    if pair.request.spec.recipe.objective is Objective.LATENCY:
        return _numbers(
            pair.winner.latency, pair.loser.latency, "ms between tokens", factor=STEP**pair.scale.latency
        )
    divisors = [each.candidate.spec.hardware.gpu_count for each in (pair.winner, pair.loser)]
    return _numbers(
        pair.winner.rate, pair.loser.rate, f"tok/s per {_device(pair)}", divisors, STEP**pair.scale.rate
    )


def _device(pair: _Pair) -> str:
    modes = [whole_partition(each.candidate.spec.hardware.partition) for each in (pair.winner, pair.loser)]
    if not any(modes):
        return "GPU"
    return "partition" if all(modes) else "GPU or partition"


def _first_token(pair: _Pair) -> str:
    return _numbers(pair.winner.first_token, pair.loser.first_token, "ms to the first token")


def _numbers(
    winner: Prediction | None, loser: Prediction | None, unit: str, divisors: Sequence[int] = (1, 1), factor: float = 1
) -> str:  # fmt: skip
    """Both numbers with their kinds. `factor` moves an estimate to where it is compared with evidence."""
    better, worse = (
        _number(found, divisor, factor) for found, divisor in zip((winner, loser), divisors, strict=True)
    )
    return f"{better} {unit}, not known of this one" if worse is None else f"{better} against {worse} {unit}"


def _number(found: Prediction | None, divisor: int, factor: float) -> str | None:
    if found is None:
        return None
    value, kind = found.value / divisor, found.kind.value
    if not found.is_evidence and factor != 1:
        kind += f", worth {_round(value * factor)} beside what was measured"
    return f"{_round(value)} ({kind})"


def _round(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _format(pair: _Pair) -> str:
    """The three parts of the preference, in their order."""
    (emulates, ours, _), (computes, theirs, _) = (
        preference(pair.facts, each) for each in (pair.loser, pair.winner)
    )
    a, b = pair.loser.candidate.spec, pair.winner.candidate.spec
    if emulates != computes:
        return f"{b.hardware.gpu_model} computes {b.precision} in hardware, {a.hardware.gpu_model} emulates {a.precision}"
    if ours != theirs:
        native = "" if theirs else ", the model's own format,"
        return f"{b.precision}{native} is preferred to {a.precision}"
    return f"{b.hardware.gpu_model} is newer than {a.hardware.gpu_model}"


def _gpu_count(pair: _Pair) -> str:
    counts = (each.candidate.spec.hardware.gpu_count for each in (pair.winner, pair.loser))
    return "{} against {} GPUs".format(*counts)


def _name(_: _Pair) -> str:
    return "equal in all else, its name sorts first"


WORDS: tuple[Callable[[_Pair], str], ...] = (
    _source, _targets, _four_bit, _source, _maturity, _objective, _performance, _first_token, _format, _gpu_count, _name,
)  # fmt: skip
"""How a difference is told, by the places of `rank_key`."""

"""The nearest changes that turn a no into a yes. Each was tried by the rules that said no; what would not fit is not told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import GPU
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.sizing.case import Case
from aim_engine.sizing.changes import NEAREST, Kind
from aim_engine.sizing.obstacle import fits

_MOST_TOLD = 5
"""More alternatives than that help nobody."""
_APPLIED = (
    "partition",
    "weights",
    "GPUs",
    "experts",
    "KV cache",
    "batch",
    "utilization",
    "sequences",
    "context",
)
"""Order in which changes are made and told; the sequences and the context take what the others leave."""
_SHAPE = ("partition", "weights", "GPUs", "experts")
"""Changes that may help or harm. All others only ever leave more room."""
_ROOM = tuple(name for name in _APPLIED if name not in (*_SHAPE, "context"))
"""Changes that leave more room for a context."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """A changed question that fits, and the words that ask for the change."""

    text: str
    partition: str | None
    checkpoint: Checkpoint | None
    precision: Precision
    plan: EnginePlan
    required_context: int | None

    @property
    def gpus(self) -> int:
        """GPUs of the changed configuration."""
        return self.plan.gpus


def remedies(
    model: ModelFacts | None,
    checkpoint: Checkpoint | None,
    gpu: GPU,
    partition: str | None,
    precision: Precision,
    plan: EnginePlan,
    *,
    required_context: int | None = None,
    node_gpus: int | None = None,
) -> tuple[Remedy, ...]:
    """Alternatives for a configuration that does not fit, each enough by itself, the nearest first.

    Single changes where there are any, else the fewest that help together, with and without a shorter context. Empty
    when no rule is broken, and when nothing helps. Of a model that is not known, what lets the hardware's rules pass.
    """
    case = Case(model, checkpoint, gpu, partition, precision, plan, required_context, node_gpus)
    return () if fits(case) else tuple(_search(case))


def told(found: Sequence[Remedy]) -> str | None:
    """The alternatives in one line."""
    return ", or ".join(each.text for each in found) or None


def hopeless(device: str) -> str:
    """What to say where nothing helps."""
    return f"no context, GPU count or known format of the weights makes it fit {device} of one node"


def _search(case: Case) -> Iterator[Remedy]:
    if not _any_hope(case):
        return
    single = [found for name in NEAREST for found in islice(_tried(case, (name,)), _alternatives(name))]
    if single:
        yield from single[:_MOST_TOLD]
        return
    for size in range(2, len(NEAREST) + 1):
        together = [
            found
            for shorter in (True, False)
            for found in islice(
                (
                    found
                    for names in combinations(NEAREST, size)
                    if ("context" in names) is shorter
                    for found in _tried(case, names)
                ),
                1,
            )
        ]
        if together:
            yield from together
            return


def _alternatives(name: str) -> int:
    """How many of a kind are worth telling: a shorter context and a longer one are different things."""
    return 2 if name == "context" else 1


def _tried(case: Case, names: Sequence[str]) -> Iterator[Remedy]:
    """The changes of these kinds together that fit."""
    kinds = [NEAREST[name] for name in _APPLIED if name in names]
    for changed, phrases in _changed(case, kinds):
        if fits(changed):
            yield Remedy(
                _joined(phrases),
                changed.partition,
                changed.checkpoint,
                changed.precision,
                changed.plan,
                changed.required_context,
            )


def _changed(case: Case, kinds: Sequence[Kind]) -> Iterator[tuple[Case, tuple[str, ...]]]:
    if not kinds:
        yield case, ()
        return
    first, *rest = kinds
    for changed, phrase in first(case):
        for final, phrases in _changed(changed, rest):
            yield final, (phrase, *phrases)


def _any_hope(case: Case) -> bool:
    """Whether anything fits at all: each shape with everything else at its most generous."""
    return any(_generous(shape) for shape in _shapes(case, _SHAPE))


def _shapes(case: Case, names: Sequence[str]) -> Iterator[Case]:
    if not names:
        yield case
        return
    first, *rest = names
    yield from _shapes(case, rest)
    for changed, _ in NEAREST[first](case):
        yield from _shapes(changed, rest)


def _generous(case: Case) -> bool:
    """With the last and farthest change of each kind, and with any context."""
    for name in _ROOM:
        *_, case = (case, *(changed for changed, _ in NEAREST[name](case)))
    return fits(case) or any(fits(changed) for changed, _ in NEAREST["context"](case))


def _joined(phrases: Sequence[str]) -> str:
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last

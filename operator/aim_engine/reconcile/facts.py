"""Facts of models as they are written down: in the record of a decision, and in snapshots.

What the Hub said is nowhere else, so whoever explains a decision later, without the Hub, needs it from there. It said it of
a repository at a revision; a row says which when that is not the main branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.catalog.models import (
    Checkpoint,
    ModelFacts,
    checkpoint_from_row,
    checkpoint_row,
    model_from_row,
    model_row,
)
from aim_engine.selection import Candidate, CatalogueFacts, Facts

Rows = Mapping[str, Any]
MODELS, CHECKPOINTS, UNKNOWN = "modelFacts", "checkpoints", "unknownFacts"
_MAIN = "main"
_REVISION = "revision"
_MAY_BE_NONE = frozenset({"slidingLayers", "kvLayers", "stateBytesPerSequence"})
"""Counts that are 0 in models that have no such thing. All others are divided by, or multiplied with."""
Known = TypeVar("Known", ModelFacts, Checkpoint)


class Place(NamedTuple):
    """A repository at a revision."""

    name: str
    revision: str = _MAIN

    @classmethod
    def of(cls, name: str, revision: str | None) -> Place:
        """As a deployment or recipe names it."""
        return cls(name, revision or _MAIN)


@dataclass(frozen=True, slots=True)
class RecordedFacts:
    """Facts that were written down, and the catalogue's for every other model.

    A repository at a revision of which nothing was written down is taken to be as its main branch.
    """

    models: Mapping[str, ModelFacts]
    checkpoints: Mapping[str, Checkpoint]
    reasons: Mapping[Place, str] = field(default_factory=dict)
    """Why nothing is known of a model, in the words of whoever asked."""
    elsewhere: Mapping[Place, tuple[ModelFacts | None, Checkpoint | None]] = field(default_factory=dict)
    """Facts of other revisions."""

    def model(self, model_id: str) -> ModelFacts | None:
        return self.models.get(model_id) or CatalogueFacts().model(model_id)

    def checkpoint(self, source_id: str) -> Checkpoint | None:
        return self.checkpoints.get(source_id) or CatalogueFacts().checkpoint(source_id)

    def unknown(self, model_id: str) -> str | None:
        return None if self.model(model_id) else self.reasons.get(Place(model_id))

    def at(self, revision: str | None, repository: str | None) -> Facts:
        if revision is None or repository is None or not (self.elsewhere or self.reasons):
            return self
        found = Place(repository, revision)
        model, stored = self.elsewhere.get(found, (None, None))
        why = self.reasons.get(found)
        return RecordedFacts(
            _with(self.models, repository, model),
            _with(self.checkpoints, repository, stored),
            self.reasons if why is None else {**self.reasons, Place(repository): why},
            self.elsewhere,
        )

    def over(self, other: RecordedFacts) -> RecordedFacts:
        """Both; what both tell of is told by this one."""
        return RecordedFacts(
            {**other.models, **self.models},
            {**other.checkpoints, **self.checkpoints},
            {**other.reasons, **self.reasons},
            {**other.elsewhere, **self.elsewhere},
        )


NO_FACTS = RecordedFacts({}, {})


def collect(places: Iterable[Place], facts: Facts) -> RecordedFacts:
    """What is known of these repositories, and why nothing is of the others."""
    main: dict[str, tuple[ModelFacts | None, Checkpoint | None]] = {}
    elsewhere: dict[Place, tuple[ModelFacts | None, Checkpoint | None]] = {}
    reasons: dict[Place, str] = {}
    for each in sorted(set(places)):
        there = facts if each.revision == _MAIN else facts.at(each.revision, each.name)
        found = there.model(each.name), there.checkpoint(each.name)
        why = there.unknown(each.name)
        if why is not None:
            reasons[each] = why
        if each.revision == _MAIN:
            main[each.name] = found
        elif found != (None, None):
            elsewhere[each] = found
    models = {name: model for name, (model, _) in main.items() if model is not None}
    stored = {name: known for name, (_, known) in main.items() if known is not None}
    return RecordedFacts(models, stored, reasons, elsewhere)


def facts_used(
    spec: AIMDeploymentSpec, chosen: Candidate, candidates: Iterable[Candidate], facts: Facts
) -> dict[str, Any]:
    """Rows on the model of a choice, and on all weights of it that could be loaded, beyond the catalogue; {} for none.

    What comes from the catalogue or was written down already need not be written down again.
    """
    if isinstance(facts, CatalogueFacts | RecordedFacts):
        return {}
    model_id, revision = chosen.spec.model_id, spec.model.revision
    rivals = (each.spec for each in (chosen, *candidates) if each.spec.model_id == model_id)
    weights = (Place.of(each.source or model_id, revision or each.revision) for each in rivals)
    found = beyond_catalogue(collect({Place.of(model_id, revision), *weights}, facts))
    return {name: rows for name, rows in rows_of(found).items() if rows}


def beyond_catalogue(facts: RecordedFacts) -> RecordedFacts:
    """Without what is in the catalogue, whose facts hold for every revision."""
    known = CatalogueFacts()
    return RecordedFacts(
        {name: model for name, model in facts.models.items() if known.model(name) is None},
        {name: stored for name, stored in facts.checkpoints.items() if known.checkpoint(name) is None},
        facts.reasons,
        {where: found for where, found in facts.elsewhere.items() if known.model(where.name) is None},
    )


def rows_of(facts: RecordedFacts) -> dict[str, list[dict[str, Any]]]:
    """Facts as rows that read back the same; reasons are not among them."""
    models = [model_row(facts.models[name]) for name in sorted(facts.models)]
    stored = [checkpoint_row(facts.checkpoints[name]) for name in sorted(facts.checkpoints)]
    for where in sorted(facts.elsewhere):
        model, known = facts.elsewhere[where]
        if model is not None:
            models.append({**model_row(model), _REVISION: where.revision})
        if known is not None:
            stored.append({**checkpoint_row(known), _REVISION: where.revision})
    return {MODELS: models, CHECKPOINTS: stored}


def reasons_of(facts: RecordedFacts) -> list[dict[str, str]]:
    """Why nothing is known of some, as rows."""
    return [
        {"id": where.name, **({} if where.revision == _MAIN else {_REVISION: where.revision}), "reason": why}
        for where, why in sorted(facts.reasons.items())
    ]


def read_facts(rows: Rows) -> RecordedFacts:
    """Facts from rows; raises ValueError that names row, field and value."""
    models = dict(_read(rows, MODELS, model_from_row))
    stored = dict(_read(rows, CHECKPOINTS, checkpoint_from_row))
    others = {where for where in (*models, *stored) if where.revision != _MAIN}
    return RecordedFacts(
        {where.name: known for where, known in models.items() if where not in others},
        {where.name: known for where, known in stored.items() if where not in others},
        dict(_reasons(rows)),
        {where: (models.get(where), stored.get(where)) for where in others},
    )


def _with(known: Mapping[str, Known], name: str, found: Known | None) -> Mapping[str, Known]:
    return known if found is None else {**known, name: found}


def _rows(rows: Rows, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = rows.get(name) or []
    if not isinstance(found, list):
        raise ValueError(f"{name} '{str(found)[:80]}' is not a list")
    for i, row in enumerate(found):
        where = f"{name}[{i}]"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where} '{str(row)[:80]}' is not a row of facts")
        for key in ("id", _REVISION):
            if not isinstance(row.get(key, ""), str):
                raise ValueError(f"{where}.{key} '{str(row[key])[:80]}' is not text")
        yield where, row


def _read(rows: Rows, name: str, reader: Callable[[Rows], Known]) -> Iterator[tuple[Place, Known]]:
    for where, row in _rows(rows, name):
        for key, value in row.items():
            if value == 0 and not isinstance(value, bool) and key not in _MAY_BE_NONE:
                raise ValueError(f"{where}.{key} '{value}' must be above 0")
        try:
            found = reader(row)
        except KeyError as error:
            raise ValueError(f"{where} lacks {error}") from None
        except (TypeError, ValueError) as error:
            told = "lacks a field that has no default" if "__init__" in str(error) else str(error)[:200]
            raise ValueError(f"{where}: {told}") from None
        yield Place.of(found.id, row.get(_REVISION)), found


def _reasons(rows: Rows) -> Iterator[tuple[Place, str]]:
    for where, row in _rows(rows, UNKNOWN):
        name, why = row.get("id"), row.get("reason")
        if not isinstance(name, str) or not isinstance(why, str):
            raise ValueError(f"{where} '{str(row)[:80]}' lacks id or reason")
        yield Place.of(name, row.get(_REVISION)), why

"""What the gate answers: refusals, warnings, and the rule that an object is never locked in by faults it already had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.configmap_yaml import ReadError
from aim_engine.engines import Problem
from aim_engine.selection import Check, SpecProblem

Object = Mapping[str, Any]
LONGEST_WARNING = 250
"""The API server cuts longer ones."""
MOST_WARNINGS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """One line each. Without refusals the object is admitted."""

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def answer(
    checks: frozenset[Check], new: Iterable[SpecProblem], old: Iterable[SpecProblem], warnings: Iterable[str]
) -> Answer:
    """Refuse what is wrong, of the groups that are on, unless the stored object has the same fault.

    So an upgrade of ours, with rules it did not have before, never locks users out of their own objects.
    """
    before = {str(problem) for problem in old}
    wrong = [problem for problem in new if problem.check is Check.SPEC or problem.check in checks]
    kept = [str(problem) for problem in wrong if str(problem) in before]
    refusals = [str(problem) for problem in wrong if str(problem) not in before]
    told = (*(f"{text} (as before)" for text in kept), *warnings)
    return Answer(tuple(dict.fromkeys(refusals)), tuple(dict.fromkeys(map(_short, told)))[:MOST_WARNINGS])


def unreadable(errors: Iterable[ReadError]) -> Iterator[SpecProblem]:
    """What the schema, or the reader of ConfigMaps, finds wrong."""
    for each in errors:
        yield SpecProblem(Check.SPEC, Problem(each.field, each.value or None, each.message, each.remedy))


def plain(obj: Object) -> dict[str, Any]:
    """What we read of an object: metadata holds much that users may write and we do not look at, and the status is ours."""
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    read = {name: metadata[name] for name in ("name", "namespace") if metadata.get(name)}
    return {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "metadata": {"name": "generated", "namespace": "default", **read},
        "spec": {} if obj.get("spec") is None else obj["spec"],
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_WARNING else f"{text[: LONGEST_WARNING - 3]}..."

"""What holds of a whole object beyond the shape of its fields: CEL for the API server, Python for files.

One table for both. The CRDs are generated from it, `strict_load` checks files of people by it, and a test asks a real API
server whether the two agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, from_json, to_json

from aim_engine.api.enums import Backend
from aim_engine.api.meta import API_VERSION, MAX_DEPLOYMENT_NAME, Model

Value = Mapping[str, Any]
Kind = TypeVar("Kind", bound=Model)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LETTER_FIRST = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_LABEL = 63
PERFORMANCE_NUMBERS = (
    "tokensPerSecond", "timeToFirstTokenMilliseconds", "interTokenLatencyMilliseconds", "requestLatencyMilliseconds",
)  # fmt: skip
_OBJECT_META = frozenset(
    {
        "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
        "managedFields", "selfLink",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It is asked only where all of its `path` is there."""

    path: tuple[str, ...]
    """Property names down to the value it speaks of; () is the whole object."""
    rule: str | None
    """CEL; None for what the API server checks of every object by itself."""
    message: str
    holds: Callable[[Any], bool] | None = None
    follows: Callable[[Any, Any], bool] | None = None
    """For a rule of changes: (new, old). Asked only where the object was there before."""
    field: tuple[str, ...] | None = None
    """Where in the object the culprit is, when that is not `path`."""
    field_path: str | None = None


def is_deeper(value: Any, levels: int) -> bool:
    """Whether mappings and lists are nested more than so many levels deep. Without recursion: that is what it protects."""
    level = [value]
    for _ in range(levels + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return False
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return True


NAMESPACE_FORM = "a DNS label: lower-case letters, digits and hyphens, at most 63 characters"


def is_namespace(name: object) -> bool:
    """Whether the API server takes it for the name of a namespace."""
    return _is_name(name, _DNS_LABEL, _LONGEST_LABEL)


def _is_name(value: object, pattern: re.Pattern[str], longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and pattern.fullmatch(value) is not None


def _built_in(kind: str) -> tuple[Rule, ...]:
    """What the API server asks of every object."""
    return (
        Rule(
            (), None, f"apiVersion must be {API_VERSION}; write it so, or use an aim-engine of that version",
            lambda obj: obj.get("apiVersion") == API_VERSION, field=("apiVersion",),
        ),
        Rule((), None, f"kind must be {kind}", lambda obj: obj.get("kind") == kind, field=("kind",)),
        Rule(
            (), None, "spec must be there; `kubectl explain` tells what is in it",
            lambda obj: isinstance(obj.get("spec"), Mapping), field=("spec",),
        ),
        Rule(("metadata", "namespace"), None, f"must be {NAMESPACE_FORM}", is_namespace),
    )  # fmt: skip


def _quantities(*path: str) -> tuple[Rule, ...]:
    """`x-kubernetes-int-or-string` has no room for fractions."""
    return tuple(
        Rule(
            (*path, name), None, "must be text or a whole number; put it in quotes, or write for example 500m",
            lambda value: not isinstance(value, float),
        )
        for name in ("cpu", "memory")
    )  # fmt: skip


DEPLOYMENT_RULES = (
    *_built_in("AIMDeployment"),
    *_quantities("spec", "overrides", "resources"),
    Rule(
        (),
        f"size(self.metadata.name) <= {MAX_DEPLOYMENT_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        f"metadata.name must be a DNS label that starts with a letter and has at most {MAX_DEPLOYMENT_NAME} characters "
        "(the Service is named <name>-service)",
        lambda obj: _is_name(obj["metadata"].get("name"), _LETTER_FIRST, MAX_DEPLOYMENT_NAME),
        field=("metadata", "name"),
    ),
    Rule(
        ("spec",), "(has(self.model) && has(self.model.id)) || (has(self.recipe) && (has(self.recipe.name) || has(self.recipe.configMap)))",
        "spec.model.id must be set unless spec.recipe.name or spec.recipe.configMap names a recipe that implies the model",
        lambda spec: _has(spec, "model", "id") or _has(spec, "recipe", "name") or _has(spec, "recipe", "configMap"),
    ),
    Rule(
        ("spec", "recipe"), "!(has(self.name) && has(self.configMap))",
        "spec.recipe.name and spec.recipe.configMap exclude each other; keep one",
        lambda recipe: not (_has(recipe, "name") and _has(recipe, "configMap")),
    ),
    Rule(
        ("spec", "cache"), "!(has(self.existingClaim) && (has(self.storageClassName) || has(self.sizeGiB)))",
        "spec.cache.existingClaim excludes storageClassName and sizeGiB; keep the claim or describe a new one",
        lambda cache: not (
            _has(cache, "existingClaim") and (_has(cache, "storageClassName") or _has(cache, "sizeGiB"))
        ),
    ),
)  # fmt: skip

RECIPE_RULES = (
    *_built_in("AIMRecipe"),
    *_quantities("spec", "resources"),
    Rule(
        (), f"size(self.metadata.name) <= {_LONGEST_LABEL} && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        f"metadata.name must be a DNS label of at most {_LONGEST_LABEL} characters (it becomes a label value, and spec.recipe.name)",
        lambda obj: _is_name(obj["metadata"].get("name"), _DNS_LABEL, _LONGEST_LABEL),
        field=("metadata", "name"),
    ),
    Rule(
        ("spec", "performance"), "self.all(p, has(p.provenance))",
        "every performance entry needs a provenance (kind and source)",
        lambda entries: all(_has(entry, "provenance") for entry in _list(entries)),
    ),
    Rule(
        ("spec", "performance"),
        f"self.all(p, {' || '.join(f'has(p.{name})' for name in PERFORMANCE_NUMBERS)})",
        "every performance entry needs a number: tokensPerSecond or a latency; give one, or remove the entry",
        lambda entries: all(any(_has(entry, name) for name in PERFORMANCE_NUMBERS) for entry in _list(entries)),
    ),
    Rule(
        ("spec",),
        "self.modelID == oldSelf.modelID && self.hardware.gpuModel == oldSelf.hardware.gpuModel && self.backend == oldSelf.backend",
        "modelID, hardware.gpuModel and backend identify the recipe and must not change; create a new AIMRecipe instead",
        follows=lambda new, old: _identity(new) == _identity(old),
    ),
)  # fmt: skip


def broken(obj: Value, rules: tuple[Rule, ...], before: Value | None = None) -> Iterator[tuple[Rule, Any]]:
    """Rules that an object breaks, each with the value that breaks it; `before`: the object that it replaces."""
    for rule in rules:
        value = _at(obj, rule.path)
        if value is None:
            continue
        old = _at(before, rule.path) if before is not None else None
        kept = rule.holds is None or rule.holds(value)
        if not kept or (rule.follows is not None and old is not None and not rule.follows(value, old)):
            yield rule, _at(obj, rule.field) if rule.field else value


def load_strictly(kind: type[Kind], data: Any, rules: tuple[Rule, ...], before: Value | None = None) -> Kind:
    """An object of a file, refused where the API server would refuse it: unknown fields, types that merely look alike,
    broken rules. Raises pydantic.ValidationError that names the fields."""
    if not isinstance(data, Mapping) or not isinstance(data.get("metadata"), Mapping):
        return kind.model_validate(data, extra="forbid")
    stored = _as_stored(_json(kind, {**data, "metadata": _ours(kind, data["metadata"])}))
    _refuse(kind, stored, tuple(rule for rule in rules if rule.rule is None), None)
    loaded = kind.model_validate_json(to_json(stored), strict=True, extra="forbid")
    _refuse(kind, stored, rules, before)
    return loaded


def _refuse(kind: type[Model], obj: Value, rules: tuple[Rule, ...], before: Value | None) -> None:
    problems = [
        _problem(rule.message, rule.field or rule.path, value) for rule, value in broken(obj, rules, before)
    ]
    if problems:
        raise ValidationError.from_exception_data(kind.__name__, problems)


def _ours(kind: type[Model], metadata: Value) -> Value:
    """The metadata that we read, and what Kubernetes does not know either; the rest is the API server's."""
    read = kind.model_fields["metadata"].annotation
    known = {field.alias or name for name, field in read.model_fields.items()} if read else set()
    return {name: value for name, value in metadata.items() if name in known or name not in _OBJECT_META}


def _as_stored(value: Any) -> Any:
    """Without nulls, which the API server drops, but for the flags of engines, whose values are anybody's."""
    if isinstance(value, Mapping):
        return {
            key: inner if key == "engineArgs" else _as_stored(inner)
            for key, inner in value.items()
            if inner is not None
        }
    return [_as_stored(inner) for inner in value] if isinstance(value, list) else value


def _json(kind: type[Model], value: Any) -> Any:
    """The value as JSON has it."""
    try:
        return from_json(to_json(value))
    except ValueError as error:  # text that is no Unicode, types that JSON does not have, hundreds of levels
        deep = "recursion" in str(error) or "depth" in str(error)
        message = (
            "the object is nested hundreds of levels deep; write it with fewer"
            if deep
            else f"the object cannot be written as JSON ({error}); write plain text and numbers"
        )
        problem = _problem(message, (), None)
        raise ValidationError.from_exception_data(kind.__name__, [problem]) from None


def _problem(message: str, field: tuple[str, ...], value: object) -> InitErrorDetails:
    told = PydanticCustomError("rule", "{told}", {"told": message})  # braces of the message are its own
    return InitErrorDetails(type=told, loc=field, input=value)


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, Mapping) else None
    return obj


def _has(value: object, *path: str) -> bool:
    return _at(value, path) is not None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _identity(spec: Value) -> tuple[Any, ...]:
    return spec.get("modelID"), _at(spec, ("hardware", "gpuModel")), spec.get("backend", Backend.VLLM.value)

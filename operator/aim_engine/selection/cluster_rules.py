"""What Kubernetes itself would refuse later, in a pod or Service that nobody looks at: told of the field it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from aim_engine.api.deployment import Scheduling, ServiceSpec, Toleration
from aim_engine.api.recipe import LabelSelectorRequirement, NamespaceSelector
from aim_engine.engines import Problem

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME, _LONGEST_PREFIX = 63, 253
_KEY_FORM = (
    "write name or prefix.example.com/name, of letters, digits, '-', '_' and '.', at most 63 characters"
)
_VALUE_FORM = "write at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"


def service_problems(service: ServiceSpec, root: str) -> Iterator[Problem]:
    """Annotations that no Service can have."""
    yield from _keys(service.annotations, f"{root}.annotations", "annotation")


def scheduling_problems(scheduling: Scheduling, root: str) -> Iterator[Problem]:
    """Labels and tolerations that no pod can have."""
    yield from _keys(scheduling.node_selector, f"{root}.nodeSelector", "label")
    yield from _values(scheduling.node_selector.items(), f"{root}.nodeSelector.{{}}")
    for position, toleration in enumerate(scheduling.tolerations):
        yield from _toleration(toleration, f"{root}.tolerations[{position}]")


def selector_problems(selector: NamespaceSelector | None, root: str) -> Iterator[Problem]:
    """Expressions that select nothing, or that Kubernetes does not take for a selector."""
    if selector is None:
        return
    labels = selector.match_labels or {}
    yield from _keys(labels, f"{root}.matchLabels", "label")
    yield from _values(labels.items(), f"{root}.matchLabels.{{}}")
    for position, expression in enumerate(selector.match_expressions or ()):
        yield from _expression(expression, f"{root}.matchExpressions[{position}]")


def _keys(keys: Iterable[str], root: str, kind: str) -> Iterator[Problem]:
    for key in keys:
        if not _is_key(key):
            yield Problem(
                f"{root}.{key}",
                None,
                f"is not the key of {'an' if kind[0] == 'a' else 'a'} {kind}",
                _KEY_FORM,
            )


def _values(pairs: Iterable[tuple[str, str]], field: str) -> Iterator[Problem]:
    for key, value in pairs:
        if value and not _NAME.fullmatch(value):
            yield Problem(field.format(key), value, "is not the value of a label", _VALUE_FORM)


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    known_prefix = not slash or (len(prefix) <= _LONGEST_PREFIX and _PREFIX.fullmatch(prefix) is not None)
    return known_prefix and len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def _toleration(toleration: Toleration, root: str) -> Iterator[Problem]:
    if toleration.key and not _is_key(toleration.key):
        yield Problem(f"{root}.key", toleration.key, "is not the key of a taint", _KEY_FORM)
    if not toleration.key and toleration.operator != "Exists":
        yield Problem(
            f"{root}.key",
            None,
            "may be empty only with operator Exists",
            "name the taint, or set operator: Exists",
        )
    if toleration.operator == "Exists" and toleration.value:
        yield Problem(
            f"{root}.value",
            toleration.value,
            "must be empty with operator Exists",
            "remove it, or set operator: Equal",
        )
    elif toleration.value and not _NAME.fullmatch(toleration.value):
        yield Problem(f"{root}.value", toleration.value, "is not the value of a taint", _VALUE_FORM)
    if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
        yield Problem(
            f"{root}.tolerationSeconds", toleration.toleration_seconds, "is for effect NoExecute only",
            "remove it, or set effect: NoExecute",
        )  # fmt: skip


def _expression(expression: LabelSelectorRequirement, root: str) -> Iterator[Problem]:
    if not _is_key(expression.key):
        yield Problem(f"{root}.key", expression.key, "is not the key of a label", _KEY_FORM)
    needs_values, values = expression.operator in ("In", "NotIn"), expression.values or []
    if needs_values and not values:
        yield Problem(
            f"{root}.values",
            None,
            f"must not be empty with operator {expression.operator}",
            "give the values",
        )
    if values and not needs_values:
        yield Problem(
            f"{root}.values", values, f"must be empty with operator {expression.operator}", "remove them"
        )
    yield from _values(((str(i), value) for i, value in enumerate(values)), f"{root}.values[{{}}]")

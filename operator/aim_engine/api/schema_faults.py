"""What pydantic finds wrong with an object, in the words that users are told: field, value, message and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from aim_engine.api.configmap_yaml import ReadError
from aim_engine.api.wording import Path, dotted, shown

_MESSAGES = {"missing": "the field is missing", "extra_forbidden": "there is no such field"}
_REMEDIES = {"missing": "add the field", "extra_forbidden": "remove the field, or correct its name"}
_OWN_WORDS = ("rule", "value_error")
"""Errors of our own rules, which often say what to do after a semicolon."""


def schema_faults(error: ValidationError, kind: str, root: str = "") -> tuple[ReadError, ...]:
    """All of them. `kind` as in `kubectl explain KIND`, "" for what is no kind; `root`: where in the object the value stands."""
    start: Path = (root,) if root else ()
    return tuple(
        ReadError(dotted((*start, *path)) or "document", value, message, remedy)
        for path, value, message, remedy in found(error, kind, root)
    )


def found(error: ValidationError, kind: str, root: str) -> Iterator[tuple[Path, str, str, str]]:
    """(path, value, message, remedy) of each."""
    for each in error.errors(include_url=False):
        path, type_ = tuple(each["loc"]), each["type"]
        message = _MESSAGES.get(type_) or each["msg"].removeprefix("Value error, ")
        remedy = _REMEDIES.get(type_)
        if remedy is None and type_ in _OWN_WORDS and "; " in message:
            message, _, remedy = message.partition("; ")
        yield path, _value(path, type_, each["input"]), message, remedy or _look_up(kind, root, path)


def _value(path: Path, type_: str, value: Any) -> str:
    """The value for a message; variables of the environment may be secret, and what is around a missing field is no value."""
    hidden = type_ == "missing" or "env" in path or isinstance(value, dict)
    return "" if hidden else shown(value if isinstance(value, str) else str(value))


def _look_up(kind: str, root: str, path: Path) -> str:
    if not kind:
        return "correct it"
    words = (kind, root, *(part for part in path if isinstance(part, str) and part.isidentifier()))
    return f"see `kubectl explain {'.'.join(word for word in words if word)}`"

"""What pydantic finds wrong with an object, in the words that users are told: field, value, message and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from aim_engine.api.configmap_yaml import ReadError
from aim_engine.api.wording import Path, dotted, shown

_WORDS = {
    "missing": ("the field is missing", "add the field"),
    "extra_forbidden": ("there is no such field", "remove the field, or correct its name"),
    "greater_than_equal": ("is below {ge}", "set it to at least {ge}"),
    "less_than_equal": ("is above {le}", "set it to at most {le}"),
    "string_too_short": ("has fewer than {min_length} characters", "give at least {min_length}"),
    "string_too_long": ("has more than {max_length} characters", "shorten it to at most {max_length}"),
    "too_long": ("has more than {max_length} entries", "keep at most {max_length}"),
    "string_type": ("is not text", "write text, in quotes where it looks like a number"),
    "int_type": ("is not a whole number", "write a whole number without quotes or unit"),
    "int_parsing": ("is not a whole number", "write a whole number without quotes or unit"),
    "int_from_float": ("is not a whole number", "write a whole number without quotes or unit"),
    "int_parsing_size": ("is not a number that can be stored", "write one below 2^63"),
    "bool_type": ("is neither true nor false", "write true or false without quotes"),
    "bool_parsing": ("is neither true nor false", "write true or false without quotes"),
    "list_type": ("is not a list", "write one `- item` a line"),
    "dict_type": ("is not a mapping", "write it as `field: value` lines"),
    "model_type": ("is not a mapping", "write it as `field: value` lines"),
    "model_attributes_type": ("is not a mapping", "write it as `field: value` lines"),
}
"""By pydantic's type of error: message and remedy, with the limits of its context."""
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
        path, value = tuple(each["loc"]), each["input"]
        message, remedy = _told(each["type"], each["msg"], value, each.get("ctx", {}))
        told = (
            ""
            if value is None or each["type"] == "missing" or isinstance(value, Mapping)
            else shown(value if isinstance(value, str) else str(value))
        )
        yield path, told, message, remedy or _look_up(kind, root, path)


def _told(type_: str, text: str, value: Any, context: Mapping[str, Any]) -> tuple[str, str | None]:
    if type_ == "string_too_short" and value == "":
        return "is empty", "give it a value"
    if type_ in _WORDS:
        message, remedy = _WORDS[type_]
        return message.format_map(context), remedy.format_map(context)
    if type_ == "enum":
        known = [word.strip(" '") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
        near = get_close_matches(str(value).lower(), known, n=1, cutoff=0.7)
        return f"is none of {', '.join(known)}", f"did you mean {near[0]}?" if near else "use one of them"
    message = text.removeprefix("Value error, ")
    if type_ == "string_pattern_mismatch":
        message = f"does not match {context['pattern']}"
    if type_ in _OWN_WORDS and "; " in message:
        message, _, remedy = message.partition("; ")
        return message, remedy
    return message, None


def _look_up(kind: str, root: str, path: Path) -> str:
    if not kind:
        return "correct it"
    words = (kind, root, *(part for part in path if isinstance(part, str) and part.isidentifier()))
    return f"see `kubectl explain {'.'.join(word for word in words if word)}`"

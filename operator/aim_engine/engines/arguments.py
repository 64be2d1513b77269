"""Checks of engine arguments against a flag table: would this server start, and may this author ask for it?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from aim_engine.api.wording import shown
from aim_engine.catalog.flags import Flag, FlagClass, FlagKind, FlagTable
from aim_engine.engines.denied import denied_parts
from aim_engine.engines.grammar import FlagUse, parse_json, resolve
from aim_engine.engines.types import Problem, Trust

MAX_ARGUMENTS = 256
"""More than any server needs; each unknown one costs a search for what was meant."""
_LONGEST_NAME = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER = re.compile(r"[+-]?\d+")
_LONGEST_INTEGER = 30
"""Digits that every computer can count with; thousands of them cannot even be printed."""
_HUMAN_INTEGER = re.compile(r"(\d+(?:\.\d+)?)([kmgt])|(\d+)([KMGT])?|(-\d+)")
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def check(
    args: Mapping[str, object], table: FlagTable, *, trust: Trust, same_version: bool
) -> tuple[Problem, ...]:
    """All problems of a mapping of arguments.

    With a table of another version than the engine's (`same_version` false) an admin may use flags the table does
    not know; what is owned or denied stays so.
    """
    excess = tuple(_excess(args))
    if excess:
        return excess
    uses = [resolve(written, value, table) for written, value in args.items()]
    strict = same_version or trust is not Trust.ADMIN
    return (
        *_duplicates(uses),
        *(problem for use in uses for problem in _check_use(use, table, trust, strict)),
    )


def _excess(args: Mapping[str, object]) -> Iterator[Problem]:
    if len(args) > MAX_ARGUMENTS:
        message = f"there are {len(args)} arguments, and {MAX_ARGUMENTS} are the most that is read"
        yield Problem("engineArgs", None, message, "leave the engine's defaults out")
    for name, value in args.items():
        if not name.strip("-"):
            yield Problem("engineArgs", value, "a flag has no name", "name the flag")
        if len(name) > _LONGEST_NAME:
            message = f"the name has {len(name)} characters, more than any flag"
            yield Problem(f"engineArgs.{shown(name)}", None, message, "correct the name of the flag")


def parse_human_int(value: object) -> int | None:
    """Integer as vLLM reads it: 32k is 32,000 and 32K is 32,768; None when it is not one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = str(value).strip()
    match = _HUMAN_INTEGER.fullmatch(text) if len(text) <= _LONGEST_INTEGER else None
    if match is None:
        return None
    decimal, decimal_suffix, binary, binary_suffix, negative = match.groups()
    if decimal is not None:
        return int(float(decimal) * _DECIMAL[decimal_suffix])
    return int(negative) if binary is None else int(binary) * _BINARY.get(binary_suffix or "", 1)


def _duplicates(uses: list[FlagUse]) -> Iterator[Problem]:
    first: dict[tuple[str, tuple[str, ...]], str] = {}
    for use in uses:
        other = first.setdefault((use.name, use.keys), use.written)
        if other != use.written:
            message = f"{use.written} and {other} are the same flag"
            yield Problem(_field(use), use.value, message, "keep one of the two")


def _check_use(use: FlagUse, table: FlagTable, trust: Trust, strict: bool) -> Iterator[Problem]:
    flag = use.flag
    if flag is None:
        if strict:
            yield _unknown(use, table)
        return
    if refusal := _refusal(flag, trust):
        yield Problem(_field(use), use.value, *refusal)
        return
    if use.keys and flag.kind is not FlagKind.JSON:
        message = f"{flag.name} takes no object, so {use.written} means nothing"
        yield Problem(_field(use), use.value, message, f"set {flag.name} itself")
        return
    yield from denied_parts(use, flag)
    if not use.keys:
        yield from _check_value(use, flag)


def _unknown(use: FlagUse, table: FlagTable) -> Problem:
    engine = f"{table.engine} {table.version}"
    removed = table.removed.get(use.name)
    if removed is not None:
        return Problem(_field(use), use.value, f"{use.name} is not a flag of {engine}", removed)
    near = get_close_matches(use.name, table.flags, n=1, cutoff=0.75)
    remedy = f"did you mean {near[0]}?" if near else f"remove it, or correct it to a flag of {engine}"
    return Problem(_field(use), use.value, f"{use.name} is not a flag of {engine}", remedy)


def _refusal(flag: Flag, trust: Trust) -> tuple[str, str] | None:
    match flag.flag_class:
        case FlagClass.OWNED:
            return f"{flag.name} is set by the operator", flag.why or "remove it"
        case FlagClass.DENIED:
            return f"{flag.name} is denied: it {flag.why}", "remove it"
        case FlagClass.ADMIN_ONLY if trust is not Trust.ADMIN:
            message = f"{flag.name} is allowed in cluster recipes only: it {flag.why}"
            return message, "remove it, or ask an admin for a cluster recipe"
        case FlagClass.REMOTE_CODE if trust is Trust.TENANT:
            message = f"{flag.name} is not allowed in this namespace: it {flag.why}"
            return message, "remove it, or ask an admin to allow remote code in the namespace"
        case _:
            return None


def _check_value(use: FlagUse, flag: Flag) -> Iterator[Problem]:
    wrong = _wrong_value(use, flag)
    if wrong is not None:
        message, remedy = wrong
        yield Problem(_field(use), use.value, message, remedy)


def _wrong_value(use: FlagUse, flag: Flag) -> tuple[str, str] | None:
    value = use.value
    if use.negated:
        return (
            None
            if value is None or value is True
            else (f"{use.written} takes no value", f"write {flag.name}: false")
        )
    match flag.kind:
        case FlagKind.BOOL | FlagKind.SWITCH:
            return _wrong_bool(value, flag)
        case FlagKind.OPTIONAL_STR if value is None or value is True:
            return None
        case FlagKind.JSON:
            return _wrong_json(value, flag)
        case FlagKind.LIST:
            return _wrong_list(value, flag)
        case _:
            return _wrong_scalar(value, flag)


def _wrong_bool(value: object, flag: Flag) -> tuple[str, str] | None:
    if value is None or isinstance(value, bool):
        return None
    return f"{flag.name} takes no value, got {shown(repr(value))}", f"write {flag.name}: true, or false"


def _wrong_json(value: object, flag: Flag) -> tuple[str, str] | None:
    if isinstance(value, Mapping | list):
        return None
    if isinstance(value, str) and not isinstance(parse_json(value), str):
        return None
    return f"{flag.name} takes an object, got {shown(repr(value))}", "write the object in YAML"


def _wrong_list(value: object, flag: Flag) -> tuple[str, str] | None:
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        return f"{flag.name} needs at least one value", f"remove {flag.name}"
    for item in items:
        if (wrong := _wrong_scalar(item, flag)) is not None:
            return wrong
        if str(item).startswith("-"):
            return (
                f"value {shown(repr(item))} of {flag.name} would be read as a flag",
                "write the flag as its own entry",
            )
    return None


def _wrong_scalar(value: object, flag: Flag) -> tuple[str, str] | None:
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return (
            f"{flag.name} needs one {_wanted(flag)}, got {shown(repr(value))}",
            f"write {flag.name}: <{_wanted(flag)}>",
        )
    if _CONTROL.search(str(value)):
        return f"the value of {flag.name} has control characters", "write it on one line"
    word = _fold(str(value)) if flag.fold_case else str(value)
    if flag.choices and word in {_fold(choice) if flag.fold_case else choice for choice in flag.choices}:
        return None
    match flag.kind:
        case FlagKind.CHOICE | FlagKind.LIST if flag.choices:
            return _not_a_choice(value, flag)
        case FlagKind.INT | FlagKind.HUMAN_INT | FlagKind.FLOAT:
            return _wrong_number(value, flag)
        case _:
            return None


def _wrong_number(value: str | float, flag: Flag) -> tuple[str, str] | None:
    number = _number(value, flag.kind)
    if number is None:
        return (
            f"{flag.name} needs a {_wanted(flag)}, got {shown(repr(value))}",
            f"write {flag.name}: <{_wanted(flag)}>",
        )
    if flag.minimum is not None and number < flag.minimum:
        return f"{flag.name} is {value}", f"set it to at least {flag.minimum:g}"
    if flag.maximum is not None and number > flag.maximum:
        return f"{flag.name} is {value}", f"set it to at most {flag.maximum:g}"
    return None


def _number(value: str | float, kind: FlagKind) -> float | None:
    match kind:
        case FlagKind.HUMAN_INT:
            return parse_human_int(value)
        case FlagKind.INT:
            text = str(value)
            return int(text) if len(text) <= _LONGEST_INTEGER and _INTEGER.fullmatch(text) else None
        case _:
            try:
                number = float(value)
            except ValueError:
                return None
            return number if math.isfinite(number) else None


def _not_a_choice(value: object, flag: Flag) -> tuple[str, str]:
    near = get_close_matches(str(value), flag.choices, n=1, cutoff=0.6)
    choices = ", ".join(flag.choices) if len(flag.choices) <= 12 else ""
    remedy = (
        f"did you mean {near[0]}?"
        if near
        else f"choose one of {choices}"
        if choices
        else "see the engine's help"
    )
    return f"{shown(repr(value))} is not a value of {flag.name}", remedy


def _wanted(flag: Flag) -> str:
    match flag.kind:
        case FlagKind.INT | FlagKind.HUMAN_INT:
            return "whole number"
        case FlagKind.FLOAT:
            return "number"
        case _:
            return "value"


def _fold(text: str) -> str:
    return text.lower().replace("-", "_")


def _field(use: FlagUse) -> str:
    return f"engineArgs.{use.written}"

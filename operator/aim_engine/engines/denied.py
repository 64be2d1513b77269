"""Parts of a flag's value that nobody may set: keys inside a JSON value, and values that mean something dangerous."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from aim_engine.api.wording import shown
from aim_engine.catalog.flags import Flag
from aim_engine.engines.grammar import FlagUse, parse_json
from aim_engine.engines.types import Problem


def denied_parts(use: FlagUse, flag: Flag) -> Iterator[Problem]:
    """A problem for each part of an argument that is denied whoever asks."""
    if not flag.denied_keys and not any(flag.denied_values.values()):
        return
    field = f"engineArgs.{use.written}"
    for key, value in _parts(use):
        where = f"{key} in {flag.name}" if key else flag.name
        if (why := flag.denied_keys.get(key)) is not None:
            yield Problem(field, use.value, f"{where} is denied: it {why}", f"remove {key}")
        for pattern, reason in flag.denied_values.get(key, {}).items():
            if isinstance(value, str) and re.fullmatch(pattern, value.strip(), re.DOTALL):
                told = f"{shown(repr(value))} of {where} is denied: it {reason}"
                yield Problem(field, use.value, told, "use another value, or leave it out")


def _parts(use: FlagUse) -> Iterator[tuple[str, object]]:
    """(key, value) of everything inside, also where it is written with dots or as text; the key of the whole is ""."""
    *outer, last = ("", *(_key(key) for key in use.keys))
    yield from ((key, None) for key in outer)
    yield last, use.value
    yield from _inner(last, use.value)


def _inner(key: str, value: object) -> Iterator[tuple[str, object]]:
    match value:
        case Mapping():
            for name, nested in value.items():
                *outer, last = (_key(part) for part in str(name).split("."))
                yield from ((part, None) for part in outer)
                yield last, nested
                yield from _inner(last, nested)
        case list() | tuple():
            for nested in value:
                yield key, nested
                yield from _inner(key, nested)
        case str():
            parsed = parse_json(value)
            if not isinstance(parsed, str):
                yield from _inner(key, parsed)


def _key(text: str) -> str:
    return text.replace("-", "_")

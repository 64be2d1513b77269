"""Flags as a mapping: names brought to one spelling, merged, and rendered to a command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aim_engine.api.recipe import DEEPEST
from aim_engine.api.rules import is_deeper
from aim_engine.catalog.flags import Flag, FlagKind, FlagTable

_BARE = frozenset({FlagKind.BOOL, FlagKind.SWITCH})


@dataclass(frozen=True, slots=True)
class FlagUse:
    """One entry of a mapping of arguments, resolved against a flag table."""

    written: str
    name: str
    """Canonical name of the flag, or the written one in dashes when the table does not know it."""
    flag: Flag | None
    keys: tuple[str, ...]
    """Path inside a JSON value, from the dotted form `compilation-config.cudagraph_mode`."""
    negated: bool
    value: object

    @property
    def effective(self) -> object:
        """Value with the bare and negated forms spelt out as true and false, and an object written as text as the object."""
        if self.negated:
            return False
        kind = self.flag.kind if self.flag is not None else None
        if self.value is None and kind in _BARE:
            return True
        if kind is FlagKind.JSON and not self.keys and isinstance(self.value, str):
            return parse_json(self.value)
        return self.value


def parse_json(text: str) -> object:
    """The parsed value; the text itself when it is not JSON, or nested deeper than an object may be."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if is_deeper(value, DEEPEST) else value


def resolve(written: str, value: object, table: FlagTable) -> FlagUse:
    """Find the flag of one entry; dashes, underscores, aliases, `no-` and dotted forms are understood."""
    head, _, tail = written.partition(".")
    name = head.replace("_", "-").lstrip("-")
    name = table.aliases.get(name, name)
    positive = name.removeprefix("no-")
    negated = name not in table.flags and positive != name and _is_bool(table.flags.get(positive))
    canonical = positive if negated else name
    keys = tuple(tail.split(".")) if tail else ()
    return FlagUse(written, canonical, table.flags.get(canonical), keys, negated, value)


def normalise(args: Mapping[str, object], table: FlagTable) -> dict[str, object]:
    """The same arguments under canonical names; dotted forms are folded into their JSON object."""
    return merge({}, args, table)


def merge(base: Mapping[str, object], override: Mapping[str, object], table: FlagTable) -> dict[str, object]:
    """`override` over `base`: a whole value replaces, a dotted key changes one key of a JSON object."""
    merged: dict[str, object] = {}
    for args in (base, override):
        uses = [resolve(written, value, table) for written, value in args.items()]
        for use in sorted(uses, key=lambda use: (len(use.keys), use.written)):
            merged[use.name] = _set(merged.get(use.name), use.keys, use.effective)
    return dict(sorted(merged.items()))


def render(args: Mapping[str, object], table: FlagTable) -> list[str]:
    """Command line tokens, sorted by flag."""
    normal = normalise(args, table)
    return [token for name, value in normal.items() for token in _tokens(name, table.flags.get(name), value)]


def _tokens(name: str, flag: Flag | None, value: object) -> Iterator[str]:
    match value:
        case None | True:
            yield f"--{name}"
        case False:
            if flag is None or flag.kind is not FlagKind.SWITCH:
                yield f"--no-{name}"
        case list() | tuple() if flag is not None and flag.kind is FlagKind.LIST:
            yield f"--{name}"
            yield from (_word(item) for item in value)
        case _:
            word = _word(value)
            if word.startswith("-"):
                yield f"--{name}={word}"
            else:
                yield f"--{name}"
                yield word


def _word(value: object) -> str:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _set(current: object, keys: tuple[str, ...], value: object) -> object:
    if not keys:
        return value
    nested = dict(current) if isinstance(current, Mapping) else {}
    nested[keys[0]] = _set(nested.get(keys[0]), keys[1:], value)
    return nested


def _is_bool(flag: Flag | None) -> bool:
    return flag is not None and flag.kind is FlagKind.BOOL

"""Text as values that JSON can hold, read as the API server would read it: YAML or JSON, within limits of size and depth.

Two readers, for one reason each: `json` is the fastest there is; and YAML is built here from the parser's events, in one
pass that checks as it goes. PyYAML's own loader builds nodes first, which takes ten times as long for the export of a big
cluster, follows aliases that multiply, and makes dates, bytes and sets, which no Kubernetes object can hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml

from aim_engine.cli.output import CommandError, invalid

MAX_BYTES = 512 * 2**20
MAX_YAML_BYTES = 128 * 2**20
"""YAML takes ten times the time and memory of JSON."""
MAX_DEPTH = 64
_LARGEST = 2**63
"""JSON and the API server go no further."""
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("null", "bool", "int", "float")
_TEXT_TAGS = (None, "!", f"{_TAG}str", f"{_TAG}timestamp")
_RESOLVERS = yaml.SafeLoader.yaml_implicit_resolvers
_CONSTRUCT = yaml.constructor.SafeConstructor()
_ODD_JSON = re.compile(r"\\u[dD][89a-fA-F]|[0-9]{19}|[0-9][eE]\+?[0-9]{3}")
"""Text that may hold half a character, or a number that cannot be stored."""


class OddError(ValueError):
    """A value that no Kubernetes object can hold, with the path to it."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.path: list[str | int] = []

    def __str__(self) -> str:
        parts = (f"[{part}]" if isinstance(part, int) else f".{short(part)}" for part in self.path)
        where = short("".join(parts).removeprefix("."))
        return f"{where} {self.args[0]}" if where else str(self.args[0])


def documents(text: str, where: str) -> Iterator[Any]:
    """All documents of a text; raises CommandError that names `where`, line or field, value and remedy."""
    if text.lstrip()[:1] == "{":
        try:
            yield json_value(text)
            return
        except OddError as error:
            raise invalid(f"{where}: {error}") from None
        except (ValueError, RecursionError) as error:
            if re.match(r'\s*\{\s*"', text) and "Extra data" not in str(error):
                raise _not_json(error, where) from None
    if len(text) > MAX_YAML_BYTES:
        limit = MAX_YAML_BYTES // 2**20
        raise invalid(
            f"{where}: YAML of more than {limit} MiB is not read; write it with `aim-engine snapshot`, or as JSON"
        )
    try:
        yield from _Builder(text).documents()
    except yaml.YAMLError as error:
        raise invalid(f"{where}: {_yaml_problem(error, text)}") from None
    except OddError as error:
        raise invalid(f"{where}: {error}") from None


def json_value(text: str) -> Any:
    """The value of a JSON text; raises ValueError or RecursionError, OddError among them."""
    value = json.loads(text, parse_constant=_no_number)
    if text.count("{") + text.count("[") > MAX_DEPTH or _ODD_JSON.search(text):
        _check(value)
    return value


def short(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _no_number(name: str) -> None:
    raise OddError(f"'{name}' is not a number that can be stored; write a finite one")


def _check(value: object, depth: int = 0) -> None:
    """Refuse what JSON text can say and a Kubernetes object cannot hold."""
    if isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise OddError(f"is nested more than {MAX_DEPTH} levels deep; write it with fewer")
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            try:
                if isinstance(key, str):
                    _check_text(key)
                _check(inner, depth + 1)
            except OddError as error:
                error.path.insert(0, key)
                raise
    elif isinstance(value, str):
        _check_text(value)
    else:
        _check_number(value)


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise OddError(f"'{short(text)}' holds half a character ({half}); write it whole") from None


def _check_number(value: object) -> None:
    if not _can_be_stored(value):
        raise OddError(f"'{_number(value)}' cannot be stored; write a finite number below 2^63")


def _can_be_stored(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -_LARGEST <= value < _LARGEST


def _number(value: object) -> str:
    return "a number of many digits" if isinstance(value, int) and value.bit_length() > 256 else str(value)


class _Builder:
    """Values from the events of one YAML text. A line is known for everything that is refused."""

    def __init__(self, text: str) -> None:
        self._events = yaml.parse(text, Loader=_LOADER)
        self._line = 0

    def documents(self) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                yield self._document()

    def _document(self) -> Any:
        """One document, without recursion: nesting must not be able to end the process."""
        root: list[Any] = []
        open_: list[tuple[dict[str, Any] | list[Any], str | None]] = []
        """Collections around the current one, each with the key that waits for its value."""
        current: dict[str, Any] | list[Any] = root
        key: str | None = None
        for event in self._events:
            if isinstance(event, yaml.ScalarEvent):
                if isinstance(current, dict) and key is None:
                    key = self._key(event, current)
                    continue
                value: Any = self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                value = self._opened(event, len(open_), is_key=isinstance(current, dict) and key is None)
                _put(current, key, value)
                open_.append((current, key))
                current, key = value, None
                continue
            elif isinstance(event, yaml.CollectionEndEvent):
                current, key = open_.pop()
                key = None
                continue
            elif isinstance(event, yaml.AliasEvent):
                raise self._odd(event, f"*{event.anchor}: YAML aliases are not allowed; write the value out")
            else:  # the end of the document
                return root[0] if root else None
            _put(current, key, value)
            key = None
        return None

    def _opened(self, event: Any, depth: int, *, is_key: bool) -> dict[str, Any] | list[Any]:
        if is_key:
            raise self._odd(event, "a key is a list or a mapping; write a word")
        if depth == MAX_DEPTH:
            raise self._odd(event, f"is nested more than {MAX_DEPTH} levels deep; write it with fewer")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}{'map' if is_mapping else 'seq'}"):
            raise self._odd(event, f"YAML tag {short(event.tag)} is not allowed; write lists and mappings")
        return {} if is_mapping else []

    def _key(self, event: Any, around: dict[str, Any]) -> str:
        """A key is text to Kubernetes, whatever it looks like."""
        value = self._scalar(event)
        if value is None or (value == "<<" and event.implicit[0]):
            raise self._odd(event, f"'{short(event.value)}' is not a key; write the fields out by name")
        key = str(value).lower() if isinstance(value, bool) else str(value)
        if key in around:
            raise self._odd(event, f"'{short(key)}' appears twice; remove one of the two")
        return key

    def _scalar(self, event: Any) -> Any:
        try:
            if event.tag in _TEXT_TAGS:
                return _plain(event.value) if event.implicit[0] else _checked_text(event.value)
            if event.tag.removeprefix(_TAG) in _SCALARS:
                return _constructed(event.tag, event.value)
        except ValueError as error:
            raise self._odd(event, str(error)) from None
        raise self._odd(
            event, f"YAML tag {short(event.tag)} is not allowed; write text, numbers, true or false"
        )

    @staticmethod
    def _odd(event: Any, told: str) -> OddError:
        line = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
        return OddError(f"{line}{told}")


def _put(around: dict[str, Any] | list[Any], key: str | None, value: Any) -> None:
    if isinstance(around, list):
        around.append(value)
    elif key is not None:
        around[key] = value


@lru_cache(maxsize=2**16)
def _plain(text: str) -> Any:
    """A scalar without quotes: a number, true, false, null, or text. Dates are text, and so are times such as 12:30."""
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if tag.removeprefix(_TAG) in _SCALARS and pattern.match(text) and ":" not in text:
            return _constructed(tag, text)
    return _checked_text(text)


def _constructed(tag: str, text: str) -> Any:
    try:
        value = _CONSTRUCT.construct_object(yaml.ScalarNode(tag, text))
    except (ValueError, OverflowError, KeyError, IndexError):
        value = math.nan
    if not _can_be_stored(value):
        raise ValueError(f"'{short(text)}' cannot be stored; write a finite number below 2^63")
    return value


def _checked_text(text: str) -> str:
    _check_text(text)
    return text


def _yaml_problem(error: yaml.YAMLError, text: str) -> str:
    mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
    line = mark.line + 1 if mark else text.count("\n", 0, position) + 1 if position is not None else None
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    return f"{f'line {line}: ' if line else ''}not YAML: {problem}; correct it, or write the file again"


def _not_json(error: Exception, where: str) -> CommandError:
    """Beside wrong syntax, Python itself stops at numbers of some thousand digits, and at deep nesting."""
    if isinstance(error, RecursionError):
        return invalid(f"{where}: is nested more than {MAX_DEPTH} levels deep; write it with fewer")
    if not isinstance(error, json.JSONDecodeError):
        return invalid(f"{where}: a number of many digits cannot be stored; write a finite one below 2^63")
    line = getattr(error, "lineno", None)
    at = f"line {line}: " if line else ""
    return invalid(
        f"{where}: {at}not JSON: {short(getattr(error, 'msg', error))}; correct it, or write the file again"
    )

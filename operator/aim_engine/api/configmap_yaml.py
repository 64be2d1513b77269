"""YAML written by tenants, read with limits, and with the line of every value kept for error messages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from aim_engine.api.wording import Path, briefly, dotted, is_secret, printable, shown

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 5000
_LARGEST = 2**63
"""JSON and the API server go no further; larger integers cannot even be printed."""
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "map", "seq")
}


@dataclass(frozen=True, slots=True)
class ReadError:
    """Why a document is refused, told by field, value and remedy."""

    field: str
    """Dotted path within the document; empty for the document as a whole."""
    value: str
    message: str
    remedy: str
    line: int | None = None
    """Counted from 1."""

    def __str__(self) -> str:
        where = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.field) if part)
        value = f" '{self.value[:80]}'" if self.value and not is_secret(self.field) else ""
        return printable(f"{where or 'document'}{value}: {self.message}; {self.remedy}")


@dataclass(frozen=True, slots=True)
class Faults:
    """All that is wrong with a document, in the order of its lines; at least one."""

    errors: tuple[ReadError, ...]

    def __str__(self) -> str:
        return "; ".join(briefly([str(error) for error in self.errors]))


class RefusedError(Exception):
    """Carries what makes a document unreadable out of the reader."""

    def __init__(self, *errors: ReadError) -> None:
        self.faults = Faults(errors)
        super().__init__(str(self.faults))


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document and the line of each of its values."""

    data: Mapping[str, Any]
    lines: Mapping[Path, int]
    spoilt: Mapping[Path, ReadError] = field(default_factory=dict)
    """Values that no document may hold; `data` has null in their place."""

    def line(self, path: Path) -> int | None:
        """The line of the nearest value that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def error(self, path: Path, value: object, message: str, remedy: str) -> ReadError:
        """What is wrong with the value at `path`."""
        return ReadError(dotted(path), shown(value), message, remedy, self.line(path))


def load(text: str) -> Document:
    """One YAML mapping; raises RefusedError, with every value that cannot be held."""
    document = parse(text)
    if document.spoilt:
        raise RefusedError(*document.spoilt.values())
    return document


def parse(text: str) -> Document:
    """One YAML mapping with what is spoilt in it; raises RefusedError for a text that is none.

    Aliases are refused: nobody needs them here, and they can multiply.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise RefusedError(
            ReadError("", "", f"the document is larger than {MAX_BYTES // 1024} KiB", "shorten it")
        )
    try:
        _check_size(text)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise RefusedError(_yaml_error(error, text)) from None
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            ReadError("", "", f"the document is not YAML ({shown(error)})", "correct it")
        ) from None
    if not isinstance(root, yaml.MappingNode):
        raise RefusedError(
            ReadError("", "", "the document is not a YAML mapping", "write it as `field: value` lines", 1)
        )
    lines: dict[Path, int] = {}
    spoilt: dict[Path, ReadError] = {}
    data = _value(root, (), lines, spoilt)
    if () in spoilt:
        raise RefusedError(spoilt[()])
    return Document(data, lines, spoilt)


def _check_size(text: str) -> None:
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else None
        nodes += isinstance(event, yaml.NodeEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent):
            raise RefusedError(
                ReadError("", f"*{event.anchor}", "YAML aliases are not allowed", "write the value out", line)
            )
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            message = f"the document has more than {MAX_DEPTH} levels or {MAX_NODES} values"
            raise RefusedError(ReadError("", "", message, "shorten it", line))
        if documents > 1:
            raise RefusedError(
                ReadError("", "", "there is more than one YAML document", "use one ConfigMap for each", line)
            )


def _yaml_error(error: yaml.YAMLError, text: str) -> ReadError:
    mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
    line = mark.line + 1 if mark else text.count("\n", 0, position) + 1 if position is not None else None
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    return ReadError(
        "",
        "",
        f"the document is not YAML: {shown(problem)}",
        "correct the syntax",
        line,
    )


def _value(node: yaml.Node, path: Path, lines: dict[Path, int], spoilt: dict[Path, ReadError]) -> Any:
    lines[path] = node.start_mark.line + 1
    if node.tag not in _PLAIN_TAGS:
        message, remedy = (
            f"YAML tag {shown(node.tag)} is not allowed",
            "use text, numbers, true, false, lists and mappings",
        )
        spoilt[path] = ReadError(dotted(path), "", message, remedy, lines[path])
        return None
    match node:
        case yaml.MappingNode():
            return _mapping(node, path, lines, spoilt)
        case yaml.SequenceNode():
            return [_value(item, (*path, index), lines, spoilt) for index, item in enumerate(node.value)]
        case _:
            return _scalar(node, path, spoilt)


def _mapping(
    node: yaml.MappingNode, path: Path, lines: dict[Path, int], spoilt: dict[Path, ReadError]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            odd = shown(key.value) if isinstance(key, yaml.ScalarNode) else f"the key of line {line}"
            error = ReadError(dotted(path), "", "a key is not plain text", "write the key as a word", line)
            spoilt[(*path, odd)] = error
            continue
        inner = (*path, key.value)
        if key.value in result:
            spoilt[inner] = ReadError(
                dotted(inner), "", "the field appears twice", "remove one of the two", line
            )
            continue
        result[key.value] = _value(value, inner, lines, spoilt)
        lines[inner] = line
    return result


def _scalar(node: yaml.Node, path: Path, spoilt: dict[Path, ReadError]) -> Any:
    if node.tag.endswith((":str", ":timestamp")):
        return node.value
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError, KeyError, IndexError):
        value = math.nan
    if isinstance(value, float | int) and not abs(value) < _LARGEST:
        message, remedy = "this number cannot be stored", "write a finite number below 2^63"
        spoilt[path] = ReadError(dotted(path), shown(node.value), message, remedy, node.start_mark.line + 1)
        return None
    return value

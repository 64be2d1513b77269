"""Files of objects: Lists from kubectl, snapshots, and manifests. YAML or JSON, read with limits, never with a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aim_engine.cli.output import CommandError, invalid

Object = dict[str, Any]
MAX_BYTES = 512 * 2**20
_MAX_SLOW_BYTES = 64 * 2**20
"""Larger YAML is not read item by item but as a whole, which takes minutes."""
_MAX_DEPTH = 64
LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ITEM = "- {"


@dataclass(frozen=True, slots=True)
class Found:
    """An object and where it stands."""

    obj: Object
    where: str
    """File, with the item or document where it holds several."""

    @property
    def name(self) -> str:
        """Kind and name, for messages."""
        metadata = self.obj["metadata"]
        namespace = metadata.get("namespace")
        return f"{self.obj['kind']} {f'{namespace}/' if namespace else ''}{metadata['name']}"


def read_text(path: Path) -> str:
    """A file of text; `-` is standard input."""
    try:
        if str(path) == "-":
            import sys

            return sys.stdin.read()
        if path.stat().st_size > MAX_BYTES:
            raise invalid(f"{path}: the file is larger than {MAX_BYTES // 2**20} MiB; write less into it")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise invalid(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise invalid(f"{path}: {error.strerror or error}; name a file that can be read") from None


def read_list(path: Path) -> tuple[Mapping[str, Any], list[Found]]:
    """A List (kind `List`, `NodeList`, ...): its head, and its objects."""
    text = read_text(path)
    document = _parse_lines(text, path) or _only(path, list(_documents(text, path)))
    if not isinstance(document, dict):
        raise invalid(
            f"{path}: is not a List of objects; write it with `aim-engine snapshot` or kubectl get -o yaml"
        )
    kind = document.get("kind")
    if not isinstance(kind, str) or not kind.endswith("List"):
        raise invalid(
            f"{path}: kind '{_short(kind)}' is not List; write it with `aim-engine snapshot` or kubectl get -o yaml"
        )
    if document.get("apiVersion") != "v1":
        version = _short(document.get("apiVersion"))
        raise invalid(
            f"{path}: apiVersion '{version}' of the List is not v1; write it with kubectl get -o yaml"
        )
    items = document.get("items")
    if not isinstance(items, list):
        raise invalid(f"{path}: items '{_short(items)}' is not a list; write the objects below `items:`")
    implied = kind.removesuffix("List")
    found = [_object(item, f"{path}: items[{i}]", implied) for i, item in enumerate(items)]
    _refuse_twins(found)
    return document, found


def read_manifests(path: Path) -> list[Found]:
    """All objects of a file, or of the YAML and JSON files below a folder in the order of their names."""
    if not path.is_dir():
        return list(_manifests(path))
    files = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".json") and p.is_file())
    if not files:
        raise invalid(f"{path}: there are no YAML or JSON files; name a folder that has some")
    return [found for file in files for found in _manifests(file)]


def _manifests(path: Path) -> Iterator[Found]:
    documents = [each for each in _documents(read_text(path), path) if each is not None]
    for number, document in enumerate(documents, 1):
        where = f"{path}: document {number}" if len(documents) > 1 else str(path)
        if isinstance(document, dict) and document.get("kind") == "List":
            items = document.get("items")
            for i, item in enumerate(items if isinstance(items, list) else []):
                yield _object(item, f"{where}: items[{i}]", "")
        else:
            yield _object(document, where, "")


def _object(item: object, where: str, implied: str) -> Found:
    """An object with kind and name; kubectl leaves the kind out of the items of a NodeList."""
    if not isinstance(item, dict):
        raise invalid(f"{where}: '{_short(item)}' is not an object; write kind, metadata and spec")
    kind = item.get("kind") or implied
    if not isinstance(kind, str) or not kind:
        raise invalid(f"{where}: kind '{_short(item.get('kind'))}' is not a kind; name what the object is")
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise invalid(f"{where}: metadata.name '{_short(name)}' of a {kind} is not a name; give it one")
    for field in ("namespace", "uid", "resourceVersion", "creationTimestamp"):
        if not isinstance(metadata.get(field, ""), str):
            raise invalid(f"{where}: metadata.{field} '{_short(metadata[field])}' is not text; quote it")
    return Found({**item, "kind": kind}, where)


def _refuse_twins(found: list[Found]) -> None:
    first: dict[tuple[str, str, str], str] = {}
    for each in found:
        metadata = each.obj["metadata"]
        key = (each.obj["kind"], metadata.get("namespace", ""), metadata["name"])
        other = first.setdefault(key, each.where)
        if other != each.where:
            raise invalid(f"{each.where}: {each.name} is there already, at {other}; remove one of the two")


def _parse_lines(text: str, path: Path) -> object:
    """A snapshot as `aim-engine snapshot` writes it, one object a line; None for any other file.

    A hundred times faster than YAML, and the same document: JSON objects are YAML flow mappings.
    """
    head, separator, body = text.partition("\nitems:\n")
    if not separator or not head.startswith("apiVersion:") or not body.startswith(_ITEM):
        return None
    items = []
    first = head.count("\n") + 3
    for number, line in enumerate(body.splitlines(), first):
        if not line.startswith(_ITEM):
            return None
        try:
            items.append(json.loads(line[2:]))
        except (ValueError, RecursionError):
            raise invalid(
                f"{path}: line {number} ends early or is not JSON; write the snapshot again"
            ) from None
    (found,) = list(_documents(head, path)) or [None]
    return {**found, "items": items} if isinstance(found, dict) else found


def _documents(text: str, path: Path) -> Iterator[object]:
    if text.lstrip()[:1] == "{":
        try:
            yield json.loads(text)
            return
        except RecursionError:
            raise invalid(f"{path}: the document is nested too deeply; write it with fewer levels") from None
        except ValueError as error:
            if "Extra data" not in str(error) and "\n---" not in text:
                raise _wrong_json(error, path) from None
    if len(text) > _MAX_SLOW_BYTES:
        limit = _MAX_SLOW_BYTES // 2**20
        raise invalid(
            f"{path}: YAML of more than {limit} MiB is not read; write it with `aim-engine snapshot`, or as JSON"
        )
    try:
        _refuse_bombs(text, path)
        yield from yaml.load_all(text, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise invalid(f"{path}: {line}not YAML: {problem}; correct it, or write the file again") from None
    except (ValueError, RecursionError, TypeError, OverflowError, AttributeError) as error:
        raise invalid(f"{path}: not YAML that can be read: {_short(error)}; correct it") from None


def _refuse_bombs(text: str, path: Path) -> None:
    """Aliases can multiply a small file to gigabytes, and deep nesting ends the C parser; no export holds either."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        line = event.start_mark.line + 1 if event.start_mark else "?"
        if isinstance(event, yaml.AliasEvent):
            raise invalid(
                f"{path}: line {line}: *{event.anchor}: YAML aliases are not allowed; write the value out"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise invalid(
                f"{path}: line {line}: is nested more than {_MAX_DEPTH} levels deep; write it with fewer"
            )


def _wrong_json(error: ValueError, path: Path) -> CommandError:
    line = getattr(error, "lineno", None)
    where = f"line {line}: " if line else ""
    return invalid(
        f"{path}: {where}not JSON: {getattr(error, 'msg', error)}; correct it, or write the file again"
    )


def _only(path: Path, documents: list[object]) -> object:
    if len(documents) != 1:
        raise invalid(f"{path}: there are {len(documents)} documents; a List is one")
    return documents[0]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."

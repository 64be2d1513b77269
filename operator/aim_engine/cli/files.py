"""Files that people and other tools give us: Kubernetes objects, each with the place it stands at."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aim_engine.cli.documents import MAX_BYTES, OddError, documents, json_value, short
from aim_engine.cli.output import CommandError, invalid

Object = dict[str, Any]
_ITEM = "- {"
_SUFFIXES = (".yaml", ".yml", ".json")
_TEXT_FIELDS = ("namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_TEXT_MAPS = ("labels", "annotations")


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
        where = f"{short(namespace)}/" if namespace else ""
        return f"{short(self.obj['kind'])} {where}{short(metadata['name'])}"

    def identity(self, namespace: str) -> dict[str, str]:
        """Namespace and name; `namespace` is where it goes when it does not say."""
        metadata = self.obj["metadata"]
        return {"namespace": metadata.get("namespace") or namespace, "name": metadata["name"]}


def read_text(path: Path) -> str:
    """A file of text; `-` is standard input."""
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise invalid(f"{path}: {error.strerror or error}; name a file that can be read") from None
    except ValueError:  # no name of a file at all
        raise invalid(f"{path}: is no name of a file; name a file that can be read") from None
    if len(content) > MAX_BYTES:
        raise invalid(f"{path}: the file is larger than {MAX_BYTES // 2**20} MiB; write less into it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def read_list(path: Path) -> tuple[Mapping[str, Any], list[Found]]:
    """A List (kind `List`, `NodeList`, ...): its head, and its objects."""
    text = read_text(path)
    document = _parse_lines(text, path) or _only(path, list(documents(text, str(path))))
    if not isinstance(document, dict):
        raise invalid(
            f"{path}: is not a List of objects; write it with `aim-engine snapshot` or kubectl get -o yaml"
        )
    kind = document.get("kind")
    if not isinstance(kind, str) or not kind.endswith("List"):
        raise invalid(
            f"{path}: kind '{short(kind)}' is not List; write it with `aim-engine snapshot` or kubectl get -o yaml"
        )
    if document.get("apiVersion") != "v1":
        version = short(document.get("apiVersion"))
        raise invalid(
            f"{path}: apiVersion '{version}' of the List is not v1; write it with kubectl get -o yaml"
        )
    return document, list(_items(document, str(path)))


def manifest_files(path: Path) -> list[Path]:
    """The file, or the YAML and JSON files below a folder in the order of their names."""
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    if not files:
        raise invalid(f"{path}: there are no YAML or JSON files; name a folder that has some")
    return files


def read_manifests(path: Path) -> list[Found]:
    """All objects of a file, or of all files below a folder."""
    return [found for file in manifest_files(path) for found in read_manifest(file)]


def read_manifest(path: Path) -> list[Found]:
    """All objects of one file."""
    return list(_manifests(path))


def _manifests(path: Path) -> Iterator[Found]:
    parts = [each for each in documents(read_text(path), str(path)) if each is not None]
    for number, document in enumerate(parts, 1):
        where = f"{path}: document {number}" if len(parts) > 1 else str(path)
        if isinstance(document, dict) and "items" in document and str(document.get("kind")).endswith("List"):
            yield from _items(document, where)
        else:
            yield _object(document, where, "")


def _items(document: Object, where: str) -> Iterator[Found]:
    """The objects of a List."""
    items = document.get("items")
    if not isinstance(items, list):
        raise invalid(f"{where}: items '{short(items)}' is not a list; write the objects below `items:`")
    implied = str(document["kind"]).removesuffix("List")
    for i, item in enumerate(items):
        yield _object(item, f"{where}: items[{i}]", implied)


def _object(item: object, where: str, implied: str) -> Found:
    """An object with kind and metadata; the API server leaves the kind out of the items of a NodeList."""
    if not isinstance(item, dict):
        raise invalid(f"{where}: '{short(item)}' is not an object; write kind, metadata and spec")
    kind = item.get("kind") or implied
    if not isinstance(kind, str) or not kind:
        raise invalid(f"{where}: kind '{short(item.get('kind'))}' is not a kind; name what the object is")
    metadata = item.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise invalid(f"{where}: metadata.name '{short(name)}' of a {short(kind)} is not a name; give it one")
    _check_metadata(metadata, where)
    return Found({**item, "kind": kind}, where)


def _check_metadata(metadata: Object, where: str) -> None:
    """Types of what we read; whatever the API server gave us has them."""
    for field in _TEXT_FIELDS:
        if not isinstance(metadata.get(field) or "", str):
            raise invalid(f"{where}: metadata.{field} '{short(metadata[field])}' is not text; quote it")
    for field in _TEXT_MAPS:
        pairs = metadata.get(field) or {}
        if not isinstance(pairs, dict):
            raise invalid(
                f"{where}: metadata.{field} '{short(pairs)}' is not a mapping; write `name: value` lines"
            )
        for name, value in pairs.items():
            if not isinstance(value, str):
                raise invalid(
                    f"{where}: metadata.{field}.{short(name)} '{short(value)}' is not text; quote it"
                )
    owners = metadata.get("ownerReferences") or []
    for owner in owners if isinstance(owners, list) else [owners]:
        if not isinstance(owner, dict) or not isinstance(owner.get("uid"), str):
            raise invalid(
                f"{where}: metadata.ownerReferences '{short(owner)}' is no reference with a uid; remove it"
            )
    generation = metadata.get("generation") or 0
    if not isinstance(generation, int):
        raise invalid(f"{where}: metadata.generation '{short(generation)}' is not a number; remove it")


class Twins:
    """Refuses an object that is there already: it would count twice, or hide the other.

    `namespaced` says it of each kind that counts; objects of such a kind without a namespace are in `namespace`.
    """

    def __init__(self, namespaced: Mapping[str, bool], namespace: str) -> None:
        self._namespaced = namespaced
        self._namespace = namespace
        self._first: dict[tuple[str, str, str], str] = {}

    def refuse(self, found: Found) -> None:
        """Raises CommandError that names both places."""
        kind = found.obj["kind"]
        if kind not in self._namespaced:
            return
        where = found.identity(self._namespace)
        key = (kind, where["namespace"] if self._namespaced[kind] else "", where["name"])
        if key in self._first:
            other = self._first[key]
            raise invalid(f"{found.where}: {found.name} is there already, at {other}; remove one of the two")
        self._first[key] = found.where


def refuse_twins(found: Iterable[Found], namespaced: Mapping[str, bool], namespace: str) -> None:
    """Raises CommandError for the first object that is there twice."""
    twins = Twins(namespaced, namespace)
    for each in found:
        twins.refuse(each)


def _parse_lines(text: str, path: Path) -> object:
    """A snapshot as `aim-engine snapshot` writes it, one JSON object a line; None for any other file.

    Ten times faster than YAML, and the same document: JSON objects are YAML flow mappings.
    """
    head, separator, body = text.partition("\nitems:\n")
    if not separator or not head.startswith("apiVersion:") or not body.startswith(_ITEM):
        return None
    lines = body.removesuffix("\n").split("\n")
    items: list[Any] = []
    for number, line in enumerate(lines, head.count("\n") + 3):
        if not line.startswith(_ITEM):
            return None
        try:
            items.append(json_value(line[2:]))
        except OddError as error:
            raise invalid(f"{path}: line {number}: {error}") from None
        except (ValueError, RecursionError):
            if not items:
                return None  # somebody's own flow style
            raise _cut(path, number) from None
    (found,) = list(documents(head, str(path))) or [None]
    return {**found, "items": items} if isinstance(found, dict) else found


def _cut(path: Path, number: int) -> CommandError:
    return invalid(f"{path}: line {number} ends early or is not JSON; write the snapshot again")


def _only(path: Path, found: list[object]) -> object:
    if len(found) != 1:
        raise invalid(f"{path}: there are {len(found)} documents; a List is one")
    return found[0]

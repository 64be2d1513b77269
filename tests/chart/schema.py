"""Reading values.schema.json: every place of the values, and values that it must refuse there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from testbed.product import ROOT

HELM = ROOT / "deploy" / "helm"
SCHEMA: Mapping[str, Any] = json.loads((HELM / "values.schema.json").read_text())
Place = tuple[str | int, ...]

_WRONG: Mapping[str, Any] = {
    "string": "text", "integer": 7, "number": 1.5, "boolean": True, "object": {"any": "thing"}, "array": ["any"],
}  # fmt: skip


def places(schema: Mapping[str, Any] = SCHEMA, at: Place = ()) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every described place below `schema`; items of a list stand at 0, values of a map at `name`."""
    for name, child in schema.get("properties", {}).items():
        yield (*at, name), child
        yield from places(child, (*at, name))
    if isinstance(schema.get("additionalProperties"), dict):
        child = schema["additionalProperties"]
        yield (*at, "name"), child
        yield from places(child, (*at, "name"))
    if "items" in schema:
        yield (*at, 0), schema["items"]
        yield from places(schema["items"], (*at, 0))


def types(schema: Mapping[str, Any]) -> set[str]:
    """Types that a place takes; an enum is of strings, no type at all takes everything."""
    if "enum" in schema and "type" not in schema:
        return {"null" if each is None else "string" for each in schema["enum"]}
    told = schema.get("type", [*_WRONG, "null"])
    found = {told} if isinstance(told, str) else set(told)
    return found | ({"integer"} if "number" in found else set())


def wrong_values(schema: Mapping[str, Any]) -> list[Any]:
    """A value of each type that the place does not take."""
    return [value for name, value in _WRONG.items() if name not in types(schema)]


def pointer(place: Place) -> str:
    """The place as helm writes it."""
    return "".join(f"/{part}" for part in place)


def put(document: Any, place: Place, value: Any) -> None:
    """Set a value deep in a document, making what is missing on the way."""
    here = document
    for part, following in pairwise(place):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(part, int):
            if not here:
                here.append(empty)
            here = here[0]
        else:
            here = here.setdefault(part, empty)
    last = place[-1]
    if isinstance(last, int):
        here.append(value)
    else:
        here[last] = value

"""The part of JSON Schema that our own schemas use, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None),
}  # fmt: skip
_KNOWN = {
    "$schema", "title", "type", "enum", "anyOf", "properties", "required", "additionalProperties", "items", "minimum",
}  # fmt: skip


def problems(schema: Mapping[str, Any], value: Any, at: str = "$") -> Iterator[str]:
    """What in `value` the schema forbids; an unknown keyword is a problem of the test."""
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    if "anyOf" in schema and all(list(problems(each, value, at)) for each in schema["anyOf"]):
        yield f"{at}: {value!r} is none of the alternatives"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not in {schema['enum']}"
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if isinstance(value, bool) or not any(isinstance(value, _TYPES[name]) for name in names):
            yield f"{at}: {value!r} is not {names}"
            return
    if "minimum" in schema and isinstance(value, int) and value < schema["minimum"]:
        yield f"{at}: {value} is below {schema['minimum']}"
    yield from _inside(schema, value, at)


def _inside(schema: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict) and "properties" in schema:
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{at}: {name} is missing"
        for name, inner in value.items():
            if name in schema["properties"]:
                yield from problems(schema["properties"][name], inner, f"{at}.{name}")
            elif schema.get("additionalProperties") is False:
                yield f"{at}: {name} is unknown"
    if isinstance(value, list) and "items" in schema:
        for i, inner in enumerate(value):
            yield from problems(schema["items"], inner, f"{at}[{i}]")

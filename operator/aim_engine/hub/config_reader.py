"""Typed access to a `config.json`; what is not as it must be is a ConfigError that names the field and its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ConfigError(ValueError):
    """The configuration does not describe a decoder whose memory can be computed; the message says which field."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The values of a configuration; text and vision parts are merged, the text part wins."""

    values: Mapping[str, Any]

    def count(self, *names: str, required: bool = True) -> int | None:
        """A whole number of at least 1 under the first name that is there."""
        for name in names:
            value = self.values.get(name)
            if value is None or (not required and value == 0):
                continue
            if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**40:
                return value
            raise ConfigError(f"{name} is {shown(value)}, which is no whole number of at least 1")
        if required:
            raise ConfigError(f"{names[0]} is missing, so memory cannot be computed")
        return None

    def must(self, *names: str) -> int:
        """A whole number that has to be there."""
        found = self.count(*names)
        assert found is not None  # noqa: S101  count raises
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name)
        return value if isinstance(value, bool) else default

    def part(self, name: str) -> Mapping[str, Any]:
        value = self.values.get(name)
        return value if isinstance(value, Mapping) else {}

    def items(self, name: str) -> list[Any]:
        value = self.values.get(name)
        return value if isinstance(value, list) else []


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """The value as an object."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} is {shown(value)}, not an object")
    return value


def shown(value: object) -> str:
    """A value as a message may show it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."

"""Command line grammar of an engine at one version, and the rules for environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any

from aim_engine.api.enums import Backend
from aim_engine.catalog.data import file_names, read_yaml

PINNED_VLLM = "0.32.0"


class FlagKind(StrEnum):
    """How a flag takes its value."""

    BOOL = "bool"
    INT = "int"
    HUMAN_INT = "human-int"
    """An integer that may be written with a suffix, such as `32k`."""
    FLOAT = "float"
    STR = "str"
    CHOICE = "choice"
    LIST = "list"
    JSON = "json"
    OPTIONAL_STR = "optional-str"
    """Bare, or with one value."""


class FlagClass(StrEnum):
    """Who may set a flag."""

    ALLOWED = "allowed"
    OWNED = "owned"
    """The operator renders it from other fields."""
    ADMIN_ONLY = "admin-only"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of `vllm serve` or its like, without the leading dashes."""

    name: str
    kind: FlagKind
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    flag_class: FlagClass = FlagClass.ALLOWED
    why: str | None = None
    """Why it is not simply allowed, and what to do instead."""


@dataclass(frozen=True, slots=True)
class FlagTable:
    """All flags of one engine version."""

    engine: Backend
    version: str
    flags: Mapping[str, Flag]
    removed: Mapping[str, str]
    """Flags that other versions had, with the remedy."""
    source: str


@dataclass(frozen=True, slots=True)
class EnvRules:
    """What may be put in an engine's environment."""

    notes: Mapping[str, str]
    """Exact names that do nothing (obsolete or never existed), with the remedy."""
    owned: Mapping[str, str]
    """Patterns of names that the operator or the platform sets, with the reason."""
    denied: Mapping[str, str]
    """Patterns of names that nobody may set, with the reason."""
    admin_only: Mapping[str, str]
    known: frozenset[str]
    """Variables that the pinned engine reads, for spelling suggestions."""


def flag_table(backend: Backend, version: str) -> FlagTable | None:
    """Table for an engine version; patch releases share their minor version's table."""
    return _tables().get((backend, _minor(version)))


@cache
def env_rules() -> EnvRules:
    """Rules for environment variables of engines."""
    content = read_yaml("engines/env.yaml")
    return EnvRules(
        notes=MappingProxyType(content["notes"]),
        owned=MappingProxyType(content["owned"]),
        denied=MappingProxyType(content["denied"]),
        admin_only=MappingProxyType(content["adminOnly"]),
        known=frozenset(content["known"]),
    )


@cache
def _tables() -> Mapping[tuple[Backend, str], FlagTable]:
    contents = (read_yaml(f"engines/{name}") for name in file_names("engines"))
    tables = (_table(content) for content in contents if "flags" in content)
    return {(table.engine, _minor(table.version)): table for table in tables}


def _minor(version: str) -> str:
    return ".".join(version.removeprefix("v").split(".")[:2])


def _table(content: dict[str, Any]) -> FlagTable:
    return FlagTable(
        engine=Backend(content["engine"]),
        version=content["version"],
        flags=MappingProxyType({name: _flag(name, row) for name, row in content["flags"].items()}),
        removed=MappingProxyType(content["removed"]),
        source=content["source"],
    )


def _flag(name: str, row: dict[str, Any]) -> Flag:
    return Flag(
        name=name,
        kind=FlagKind(row["kind"]),
        choices=tuple(str(choice) for choice in row.get("choices", ())),
        aliases=tuple(row.get("aliases", ())),
        flag_class=FlagClass(row.get("class", FlagClass.ALLOWED)),
        why=row.get("why"),
    )

"""Command line grammar of an engine at one version, and the rules for environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any

from aim_engine.api.enums import Backend, Precision
from aim_engine.catalog.data import file_names, read_yaml

PINNED_VLLM = "0.32.0"


class FlagKind(StrEnum):
    """How a flag takes its value."""

    BOOL = "bool"
    """Bare, with a `--no-` form."""
    SWITCH = "switch"
    """Bare, without a `--no-` form."""
    INT = "int"
    HUMAN_INT = "human-int"
    """An integer that may be written with a suffix, such as `32k`."""
    FLOAT = "float"
    STR = "str"
    OPTIONAL_STR = "optional-str"
    """Bare, or with one value."""
    CHOICE = "choice"
    LIST = "list"
    JSON = "json"


class FlagClass(StrEnum):
    """Who may set a flag."""

    ALLOWED = "allowed"
    OWNED = "owned"
    """The operator renders it from other fields."""
    ADMIN_ONLY = "admin-only"
    """Cluster recipes only."""
    REMOTE_CODE = "remote-code"
    """Cluster recipes, and namespaces where an admin allows code from model repositories."""
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag, without the leading dashes."""

    name: str
    kind: FlagKind
    choices: tuple[str, ...] = ()
    """Accepted words: all of them for a choice, the ones beside numbers for a number."""
    fold_case: bool = False
    """The engine accepts choices in any case, and dashes for underscores."""
    aliases: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    flag_class: FlagClass = FlagClass.ALLOWED
    why: str = ""
    """What it does, and so why it is allowed or not; for an owned one, what to do instead."""
    denied_keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of a JSON value that nobody may set, with the reason."""
    denied_values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Key of a JSON value, or "" for the flag's own, to the values that nobody may set: regular expression to reason."""


@dataclass(frozen=True, slots=True)
class BatchDefaults:
    """Batching that the engine chooses on devices with at least `minimum_bytes` of memory."""

    minimum_bytes: int
    max_num_batched_tokens: int
    max_num_seqs: int


@dataclass(frozen=True, slots=True)
class FlagTable:
    """All flags of one engine version, and the defaults that matter for memory."""

    engine: Backend
    version: str
    source: str
    flags: Mapping[str, Flag]
    aliases: Mapping[str, str]
    removed: Mapping[str, str]
    """Flags that other versions had, with the remedy."""
    gpu_memory_utilization: float
    batch_defaults: tuple[BatchDefaults, ...]
    """Largest devices first."""
    kv_cache_bytes_per_element: Mapping[str, float]
    kv_cache_precisions: Mapping[str, Precision]
    """Formats of a KV cache that not every GPU reads, by the value of the flag."""
    online_quantization: Mapping[str, Precision]
    """Quantisation methods that work on a 16-bit checkpoint, with the format of the result."""


@dataclass(frozen=True, slots=True)
class KernelSwitch:
    """Variables that turn on kernels which not every GPU has."""

    pattern: str
    architectures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnvRules:
    """What may be put in an engine's environment. Keys are names or patterns, values say why or what instead."""

    owned: Mapping[str, str]
    denied: Mapping[str, str]
    admin_only: Mapping[str, str]
    tenant_allowed: tuple[str, ...]
    telling: re.Pattern[str]
    """Names that sound dangerous: no pattern allows them."""
    reviewed: Mapping[str, str]
    """Of these, names that were looked at and are harmless."""
    notes: Mapping[str, str]
    """Names that do nothing in the pinned engine."""
    known: frozenset[str]
    """Names that the pinned engine reads."""
    kernels: tuple[KernelSwitch, ...]


def flag_table(backend: Backend, version: str) -> FlagTable | None:
    """Table for an engine version; patch releases share their minor version's table. None where there is none."""
    return _read_table(f"{backend}-{_minor(version)}.yaml")


def flag_versions(backend: Backend) -> tuple[str, ...]:
    """Versions of an engine whose flags are known, oldest first."""
    tables = (
        _read_table(name) for name in file_names("engines") if re.fullmatch(rf"{backend}-[\d.]+\.yaml", name)
    )
    found = (table.version for table in tables if table is not None)
    return tuple(sorted(found, key=lambda version: [int(part) for part in version.split(".")]))


@cache
def env_rules(backend: Backend) -> EnvRules:
    """Rules for environment variables of an engine. Those of all engines hold, so that none can be reached through another."""
    files = [read_yaml("engines/env.yaml"), *(read_yaml(f"engines/{name}") for name in _env_files())]
    own = f"{backend}-env.yaml"
    return EnvRules(
        owned=_section(files, "owned"),
        denied=_section(files, "denied"),
        admin_only=_section(files, "adminOnly"),
        tenant_allowed=tuple(name for content in files for name in content.get("tenantAllowed", ())),
        telling=re.compile(files[0]["telling"]),
        reviewed=_section(files, "reviewed"),
        notes=_section(files, "notes"),
        known=frozenset(read_yaml(f"engines/{own}")["known"] if own in _env_files() else ()),
        kernels=tuple(
            KernelSwitch(pattern, tuple(row["architectures"]))
            for content in files
            for pattern, row in content.get("kernels", {}).items()
        ),
    )


def _env_files() -> tuple[str, ...]:
    return tuple(name for name in file_names("engines") if name.endswith("-env.yaml"))


def _section(files: list[dict[str, Any]], name: str) -> Mapping[str, str]:
    return MappingProxyType({key: why for content in files for key, why in content.get(name, {}).items()})


@cache
def _read_table(name: str) -> FlagTable | None:
    if name not in file_names("engines"):
        return None
    content = read_yaml(f"engines/{name}")
    return _table(content if "basedOn" not in content else _applied(content), _allowed(content["engine"]))


def _allowed(engine: str) -> Mapping[str, str]:
    """Flags that everybody may set, of any version of an engine, with the reason."""
    groups = read_yaml(f"engines/{engine}-allowed.yaml")
    return {name: why for why, names in groups.items() for name in names}


def _applied(difference: dict[str, Any]) -> dict[str, Any]:
    """A table that is written as what differs from another version's."""
    base = read_yaml(f"engines/{difference['engine']}-{difference['basedOn']}.yaml")
    absent = set(difference["absent"])
    flags = {name: row for name, row in base["flags"].items() if name not in absent}
    for name, change in difference["changed"].items():
        flags[name] = _changed(flags[name], change)
    later = f"it came after {difference['version']}; set engineVersion to {base['version']}, or remove it"
    removed = {name: why for name, why in base["removed"].items() if name not in difference["added"]}
    return {
        **base,
        **{name: difference[name] for name in ("version", "source", "defaults")},
        "flags": {**flags, **difference["added"]},
        "removed": {**removed, **dict.fromkeys(sorted(absent), later)},
    }


def _changed(row: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    kept = [choice for choice in row.get("choices", ()) if choice not in change.get("without", ())]
    choices = [] if "kind" in change else [*kept, *change.get("with", ())]
    plain = {name: value for name, value in change.items() if name in ("kind", "aliases")}
    return {**row, "choices": choices, **plain}


def _minor(version: str) -> str:
    return ".".join(version.removeprefix("v").split(".")[:2])


def _table(content: dict[str, Any], allowed: Mapping[str, str]) -> FlagTable:
    unclassified = [
        name for name, row in content["flags"].items() if "class" not in row and name not in allowed
    ]
    if unclassified:
        raise ValueError(
            f"{content['engine']} {content['version']}: say who may set {', '.join(unclassified)}, and why"
        )
    flags = {name: _flag(name, row, allowed.get(name, "")) for name, row in content["flags"].items()}
    return FlagTable(
        engine=Backend(content["engine"]),
        version=content["version"],
        source=content["source"],
        flags=MappingProxyType(flags),
        aliases=MappingProxyType({alias: flag.name for flag in flags.values() for alias in flag.aliases}),
        removed=MappingProxyType(content["removed"]),
        gpu_memory_utilization=content["defaults"]["gpuMemoryUtilization"],
        batch_defaults=tuple(_batch_defaults(row) for row in content["defaults"]["batching"]),
        kv_cache_bytes_per_element=MappingProxyType(content["kvCacheBytesPerElement"]),
        kv_cache_precisions=MappingProxyType(
            {value: Precision(name) for value, name in content["kvCachePrecisions"].items()}
        ),
        online_quantization=MappingProxyType(
            {method: Precision(name) for method, name in content["onlineQuantization"].items()}
        ),
    )


def _batch_defaults(row: dict[str, int]) -> BatchDefaults:
    return BatchDefaults(
        minimum_bytes=row["minimumGiB"] * 2**30,
        max_num_batched_tokens=row["maxNumBatchedTokens"],
        max_num_seqs=row["maxNumSeqs"],
    )


def _flag(name: str, row: dict[str, Any], allowed: str) -> Flag:
    denied = row.get("deniedValues", {})
    return Flag(
        name=name,
        kind=FlagKind(row["kind"]),
        choices=tuple(row.get("choices", ())),
        fold_case=row.get("foldCase", False),
        aliases=tuple(row.get("aliases", ())),
        minimum=row.get("minimum"),
        maximum=row.get("maximum"),
        flag_class=FlagClass(row.get("class", FlagClass.ALLOWED)),
        why=row.get("why", allowed),
        denied_keys=MappingProxyType(row.get("deniedKeys", {})),
        denied_values=MappingProxyType(denied if row["kind"] == FlagKind.JSON else {"": denied}),
    )

"""Flags and variables of older engines, or of other habits, in the words of the pinned engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aim_engine.api.enums import Backend, Maturity
from aim_engine.catalog.flags import PINNED_VLLM, FlagClass, FlagTable, env_rules, flag_table
from aim_engine.catalog.imports import import_rules
from aim_engine.engines import engine
from aim_engine.importers.results import Configuration

_ENGINE = f"vLLM {PINNED_VLLM}"
REMOTE_CODE = "trust-remote-code"


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is left of flags or variables, and what was said about the others."""

    values: dict[str, object]
    notes: tuple[str, ...]


def translate(found: Configuration) -> Configuration:
    """The configuration for the pinned engine; every change is a note. What has no translation stays, to be refused."""
    flags = _flags(found)
    variables = _variables(found.env)
    maturity, aged = _maturity(found)
    return replace(
        found,
        engine_args=flags.values,
        env={name: str(value) for name, value in variables.values.items()},
        maturity=maturity,
        notes=(*found.notes, *aged, *flags.notes, *variables.notes),
    )


def _flags(found: Configuration) -> _Kept:
    table = _pinned()
    rules = import_rules()
    kept: dict[str, object] = {}
    notes: list[str] = []
    usual: list[str] = []
    for name, value in engine(Backend.VLLM).merge_args(found.engine_args, {}).items():
        flag = table.flags.get(name)
        if name in rules.defaults and rules.defaults[name] == value:
            usual.append(name)
        elif name == REMOTE_CODE:
            kept |= _remote_code(found.model_id, value, notes)
        elif name in rules.dropped_flags:
            notes.append(f"{name} was dropped: {rules.dropped_flags[name]}")
        elif flag is not None and flag.flag_class is FlagClass.OWNED:
            notes.append(f"{name} was dropped: the operator sets it")
        else:
            kept[name] = value
    if usual:
        notes.append(f"left at the engine's defaults: {', '.join(sorted(usual))}")
    return _Kept(kept, tuple(notes))


def _remote_code(model_id: str, value: object, notes: list[str]) -> dict[str, object]:
    """The flag where the model needs it, and where that is not known, to be refused; nothing where it does not."""
    known = import_rules().remote_code_of(model_id)
    if known is not None:
        notes.append(f"{REMOTE_CODE} was {'kept' if known.needed else 'dropped'}: {known.why}")
    return {} if known is not None and not known.needed else {REMOTE_CODE: value}


def _variables(written: Mapping[str, str]) -> _Kept:
    kept: dict[str, object] = {}
    notes: list[str] = []
    for name, value in sorted(written.items()):
        new = import_rules().renamed_variables.get(name, name)
        why = _useless(new)
        if why is not None:
            notes.append(f"{name}={value} was dropped: {why}")
            continue
        if new != name:
            notes.append(f"{name} is {new} in {_ENGINE}")
        kept.setdefault(new, value)
    return _Kept(dict(sorted(kept.items())), tuple(notes))


def _useless(name: str) -> str | None:
    """Why a variable has no place in a recipe; None when it may have one."""
    rules = env_rules(Backend.VLLM)
    if name in import_rules().dropped_variables:
        return import_rules().dropped_variables[name]
    if name in rules.notes:
        return rules.notes[name].split(";")[0]
    if name in rules.owned:
        return "the operator sets it"
    if name.startswith("VLLM_") and name not in rules.known:
        return f"{_ENGINE} does not read it"
    return None


def _maturity(found: Configuration) -> tuple[Maturity, tuple[str, ...]]:
    maturity, notes = found.maturity, []
    for name, rule in import_rules().outdated.items():
        if found.env.get(name) == rule.value and rule.maturity_at_most.rank > maturity.rank:
            notes.append(f"{rule.maturity_at_most} instead of {maturity}: {rule.why}")
            maturity = rule.maturity_at_most
    return maturity, tuple(notes)


def _pinned() -> FlagTable:
    table = flag_table(Backend.VLLM, PINNED_VLLM)
    if table is None:
        raise LookupError(f"no flag table for the pinned {_ENGINE}")
    return table

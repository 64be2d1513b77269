"""Checks of environment variables: which names an author may set, and which do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from aim_engine.catalog.flags import EnvRules
from aim_engine.catalog.gpus import GPU
from aim_engine.engines.types import Problem, Trust

_OFF = frozenset({"", "0", "false", "off", "no"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check(env: Mapping[str, str], rules: EnvRules, *, trust: Trust) -> tuple[Problem, ...]:
    """All problems of an environment."""
    found = ((name, value, _refusal(name, value, rules, trust)) for name, value in sorted(env.items()))
    return tuple(
        Problem(f"env.{name}", value, *refusal) for name, value, refusal in found if refusal is not None
    )


def warnings(env: Mapping[str, str], rules: EnvRules, prefix: str, gpu: GPU | None = None) -> tuple[str, ...]:
    """Variables that the engine ignores: obsolete ones, misspelt ones under its own prefix, kernels that the GPU lacks."""
    return (*_ignored(env, rules, prefix), *(_without_kernels(env, rules, gpu) if gpu is not None else ()))


def _refusal(name: str, value: str, rules: EnvRules, trust: Trust) -> tuple[str, str] | None:
    if not _NAME.fullmatch(name):
        return f"{name!r} is not a name of a variable", "use letters, digits and underscores"
    if "\x00" in value:
        return f"the value of {name} has a NUL character", "remove it"
    if why := _matching(name, rules.owned):
        return f"{name} is set by the operator", why
    if why := _matching(name, rules.denied):
        return f"{name} is denied: it {why}", "remove it"
    if trust is Trust.ADMIN:
        return None
    if why := _matching(name, rules.admin_only):
        return (
            f"{name} is allowed in cluster recipes only: it {why}",
            "remove it, or ask an admin for a recipe",
        )
    if not any(fnmatchcase(name, pattern) for pattern in rules.tenant_allowed):
        return f"{name} is not on the list of variables", "remove it, or ask an admin for a recipe"
    if (
        rules.telling.search(name)
        and name not in rules.tenant_allowed
        and not _matching(name, rules.reviewed)
    ):
        message = f"{name} is allowed in cluster recipes only: its name tells of files, hosts, code or logs"
        return message, "remove it, or ask an admin for a recipe"
    return None


def _matching(name: str, patterns: Mapping[str, str]) -> str | None:
    if name in patterns:
        return patterns[name]
    return next(
        (why for pattern, why in patterns.items() if "*" in pattern and fnmatchcase(name, pattern)), None
    )


def _without_kernels(env: Mapping[str, str], rules: EnvRules, gpu: GPU) -> Iterator[str]:
    for name, value in sorted(env.items()):
        found = next((each for each in rules.kernels if fnmatchcase(name, each.pattern)), None)
        if found is not None and value.lower() not in _OFF and gpu.architecture not in found.architectures:
            where = ", ".join(found.architectures)
            yield f"{name} has no effect on {gpu.model} ({gpu.architecture}): its kernels are for {where}"


def _ignored(env: Mapping[str, str], rules: EnvRules, prefix: str) -> Iterator[str]:
    for name in sorted(env):
        if note := rules.notes.get(name):
            yield f"{name} has no effect: {note}"
        elif name.startswith(prefix) and name not in rules.known:
            near = get_close_matches(name, rules.known, n=1, cutoff=0.8)
            yield f"{name} is unknown to the engine" + (f"; did you mean {near[0]}?" if near else "")

"""Finds the cause of an engine's end in what Kubernetes kept of its last words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aim_engine.catalog.terminations import TerminationRule
from aim_engine.engines.types import Diagnosis

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LOG_PREFIX = re.compile(r"^(?:\([^)]*\)\s*)?(?:[A-Z]+ \d\d-\d\d [\d:.]+ \[[^\]]*\]\s*)?")
_SHOWN = 300


def classify(
    message: str, exit_code: int | None, reason: str | None, rules: Sequence[TerminationRule]
) -> Diagnosis | None:
    """Diagnosis of a terminated container; None for one that ended well."""
    text = "\n".join(_LOG_PREFIX.sub("", line) for line in _ANSI.sub("", message).splitlines())
    if reason == "OOMKilled":
        return Diagnosis(
            "OutOfHostMemory",
            "the container exceeded its memory limit",
            "raise resources.memory; loading needs room for shared memory and the largest weight file",
        )
    for rule in rules:
        if found := rule.pattern.search(text):
            groups = {name: " ".join((value or "").split()) for name, value in found.groupdict().items()}
            return Diagnosis(rule.reason, rule.message.format_map(groups), rule.remedy.format_map(groups))
    if not exit_code:
        return None
    last = _last_error(text)
    told = f"the engine ended with code {exit_code}" + (f": {last}" if last else "")
    return Diagnosis("EngineCrashed", told, "see the log of the pod's previous container")


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or [""])[-1][:_SHOWN]

"""Decisions recorded in ConfigMaps: written by the selector, named by AIMDeployments, and read as a name and a hash, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.api.configmap_yaml import Faults, ReadError, RefusedError, load
from aim_engine.selection import Recorded

DECISION_FILE = "decision.yaml"


def read_decision(obj: Mapping[str, Any]) -> Recorded | Faults:
    """The recipe that a ConfigMap says was chosen. Never raises."""
    text = (obj.get("data") or {}).get(DECISION_FILE)
    if not isinstance(text, str):
        remedy = f"put the output of `aim-engine select -o yaml` under the key {DECISION_FILE}"
        return Faults((ReadError(f"data.{DECISION_FILE}", "", "is missing", remedy),))
    try:
        document = load(text)
    except RefusedError as refused:
        return refused.faults
    chosen = document.data.get("chosen")
    recipe, content = (
        (chosen.get("recipe"), chosen.get("hash")) if isinstance(chosen, Mapping) else (None, None)
    )
    if not isinstance(recipe, str) or not isinstance(content, str) or not recipe or not content:
        remedy = "record a decision that chose a recipe"
        return Faults((document.error(("chosen",), "", "names no recipe and hash", remedy),))
    return Recorded(recipe, content)


def chose_nothing(obj: Mapping[str, Any]) -> bool:
    """Whether a ConfigMap records a decision that waits, with no recipe chosen."""
    try:
        document = load(str((obj.get("data") or {}).get(DECISION_FILE)))
    except RefusedError:
        return False
    return "outcome" in document.data and document.data.get("chosen") is None

"""`aim-engine diff`: what applying a deployment would change in the cluster."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.cli.decision import exit_code
from aim_engine.cli.output import coloured, tell, to_yaml
from aim_engine.cli.render import Outlook, outlook_of, told


def run(arguments: argparse.Namespace) -> int:
    """Compare the decision in force with the one that applying would lead to."""
    outlook = outlook_of(arguments)
    lines = list(difference(outlook.now, outlook.manifests))
    for line in lines:
        sys.stdout.write(_painted(line))
    tell(_summary(outlook, bool(lines)))
    return exit_code(outlook.document)


def difference(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[str]:
    """A unified difference by object; objects of one side alone are whole."""
    old, new = _by_name(before), _by_name(after)
    for name in dict.fromkeys((*new, *old)):
        yield from difflib.unified_diff(
            _lines(old.get(name)), _lines(new.get(name)),
            f"{name} now" if name in old else "/dev/null", f"{name} then" if name in new else "/dev/null",
        )  # fmt: skip


def _summary(outlook: Outlook, changed: bool) -> str:
    """One sentence on the same plan that the lines are of."""
    name = "/".join(outlook.key)
    if not changed:
        return f"{name} would not change; {told(outlook.document)}{outlook.short_of}"
    if outlook.document["outcome"] == "Waiting":
        return f"{name} would change when GPUs are free{_pods(outlook)}; {told(outlook.document)}"
    return f"{name} would change{_pods(outlook)}; {outlook.document['message']}{outlook.short_of}"


def _pods(outlook: Outlook) -> str:
    """What becomes of the pods there are: replaced only where their template changes."""
    before, after = (_deployment(manifests) for manifests in (outlook.now, outlook.manifests))
    then = outlook.plan.revision
    if before is None or after is None or then is None:
        return ""
    were, will_be = before.get("replicas"), after.get("replicas")
    scaled = "" if were == will_be else f"; replicas {were} -> {will_be}"
    if before.get("template") == after.get("template"):
        return f"{scaled}; pods that run are left alone"
    return f"{scaled}; pods are replaced by {then.strategy}: {then.strategy_reason}"


def _deployment(manifests: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((each["spec"] for each in manifests if each["kind"] == "Deployment"), None)


def _by_name(manifests: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in manifests}


def _lines(manifest: dict[str, Any] | None) -> list[str]:
    return to_yaml(manifest).splitlines(keepends=True) if manifest else []


def _painted(line: str) -> str:
    if line.startswith("+"):
        return coloured(line, "green")
    return coloured(line, "red") if line.startswith("-") else line

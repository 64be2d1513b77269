"""What a person would look at, as text."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

WIDTH = max(100, min(160, shutil.get_terminal_size((132, 24)).columns))


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def command(text: str, output: str) -> None:
    """A command as the user would type it, and its output."""
    print(f"$ {text}\n{output.rstrip()}\n", flush=True)


def decision(obj: Mapping[str, Any]) -> str:
    """`status.selection` as a table: every candidate, its verdict, the reason and what would help."""
    selection = obj["status"]["selection"]
    chosen = selection.get("chosen") or "none"
    lines = [f"outcome {selection['outcome']}, {selection['evaluated']} recipes looked at, chosen: {chosen}"]
    rows = [
        (entry["recipe"], entry["reason"], with_remedy(entry)) for entry in selection.get("candidates", [])
    ]
    return "\n".join([*lines, table(("RECIPE", "VERDICT", "WHY"), rows)])


def with_remedy(entry: Mapping[str, Any]) -> str:
    remedy = entry.get("remedy")
    return f"{entry['message']}. Remedy: {remedy}" if remedy else str(entry["message"])


def conditions(obj: Mapping[str, Any]) -> str:
    """Conditions as a table."""
    rows = [
        (found["type"], f"{found['status']} {found['reason']}", found["message"])
        for found in obj.get("status", {}).get("conditions", [])
    ]
    return table(("CONDITION", "STATUS", "MESSAGE"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as needed; the last one is wrapped."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head) - 1)]
    indent = sum(widths) + 2 * len(widths)
    lines = []
    for row in [head, *rows]:
        left = "".join(f"{cell:<{width + 2}}" for cell, width in zip(row, widths, strict=False))
        text = textwrap.wrap(row[-1], max(40, WIDTH - indent)) or [""]
        lines += [left + text[0], *(" " * indent + line for line in text[1:])]
    return "\n".join(line.rstrip() for line in lines)


def engine(deployment: Mapping[str, Any]) -> str:
    """What the rendered Deployment asks for: resources, command, arguments."""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    shown = {key: container[key] for key in ("image", "command", "args", "resources")}
    text: str = yaml.safe_dump(
        {"replicas": deployment["spec"]["replicas"], **shown}, sort_keys=False, width=1000
    )
    return text


def metrics(text: str, lines: int = 24) -> str:
    """The first series of the operator's own metrics."""
    own = [line for line in text.splitlines() if line.startswith("aim_") and "_bucket" not in line]
    return "\n".join(own[:lines])

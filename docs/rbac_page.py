"""The page of rights, from deploy/rights.yaml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

Table = Callable[..., str]
RIGHTS = Path(__file__).parents[1] / "deploy" / "rights.yaml"


def page(table: Table) -> str:
    """Every right of our ServiceAccounts, from deploy/rights.yaml."""
    parts = [
        "# Rights\n\n",
        "Every right of the ServiceAccounts that the chart and `deploy/manifests` bring, for a release called `aim-engine`. A test holds this table "
        "against the rendered roles; another runs everything with these roles, reads the API server's audit log, and fails for a request "
        "that was forbidden and for a right that was not used, unless the last column says why it is there. What follows from them: "
        "[SECURITY.md](../../SECURITY.md).\n\n",
        table(
            ("Where", ""),
            (
                ("cluster", "a ClusterRole"),
                (
                    "served namespaces",
                    "a ClusterRole; with `watchNamespaces` a Role in each of these namespaces instead",
                ),
                ("own namespace", "a Role in the release's namespace"),
            ),
        ),
    ]
    content = yaml.safe_load(RIGHTS.read_text())
    head = ("Resource", "Verbs", "Where", "Why", "Not seen in the audit")
    for account, section in content.items():
        parts.append(f"\n## {account}\n\n{section['about']}\n\n")
        parts.append(table(head, map(_right, section["rights"])))
    return "".join(parts)


_SCOPES = {"cluster": "cluster", "watched": "served namespaces", "release": "own namespace"}
_MODES = {"clusterwide": ", without `watchNamespaces`", "namespaced": ", with `watchNamespaces`"}


def _right(right: Mapping[str, Any]) -> tuple[str, ...]:
    names = f" {', '.join(f'`{name}`' for name in right['names'])} only" if "names" in right else ""
    where = _SCOPES[right["scope"]] + _MODES.get(right.get("mode", ""), "")
    unused = "; ".join(f"{verb}: {why}" for verb, why in right.get("unused", {}).items())
    return f"`{right['resource']}`{names}", ", ".join(right["verbs"]), where, right["why"], unused

"""Writes the manifests beside it from the chart: `make manifests`. They are the chart's own objects, without helm's marks and hooks.

With `--check` it only tells what is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aim_engine.generated import keep
from testbed import chart

HERE = Path(__file__).parent
NOTE = "# Generated from deploy/helm (`make manifests`); do not edit. {}\n"
VALUES: Mapping[str, Any] = {
    "selector": {"enabled": False},
    "crds": {"upgrade": False},
    "recipes": {"install": False},
    "monitoring": {"enabled": False},
}
"""What belongs to helm, or has a place of its own here (crds, recipes), is left out."""
FILES = {
    "rbac.yaml": "Rights of the operator, each with its reason in docs/reference/rbac.md.",
    "user-roles.yaml": "Rights of users, by aggregation into the built-in roles view, edit and admin.",
    "operator.yaml": "The operator: two replicas, of which one works and the\n# other takes over within seconds (Lease). After a change of "
    "its ConfigMap:\n# kubectl -n aim-engine rollout restart deployment/aim-engine-operator deployment/aim-engine-recipe-validator",
    "validator.yaml": "The validator: the API server asks it before it\n# stores our objects. It makes and rotates its certificate (Secret) and fills in "
    "the webhook configuration once it answers.",
}
_RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
_COMPONENT = "app.kubernetes.io/component"
_HELMS = {"helm.sh/chart", "app.kubernetes.io/managed-by"}
_PART_OF_HELM = {"guard", "test", "model", "policy"}
"""Components that are hooks of helm, or belong to one release."""


def files() -> dict[str, str]:
    """File name -> content."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in FILES}
    for each in chart.render(**VALUES):
        name = _file(each)
        if name is not None:
            found[name].append(_plain(each))
    return {
        name: NOTE.format(FILES[name]) + yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)
        for name, objects in found.items()
    }


def _file(obj: Mapping[str, Any]) -> str | None:
    metadata = obj["metadata"]
    component = metadata.get("labels", {}).get(_COMPONENT)
    if component in _PART_OF_HELM or "helm.sh/hook" in metadata.get("annotations", {}):
        return None
    if component == "recipe-validator":
        return "validator.yaml"
    if component != "operator":
        raise ValueError(f"{obj['kind']} {metadata['name']}: say in which file component {component} goes")
    if obj["kind"] in _RIGHTS:
        return "rbac.yaml" if metadata["name"].endswith("-operator") else "user-roles.yaml"
    return "operator.yaml"


def _plain(value: Any) -> Any:
    """Without what only helm knows how to keep in step."""
    match value:
        case dict():
            return {
                k: _plain(v) for k, v in value.items() if k not in _HELMS and not k.startswith("checksum/")
            }
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay such."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def main(arguments: Sequence[str]) -> int:
    """Write, or with `--check` compare; 1 where a file is out of date."""
    return keep(HERE, files(), check="--check" in arguments, by="make manifests")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

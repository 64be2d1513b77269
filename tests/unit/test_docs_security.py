"""SECURITY.md has a row for every field that somebody may set, and the pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "SECURITY.md").read_text()
OPERATION = (ROOT / "docs" / "operations" / "security.md").read_text()


def schema(name: str) -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / "crds" / f"{name}.yaml").read_text())
    properties: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return dict(properties["spec"]["properties"])


def deployment_fields() -> list[str]:
    """Fields of an AIMDeployment, two levels deep."""
    return [
        f"spec.{name}{inner}"
        for name, field in schema("aimdeployments").items()
        for inner in ([f".{part}" for part in field.get("properties", {})] or [""])
    ]


def rows(heading: str) -> set[str]:
    """Names in the first column of the table that begins with a heading."""
    table = MODEL[MODEL.index(heading) :].split("\n\n", 1)[0]
    return {
        name for line in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    }


@pytest.mark.parametrize("field", deployment_fields())
def test_every_field_of_an_aimdeployment_is_in_the_threat_model(field: str) -> None:
    named = rows("| Field | Leads to |")
    assert field in named or f"{field.rsplit('.', 1)[0]}.*" in named


def test_the_threat_model_names_no_field_that_is_not_there() -> None:
    known = set(deployment_fields())
    for name in rows("| Field | Leads to |"):
        assert name in known or any(each.startswith(name.removesuffix("*")) for each in known), name


@pytest.mark.parametrize("field", sorted(schema("aimrecipes")))
def test_every_field_of_an_aimrecipe_is_in_the_threat_model(field: str) -> None:
    assert f"spec.{field}" in rows("| Object, field |")


def test_the_parameters_of_the_policy_are_documented() -> None:
    chart = (ROOT / "deploy" / "helm" / "templates" / "policy.yaml").read_text()
    used = set(re.findall(r"params\.data\.(\w+)", chart))
    documented = set(re.findall(r"^\| `(\w+)` \|", OPERATION, re.MULTILINE))
    assert used
    assert used <= documented


def test_the_gate_is_where_other_pages_look_for_it() -> None:
    assert "\n## The gate\n" in OPERATION
    assert "../operations/security.md#the-gate" in (ROOT / "docs" / "guides" / "helm.md").read_text()

"""Files are judged as the API server judges objects: one table of rules, in CEL and in Python."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aim_engine.api import crd
from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.recipe import AIMRecipe
from aim_engine.api.rules import DEPLOYMENT_RULES, RECIPE_RULES, Rule, broken
from unit.api_objects import OTHER_VERSIONS, SAMPLES, Json, Sample, aimd, aimr, with_metadata

READERS: dict[str, type[AIMDeployment] | type[AIMRecipe]] = {
    "AIMDeployment": AIMDeployment,
    "AIMRecipe": AIMRecipe,
}
FILES = {"aimdeployments.yaml": DEPLOYMENT_RULES, "aimrecipes.yaml": RECIPE_RULES}


def faults(obj: Json, before: Json | None = None) -> list[str]:
    """Fields that strict_load finds wrong; a namespace is filled in as kubectl does."""
    whole = with_metadata({**obj, "metadata": {"namespace": "team-a", **obj["metadata"]}}) if obj.get("kind") == "AIMDeployment" else obj  # fmt: skip
    reader = READERS.get(str(obj.get("kind")), AIMRecipe)
    try:
        reader.strict_load(whole, before)
    except ValidationError as error:
        return [".".join(map(str, each["loc"])) for each in error.errors()]
    return []


@pytest.mark.parametrize(
    "sample", [*SAMPLES.values(), *OTHER_VERSIONS.values()], ids=[*SAMPLES, *OTHER_VERSIONS]
)
def test_a_file_is_taken_or_refused_at_the_right_field(sample: Sample) -> None:
    found = faults(sample.obj)
    assert (not found) is sample.taken
    assert sample.taken or sample.field in found


@pytest.mark.parametrize("file", FILES)
def test_the_crd_has_every_rule_that_has_an_expression_and_no_other(file: str) -> None:
    def rules(schema: Json) -> list[tuple[str, str]]:
        own = [(each["rule"], each["message"]) for each in schema.get("x-kubernetes-validations", ())]
        return [*own, *(rule for child in schema.get("properties", {}).values() for rule in rules(child))]

    schema = crd.definitions()[file]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    wanted = [(rule.rule, rule.message) for rule in FILES[file] if rule.rule is not None]
    assert sorted(rules(schema)) == sorted(wanted)


@pytest.mark.parametrize("rule", [*DEPLOYMENT_RULES, *RECIPE_RULES], ids=lambda rule: rule.message[:40])
def test_every_rule_has_a_python_half(rule: Rule) -> None:
    assert (rule.holds is None) is (rule.follows is not None)


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True), ({"precision": "bf16"}, True), ({"backend": "vllm"}, True),
        ({"modelID": "a/c"}, False), ({"backend": "sglang"}, False),
        ({"hardware": {"gpuModel": "MI325X", "gpuCount": 1}}, False), ({"hardware": {"gpuModel": "MI300X", "gpuCount": 2}}, True),
    ],
)  # fmt: skip
def test_what_identifies_a_recipe_does_not_change(change: Json, taken: bool) -> None:
    assert (not faults(aimr(**change), before=aimr())) is taken


_trees: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(
    tree=_trees,
    place=st.sampled_from(["model", "recipe", "cache", "performance", "hardware", "overrides", "resources"]),
)
def test_no_shape_of_a_value_breaks_a_rule_itself(tree: Any, place: str) -> None:
    for obj, rules in ((aimd(**{place: tree}), DEPLOYMENT_RULES), (aimr(**{place: tree}), RECIPE_RULES)):
        assert all(isinstance(rule, Rule) for rule, _ in broken(obj, rules, before=obj))
        faults(obj)


@given(tree=_trees)
def test_any_tree_is_an_object_or_a_validation_error(tree: Any) -> None:
    for reader in READERS.values():
        for value in (tree, {"metadata": tree}, {**aimr(), "spec": tree}, {**aimd(), "status": tree}):
            with contextlib.suppress(ValidationError):
                reader.strict_load(value)

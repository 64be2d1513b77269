"""The CRDs: as generated, described and bounded everywhere, and admitting exactly what the operator can read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aim_engine.api import crd
from aim_engine.api.deployment import AIMDeployment, AIMDeploymentSpec
from aim_engine.api.deployment_status import AIMDeploymentStatus
from aim_engine.api.meta import Model
from aim_engine.api.recipe import AIMRecipe, AIMRecipeSpec, AIMRecipeStatus
from unit.selection_world import UNHURRIED

CRDS = Path(__file__).parents[2] / "crds"
DEFINITIONS = crd.definitions()
Schema = dict[str, Any]

UNBOUNDED_NUMBERS = {
    "tolerationSeconds": "core/v1 sets no upper bound",
    "observedGeneration": "metadata.generation has none",
    "deployments": "as many as the cluster has",
    "matchingNodes": "as many as the cluster has nodes",
    "fits": "as many as the cluster has GPUs",
    "usedBy": "as many as there are AIMDeployments",
    "replicas": "status repeats the Deployment's",
    "readyReplicas": "status repeats the Deployment's",
    "gpuCount": "status repeats the spec's, which is bounded",
    "evaluated": "as many as there are recipes",
}
"""Numbers without an upper bound, each with why."""


def schema_of(file: str) -> Schema:
    version = DEFINITIONS[file]["spec"]["versions"][0]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}.*")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")


NODES = [(file, path, schema) for file in DEFINITIONS for path, schema in walk(schema_of(file))]
FIELDS = [node for node in NODES if node[1] and not node[1].endswith(("[]", ".*"))]


def named(node: tuple[str, str, Schema]) -> str:
    return node[0].removesuffix(".yaml") + node[1]


@pytest.mark.parametrize("file", DEFINITIONS)
def test_the_files_are_what_the_models_generate(file: str) -> None:
    assert (CRDS / file).read_text() == crd.to_yaml(DEFINITIONS[file]), "run `make generate`"


def test_there_is_no_other_definition_and_all_are_applied_together() -> None:
    assert {path.name for path in CRDS.iterdir()} == {*DEFINITIONS, "kustomization.yaml"}
    assert set(yaml.safe_load((CRDS / "kustomization.yaml").read_text())["resources"]) == set(DEFINITIONS)


@pytest.mark.parametrize("file", DEFINITIONS)
def test_the_files_are_plain_yaml_of_the_definition(file: str) -> None:
    assert yaml.safe_load((CRDS / file).read_text()) == DEFINITIONS[file]


def test_every_field_is_described_in_a_sentence() -> None:
    """`metadata` is the API server's own."""
    for node in FIELDS:
        if node[1] != ".metadata":
            assert re.search(r"^\S.{2,}\.$", node[2].get("description", ""), re.DOTALL), named(node)


def test_every_string_has_a_longest_length() -> None:
    for node in NODES:
        _, path, schema = node
        if schema.get("type") == "string" and path not in (".apiVersion", ".kind"):
            assert "maxLength" in schema or "enum" in schema, named(node)


def test_every_list_and_map_has_a_largest_size() -> None:
    for node in NODES:
        schema = node[2]
        if schema.get("type") == "array":
            assert "maxItems" in schema, named(node)
        if isinstance(schema.get("additionalProperties"), dict):
            assert "maxProperties" in schema, named(node)


def test_every_number_is_bounded_or_says_why_not() -> None:
    for node in NODES:
        _, path, schema = node
        if schema.get("type") not in ("integer", "number"):
            continue
        assert schema["type"] == "integer", f"{named(node)}: no floats in the API"
        name = path.rsplit(".", 1)[-1]
        if "maximum" not in schema:
            assert name in UNBOUNDED_NUMBERS, named(node)
            assert path.startswith(".status") or name == "tolerationSeconds", named(node)
        if path.startswith(".spec"):
            assert "minimum" in schema, named(node)


def test_every_list_says_how_it_merges() -> None:
    for node in NODES:
        schema = node[2]
        if schema.get("type") != "array":
            continue
        kind = schema.get("x-kubernetes-list-type")
        assert kind in ("atomic", "set", "map"), named(node)
        if kind == "map":
            keys = schema["x-kubernetes-list-map-keys"]
            assert set(keys) <= set(schema["items"]["required"]), named(node)


def test_objects_have_no_defaults_so_that_absence_is_visible() -> None:
    for node in NODES:
        if node[2].get("type") in ("object", "array"):
            assert "default" not in node[2], named(node)


def test_defaults_satisfy_their_own_bounds() -> None:
    for node in NODES:
        schema = node[2]
        default = schema.get("default")
        if default is None:
            continue
        if "enum" in schema:
            assert default in schema["enum"], named(node)
        if "pattern" in schema:
            assert re.search(schema["pattern"], str(default)), named(node)
        if "minimum" in schema:
            assert schema["minimum"] <= default <= schema.get("maximum", default), named(node)


def test_the_schemas_are_structural() -> None:
    banned = {
        "$ref",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "title",
        "const",
        "$defs",
        "propertyNames",
        "definitions",
        "examples",
    }
    for node in NODES:
        assert not banned & set(node[2]), named(node)
        assert "type" in node[2] or node[2].get("x-kubernetes-int-or-string"), named(node)


def test_fields_are_camel_case() -> None:
    for node in FIELDS:
        assert re.match(r"^[a-z][A-Za-z0-9]*$", node[1].rsplit(".", 1)[-1]), named(node)


def test_patterns_are_anchored() -> None:
    for node in NODES:
        if pattern := node[2].get("pattern"):
            assert pattern.startswith("^"), named(node)
            assert pattern.endswith("$"), named(node)


@pytest.mark.parametrize(("file", "scope", "short"), [("aimrecipes.yaml", "Cluster", "aimr"), ("aimdeployments.yaml", "Namespaced", "aimd")])  # fmt: skip
def test_names_scope_category_and_subresources(file: str, scope: str, short: str) -> None:
    spec = DEFINITIONS[file]["spec"]
    version = spec["versions"][0]
    assert spec["scope"] == scope
    assert spec["names"]["shortNames"] == [short]
    assert spec["names"]["categories"] == ["aim"]
    assert spec["names"]["plural"] + ".aim.engine.amd.com" == DEFINITIONS[file]["metadata"]["name"]
    assert version["subresources"]["status"] == {}
    assert ("scale" in version["subresources"]) is (file == "aimdeployments.yaml")


def _lookup(schema: Schema, path: str) -> Schema:
    for name in re.sub(r"\[[^\]]*\]", "", path).strip(".").split("."):
        schema = schema.get("items", schema)["properties"][name]
    return schema


@pytest.mark.parametrize("file", DEFINITIONS)
def test_columns_selectors_and_scale_point_at_fields_that_exist(file: str) -> None:
    version = DEFINITIONS[file]["spec"]["versions"][0]
    schema = schema_of(file)
    for column in version["additionalPrinterColumns"]:
        if column["jsonPath"] == ".metadata.creationTimestamp":
            continue
        field = _lookup(schema, column["jsonPath"])
        assert (column["type"] == "integer") is (field.get("type") == "integer"), column["name"]
        assert column["description"].endswith("."), column["name"]
    for entry in version["selectableFields"]:
        assert _lookup(schema, entry["jsonPath"])["type"] in ("string", "integer", "boolean")
    for path in version["subresources"].get("scale", {}).values():
        _lookup(schema, path)


def test_rules_end_in_a_remedy_and_stand_on_fields_that_exist() -> None:
    for file, _, schema in NODES:
        for rule in schema.get("x-kubernetes-validations", []):
            assert len(rule["message"]) > 30, (file, rule)
            assert "\n" not in rule["message"]


def test_a_union_of_several_types_is_refused_by_the_transform() -> None:
    with pytest.raises(ValueError, match="several types"):
        crd.structural({"anyOf": [{"type": "string"}, {"type": "integer"}]})


# What the API server admits, the operator can read


def _text(schema: Schema) -> st.SearchStrategy[str]:
    most = schema.get("maxLength", 40)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("format") == "date-time":
        return st.just("2026-01-01T00:00:00Z")
    if "pattern" in schema:
        pattern = schema["pattern"]
        found = st.from_regex(pattern, fullmatch=True, alphabet=st.characters(codec="ascii"))
        return found.filter(lambda text: "\n" not in text and schema.get("minLength", 0) <= len(text) <= most)
    return st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=schema.get("minLength", 0), max_size=min(most, 20))  # fmt: skip


def _quantities() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(0, 10**6), st.sampled_from(["500m", "16", "1e3", "0.5", "128Gi", "+2", ".5G", "3."])
    )


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values the API server would store for a field of this schema."""
    if schema.get("x-kubernetes-int-or-string"):
        return _quantities()
    match schema["type"]:
        case "string":
            return _text(schema)
        case "integer":
            return st.integers(schema.get("minimum", 0), schema.get("maximum", 2**31))
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(
                values(schema["items"]), max_size=min(3, schema["maxItems"]), unique_by=_identity(schema)
            )
        case _:
            return _objects(schema)


def _identity(schema: Schema) -> Callable[[Any], Any] | None:
    """By what the API server tells the entries of a list of type set or map apart."""
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return json.dumps
        case "map":
            return lambda entry: json.dumps([entry.get(key) for key in schema["x-kubernetes-list-map-keys"]])
        case _:
            return None


def _objects(schema: Schema) -> st.SearchStrategy[Any]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        scalars = st.one_of(st.booleans(), st.integers(-5, 5), st.text("abc-", max_size=5))
        return st.dictionaries(st.text("abc-", min_size=1, max_size=5), st.recursive(scalars, lambda c: st.dictionaries(st.text("ab"), c, max_size=2), max_leaves=3), max_size=3)  # fmt: skip
    if isinstance(schema.get("additionalProperties"), dict):
        return st.dictionaries(st.text("abc/.", min_size=1, max_size=8), values(schema["additionalProperties"]), max_size=3)  # fmt: skip
    required = set(schema.get("required", []))
    properties = schema.get("properties", {})
    return st.fixed_dictionaries(
        {name: values(properties[name]) for name in required},
        optional={name: values(child) for name, child in properties.items() if name not in required},
    )


def _has_number(entry: Any) -> bool:
    return any(key.endswith(("Milliseconds", "PerSecond")) for key in entry)


SPECS: list[tuple[type[Model], str]] = [
    (AIMDeploymentSpec, "aimdeployments.yaml"),
    (AIMRecipeSpec, "aimrecipes.yaml"),
]
STATUSES: list[tuple[type[Model], str]] = [(AIMDeploymentStatus, "aimdeployments.yaml"), (AIMRecipeStatus, "aimrecipes.yaml")]  # fmt: skip


@settings(UNHURRIED, max_examples=60)
@given(st.sampled_from(SPECS), st.data())
def test_whatever_the_schema_admits_is_read_and_comes_back_the_same(
    pair: tuple[type[Model], str], data: st.DataObject
) -> None:
    model, file = pair
    wire = data.draw(values(schema_of(file)["properties"]["spec"]))
    assume(all(_has_number(entry) for entry in wire.get("performance", [])))
    spec = model.strict_load(wire)
    assert model.strict_load(spec.wire()) == spec
    assert model.strict_load(spec.wire()).wire() == spec.wire()
    for name in wire:
        assert name in spec.wire()


@settings(UNHURRIED, max_examples=40)
@given(st.sampled_from(STATUSES), st.data())
def test_every_status_comes_back_the_same(pair: tuple[type[Model], str], data: st.DataObject) -> None:
    model, file = pair
    status = model.strict_load(data.draw(values(schema_of(file)["properties"]["status"])))
    assert model.strict_load(status.wire()) == status


@pytest.mark.parametrize(
    ("model", "wire", "field"),
    [
        (AIMDeploymentSpec, {"replica": 2}, "replica"),
        (AIMDeploymentSpec, {"model": {"id": "a/b", "Revision": "main"}}, "model.Revision"),
        (AIMDeploymentSpec, {"recipe": {"gpumodel": "MI300X"}}, "recipe.gpumodel"),
        (AIMDeploymentSpec, {"replicas": -1}, "replicas"),
        (AIMDeploymentSpec, {"replicas": "two"}, "replicas"),
        (AIMDeploymentSpec, {"model": {"id": "a b"}}, "model.id"),
        (AIMDeploymentSpec, {"recipe": {"precision": "fp12"}}, "recipe.precision"),
        (AIMDeploymentSpec, {"overrides": {"resources": {"cpu": "lots"}}}, "overrides.resources.cpu"),
        (AIMDeploymentSpec, {"service": {"port": 70000}}, "service.port"),
        (AIMRecipeSpec, {"modelID": "a/b", "precision": "fp8"}, "hardware"),
        (AIMRecipeSpec, {"modelID": "a/b", "precision": "fp8", "hardware": {"gpuModel": "MI300X", "gpuCount": 0}}, "hardware.gpuCount"),
        (AIMRecipeSpec, {"modelID": "a/b", "precision": "fp8", "hardware": {"gpuModel": "MI300X", "gpuCount": 1, "partition": "cpx"}}, "hardware.partition"),
    ],
)  # fmt: skip
def test_files_of_people_are_refused_with_the_field_named(
    model: type[Model], wire: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as error:
        model.strict_load(wire)
    assert field in [".".join(map(str, entry["loc"])) for entry in error.value.errors()]


def test_unknown_fields_of_stored_objects_are_ignored() -> None:
    """A newer CRD must not break an older operator."""
    stored = {
        "apiVersion": "aim.engine.amd.com/v1alpha1",
        "kind": "AIMDeployment",
        "metadata": {"name": "a", "namespace": "b", "managedFields": [], "labels": {"x": "y"}},
        "spec": {"model": {"id": "a/b", "adapter": "new"}, "autoscaling": {"max": 3}},
        "status": {"observedGeneration": 3, "tomorrow": {"tokensPerSecond": 1}},
    }
    read = AIMDeployment.from_object(stored)
    assert read.spec.model.id == "a/b"
    assert read.status.observed_generation == 3
    assert "autoscaling" not in read.spec.wire()
    recipe = AIMRecipe.model_validate(
        {
            **{key: stored[key] for key in ("apiVersion", "metadata")}, "kind": "AIMRecipe",
            "spec": {"modelID": "a/b", "precision": "fp8", "hardware": {"gpuModel": "MI300X", "gpuCount": 1, "numa": 1}, "lora": {}},
        }
    )  # fmt: skip
    assert recipe.spec.hardware.gpu_count == 1


def test_a_performance_number_needs_provenance_and_a_provenance_a_number() -> None:
    base: dict[str, Any] = {
        "modelID": "a/b",
        "precision": "fp8",
        "hardware": {"gpuModel": "MI300X", "gpuCount": 1},
    }
    source = {"provenance": {"kind": "vendor", "source": "https://example.com"}}
    AIMRecipeSpec.strict_load({**base, "performance": [{"tokensPerSecond": 1, **source}]})
    for entry in ({"tokensPerSecond": 1}, source, {"tokensPerSecond": 0, **source}):
        with pytest.raises(ValidationError, match="performance"):
            AIMRecipeSpec.strict_load({**base, "performance": [entry]})


def test_models_are_values() -> None:
    spec = AIMDeploymentSpec()
    with pytest.raises(ValidationError, match="frozen"):
        spec.replicas = 3  # type: ignore[misc]
    assert AIMDeploymentSpec() == AIMDeploymentSpec.strict_load({})

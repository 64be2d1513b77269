"""Values: what the schema describes, and that helm refuses everything else by name."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import yaml

from aim_engine.reconcile.config import OperatorConfig
from chart.helm import helm, template
from chart.schema import HELM, SCHEMA, Place, places, pointer, put, types, wrong_values
from testbed.product import ROOT

DEFAULTS = yaml.safe_load((HELM / "values.yaml").read_text())


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_generate", ROOT / "deploy" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()
PLACES = dict(places())


def told(document: Any) -> dict[str, str]:
    """Place -> what helm has against these values there."""
    done = helm("template", "aim-engine", "./helm", "--values", "-", stdin=json.dumps(document), check=False)
    assert done.returncode != 0, f"these values were taken: {document}"
    lines = re.findall(r"^ *- at '([^']*)': (.*)$", done.stderr, re.MULTILINE)
    assert lines, done.stderr
    return dict(lines)


def test_the_generated_parts_of_the_chart_are_what_the_code_says() -> None:
    assert GENERATOR.main(["--check"]) == 0, "run `make generate`"
    assert {path.name for path in (HELM / "crds").iterdir()} == {
        path.name for path in (ROOT / "crds").glob("aim*.yaml")
    }


def test_every_value_is_described_and_closed() -> None:
    for place, schema in PLACES.items():
        unnamed = place[:2] in GENERATOR.PARTS and place[-1] in ("name", 0)
        assert unnamed or len(schema.get("description", "")) >= 4, f"{pointer(place)} has no description"
        if "properties" in schema:
            assert schema.get("additionalProperties") is False, f"{pointer(place)} takes unknown keys"


def test_every_value_of_the_first_levels_has_a_default() -> None:
    """So that nothing is asked of a template that the values do not have."""

    def walk(schema: Mapping[str, Any], default: Any, at: Place) -> None:
        if "$comment" in schema or default is None or at[-1:] in (("requests",), ("limits",), ("resources",)):
            return
        for name, child in schema.get("properties", {}).items():
            assert name in default, f"values.yaml says nothing of {pointer((*at, name))}"
            walk(child, default[name], (*at, name))

    walk(SCHEMA, DEFAULTS, ())


@pytest.mark.parametrize("name", ["string", "integer", "number", "boolean", "object", "array"])
def test_helm_refuses_a_wrong_type_wherever_it_stands(name: str) -> None:
    """All leaves at once: helm tells each of them, and what belongs there."""
    sample = dict(zip(["string", "integer", "number", "boolean", "object", "array"], ["text", 7, 1.5, True, {"any": "thing"}, ["any"]], strict=True))  # fmt: skip
    leaves = [
        place
        for place, schema in PLACES.items()
        if sample[name] in wrong_values(schema) and not any(True for _ in places(schema))
    ]
    document: dict[str, Any] = {}
    for place in leaves:
        put(document, place, sample[name])
    answers = told(document)
    for place in leaves:
        assert pointer(place) in answers, f"{pointer(place)} takes {sample[name]!r}"
        assert re.search(r"got |must be one of|does not match|value must", answers[pointer(place)])
    assert set(answers) - {""} <= {pointer(place) for place in leaves} | {"", *map(pointer, PLACES)}


@pytest.mark.parametrize("depth", range(1, max(map(len, PLACES))))
def test_helm_refuses_a_text_where_something_composed_belongs(depth: int) -> None:
    composed = [
        place
        for place, schema in PLACES.items()
        if len(place) == depth and types(schema) & {"object", "array"} and "string" not in types(schema)
    ]
    if not composed:
        pytest.skip("nothing composed so deep")
    document: dict[str, Any] = {}
    for place in composed:
        put(document, place, "text")
    answers = told(document)
    for place in composed:
        assert "got string, want" in answers[pointer(place)]


def test_helm_refuses_an_unknown_key_wherever_it_stands() -> None:
    closed: list[Place] = [(), *(place for place, schema in PLACES.items() if "properties" in schema)]
    for depth in range(max(map(len, closed)) + 1):
        document: dict[str, Any] = {}
        here = [place for place in closed if len(place) == depth]
        for place in here:
            put(document, (*place, "gpu_cuont"), 4)
        answers = told(document)
        for place in here:
            assert "additional properties 'gpu_cuont' not allowed" in answers[pointer(place)]


BAD = {
    "aim_engine.gpu_count=0": "at '/aim_engine/gpu_count': minimum: got 0, want 1",
    "aim_engine.gpu_count=1.5": "at '/aim_engine/gpu_count': got string, want null or integer",
    "aim_engine.precision=bf17": "at '/aim_engine/precision': value must be one of 'bf16'",
    "aim_engine.backend=tgi": "at '/aim_engine/backend': value must be one of 'vllm'",
    "aim_engine.model_id=../etc/passwd": "at '/aim_engine/model_id': '../etc/passwd' does not match pattern",
    "aim_engine.log_level=LOUD": "at '/aim_engine/log_level': value must be one of 'DEBUG'",
    "aim_engine.hardware.memory_utilization=1.2": "at '/aim_engine/hardware/memory_utilization': '1.2' does not match pattern",
    "aim_engine.spec.replicsa=2": "at '/aim_engine/spec': additional properties 'replicsa' not allowed",
    "admission_controller.webhook.failure_policy=Abort": "at '/admission_controller/webhook/failure_policy': value must be one of 'Fail', 'Ignore'",
    "admission_controller.webhook.timeout_seconds=31": "at '/admission_controller/webhook/timeout_seconds': maximum: got 31, want 30",
    "monitoring.prometheus.scrape_interval=often": "at '/monitoring/prometheus/scrape_interval': 'often' does not match pattern",
    "monitoring.alerting.rules[0].name=Slow": "at '/monitoring/alerting/rules/0': missing property 'condition'",
    "operator.config.hub.enabeld=false": "at '/operator/config/hub': additional properties 'enabeld' not allowed",
    "operator.resources.limits.memroy=1Gi": "at '/operator/resources/limits': additional properties 'memroy' not allowed",
    "image.digest=sha256:abc": "at '/image/digest': 'sha256:abc' does not match pattern",
}


@pytest.mark.parametrize("words", BAD)
def test_a_wrong_value_is_named_with_its_place_and_its_remedy(words: str) -> None:
    done = helm("template", "aim-engine", "./helm", "--set", words, check=False)
    assert done.returncode != 0
    assert BAD[words] in done.stderr


def test_decimals_of_the_command_line_which_helm_takes_for_text_are_numbers() -> None:
    flags = [
        "--set",
        "aim_engine.hardware.memory_utilization=0.85",
        "--set",
        "aim_engine.vllm_args.gpu_memory_utilization=0.9",
    ]
    first, both = (
        template("a", "./helm", *flags[:count], "-s", "templates/aimdeployment.yaml") for count in (2, 4)
    )
    assert first[0]["spec"]["overrides"]["engineArgs"] == {"gpu-memory-utilization": 0.85}
    assert both[0]["spec"]["overrides"]["engineArgs"] == {"gpu-memory-utilization": 0.9}


TEMPLATE_REFUSES = {
    (
        "aim_engine.vllm_args.max_model_len=4096",
        "aim_engine.performance.max_input_length=4096",
        "aim_engine.performance.max_output_length=1024",
    ): "max_model_len 4096 is below performance.max_input_length + max_output_length (5120): raise it to 5120",
    (
        "admission_controller.certificates.source=certManager",
    ): "admission_controller.certificates.issuerRef is needed for source certManager",
}


@pytest.mark.parametrize("words", TEMPLATE_REFUSES)
def test_what_only_several_values_together_show_is_refused(words: tuple[str, ...]) -> None:
    flags = [word for each in words for word in ("--set", each)]
    done = helm("template", "aim-engine", "./helm", *flags, check=False)
    assert done.returncode != 0
    assert TEMPLATE_REFUSES[words] in done.stderr


def test_every_field_of_the_configuration_has_a_meaning() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| .* \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > len(OperatorConfig.model_fields)
    assert not [name for name, about in rows if len(about) < 4]

"""The gate on a real API server: what kubectl is told, what is let through, and what never locks anybody out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.api import ApiStatusError
from testbed.plane import ControlPlane
from testbed.product import GROUP, ROOT, deployment, install, path
from testbed.validator import Validator

QWEN = "Qwen/Qwen3-32B"


@pytest.fixture(scope="module")
def guarded() -> Iterator[ControlPlane]:
    """A plane of this module's own, for its validator would judge everybody's objects."""
    with ControlPlane.start(kwok=False, scheduler=False) as running:
        install(running)
        running.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team-a"}})
        yield running


@pytest.fixture(scope="module")
def validator(guarded: ControlPlane) -> Iterator[Validator]:
    with Validator.start(guarded) as running:
        yield running


def kubectl_apply(plane: ControlPlane, tmp_path: Path, text: str) -> tuple[int, str]:
    file = tmp_path / "object.yaml"
    file.write_text(text)
    done = plane.kubectl("apply", "-f", str(file), check=False)
    return done.returncode, done.stdout + done.stderr


def test_kubectl_shows_every_cause_with_field_value_and_remedy(
    guarded: ControlPlane, validator: Validator, tmp_path: Path
) -> None:
    code, said = kubectl_apply(
        guarded,
        tmp_path,
        f"""
apiVersion: aim.engine.amd.com/v1alpha1
kind: AIMDeployment
metadata: {{name: wrong, namespace: team-a}}
spec:
  model: {{id: {QWEN}}}
  recipe: {{gpuModel: MI210, precision: fp8}}
  overrides: {{engineArgs: {{max-modle-len: 8192, port: 80}}}}
""",
    )
    assert code == 1
    assert "spec.recipe.precision 'fp8': MI210 (gfx90a) cannot compute it; use one of bf16" in said
    assert "spec.overrides.engineArgs.max-modle-len '8192': max-modle-len is not a flag of vllm" in said
    assert "spec.overrides.engineArgs.port '80': port is set by the operator" in said


def test_a_good_object_is_stored_and_warnings_are_shown(
    guarded: ControlPlane, validator: Validator, tmp_path: Path
) -> None:
    code, said = kubectl_apply(
        guarded,
        tmp_path,
        f"""
apiVersion: aim.engine.amd.com/v1alpha1
kind: AIMDeployment
metadata: {{name: good, namespace: team-a}}
spec:
  model: {{id: {QWEN}}}
  recipe: {{name: not-there-yet}}
  overrides: {{engineArgs: {{gpu-memory-utilization: 0.98}}}}
""",
    )
    assert code == 0, said
    assert "Warning: spec.recipe.name 'not-there-yet': no such AIMRecipe yet" in said
    assert "Warning: spec.overrides.engineArgs.gpu-memory-utilization '0.98'" in said


# What is never refused


@pytest.fixture
def stored_before_the_rule(guarded: ControlPlane, validator: Validator) -> Iterator[dict[str, Any]]:
    """An object with faults that was stored while nobody judged, as before an upgrade that brought the rule."""
    validator.off()
    old = deployment("old", "team-a", QWEN, overrides={"engineArgs": {"max-modle-len": 8192}})
    made = guarded.request("POST", path("team-a"), old)
    validator.on()
    yield made
    guarded.request("DELETE", path("team-a", "old"))


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("", {"metadata": {"labels": {"team": "a"}}}),
    ("", {"metadata": {"finalizers": ["example.com/x"]}}),
    ("", {"metadata": {"finalizers": None}}),
    ("status", {"status": {"observedGeneration": 1}}),
    ("scale", {"spec": {"replicas": 0}}),
    ("", {"spec": {"replicas": 0}}),
    ("", {"spec": {"suspend": True}}),
    ("", {"spec": {"overrides": {"engineArgs": None}}}),
]


def test_no_rule_of_ours_locks_anybody_out_of_their_object(
    guarded: ControlPlane, stored_before_the_rule: dict[str, Any]
) -> None:
    for subresource, change in CHANGES:
        guarded.request("PATCH", path("team-a", "old", subresource), change)


def test_a_new_fault_in_an_old_object_is_refused_and_the_old_one_is_told(
    guarded: ControlPlane, stored_before_the_rule: dict[str, Any]
) -> None:
    with pytest.raises(ApiStatusError) as refused:
        guarded.request("PATCH", path("team-a", "old"), {"spec": {"recipe": {"gpuModel": "H100"}}})
    assert "spec.recipe.gpuModel 'H100': is not a known GPU model" in str(refused.value)
    assert "max-modle-len" not in str(refused.value)
    done = guarded.kubectl(
        "-n", "team-a", "patch", "aimd", "old", "--type=merge", "-p", '{"spec": {"replicas": 2}}'
    )
    assert "Warning: spec.overrides.engineArgs.max-modle-len '8192'" in done.stderr


def test_what_the_schema_can_prove_is_refused_although_nobody_judges(
    guarded: ControlPlane, validator: Validator
) -> None:
    validator.off()
    try:
        for spec in (
            {"recipe": {"gpuCount": 0}}, {"replicas": -1}, {"recipe": {"precision": "fp7"}},
            {"recipe": {"name": "a", "configMap": "b"}}, {"service": {"port": 70000}},
        ):  # fmt: skip
            with pytest.raises(ApiStatusError):
                guarded.request("POST", path("team-a"), deployment("never", "team-a", QWEN, **spec))
    finally:
        validator.on()


# Recipes


def recipe(name: str, **spec: Any) -> dict[str, Any]:
    full = {"modelID": QWEN, "hardware": {"gpuModel": "MI300X", "gpuCount": 1}, "precision": "bf16", **spec}
    return {
        "apiVersion": "aim.engine.amd.com/v1alpha1",
        "kind": "AIMRecipe",
        "metadata": {"name": name},
        "spec": full,
    }


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"modelID": "Qwen/Qwen3-32B-FP8", "hardware": {"gpuModel": "MI210", "gpuCount": 1}, "precision": "fp8"}, "spec.precision 'fp8': is not supported by MI210"),
        ({"modelID": "meta-llama/Llama-3.1-405B-Instruct"}, "spec.hardware '1xMI300X': weights need 756.0 GiB"),
        ({"engineArgs": {"nonsense": True}}, "spec.engineArgs.nonsense 'True': nonsense is not a flag of vllm"),
        ({"env": {"LD_PRELOAD": "x"}}, "spec.env.LD_PRELOAD: "),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_run_is_refused(
    guarded: ControlPlane, validator: Validator, spec: dict[str, Any], line: str
) -> None:
    with pytest.raises(ApiStatusError) as refused:
        guarded.request("POST", f"{GROUP}/aimrecipes", recipe("broken", **spec))
    assert line in str(refused.value)


CONFIG_MAPS = "/api/v1/namespaces/team-a/configmaps"
LABEL = {"aim.engine.amd.com/recipe": "true"}


def config_map(name: str, text: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": {"recipe.yaml": text}}


def test_a_labelled_config_map_is_judged_and_others_are_nobodys_business(
    guarded: ControlPlane, validator: Validator
) -> None:
    broken = "modelID: Qwen/Qwen3-32B\nhardware: {gpuModel: MI300X, gpuCount: 1}\nprecision: fp7\n"
    with pytest.raises(ApiStatusError) as refused:
        guarded.request("POST", CONFIG_MAPS, config_map("judged", broken, LABEL))
    assert "data[recipe.yaml] line 3, precision 'fp7'" in str(refused.value)
    guarded.request("POST", CONFIG_MAPS, config_map("free", broken))
    with pytest.raises(ApiStatusError):
        guarded.request("PATCH", f"{CONFIG_MAPS}/free", {"metadata": {"labels": LABEL}})


def test_every_shipped_recipe_and_sample_is_admitted(guarded: ControlPlane, validator: Validator) -> None:
    done = guarded.kubectl(
        "create", "--dry-run=server", "-R", "-f", str(ROOT / "recipes"), "-o", "name", check=False
    )
    errors = [line for line in done.stderr.splitlines() if "AlreadyExists" not in line and "Error" in line]
    assert errors == []

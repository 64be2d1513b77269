"""The gate on a real API server: what kubectl is told, what is let through, and what never locks anybody out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.api import Answered, ApiStatusError
from testbed.plane import ControlPlane
from testbed.product import GROUP, deployment, path
from testbed.validator import USER, Validator

QWEN = "Qwen/Qwen3-32B"


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


# Warnings of what may change

NO_ROOM = {"fits": 0, "matchingNodes": 2, "conditions": []}
NO_NODE = {
    "fits": 0, "matchingNodes": 0,
    "conditions": [{
        "type": "HardwareAvailable", "status": "False", "reason": "NoMatchingNodes", "message": "no node has it",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }],
}  # fmt: skip
WARNED: dict[str, tuple[dict[str, Any], str]] = {
    "a gated model without a token": ({"model": {"id": "meta-llama/Llama-3.3-70B-Instruct"}}, "spec.model.tokenSecret: meta-llama/Llama-3.3-70B-Instruct is gated"),
    "a model whose facts are unknown": ({"model": {"id": "acme/unheard-of"}}, "spec.model.id 'acme/unheard-of': its dimensions are not in the catalogue"),
    "a recipe when a better one exists": ({"recipe": {"name": "qwen3-32b-mi210-2x-bf16"}}, "would be preferred to qwen3-32b-mi210-2x-bf16"),
    "an override that gives up a margin": ({"overrides": {"engineArgs": {"gpu-memory-utilization": 0.99}}}, "spec.overrides.engineArgs.gpu-memory-utilization '0.99': above 0.95"),
    "a ConfigMap that is not there": ({"recipe": {"configMap": "later"}}, "spec.recipe.configMap 'later': no such recipe in the namespace yet"),
}  # fmt: skip


@pytest.mark.parametrize("what", WARNED)
def test_what_may_change_is_only_warned_about(guarded: ControlPlane, validator: Validator, what: str) -> None:
    spec, line = WARNED[what]
    answered = guarded.ask(
        "POST",
        f"{path('team-a')}?dryRun=All",
        {**deployment("warned", "team-a"), "spec": {"model": {"id": QWEN}, **spec}},
    )
    assert answered.code == 201, answered.message
    assert any(line in warning for warning in answered.warnings), answered.warnings


@pytest.mark.parametrize(("status", "line"), [(NO_ROOM, "no GPUs are free for it now; the best recipe,"), (NO_NODE, "no node of the cluster has MI")])  # fmt: skip
def test_what_the_cluster_lacks_now_is_warned_about(
    guarded: ControlPlane, validator: Validator, status: dict[str, Any], line: str
) -> None:
    """The operator writes into the recipes' status what is free; the validator watches these and no pods."""
    recipes = guarded.request("GET", f"{GROUP}/aimrecipes")["items"]
    for each in recipes:
        if each["spec"]["modelID"] == "Qwen/Qwen3-8B":
            guarded.request(
                "PATCH", f"{GROUP}/aimrecipes/{each['metadata']['name']}/status", {"status": status}
            )
    obj = deployment("warned", "team-a", "Qwen/Qwen3-8B")

    def warned() -> bool:
        answered = guarded.ask("POST", f"{path('team-a')}?dryRun=All", obj)
        assert answered.code == 201, answered.message
        return any(line in warning for warning in answered.warnings)

    guarded.wait_for(warned, 240, "the validator to know of the recipes' status")


def test_a_validator_keeps_no_pods_and_needs_no_more_than_its_rights(
    guarded: ControlPlane, validator: Validator
) -> None:
    records = [record for record in guarded.audit.records() if record.user == USER]
    watched = {record.resource for record in records if record.verb in ("list", "watch")}
    assert watched == {"aimrecipes.aim.engine.amd.com", "configmaps", "namespaces"}
    assert guarded.audit.forbidden(user=USER) == []


# A validator that hangs, and other settings

WRONG = {"overrides": {"engineArgs": {"port": 80}}}
IMPOSSIBLE: list[dict[str, Any]] = [
    {"recipe": {"name": "a", "configMap": "b"}}, {"cache": {"existingClaim": "x", "sizeGiB": 5}},
    {"model": {}, "recipe": {}}, {"replicas": -1}, {"recipe": {"gpuCount": 0}},
]  # fmt: skip


@pytest.fixture
def hanging(validator: Validator) -> Iterator[None]:
    """The process is there and answers nothing, as on a node that hangs."""
    for each in validator.replicas:
        os.kill(validator.processes.pids[each.name], signal.SIGSTOP)
    yield
    for each in validator.replicas:
        os.kill(validator.processes.pids[each.name], signal.SIGCONT)
    validator.plane.wait_for(validator.is_on, 240, "the validator to answer again")


def asked(plane: ControlPlane, **spec: Any) -> Answered:
    """The answer to a new object that is not stored."""
    obj = {**deployment("unseen", "team-a"), "spec": {"model": {"id": QWEN}, **spec}}
    return plane.ask("POST", f"{path('team-a')}?dryRun=All", obj)


@pytest.fixture
def stored(guarded: ControlPlane, validator: Validator) -> Iterator[None]:
    """An object that is there before the validator hangs."""
    guarded.request("POST", path("team-a"), deployment("stored", "team-a"))
    yield
    guarded.request("DELETE", path("team-a", "stored"))


def test_with_fail_a_dead_validator_stops_new_specs_and_nothing_else(
    guarded: ControlPlane, stored: None, hanging: None
) -> None:
    answered = asked(guarded)
    assert answered.code == 500
    assert 'failed calling webhook "aimdeployments.aim.engine.amd.com"' in answered.message
    assert {asked(guarded, **spec).code for spec in IMPOSSIBLE} == {422}
    for subresource, change in CHANGES[:4]:
        guarded.request("PATCH", path("team-a", "stored", subresource), change)
    guarded.kubectl("-n", "team-a", "scale", "aimdeployment/stored", "--replicas=0")
    unlabelled = {"metadata": {"name": "anything"}, "data": {"recipe.yaml": "- not one"}}
    guarded.request("POST", f"{CONFIG_MAPS}?dryRun=All", unlabelled)


SWITCHES: dict[str, dict[str, Any]] = {
    "check_resource_limits": {"overrides": {"resources": {"memory": "64"}}},
    "check_recipe_compatibility": {"recipe": {"gpuModel": "H100"}},
    "check_performance_constraints": {"targets": {"minTokensPerSecond": 99_999_999}},
}


@pytest.fixture(scope="module")
def lenient(guarded: ControlPlane, validator: Validator) -> Validator:
    """The validator with other settings from here on, which is why the tests that use it come last."""
    assert {asked(guarded, **spec).code for spec in SWITCHES.values()} == {422}
    validator.reconfigure(check_resource_limits=False, check_performance_constraints=False)
    return validator


@pytest.fixture
def ignoring(lenient: Validator) -> Validator:
    """It lets everything through when it is late by a second: only what hangs may be asked from here on."""
    lenient.reconfigure(failure_policy="Ignore", timeout_seconds=1)
    return lenient


def test_switches_turn_their_own_checks_off(guarded: ControlPlane, lenient: Validator) -> None:
    codes = {name: asked(guarded, **spec).code for name, spec in SWITCHES.items()}
    assert codes == {
        "check_resource_limits": 201,
        "check_recipe_compatibility": 422,
        "check_performance_constraints": 201,
    }
    assert asked(guarded, **WRONG).code == 422


def test_with_ignore_a_dead_validator_stops_nobody_and_the_schema_still_holds(
    guarded: ControlPlane, ignoring: Validator, hanging: None
) -> None:
    assert {each["failurePolicy"] for each in ignoring.webhooks()} == {"Ignore"}
    assert {each["timeoutSeconds"] for each in ignoring.webhooks()} == {1}
    assert asked(guarded).code == 201
    assert asked(guarded, **WRONG).code == 201
    assert {asked(guarded, **spec).code for spec in IMPOSSIBLE} == {422}

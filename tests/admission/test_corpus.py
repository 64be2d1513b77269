"""The corpus before the gate's own functions: every refusal in its exact words, each on one line, all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from admission.corpus import (
    ALL_CHECKS,
    QWEN,
    ROOT,
    TENANT,
    Case,
    Json,
    cases,
    judge,
    matches,
)
from aim_engine.admission.runtime import Gate
from aim_engine.api.wording import briefly
from aim_engine.cli import main
from aim_engine.reconcile.config import AdmissionConfig, OperatorConfig
from aim_engine.selection import Check
from unit.cli_world import snapshot

BAD, GOOD = cases("bad"), cases("good")
SHIPPED = [
    (f"{path.relative_to(ROOT)} {number}", obj)
    for path in sorted([*(ROOT / "deploy" / "samples").glob("*.yaml"), *(ROOT / "recipes").rglob("*.yaml")])
    for number, obj in enumerate(yaml.safe_load_all(path.read_text()))
    if obj and obj["kind"] in ("AIMDeployment", "AIMRecipe", "ConfigMap")
]


def test_the_corpus_is_large_enough_and_every_case_has_a_name_of_its_own() -> None:
    assert len(BAD) >= 150
    assert len(GOOD) >= 60
    assert len({case.name for case in (*BAD, *GOOD)}) == len(BAD) + len(GOOD)
    assert all(case.told and case.by in ("schema", "gate") for case in BAD)


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_object_is_refused_in_these_words(case: Case) -> None:
    refusals = judge(case.object).refusals
    assert len(refusals) == len(case.told), refusals
    for expected, line in zip(case.told, refusals, strict=True):
        assert matches(expected, line), line
        assert "; " in line, "the remedy is missing"
        assert line.isprintable()
        assert len(line) < 700


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_object_passes_with_these_warnings(case: Case) -> None:
    answer = judge(case.object)
    assert answer.refusals == ()
    assert len(answer.warnings) == len(case.warns), answer.warnings
    assert all(matches(expected, line) for expected, line in zip(case.warns, answer.warnings, strict=True)), answer.warnings  # fmt: skip


@pytest.mark.parametrize(("name", "obj"), SHIPPED, ids=[name for name, _ in SHIPPED])
def test_what_is_shipped_passes(name: str, obj: Json) -> None:
    assert judge(obj).refusals == ()


def test_no_secret_is_ever_repeated() -> None:
    """Of variables, keys and tokens only the names are told."""
    secrets = {"hf_secret", "sk-1", "hf_1", "/secret.so", "secret"}
    for case in BAD:
        told = " ".join(judge(case.object).refusals)
        assert not any(
            f"'{secret}'" in told for secret in secrets if case.name.split(": ")[1] not in _NO_SECRETS
        )


_NO_SECRETS = {"an API key in the open", "a profile with an objective nobody ranks for"} - {
    "an API key in the open"
}


def test_very_many_causes_are_counted() -> None:
    flags = {f"wrong{i}": 1 for i in range(200)}
    told = briefly(judge(deployment(overrides={"engineArgs": flags})).refusals)
    assert len(told) < 50
    assert told[-1] == f"and {200 - len(told) + 1} more"
    assert sum(map(len, told)) < 32768


def deployment(**spec: Any) -> Json:
    return {
        "apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMDeployment", "metadata": {"name": "case", "namespace": TENANT},
        "spec": {"model": {"id": QWEN}, **spec},
    }  # fmt: skip


# The same words on the command line


def test_explain_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    explained = [case for case in BAD if case.kind == "AIMDeployment" and case.by == "gate"]
    for number, case in enumerate(explained):
        named = {**case.object, "metadata": {**case.object["metadata"], "name": f"case-{number}"}}
        (folder / f"{number:03}.json").write_text(json.dumps(named))
    assert main(["explain", "-f", str(folder), "--cluster", str(snapshot(tmp_path))]) == 4
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("aim-engine: ")]
    assert len(told) == len(explained)
    for case, said in zip(explained, told, strict=True):
        assert all(line in said for line in briefly(judge(case.object).refusals)), said


# Nobody is locked in


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_fault_that_is_stored_already_refuses_no_other_change(case: Case) -> None:
    assert judge(case.object, case.object).refusals == ()


@pytest.mark.parametrize(
    "case", [case for case in BAD if case.kind == "AIMDeployment" and case.by == "gate"], ids=str
)
def test_a_faulty_object_can_be_scaled_to_zero_and_changed_elsewhere(case: Case) -> None:
    for change in ({"replicas": 0}, {"suspend": True}, {"rollout": {"strategy": "Recreate"}}):
        answer = judge({**case.object, "spec": {**case.object["spec"], **change}}, case.object)
        assert answer.refusals == ()
        assert answer.warnings
        assert all(line.endswith(("(as before)", "...")) for line in answer.warnings)


def test_a_fault_that_is_mended_may_come_with_no_new_one() -> None:
    old = deployment(overrides={"engineArgs": {"port": 1}})
    new = deployment(overrides={"engineArgs": {"host": "x"}})
    (line,) = judge(new, old).refusals
    assert line.startswith("spec.overrides.engineArgs.host 'x'")


# Switches

SWITCHED: dict[Check, list[Json]] = {
    Check.RESOURCE_LIMITS: [
        {"recipe": {"gpuModel": "MI210", "gpuCount": 1}, "model": {"id": "moonshotai/Kimi-K2-Instruct"}},
        {"overrides": {"resources": {"memory": "64"}}},
        {"workload": {"maxInputTokens": 9000}, "overrides": {"engineArgs": {"max-model-len": 4096}}},
    ],
    Check.RECIPE_COMPATIBILITY: [{"recipe": {"gpuModel": "H100"}}, {"recipe": {"gpuModel": "MI210", "precision": "fp8"}}],
    Check.PERFORMANCE_CONSTRAINTS: [
        {"targets": {"minTokensPerSecond": 99_999_999}},
        {"model": {"id": "meta-llama/Llama-3.1-405B-Instruct"}, "recipe": {"gpuModel": "MI210"}, "targets": {"maxTimeToFirstTokenMilliseconds": 1}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHED, ids=str)
def test_a_switch_turns_its_own_checks_off_and_no_others(switch: Check) -> None:
    for check, specs in SWITCHED.items():
        for spec in specs:
            obj = deployment(**spec)
            assert judge(obj).refusals
            assert bool(judge(obj, checks=ALL_CHECKS - {switch}).refusals) is (check is not switch)


def test_each_setting_is_the_switch_of_its_name() -> None:
    for check in ALL_CHECKS:
        config = OperatorConfig(admission=AdmissionConfig.model_validate({f"check_{check.value}": False}))
        assert Gate(config, cast(Any, None), cast(Any, None)).checks == ALL_CHECKS - {check}


def test_no_switch_lets_a_tenant_do_more() -> None:
    for args in ({"middleware": ["a.b"]}, {"port": 1}, {"trust-remote-code": True}, {"frobnicate": 1}):
        assert judge(deployment(overrides={"engineArgs": args}), checks=frozenset()).refusals
    assert judge(deployment(overrides={"image": "evil.example/x"}), checks=frozenset()).refusals
    tenants = {case.name.split(": ")[1]: case.object for case in BAD if case.kind == "ConfigMap"}
    for name in ("remote code of a tenant", "a library in the variables", "an image of somebody else"):
        assert judge(tenants[name], checks=frozenset()).refusals


def test_the_switches_hold_for_recipes_too() -> None:
    recipes = {case.name: case.object for case in BAD if case.kind == "AIMRecipe" and case.by == "gate"}
    large = recipes["recipe-gate: 405 billion parameters on one GPU"]
    flag = recipes["recipe-gate: a misspelt flag"]
    assert judge(large, checks=ALL_CHECKS - {Check.RESOURCE_LIMITS}).refusals == ()
    assert judge(large, checks=ALL_CHECKS - {Check.RECIPE_COMPATIBILITY}).refusals
    assert judge(flag, checks=ALL_CHECKS - {Check.RESOURCE_LIMITS}).refusals
    assert judge(flag, checks=ALL_CHECKS - {Check.RECIPE_COMPATIBILITY}).refusals == ()

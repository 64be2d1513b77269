"""The corpus before a real API server with the validator's process behind it: what is stored, what is not, and what is told."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings

from admission.corpus import Case, Json, cases, judge, matches
from admission.mutants import mutants
from admission.test_corpus import SHIPPED
from aim_engine.api.wording import briefly
from testbed.api import Answered
from testbed.plane import ControlPlane
from testbed.product import GROUP
from testbed.validator import Validator
from unit.selection_world import UNHURRIED

BAD, GOOD = cases("bad"), cases("good")
DRY_RUN = "?dryRun=All&fieldValidation=Strict"
"""As kubectl asks; and nothing is stored."""


def path(obj: Json) -> str:
    """Where an object is created."""
    namespace = obj["metadata"].get("namespace", "default")
    paths = {
        "AIMDeployment": f"{GROUP}/namespaces/{namespace}/aimdeployments",
        "AIMRecipe": f"{GROUP}/aimrecipes",
        "ConfigMap": f"/api/v1/namespaces/{namespace}/configmaps",
    }
    return paths[obj["kind"]] + DRY_RUN


@pytest.fixture(scope="module")
def answers(guarded: ControlPlane, validator: Validator) -> dict[str, Answered]:
    """What the API server says to each object of the corpus, many asked at a time."""
    everything = [*BAD, *GOOD]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda case: guarded.ask("POST", path(case.object), case.object), everything)
        return {case.name: answered for case, answered in zip(everything, found, strict=True)}


@pytest.mark.parametrize("case", [case for case in BAD if case.by == "gate"], ids=str)
def test_the_validator_refuses_in_the_very_words_of_its_functions(
    case: Case, answers: dict[str, Answered]
) -> None:
    answered = answers[case.name]
    assert answered.code == 422, answered.message
    said = answered.message.partition("denied the request: ")[2].split("\n")
    assert sorted(said) == sorted(briefly(judge(case.object).refusals)), (
        "the API server sorts the keys of mappings"
    )


def schema_field(case: Case) -> str:
    """The field as the API server names it: of a ConfigMap by its Go type, and a rule over a list as the list."""
    field = re.split(r"[: ]", case.told[0])[0]
    return "ConfigMap.data" if case.kind == "ConfigMap" else re.sub(r"\[\d+\]$", "", field)


@pytest.mark.parametrize("case", [case for case in BAD if case.by == "schema"], ids=str)
def test_the_api_server_itself_refuses_what_the_schema_can_prove(
    case: Case, answers: dict[str, Answered]
) -> None:
    answered = answers[case.name]
    assert answered.code in (400, 422), answered
    assert "admission webhook" not in answered.message
    assert schema_field(case) in answered.message, answered.message
    assert case.limit in answered.message


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_good_object_is_taken_with_its_warnings(case: Case, answers: dict[str, Answered]) -> None:
    answered = answers[case.name]
    assert answered.code == 201, answered.message
    assert len(answered.warnings) == len(case.warns), answered.warnings
    assert all(matches(expected, line) for expected, line in zip(case.warns, answered.warnings, strict=True))


def test_what_is_shipped_is_taken(guarded: ControlPlane, validator: Validator) -> None:
    def ask(obj: Json) -> Answered:
        fresh = {
            **obj,
            "metadata": {**obj["metadata"], "name": f"again-{obj['metadata']['name']}"[:55].rstrip("-")},
        }
        if "namespace" in fresh["metadata"]:
            fresh["metadata"]["namespace"] = "team-a"
        return guarded.ask("POST", path(fresh), fresh)

    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(ask, [obj for _, obj in SHIPPED]))
    assert [each.message for each in answered if each.code != 201] == []
    assert validator.metric('aim_webhook_reviews_total{kind="AIMRecipe",result="allowed"}') >= 300


def test_the_validator_said_nothing_of_a_fault_of_its_own(
    answers: dict[str, Answered], validator: Validator
) -> None:
    assert "Traceback" not in validator.log()


@settings(UNHURRIED, max_examples=150)
@given(obj=mutants())
def test_what_the_gate_takes_the_api_server_takes_and_the_other_way_round(
    guarded: ControlPlane, validator: Validator, obj: Json
) -> None:
    """The gate's functions know the schema as well as the API server does, and no rule of ours is hidden from them."""
    obj = {**obj, "metadata": {**obj["metadata"], "name": "mutant"}}
    answered = guarded.ask("POST", path(obj), obj)
    refusals = judge(obj).refusals
    assert answered.code in (201, 400, 422), answered.message
    assert (answered.code == 201) is (not refusals), (answered.message, refusals)

"""Decisions recorded in ConfigMaps: followed while they hold, told where they do not, and trusted for a name only."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.configmap_yaml import Faults
from aim_engine.api.enums import Tier
from aim_engine.cli.hooks.select import kept
from aim_engine.cli.output import CommandError
from aim_engine.inventory import Inventory
from aim_engine.reconcile.decisions import DECISION_FILE, read_decision
from aim_engine.reconcile.plan import Plan, make_plan
from aim_engine.reconcile.revision import Revision
from aim_engine.selection import Candidate, Recorded
from unit.reconcile_world import around, deployment, revision_of
from unit.selection_world import UNHURRIED, cluster, node, recipe

BIG, SMALL = recipe("big", count=8, maturity="optimized"), recipe("small", count=1)
FAMILY = (BIG, SMALL)
FREE, FULL, ONE_FREE = cluster(node()), cluster(node(used=8)), cluster(node(used=7))
ASKED = deployment(recipe={"decisionConfigMap": "choice"})


def planned(
    recorded: Recorded | None, candidates: tuple[Candidate, ...] = FAMILY, free: Inventory = FREE,
    current: Revision | None = None,
) -> Plan:  # fmt: skip
    seen = around(ASKED, candidates, free, recorded=recorded, live=1 if current else None)
    return make_plan(ASKED, current, seen)


def of(each: Candidate) -> Recorded:
    return Recorded(each.name, each.hash)


def test_the_recorded_recipe_is_taken_although_another_ranks_higher() -> None:
    made = planned(of(SMALL))
    assert made.revision
    assert (made.revision.recipe, made.revision.tier) == ("small", Tier.TERTIARY)
    assert "as recorded" in made.revision.message
    assert made.decision
    assert {v.recipe: v.message for v in made.decision.verdicts}["big"] == "the recorded decision is followed"


@pytest.mark.parametrize(
    ("recorded", "candidates", "free", "why"),
    [
        (Recorded("gone", "1"), FAMILY, FREE, "the recorded decision, gone, was not followed: it no longer exists"),
        (Recorded("small", "1"), FAMILY, FREE, "small, was not followed: it was edited since (1 then,"),
        (of(BIG), FAMILY, ONE_FREE, "big, was not followed: needs 8 free MI300X GPUs on one node"),
        (of(recipe("wrong", gpu="MI355X")), (*FAMILY, recipe("wrong", gpu="MI355X")), FREE, "wrong, was not followed: no node has MI355X"),
    ],
)  # fmt: skip
def test_where_it_had_to_differ_it_says_why(
    recorded: Recorded, candidates: tuple[Candidate, ...], free: Inventory, why: str
) -> None:
    made = planned(recorded, candidates, free)
    assert made.revision
    assert made.revision.recipe != recorded.recipe or "edited" in why
    assert why in made.revision.message


def test_a_generated_configuration_can_be_recorded() -> None:
    first = planned(None, (), FREE).revision
    assert first
    assert first.recipe.startswith("generated/")
    made = planned(Recorded(first.recipe, first.recipe_hash), FAMILY).revision
    assert made
    assert made.recipe == first.recipe


def test_a_new_record_is_followed_and_a_lost_one_moves_nothing() -> None:
    first = planned(of(SMALL)).revision
    assert first
    assert planned(of(SMALL), current=first).revision is first
    assert planned(None, current=first).revision is first
    moved = planned(of(BIG), current=first)
    assert moved.revision
    assert (moved.is_new, moved.revision.recipe) == (True, "big")


def test_without_the_field_nothing_is_recorded_and_hashes_are_as_ever() -> None:
    plain = revision_of(deployment(), FAMILY, FREE)
    assert "recorded" not in plain.data()["inputs"]


def config_map(text: Any) -> dict[str, Any]:
    return {"metadata": {"name": "choice", "namespace": "team-a"}, "data": {DECISION_FILE: text}}


def test_a_decision_is_read_as_name_and_hash() -> None:
    text = yaml.safe_dump({"chosen": {"recipe": "big", "hash": "abc", "engineArgs": {"middleware": "evil"}}})
    assert read_decision(config_map(text)) == Recorded("big", "abc")


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "[]",
        "chosen: big",
        "chosen: {recipe: big}",
        "chosen: {recipe: [1], hash: x}",
        "a: &a [*a]",
        "{" * 1000,
    ],
)
def test_what_is_no_decision_is_told(text: Any) -> None:
    found = read_decision(config_map(text))
    assert isinstance(found, Faults)
    assert all(error.remedy for error in found.errors)


@UNHURRIED
@given(st.text(max_size=200))
def test_any_text_is_a_decision_or_a_clean_refusal(text: str) -> None:
    assert isinstance(read_decision(config_map(text)), Recorded | Faults)


def test_a_record_of_a_release_that_waited_is_nothing_to_keep() -> None:
    def recorded(**document: Any) -> dict[str, Any]:
        metadata = {"name": "a-recipe-config", "namespace": "models"}
        return {"metadata": metadata, "data": {DECISION_FILE: yaml.safe_dump(document)}}

    assert kept(recorded(outcome="InsufficientCapacity", chosen=None)) is None
    chosen = {"recipe": "small", "hash": "1"}
    assert kept(recorded(outcome="Selected", chosen=chosen)) == Recorded("small", "1")
    for wrong in (recorded(), recorded(outcome="Selected", chosen={}), {**recorded(), "data": {}}):
        with pytest.raises(
            CommandError, match=r"ConfigMap models/a-recipe-config: .*(is missing|names no recipe)"
        ):
            kept(wrong)

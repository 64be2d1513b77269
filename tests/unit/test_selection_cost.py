"""What a decision and a pod event cost, in calls of functions: linear in the recipes of the model, and nothing else counts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from aim_engine.inventory import Inventory, Tracker
from aim_engine.reconcile.intake import decode_pod
from aim_engine.selection import CatalogueFacts, Memo, decide
from bench.selection_speed import KNOWN, asked, made, node, pod

MODELS_RECIPES = 25


def calls(work: Callable[[], Any]) -> int:
    """Functions of Python and of C that some work calls."""
    count = 0

    def saw(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(saw)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def filled(nodes: int, pods: int, *, uneven: bool = False) -> Tracker:
    tracker = Tracker()
    objects = [node(index) for index in range(nodes)]
    if uneven:
        for index, each in enumerate(objects):
            each["status"]["allocatable"]["memory"] = f"{1_056_270_228 + 4 * index}Ki"
    tracker.replace_nodes(objects)
    tracker.replace_pods(decode_pod(pod(index))[0] for index in range(pods))
    tracker.inventory()
    return tracker


def warm(recipes: int, inventory: Inventory, *, others: int = 0) -> int:
    """Calls of a decision that is not the first of its kind."""
    candidates = [made(index, KNOWN) for index in range(recipes)]
    candidates += [made(recipes + index, "example/another") for index in range(others)]
    memo, facts, request = Memo(), CatalogueFacts(), asked(KNOWN)
    decide(request, candidates, inventory, facts, memo)
    return calls(lambda: decide(request, candidates, inventory, facts, memo))


@pytest.fixture(scope="module")
def small() -> Inventory:
    return filled(200, 400).inventory()


def test_a_decision_is_linear_in_the_recipes_of_the_model(small: Inventory) -> None:
    few, many = warm(50, small), warm(200, small)
    assert many <= 4.2 * few


def test_recipes_of_other_models_cost_a_comparison_each(small: Inventory) -> None:
    assert warm(MODELS_RECIPES, small, others=475) <= warm(MODELS_RECIPES, small) + 2 * 475


def test_pods_and_nodes_of_a_kind_cost_a_decision_nothing(small: Inventory) -> None:
    expected = warm(MODELS_RECIPES, small)
    assert warm(MODELS_RECIPES, filled(200, 4000).inventory()) <= 1.1 * expected
    assert warm(MODELS_RECIPES, filled(1000, 2000).inventory()) <= 1.1 * expected


def test_nodes_of_slightly_different_size_are_one_kind(small: Inventory) -> None:
    assert warm(MODELS_RECIPES, filled(200, 400, uneven=True).inventory()) <= 1.1 * warm(
        MODELS_RECIPES, small
    )


@pytest.mark.parametrize("pods", [400, 4000])
def test_a_pod_event_costs_the_same_in_every_cluster(pods: int) -> None:
    tracker = filled(200, pods)
    held = decode_pod(pod(0, gpus=2))[0]

    def event() -> None:
        tracker.upsert_pod(held)
        tracker.inventory()

    assert calls(event) <= 250

"""What the status of an AIMRecipe says of the nodes."""

from __future__ import annotations

import pytest

from aim_engine.reconcile.recipes import availability
from unit.selection_world import recipe


@pytest.mark.parametrize(
    ("usable", "matching", "status", "told"),
    [
        (1, 1, "True", "1 usable node has 1xMI300X"),
        (2, 3, "True", "2 usable nodes have 1xMI300X"),
        (0, 1, "False", "1 node has 1xMI300X, none is usable ("),
        (0, 2, "False", "2 nodes have 1xMI300X, none is usable ("),
        (0, 0, "False", "no node has 1xMI300X"),
    ],
)
def test_nodes_are_counted_in_good_english(usable: int, matching: int, status: str, told: str) -> None:
    judged = availability(recipe("r"), usable, matching)
    assert (judged.status, judged.message[: len(told)]) == (status, told)

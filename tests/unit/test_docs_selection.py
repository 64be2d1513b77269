"""docs/concepts/selection.md tells the order, stages and tiers that the code has."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from aim_engine.api.enums import Maturity, Precision, ProvenanceKind, Tier
from aim_engine.selection import order, performance, stages

PAGE = (Path(__file__).parents[2] / "docs" / "concepts" / "selection.md").read_text()

PLACES = [
    ("Written before generated", "int(current.candidate.source is Source.GENERATED)"),
    ("Targets", "_target_rank(request.spec.targets, current)"),
    ("No 4-bit weights unasked", "_four_bit(request, facts, current)"),
    ("Your own before the catalogue", "_SOURCE[current.candidate.source]"),
    ("Maturity", "spec.maturity.rank"),
    ("Tuned for the objective", "int(spec.objective is not wishes.objective)"),
    ("Performance", "-_step(wishes.objective, scale, current)"),
    ("Time to first token", "_first_token(wishes.objective, current)"),
    ("Format and generation", "preference(facts, current)"),
    ("Fewer GPUs", "spec.hardware.gpu_count"),
    ("Name", "current.candidate.name"),
]
"""Places of the order as the page names them, with the code's expression."""

STAGES = [
    ("_valid", "Arguments, environment"), ("_namespace", "allowedNamespaces"), ("_wishes", "What you set under `spec.recipe`"),
    ("_precision", "can run the precision"), ("_parallelism", "can be divided"), ("_gpu_in_cluster", "The cluster has the GPU model"),
    ("_memory", "Weights, overhead and context"), ("_targets", "minTokensPerSecond"), ("_capacity", "Some node is large enough"),
]  # fmt: skip


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def numbered(text: str) -> list[str]:
    return re.findall(r"^\d+\. (.*)$", text, re.MULTILINE)


def test_the_places_of_the_order_are_those_of_the_code() -> None:
    (function,) = ast.parse(inspect.getsource(order.rank_key)).body
    assert isinstance(function, ast.FunctionDef)
    last = function.body[-1]
    assert isinstance(last, ast.Return)
    assert isinstance(last.value, ast.Tuple)
    assert [ast.unparse(place) for place in last.value.elts] == [expression for _, expression in PLACES]


def test_the_page_lists_them_in_that_order() -> None:
    titles = [re.match(r"\*\*(.+?)\.\*\*", line) for line in numbered(section("The order"))]
    assert [title and title[1] for title in titles] == [title for title, _ in PLACES]


def test_the_page_lists_the_stages_in_their_order() -> None:
    assert [stage.__name__ for stage in stages.STAGES] == [name for name, _ in STAGES]
    lines = numbered(section("What is dropped"))
    assert len(lines) == len(STAGES)
    for line, (_, text) in zip(lines, STAGES, strict=True):
        assert text in line


def test_formats_maturities_and_steps_are_those_of_the_code() -> None:
    text = " ".join(section("The order").split())
    assert ", ".join(Maturity) in text
    preferred = ", ".join(order._PREFERENCE)
    assert preferred in text
    assert set(order._PREFERENCE) == set(Precision)
    assert f"steps of {round(100 * (performance.STEP - 1))} %" in text
    for precision in order._FOUR_BIT:
        assert f"`{precision}`" in text


def test_kinds_of_provenance_are_all_mentioned() -> None:
    for kind in ProvenanceKind:
        assert f"`{kind}`" in section("The order")


def test_every_tier_has_its_row() -> None:
    rows = re.findall(r"^\| (\w+) \|", section("What is taken, and its tier"), re.MULTILINE)
    assert [row for row in rows if row != "Tier"][: len(Tier)] == list(Tier)


def test_the_page_fits_on_one_page() -> None:
    assert len(PAGE.splitlines()) <= 130

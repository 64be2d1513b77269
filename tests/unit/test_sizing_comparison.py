"""The memory and speed models against what others published: every verdict right, every error bounded."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest

from aim_engine.catalog.assumptions import division_rules
from aim_engine.catalog.comparisons import (
    KnownVerdict,
    PublishedSize,
    PublishedSpeed,
    known_verdicts,
    published_sizes,
    published_speeds,
)
from aim_engine.sizing import FitVerdict
from aim_engine.sizing.comparison import answer, computed_gib, estimated_rate
from aim_engine.sizing.parallelism import CHECKS


@pytest.mark.parametrize("row", published_sizes(), ids=lambda row: row.checkpoint)
def test_computed_sizes_of_weights_agree_with_the_published_ones(row: PublishedSize) -> None:
    """Of small models in MXFP4 the part that stays in 16 bit is known roughly only."""
    assert computed_gib(row) == pytest.approx(row.gib, rel=0.08 if "gpt-oss-20b" in row.checkpoint else 0.03)


@pytest.mark.parametrize("row", known_verdicts(), ids=lambda row: f"{row.checkpoint}-{row.count}x{row.gpu}")
def test_what_is_known_to_run_fits_and_what_is_known_not_to_does_not(row: KnownVerdict) -> None:
    found = answer(row)
    assert (found.verdict is FitVerdict.FITS) is row.fits, found.message
    assert found.verdict is not FitVerdict.UNKNOWN


@pytest.mark.parametrize(
    "row",
    published_speeds(),
    ids=lambda row: f"{row.checkpoint}-{row.concurrency}-{row.input_tokens}-{row.output_tokens}",
)
def test_no_estimate_is_off_by_more_than_half(row: PublishedSpeed) -> None:
    assert 1 / 1.5 <= estimated_rate(row) / row.tokens_per_second <= 1.5


def test_the_mean_error_of_each_class_of_load_is_bounded() -> None:
    errors: dict[str, list[float]] = defaultdict(list)
    for row in published_speeds():
        errors[row.group].append(abs(math.log(estimated_rate(row) / row.tokens_per_second)))
    assert {
        group: math.exp(sum(found) / len(found)) < 1.25 for group, found in errors.items()
    } == dict.fromkeys(errors, True)


def test_every_rule_of_division_has_a_check_a_text_and_a_source() -> None:
    assert [each.rule for each in division_rules()] == list(CHECKS)
    assert all(each.text and each.source for each in division_rules())

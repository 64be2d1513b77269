"""The memory and speed models against what others published: every verdict right, every error bounded."""

from __future__ import annotations

import pytest

from aim_engine.catalog.assumptions import division_rules
from aim_engine.catalog.comparisons import (
    KnownVerdict,
    PublishedCapacity,
    PublishedColumns,
    PublishedSize,
    known_verdicts,
    published_capacity,
    published_columns,
    published_sizes,
    published_speeds,
    speed_classes,
    unused_figures,
)
from aim_engine.catalog.models import model_facts
from aim_engine.sizing import FitVerdict
from aim_engine.sizing.comparison import agreement, answer, computed_columns, computed_gib, deviation
from aim_engine.sizing.parallelism import CHECKS

# (class of load, mean factor of error, lowest and highest estimate over the published one): the errors as they are, rounded up. A
# change of the speed model that makes one worse has to say so here.
SPEED_ERRORS = [
    ("dense FP8, 8 GPUs, single requests", 1.10, 0.85, 1.10),
    ("dense FP8, 8 GPUs, batches", 1.10, 0.90, 1.20),
    ("dense FP8, 8 GPUs, saturated", 1.15, 0.80, 1.30),
    ("dense FP8, 8 GPUs, saturated, other builds", 1.20, 0.65, 1.40),
    ("dense FP8, 8 GPUs, vLLM of 2024", 1.35, 1.00, 1.75),
    ("experts in FP8 with MLA, 8 GPUs", 1.40, 0.70, 1.00),
    ("experts in MXFP4, one GPU", 1.10, 0.90, 1.10),
]


@pytest.mark.parametrize("row", published_sizes(), ids=lambda row: row.checkpoint)
def test_computed_sizes_of_weights_agree_with_the_published_ones(row: PublishedSize) -> None:
    """Of small models in MXFP4 the part that stays in 16 bit is known roughly only."""
    assert computed_gib(row) == pytest.approx(row.gib, rel=0.08 if "gpt-oss-20b" in row.checkpoint else 0.03)


@pytest.mark.parametrize("row", known_verdicts(), ids=lambda row: f"{row.checkpoint}-{row.count}x{row.gpu}")
def test_what_is_known_to_run_fits_and_what_is_known_not_to_does_not(row: KnownVerdict) -> None:
    found = answer(row)
    assert (found.verdict is FitVerdict.FITS) is row.fits, found.message
    assert found.verdict is not FitVerdict.UNKNOWN


@pytest.mark.parametrize("row", published_columns(), ids=lambda row: row.model)
def test_weights_and_cache_by_dimensions_agree_with_the_published_columns(row: PublishedColumns) -> None:
    """Models with a vision encoder differ by it; the published FP8 column halves embeddings too, ours does not."""
    bf16, fp8, kv_kib = computed_columns(row)
    assert kv_kib == pytest.approx(row.kv_kib, rel=0.001)
    if row.bf16 is not None and row.fp8 is not None:
        assert bf16 == pytest.approx(row.bf16, rel=0.016)
        assert fp8 - _kept_in_16_bit(row.model) == pytest.approx(row.fp8, rel=0.04)


def test_only_models_in_mxfp4_have_no_published_weights_in_other_formats() -> None:
    assert {row.model for row in published_columns() if row.bf16 is None} == {
        "openai/gpt-oss-20b",
        "openai/gpt-oss-120b",
    }


def test_all_252_cells_of_capacity_are_held_against_ours() -> None:
    assert sum(len(row.cells) for row in published_capacity()) == 252


@pytest.mark.parametrize("row", published_capacity(), ids=lambda row: f"{row.checkpoint}-{row.kv_cache}")
def test_under_the_published_assumptions_every_cell_agrees_within_a_tenth(row: PublishedCapacity) -> None:
    found = agreement(row, own_overhead=False)
    assert (found.verdicts, found.within) == (len(row.cells), len(row.cells)), found.largest


def test_with_our_overhead_every_cell_agrees_on_the_verdict_and_five_differ_by_more_than_a_tenth() -> None:
    """The five are where weights leave a few GiB at most; ours says less there, never more."""
    found = [agreement(row, own_overhead=True) for row in published_capacity()]
    assert sum(each.verdicts for each in found) == 252
    assert sum(each.within for each in found) == 247
    assert all(ours <= told for _, _, told, ours in (each.largest for each in found if each.within < 12))


@pytest.mark.parametrize(("group", "mean", "lowest", "highest"), SPEED_ERRORS)
def test_the_errors_of_each_class_of_load_are_bounded(
    group: str, mean: float, lowest: float, highest: float
) -> None:
    found = deviation(group)
    assert found.mean <= mean
    assert lowest <= found.lowest <= found.highest <= highest


def test_every_class_of_load_has_points_a_bound_and_a_note_where_it_was_not_fitted() -> None:
    names = [each.name for each in speed_classes()]
    assert names == [group for group, *_ in SPEED_ERRORS]
    assert set(names) == {row.group for row in published_speeds()}
    assert all(each.fitted or each.note for each in speed_classes())


def test_figures_that_nothing_is_held_against_say_where_they_stand_and_why_they_are_left_out() -> None:
    assert unused_figures()
    assert all(each.figure and each.source and each.why for each in unused_figures())


def test_every_rule_of_division_has_a_check_a_text_and_a_source() -> None:
    assert [each.rule for each in division_rules()] == list(CHECKS)
    assert all(each.text and each.source for each in division_rules())


def _kept_in_16_bit(model_id: str) -> float:
    """GiB by which embeddings in 16 bit are larger than in 8."""
    model = model_facts(model_id)
    assert model is not None
    assert model.vocab_size is not None
    return model.vocab_size * model.hidden_size * (1 if model.tied_embeddings else 2) / 2**30

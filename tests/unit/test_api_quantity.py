"""Kubernetes quantities: exact values, refusals that name the text, and agreement with what the CRD admits."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aim_engine.api.meta import Quantity
from aim_engine.api.quantity import format_bytes, milli, parse_quantity, whole
from unit.selection_world import UNHURRIED

SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6),
    "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18), "Ki": Decimal(2**10),
    "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
FIELD: TypeAdapter[str] = TypeAdapter(Quantity)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("1", 1), ("16", 16), (16, 16), (1.5, "1.5"), ("1.5", "1.5"), (".5", "0.5"), ("3.", 3), ("+2", 2), ("-2", -2),
        ("500m", "0.5"), ("250u", "0.00025"), ("1n", "1e-9"), ("1e3", 1000), ("1E3", 1000), ("1e+3", 1000), ("5e-1", "0.5"),
        ("1E", 10**18), ("2k", 2000), ("1M", 10**6), ("128Gi", 128 * 2**30), ("1.5Gi", 3 * 2**29), ("0.1Ki", "102.4"),
        ("1Ti", 2**40), ("1Ei", 2**60), (" 4Gi ", 4 * 2**30), ("1e18", 10**18), ("1e-18", "1e-18"),
    ],
)  # fmt: skip
def test_a_quantity_has_this_value(text: str | int | float, value: int | str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", " ", "Gi", "1gi", "1K", "1 Gi", "1GiB", "1GB", "0x10", "1,5", "1_000", "1e", "e3", "--1", "1.2.3", "ten", "NaN",
             "inf", "1mm", "1e3Gi", "1\n2", "٣"]
)  # fmt: skip
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity") as error:
        parse_quantity(text)
    assert repr(text)[1:-1] in str(error.value) or text in str(error.value)


@pytest.mark.parametrize("text", ["1e19", "1e-19", "1e999999999", "-1E+100"])
def test_exponents_beyond_reason_are_refused_before_they_cost_memory(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse_quantity(text)


@pytest.mark.parametrize(("text", "thousandths"), [("500m", 500), ("1", 1000), ("0.0001", 1), ("1u", 1), ("1.0001", 1001), ("0", 0), (2, 2000)])  # fmt: skip
def test_cpu_counts_in_thousandths_rounded_up(text: str | int, thousandths: int) -> None:
    assert milli(text) == thousandths


@pytest.mark.parametrize(("text", "count"), [("1e3", 1000), ("1500m", 2), ("1", 1), ("0.1", 1), ("0", 0), ("1.5Gi", 3 * 2**29)])  # fmt: skip
def test_memory_and_gpus_count_whole_rounded_up(text: str, count: int) -> None:
    assert whole(text) == count


@UNHURRIED
@given(st.integers(0, 10**9), st.integers(0, 999), st.sampled_from(sorted(SUFFIXES)))
def test_number_times_suffix(number: int, fraction: int, suffix: str) -> None:
    text = f"{number}.{fraction:03}"
    assert parse_quantity(text + suffix) == Decimal(text) * SUFFIXES[suffix]


@UNHURRIED
@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        value = parse_quantity(text)
    except ValueError:
        return
    assert value.is_finite()


@UNHURRIED
@given(st.from_regex(r"^[0-9.eE+\-numkKMGTPEi]{0,10}$", fullmatch=True))
def test_text_that_looks_like_one_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        assert parse_quantity(text).is_finite()
    except ValueError:
        return


@UNHURRIED
@given(st.integers(0, 10**15), st.sampled_from(["", "m", "k", "Gi"]))
def test_rounding_up_never_loses_anything(number: int, suffix: str) -> None:
    value = parse_quantity(f"{number}{suffix}")
    assert value <= whole(f"{number}{suffix}") < value + 1
    assert value * 1000 <= milli(f"{number}{suffix}") < value * 1000 + 1


@UNHURRIED
@given(st.from_regex(r"^[0-9.eE+\-numkKMGTPEi]{1,8}$", fullmatch=True).filter(lambda t: "\n" not in t))
def test_a_field_takes_no_less_than_the_parser_and_nothing_negative(text: str) -> None:
    try:
        FIELD.validate_python(text)
    except ValidationError:
        with suppress(ValueError):
            assert parse_quantity(text) < 0 or text.startswith("-")
        return
    assert parse_quantity(text) >= 0


@pytest.mark.parametrize(("given_", "text"), [(8, "8"), (0, "0"), (0.5, "0.5"), ("128Gi", "128Gi")])
def test_a_field_takes_the_numbers_that_yaml_makes_of_them(given_: object, text: str) -> None:
    assert FIELD.validate_python(given_) == text


@pytest.mark.parametrize("given_", [True, None, [], {}, "-1", -1, "1e30", "1" * 33])
def test_a_field_refuses_the_rest(given_: object) -> None:
    with pytest.raises(ValidationError):
        FIELD.validate_python(given_)


@pytest.mark.parametrize(("count", "text"), [(0, "0 MiB"), (2**20, "1 MiB"), (2**30, "1.0 GiB"), (1.55 * 2**30, "1.6 GiB"), (200 * 2**20, "0.2 GiB")])  # fmt: skip
def test_bytes_for_people(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_the_field_is_int_or_string_on_the_wire() -> None:
    assert any(
        (getattr(part, "json_schema_extra", None) or {}).get("x-kubernetes-int-or-string") is True
        for part in get_args(Quantity)
    )

"""The store of per-object series: what is shown, and that a scrape writes nothing anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from aim_engine.telemetry.families import FAMILIES
from aim_engine.telemetry.store import Family, SeriesStore

TOKENS = Family("aim_test_tokens", "Tokens.", ("namespace", "name"))
STATE = Family("aim_test_state", 'A "state" with \\ and\na line.', ("namespace", "name", "state"))
KEY = ("team-a", "chat")


def parsed(text: str, *, openmetrics: bool = False) -> list[Metric]:
    """The families of a page, as prometheus_client's parser of the format reads them."""
    if openmetrics:
        return list(read_openmetrics(f"{text}# EOF\n"))  # type: ignore[no-untyped-call]
    return list(read_text(text))


def shown(store: SeriesStore) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples by name and labels, as the parser reads them."""
    text = b"".join(store.parts()).decode()
    families = parsed(text)
    assert len({family.name for family in families}) == len(families), "every family comes once, in one piece"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_put_is_shown_and_what_is_left_out_vanishes() -> None:
    store = SeriesStore([TOKENS, STATE])
    store.put("a", KEY, [(TOKENS, KEY, 3.5), (STATE, (*KEY, "up"), 1), (STATE, (*KEY, "fast"), 1)])
    assert len(shown(store)) == 3
    store.put("a", KEY, [(STATE, (*KEY, "down"), 1)])
    assert list(shown(store)) == [
        ("aim_test_state", (("name", "chat"), ("namespace", "team-a"), ("state", "down")))
    ]
    store.put("a", KEY, [])
    assert shown(store) == {}


def test_two_sections_show_one_object_and_each_drops_only_its_own() -> None:
    store = SeriesStore([TOKENS, STATE])
    store.put("a", KEY, [(TOKENS, KEY, 1)])
    store.put("b", KEY, [(STATE, (*KEY, "up"), 1)])
    store.drop("a", KEY)
    store.drop("a", ("never", "there"))
    assert [name for name, _ in shown(store)] == ["aim_test_state"]
    assert (store.keys("a"), store.keys("b")) == ([], [KEY])


def test_a_family_nobody_declared_is_refused() -> None:
    with pytest.raises(KeyError):
        SeriesStore([TOKENS]).put("a", KEY, [(STATE, (*KEY, "up"), 1)])


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(TypeError, match="format"):
        SeriesStore([TOKENS]).put("a", KEY, [(TOKENS, ("team-a",), 1)])


@given(st.text(min_size=1), st.floats())
def test_any_label_and_any_value_come_back_as_they_were(label: str, value: float) -> None:
    label = label.replace("\r", "")
    store = SeriesStore([TOKENS])
    store.put("a", label, [(TOKENS, ("ns", label), value)])
    text = b"".join(store.parts()).decode()
    for read in (parsed(text), parsed(text, openmetrics=True)):
        ((sample,),) = [family.samples for family in read]
        assert sample.labels == {"namespace": "ns", "name": label}
        assert sample.value == value or (sample.value != sample.value and value != value)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 3))))
def test_the_page_is_what_was_put_last_in_whatever_order(steps: list[tuple[str, str, int]]) -> None:
    store = SeriesStore([TOKENS, STATE])
    expected: dict[tuple[str, str], int] = {}
    for section, key, count in steps:
        if count == 0:
            store.drop(section, key)
            expected.pop((section, key), None)
        else:
            store.put(section, key, [(STATE, (section, key, str(each)), each) for each in range(count)])
            expected[(section, key)] = count
    assert len(shown(store)) == sum(expected.values())


def test_pages_of_what_did_not_change_write_no_object_anew() -> None:
    store = SeriesStore([TOKENS, STATE])
    for each in range(100):
        store.put("a", each, [(TOKENS, ("ns", str(each)), each)])
    pages = {b"".join(store.parts()) for _ in range(5)}
    assert len(pages) == 1
    assert store.rendered == 100


def test_every_declared_family_is_valid_in_both_formats() -> None:
    store = SeriesStore(FAMILIES)
    samples = [(family, tuple(f"v{i}" for i, _ in enumerate(family.labels)), 0.25) for family in FAMILIES]
    store.put("all", "one", samples)
    text = b"".join(store.parts()).decode()
    names = [family.name for family in FAMILIES]
    assert [family.name for family in parsed(text, openmetrics=True)] == names
    assert [family.name for family in parsed(text)] == names
    assert len(set(names)) == len(names)

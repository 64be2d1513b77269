"""YAML and JSON become what a Kubernetes object can hold, as kubectl would read them, or are refused in one line."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.cli.documents import documents
from aim_engine.cli.output import CommandError, to_yaml
from unit.selection_world import UNHURRIED

READ: dict[str, tuple[str, list[Any]]] = {
    "nothing": ("", []),
    "an empty document": ("---\n", [None]),
    "several documents": ("a: 1\n---\n- b\n---\nc\n", [{"a": 1}, ["b"], "c"]),
    "scalars": ("[1, -0x1F, 010, 1.5, 1e3, ~, null, true, No, x]", [[1, -31, 8, 1.5, "1e3", None, None, True, False, "x"]]),
    "text in quotes": ("['1', \"true\", '~', !!str 5]", [["1", "true", "~", "5"]]),
    "tags that say what is said": ("{a: !!int '7', b: !!map {c: !!seq [1]}, d: !!bool 'yes'}", [{"a": 7, "b": {"c": [1]}, "d": True}]),
    "dates and times are text": ("{a: 2020-01-01, b: 2020-01-01T00:00:00Z, c: 12:30, d: 1:2:3}", [{"a": "2020-01-01", "b": "2020-01-01T00:00:00Z", "c": "12:30", "d": "1:2:3"}]),
    "keys are text": ("{1: a, true: b, 1.5: c, 2020-01-01: d}", [{"1": "a", "true": "b", "1.5": "c", "2020-01-01": "d"}]),
    "block and flow mixed": ("a:\n- b: [c, {d: e}]\n  f: |\n    g\n    h\n", [{"a": [{"b": ["c", {"d": "e"}], "f": "g\nh\n"}]}]),
    "flow that is no JSON": ("{a: b}", [{"a": "b"}]),
    "JSON": ('{"a": [1, "\\ud83d\\ude00", 2.5, null]}', [{"a": [1, "😀", 2.5, None]}]),
    "a list of JSON": ('[{"a": 1}]', [[{"a": 1}]]),
    "an anchor that nobody uses": ("a: &x 1", [{"a": 1}]),
    "separators of lines in text": ('{"a": "x\u2028y\u0085z"}', [{"a": "x\u2028y\u0085z"}]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "values"), READ.values(), ids=READ.keys())
def test_it_is_read(text: str, values: list[Any]) -> None:
    assert list(documents(text, "f")) == values


REFUSED: dict[str, tuple[str, str]] = {
    "an alias": ("a: &a 1\nb: *a", "line 2: *a: YAML aliases are not allowed"),
    "a cycle": ("&a [*a]", "line 1: *a: YAML aliases"),
    "a merge": ("a:\n  <<: {b: 1}", "line 2: '<<' is not a key"),
    "a key that is null": ("~: 1", "line 1: '~' is not a key"),
    "a key that is a list": ("? [a]\n: 1", "line 1: a key is a list or a mapping"),
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3: 'a' appears twice"),
    "bytes": ("a: !!binary aGk=", "line 1: YAML tag tag:yaml.org,2002:binary is not allowed"),
    "a set": ("!!set {a, b}", "YAML tag tag:yaml.org,2002:set is not allowed"),
    "an object of Python": ("!!python/object/apply:os.system [ls]", "is not allowed"),
    "a tag that lies": ("a: !!int many", "'many' cannot be stored"),
    "infinity": ("a: .inf", "'.inf' cannot be stored"),
    "no number": ("a: .nan", "'.nan' cannot be stored"),
    "a large number": ("a: 9223372036854775808", "cannot be stored; write a finite number below 2^63"),
    "a number of 5000 digits": (f"a: {'9' * 5000}", "cannot be stored"),
    "nested YAML": ("[" * 65 + "]" * 65, "line 1: is nested more than 64 levels deep"),
    "nested far": ("[" * 50_000, "is nested more than 64 levels deep"),
    "broken YAML": ("a: [\nb", "line 3: not YAML"),
    "a character that YAML forbids": ("a: \x01", "line 1: not YAML"),
    "half a character in JSON": ('{"a": [{"b": "x\\ud800"}]}', "a[0].b 'x\ud800' holds half a character (\\ud800); write it whole"),
    "half a character in a key": ('{"\\udc00": 1}', "holds half a character (\\udc00)"),
    "a large number in JSON": ('{"a": 9223372036854775808}', "a '9223372036854775808' cannot be stored"),
    "infinity in JSON": ('{"a": -Infinity}', "'-Infinity' is not a number that can be stored"),
    "infinity by exponent in JSON": ('{"a": 1e999}', "a 'inf' cannot be stored"),
    "a number of 5000 digits in JSON": (f'{{"a": {"9" * 5000}}}', "a number of many digits cannot be stored"),
    "nested JSON": ('{"a":' * 65 + "1" + "}" * 65, "is nested more than 64 levels deep"),
    "JSON nested far": ('{"a":' * 50_000, "is nested more than 64 levels deep"),
    "broken JSON": ('{"a": \n1 "b"}', "line 2: not JSON"),
    "JSON and more": ('{"a": 1} b', "line 1: not YAML"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_with_line_or_field_value_and_remedy(text: str, told: str) -> None:
    with pytest.raises(CommandError) as refused:
        list(documents(text, "file.yaml"))
    assert told in str(refused.value)
    assert str(refused.value).startswith("file.yaml: ")
    assert ";" in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("text", ["[" * 64 + "]" * 64, '{"a":' * 64 + "1" + "}" * 64, "{a: " * 64 + "}" * 64])
def test_nesting_up_to_the_limit_is_read(text: str) -> None:
    assert len(list(documents(text, "f"))) == 1


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False, width=32) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(UNHURRIED, max_examples=200)
@given(st.dictionaries(_text, _json, max_size=4))
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert list(documents(json.dumps(value), "f")) == [value]
    assert list(documents(json.dumps(value, indent=1, ensure_ascii=False), "f")) == [value]


@settings(UNHURRIED, max_examples=200)
@given(st.lists(_json, max_size=4))
def test_what_pyyaml_writes_comes_back_as_it_was(value: Any) -> None:
    class Whole(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    assert list(documents(yaml.dump(value, Dumper=Whole), "f")) == [value]
    assert list(documents(yaml.dump(value, Dumper=Whole, default_flow_style=True), "f")) == [value]
    assert list(documents(to_yaml(value), "f")) == [value], "our own output is read again"


@settings(UNHURRIED, max_examples=300)
@given(st.text(max_size=60) | st.text("{}[]\"':,-?&*!|>#%@ \nab1\t", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(CommandError):
        json.dumps(list(documents(text, "f")), allow_nan=False).encode()

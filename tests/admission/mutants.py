"""Objects of the corpus with a few faults in them, as JSON can write them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from admission.corpus import Json, cases
from unit.mutations import faulty

_LARGEST = 2**63
PLAIN = [case.object for case in cases("good") if case.kind in ("AIMDeployment", "AIMRecipe")]
CONFIG_MAPS = [case.object for case in (*cases("good"), *cases("bad")) if case.kind == "ConfigMap"]


def _is_storable(tree: Any) -> bool:
    """Whether JSON can write it so that everybody reads the same: finite, and no halves of characters."""
    match tree:
        case dict():
            return all(
                isinstance(key, str) and _is_storable(key) and _is_storable(value)
                for key, value in tree.items()
            )
        case list():
            return all(map(_is_storable, tree))
        case str():
            return not any("\ud800" <= letter <= "\udfff" for letter in tree)
        case float():
            return tree == tree and abs(tree) < _LARGEST
        case int():
            return abs(tree) < _LARGEST
        case _:
            return tree is None


def _without_nulls(tree: Any) -> Any:
    """The API server drops them, but for those of unknown fields, which only it can tell."""
    if isinstance(tree, dict):
        return {key: _without_nulls(value) for key, value in tree.items() if value is not None}
    return [_without_nulls(value) for value in tree] if isinstance(tree, list) else tree


@st.composite
def mutants(draw: st.DrawFn) -> Json:
    """An AIMDeployment or AIMRecipe whose spec has one fault or some, or happens to have none."""
    plain = draw(st.sampled_from(PLAIN))
    spec = draw(faulty(plain["spec"] or {"replicas": 1}).filter(_is_storable))
    return {**plain, "spec": _without_nulls(json.loads(json.dumps(spec)))}


@st.composite
def texts(draw: st.DrawFn) -> Json:
    """A ConfigMap with a damaged document."""
    plain = draw(st.sampled_from(CONFIG_MAPS))
    text = str(plain["data"].get("recipe.yaml", "") if isinstance(plain["data"], dict) else "")[:2000]
    at = draw(st.integers(0, len(text)))
    damaged = text[:at] + draw(st.text(max_size=4)) + text[at + draw(st.integers(0, 9)) :]
    return {**plain, "data": {"recipe.yaml": damaged}}

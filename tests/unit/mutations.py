"""Valid trees with a few faults in them, written as YAML or JSON: what hand edits, other tools and old versions leave behind."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import strategies as st

Path = tuple[Any, ...]
LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3.5, 10**17, 2**63, 10**400, -(2**70), float("nan"), float("inf"), "", "x", " ", "0", "-1",
    "ü\u2028\x85", "\ud800", "x\x1b[31m", "1e999", "5Gi", "9" * 5000, "true", "../../etc", "a" * 70, "MI300X", "amd.com/gpu", "Qwen/Qwen3-32B",
    [], {}, [None], [[]], {"a": None}, {"a": {"b": [1]}}, ["a", "b"], ["a", 1, {}], {"": ""}, {"a": "b" * 300},
    datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), b"hi\xff", {1: 2}, {None: 1}, {"x"},
)  # fmt: skip
KEYS: tuple[Any, ...] = (
    "x",
    "",
    1,
    None,
    True,
    1.5,
    datetime.date(2020, 1, 1),
    "ünï\u2028",
    "a.b/c",
    "\ud800",
    "name",
    "kind",
)


class _Whole(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def places(tree: Any, at: Path = ()) -> Iterator[Path]:
    """Paths to all values below the root."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*at, key)
        yield from places(value, (*at, key))


@st.composite
def faulty(draw: st.DrawFn, tree: Any, most: int = 2) -> Any:
    """The tree with one fault or some."""
    changed = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        found = list(places(changed))
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        around = changed
        for key in way:
            around = around[key]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"])):
            case "remove":
                del around[last]
            case "add" if isinstance(around, dict):
                around[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from(LEAVES)))
            case _:
                around[last] = copy.deepcopy(draw(st.sampled_from(LEAVES)))
    return changed


@st.composite
def written(draw: st.DrawFn, trees: Any) -> bytes:
    """A tree as a file; now and then cut, or with a byte that is no text."""
    tree = draw(trees)
    text = draw(st.sampled_from([_yaml, _flow, _json]))(tree)
    content: bytes = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 19)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return content


def _yaml(tree: Any) -> str:
    text: str = yaml.dump(tree, Dumper=_Whole, allow_unicode=True, sort_keys=False)
    return text


def _flow(tree: Any) -> str:
    text: str = yaml.dump(tree, Dumper=_Whole, default_flow_style=True, sort_keys=False)
    return text


def _json(tree: Any) -> str:
    """JSON knows neither dates nor bytes; what it takes from Python beyond its own rules is left in."""
    return json.dumps(_plain(tree), default=str)


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(key): _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, list) else tree

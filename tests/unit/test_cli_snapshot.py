"""Snapshots: one YAML List that holds what decisions need and no secret, and readers that survive any file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aim_engine.api.meta import API_VERSION
from aim_engine.cli.output import CommandError
from aim_engine.cli.snapshot import _replace
from aim_engine.cli.snapshot_file import read_snapshot
from aim_engine.reconcile.config import OperatorConfig
from unit.cli_world import TAKEN, Terminal, config_map, deployment, node, pod, recipe, snapshot
from unit.selection_world import QWEN


def items(path: Path) -> list[dict[str, Any]]:
    """The objects, read by YAML alone."""
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["items"]
    return found


def test_a_snapshot_is_one_yaml_list_and_reads_back(tmp_path: Path) -> None:
    config = OperatorConfig(patience_seconds=7, allowed_images=["quay.io/ours/"])
    path = snapshot(
        tmp_path, node("gpu-1"), pod("p", "gpu-1", 1), recipe("small"), deployment("ünïcode"), config=config
    )
    document = yaml.safe_load(path.read_text())
    assert (document["apiVersion"], document["kind"]) == ("v1", "List")
    read = read_snapshot(path, 0.0)
    assert [each.obj for each in read.objects] == document["items"][1:]
    assert read.config == config
    assert read.clock == TAKEN.timestamp()
    facts = read.facts.model(QWEN)
    assert facts is not None
    assert facts.layers == 64


def test_facts_of_the_snapshot_go_before_the_catalogue(tmp_path: Path, run: Terminal) -> None:
    path = snapshot(tmp_path, node("gpu-1"), recipe("small"))
    document = yaml.safe_load(path.read_text())
    (facts,) = (row for row in document["items"][0]["modelFacts"] if row["id"] == QWEN)
    facts["parameters"] = 10**12
    path.write_text(json.dumps(document))
    ended = run("select", QWEN, "--cluster", path, "-o", "json")
    assert ended.json["candidates"][0]["reason"] == "MemoryInsufficient"


@pytest.mark.parametrize("name", ["taken/below/snapshot.yaml", "gone/snapshot.yaml", ".", "/proc/none"])
def test_a_file_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CommandError, match="; name a file that can be written") as refused:
        _replace(tmp_path / name, "content")
    assert refused.value.code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_no_secret_leaves_the_cluster(tmp_path: Path) -> None:
    path = snapshot(tmp_path, pod("p", "gpu-1", 1, secret="hunter1"), config_map("m", "recipe_id: x"))
    assert "hunter" not in path.read_text()
    (kept,) = (each for each in items(path) if each["kind"] == "Pod")
    assert set(kept) == {"apiVersion", "kind", "metadata", "spec", "status"}
    assert set(kept["spec"]["containers"][0]) == {"name", "resources"}


def head(**changes: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "Snapshot", "metadata": {"name": "s"}, "time": "2026-03-01T12:00:00Z", "objects": 0, **changes}  # fmt: skip


def listed(*objects: Any, **changes: Any) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects), **changes})


NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
BAD = {
    "empty": ("", "there are 0 documents"),
    "no YAML": ("a: [", "line 2: not YAML"),
    "no JSON": ('{"kind": ', "not JSON"),
    "cut within its first item": ('apiVersion: v1\nkind: List\nitems:\n- {"kind": "Node", "met', "line 4: not YAML"),
    "cut within an item": (f'apiVersion: v1\nkind: List\nitems:\n- {json.dumps(NODE)}\n- {{"kind": "Node", "met', "line 5 ends early"),
    "cut between items": (listed(head(objects=2), NODE), "holds 1 objects of 2; it was cut"),
    "two documents": ("a: 1\n---\nb: 2\n", "there are 2 documents"),
    "a list": ("- a\n- b\n", "is not a List of objects"),
    "text": ("hello", "is not a List of objects"),
    "another kind": ("apiVersion: v1\nkind: Pod\n", "kind 'Pod' is not List"),
    "another version of the List": (listed(apiVersion="v2"), "apiVersion 'v2' of the List is not v1"),
    "another version of the snapshot": (listed(head(apiVersion="aim.engine.amd.com/v9")), "apiVersion 'aim.engine.amd.com/v9'"),
    "items that are none": (listed(items=7), "items '7' is not a list"),
    "an item that is none": (listed("x"), "items[0]: 'x' is not an object"),
    "no kind": (listed({"metadata": {"name": "a"}}, kind="List"), "items[0]: kind 'None' is not a kind"),
    "no name": (listed({"kind": "Node"}), "items[0]: metadata.name 'None' of a Node"),
    "a name that is none": (listed({"kind": "Node", "metadata": {"name": 3}}), "metadata.name '3' of a Node"),
    "a namespace that is none": (listed({"kind": "Pod", "metadata": {"name": "a", "namespace": 1}}), "metadata.namespace '1' is not text"),
    "twins": (listed(NODE, NODE), "items[1]: Node n is there already"),
    "a wrong time": (listed(head(time="noon")), "time 'noon' is not a time"),
    "an unknown setting": (listed(head(configuration={"wrkers": 3})), "configuration: wrkers"),
    "wrong facts": (listed(head(modelFacts=[{"id": "a/b", "layers": "many"}])), "items[0]: modelFacts[0]: layers 'many' is not int"),
    "facts that divide by nothing": (listed(head(modelFacts=[{"id": "a/b", "headDim": 0}])), "modelFacts[0].headDim '0' must be above 0"),
    "facts that are none": (listed(head(checkpoints=[3])), "checkpoints[0] '3' is not a row of facts"),
    "reasons that are none": (listed(head(unknownFacts={"a/b": 3})), "unknownFacts"),
    "aliases": ("a: &a [1]\nb: [*a]\n", "line 2: *a: YAML aliases are not allowed"),
    "a deployment without a shape": (listed({"kind": "Deployment", "metadata": {"name": "d"}, "spec": 3}), "items[0]: Deployment default/d cannot be read"),
    "nested too deeply": ("[" * 100_000, "nested more than 64 levels"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD.keys())
def test_a_file_that_is_no_snapshot_is_told_with_place_value_and_remedy(
    run: Terminal, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    ended = run("select", QWEN, "--cluster", path)
    assert ended.code == 4
    assert told in ended.err
    assert str(path) in ended.err
    assert ";" in ended.err


def test_bytes_that_are_no_text_are_told(run: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"kind: List\n\xff\xfe")
    ended = run("select", QWEN, "--cluster", path)
    assert (ended.code, "byte 11 is not UTF-8" in ended.err) == (4, True)


def test_a_cluster_without_nodes_is_a_cluster_in_which_nothing_can_serve(
    run: Terminal, tmp_path: Path
) -> None:
    ended = run("select", QWEN, "--cluster", snapshot(tmp_path, recipe("small")))
    assert ended.code == 3
    assert "No node offers AMD GPUs." in ended.out


def test_a_hundred_megabytes_are_read_or_refused_and_never_crash(run: Terminal, tmp_path: Path) -> None:
    padding = "x" * 1000
    line = json.dumps(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "N", "labels": {"a": padding}}}
    )
    big = tmp_path / "big.yaml"
    with big.open("w") as file:
        file.write("apiVersion: v1\nkind: List\nitems:\n")
        for i in range(95_000):
            file.write(f"- {line.replace('N', f'n{i}', 1).replace(chr(34) + 'N', chr(34) + f'n{i}')}\n")
    ended = run("select", QWEN, "--cluster", big, "-o", "json")
    assert ended.code == 3
    plain = tmp_path / "plain.yaml"
    with plain.open("w") as file:
        file.write("apiVersion: v1\nkind: List\nitems:\n")
        for i in range(100):
            file.write(f"- kind: Namespace\n  metadata:\n    name: n{i}\n    labels: {{a: {'x' * 2**20}}}\n")
    assert run("select", QWEN, "--cluster", plain).code == 3
    plain.write_text("kind: List\n" + "# a comment\n" * (12 * 2**20))
    ended = run("select", QWEN, "--cluster", plain)
    assert (ended.code, "YAML of more than 128 MiB is not read" in ended.err) == (4, True)


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
_trees = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
_kinds = st.sampled_from(
    ["Node", "Pod", "Namespace", "PriorityClass", "AIMRecipe", "ConfigMap", "AIMDeployment", "ControllerRevision",
     "Deployment", "Service", "Snapshot", "Other"]
)  # fmt: skip
_objects = st.fixed_dictionaries(
    {"kind": _kinds | _trees},
    optional={
        "apiVersion": st.just("v1") | st.just(API_VERSION) | _trees,
        "metadata": st.fixed_dictionaries(
            {"name": st.sampled_from(["a", "b"]) | _trees},
            optional=dict.fromkeys(("namespace", "labels", "uid", "ownerReferences", "resourceVersion"), _trees),
        )
        | _trees,
        "spec": st.dictionaries(
            st.sampled_from(["containers", "taints", "model", "recipe", "nodeName", "replicas", "modelID", "hardware"]), _trees
        )
        | _trees,
        "status": st.dictionaries(
            st.sampled_from(["allocatable", "capacity", "conditions", "phase", "recipe", "recommendation"]), _trees
        )
        | _trees,
        "data": _trees,
        "value": _trees,
        "revision": _trees,
        "modelFacts": _trees,
        "configuration": _trees,
        "objects": st.integers(0, 3) | _trees,
        "time": _trees,
    },
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    objects=st.lists(_objects, max_size=3),
    tree=st.none() | _trees,
    command=st.sampled_from(["select", "status", "explain", "-f"]),
)
def test_any_tree_is_a_cluster_or_a_clean_refusal(
    run: Terminal, tmp_path: Path, objects: list[Any], tree: object, command: str
) -> None:
    path = tmp_path / "any.yaml"
    text = yaml.safe_dump(tree, allow_unicode=True) if tree is not None else listed(*objects)
    path.write_text(text, encoding="utf-8", errors="replace")
    words: list[object] = {
        "select": ["select", QWEN, "--cluster", path],
        "status": ["status", "--cluster", path],
        "explain": ["explain", "a", "--cluster", path],
        "-f": ["explain", "-f", path, "--cluster", snapshot(tmp_path, node("gpu-1"), recipe("small"))],
    }[command]  # fmt: skip
    ended = run(*words)
    assert ended.code in (0, 1, 3, 4)
    assert ended.code in (0, 3) or "aim-engine: " in ended.err


def test_reading_never_raises_anything_but_its_own_error(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("\x00\x01")
    with pytest.raises(CommandError):
        read_snapshot(path, 0.0)

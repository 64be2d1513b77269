"""Input that once ended in a traceback: each is read, or refused in one line with place, value and remedy."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.cli.live import operator_config
from aim_engine.cli.output import CommandError, to_yaml
from unit.cli_world import Json, Terminal, deployment, node, recipe, snapshot
from unit.operator_world import running
from unit.selection_world import QWEN


@pytest.fixture
def run(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("AIM_ENGINE_DEBUG", "1")
    return run


def listed(folder: Path, *objects: tuple[str, Json]) -> Path:
    path = folder / "list.json"
    items = [{"kind": kind, **obj} for kind, obj in objects]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return path


NODE, SMALL = node("gpu-1"), recipe("small")


def changed(obj: tuple[str, Json], value: Any, *way: str | int) -> tuple[str, Json]:
    """The object with another value somewhere."""
    kind, body = copy.deepcopy(obj)
    around: Any = body
    for key in way[:-1]:
        around = around[key]
    around[way[-1]] = value
    return kind, body


ENDS_UP = ("status", "allocatable", "amd.com/gpu")
REFUSED: dict[str, tuple[tuple[tuple[str, Json], ...], str]] = {
    "half a character in a name": ((changed(NODE, "gpu-\ud800", "metadata", "name"),), "items[0].metadata.name"),
    "labels of a namespace that are text": ((("Namespace", {"metadata": {"name": "n", "labels": "a=b"}}),), "metadata.labels 'a=b' is not a mapping"),
    "a label that is a number": ((("Namespace", {"metadata": {"name": "n", "labels": {"a": 1}}}),), "metadata.labels.a '1' is not text"),
    "an owner without uid": ((changed(NODE, [{"kind": "x"}], "metadata", "ownerReferences"),), "is no reference with a uid"),
    "a generation that is text": ((changed(NODE, "x", "metadata", "generation"),), "metadata.generation 'x'"),
    "a status that is text": ((changed(deployment("chat"), "up", "status"),), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("objects", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_an_object_of_a_wrong_shape_is_refused_where_it_is_read(
    run: Terminal, tmp_path: Path, objects: tuple[tuple[str, Json], ...], told: str
) -> None:
    ended = run("select", QWEN, "--cluster", listed(tmp_path, *objects))
    assert (ended.code, ended.err.count("\n")) == (4, 1)
    assert told in ended.err
    assert "items[0]" in ended.err
    assert ";" in ended.err


RECORD = running(NODE, SMALL)
BROKEN_RECORDS: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "a manifest that is text": (("manifests", 0), "x", "is no record of a decision"),
    "a manifest without a name": (("manifests", 0, "metadata"), {}, "data lacks 'name'"),
    "manifests that are none": (("manifests",), 7, "is no record of a decision"),
    "a selection that is none": (("selection",), {"outcome": "Perhaps"}, "outcome Input should be"),
    "a recipe without hardware": (("recipe", "spec"), {"modelID": "a/b"}, "hardware Field required"),
    "a name that is a list": (("recipe", "name"), [], "recipe.name '[]' is not text"),
    "an unknown source": (("recipe", "source"), "heaven", "'heaven' is not a valid Source"),
    "a time that is text": (("movedAt",), "noon", "movedAt 'noon' is not a number"),
    "facts that divide by nothing": (("facts",), {"modelFacts": [{"id": "a/b", "headDim": 0}]}, "modelFacts[0].headDim '0' must be above 0"),
}  # fmt: skip


@pytest.mark.parametrize(("way", "value", "told"), BROKEN_RECORDS.values(), ids=BROKEN_RECORDS.keys())
@pytest.mark.parametrize("command", ["explain", "render", "diff"])
def test_a_record_that_is_none_is_told_with_its_place(
    run: Terminal, tmp_path: Path, way: tuple[str | int, ...], value: Any, told: str, command: str
) -> None:
    asked, record, *others = RECORD
    objects = (NODE, SMALL, asked, changed(record, value, "data", *way), *others)
    ended = run(command, "chat", "-n", "team-a", "--cluster", listed(tmp_path, *objects))
    assert (ended.code, ended.out) == (4, "")
    assert "items[3]" in ended.err
    assert told in ended.err


@pytest.mark.parametrize("value", ["9" * 5000, "1e99999", f"1e{'0' * 500}1", "many", -1, None, [], True, 3.5])
def test_an_odd_quantity_counts_as_none(run: Terminal, tmp_path: Path, value: Any) -> None:
    ended = run(
        "select", QWEN, "--cluster", listed(tmp_path, changed(NODE, value, *ENDS_UP), SMALL), "-o", "json"
    )
    assert ended.code in (0, 3)
    assert all(each["allocatable"] <= 8 for each in ended.json["inventory"]["gpus"])


@pytest.mark.parametrize(
    "command",
    [
        ("select", QWEN, "-o", "json"),
        ("select", QWEN, "-o", "yaml"),
        ("render", "-f", "APP"),
        ("diff", "-f", "APP"),
    ],
)
def test_dates_and_numbers_as_keys_in_flags_are_text_as_for_kubectl(
    run: Terminal, tmp_path: Path, command: tuple[str, ...]
) -> None:
    text = to_yaml(
        {"apiVersion": "v1", "kind": "List", "items": [{"kind": kind, **obj} for kind, obj in (NODE, SMALL)]}
    )
    cluster, app = tmp_path / "list.yaml", tmp_path / "app.yaml"
    cluster.write_text(text.replace("max-model-len: 8192", "compilation-config: {1: 2, since: 2020-01-01}"))
    app.write_text(yaml.safe_dump(deployment("chat")[1]))
    ended = run(*(str(app) if word == "APP" else word for word in command), "--cluster", cluster)
    assert ended.code == 0, ended.err
    assert "2020-01-01" in ended.out
    assert "datetime" not in ended.out


@pytest.mark.parametrize("value", ["9" * 5000, f"{'9' * 400}k", "1" * 31])
def test_a_flag_of_thousands_of_digits_is_wrong_and_told(run: Terminal, tmp_path: Path, value: str) -> None:
    path = listed(tmp_path, NODE, recipe("small", engineArgs={"max-model-len": value}), changed(SMALL, "ok", "metadata", "name"))  # fmt: skip
    ended = run("select", QWEN, "--cluster", path, "-o", "json")
    verdicts = {each["recipe"]: each["reason"] for each in ended.json["candidates"]}
    assert verdicts == {"ok": "Chosen", "small": "RecipeInvalid"}


def test_a_status_of_any_shape_is_shown_as_far_as_it_goes(run: Terminal, tmp_path: Path) -> None:
    kind, obj = deployment("chat")
    odd: tuple[Json, ...] = (
        {"conditions": ["x", {"type": "Ready", "status": "True"}]},
        {"conditions": 7},
        {"conditions": [[]], "ready": {}},
    )
    for status in odd:
        path = listed(tmp_path, NODE, (kind, {**obj, "status": status}))
        for form in ("table", "wide", "json"):
            ended = run("status", "--cluster", path, "-o", form)
            assert (ended.code, "chat" in ended.out) == (0, True)
        assert run("explain", "chat", "-n", "team-a", "--cluster", path).out.startswith("Selected: ")


def test_what_ends_a_line_in_a_name_or_status_ends_no_row(run: Terminal, tmp_path: Path) -> None:
    kind, obj = deployment("chat")
    obj["status"] = {"conditions": [{"type": "Ready", "status": "False", "message": "a\u2028b\x85c"}]}
    path = snapshot(tmp_path, NODE, SMALL, (kind, obj), deployment("x\u2028y"))
    assert len(path.read_text().splitlines()) == 3 + 1 + 4
    items = yaml.safe_load(path.read_text())["items"]
    assert items[3]["status"] == obj["status"], "YAML reads what was written"
    told = run("status", "--cluster", path, "-o", "json").json["deployments"]
    assert told[0]["message"] == "a\u2028b\x85c"
    wide = run("status", "--cluster", path, "-o", "wide")
    assert (len(wide.out.splitlines()), len(wide.err.splitlines())) == (5, 1)


def test_a_list_in_somebodys_own_flow_style_is_read(run: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    node_object = json.loads(json.dumps({"kind": "Node", **NODE[1]}))
    flow = yaml.safe_dump(node_object, default_flow_style=True, width=10**6).strip()
    for first in (
        flow,
        '{kind: Namespace, metadata: {name: "x"}}',
        '{"kind": Namespace, "metadata": {"name": x}}',
    ):
        path.write_text(
            f"apiVersion: v1\nkind: List\nitems:\n- {first}\n- {json.dumps({'kind': 'Node', **node('other')[1]})}\n"
        )
        assert run("select", QWEN, "--nodes", path).code == 0
    path.write_text(path.read_text().replace("\n", "\r\n"))
    assert run("select", QWEN, "--nodes", path).code == 0


CONFIGS = {
    "cut": ("a: [", "line 2: the document is not YAML"),
    "nested": ("[" * 50_000, "more than 16 levels"),
    "a list": ("- a\n", "is not a YAML mapping"),
    "a wrong type": ("workers: many\n", "workers 'many'"),
    "an unknown field": ("wrkers: 3\n", "wrkers '3'"),
    "an alias": ("a: &a 1\nb: *a\n", "YAML aliases are not allowed"),
    "an object of Python": ("a: !!python/object/apply:os.system [ls]\n", "is not allowed"),
}


@pytest.mark.parametrize(("text", "told"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_configuration_that_is_none_is_told_by_every_command_that_reads_one(
    run: Terminal, tmp_path: Path, text: str, told: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    for words in (("select", QWEN, "--cluster", listed(tmp_path, NODE, SMALL)), ("operator",)):
        ended = run(*words, "--config", config)
        assert (ended.code, ended.err.count("\n")) == (4, 1)
        assert f"{config}: " in ended.err
        assert told in ended.err


@pytest.mark.parametrize("text", ["", "\n# nothing is set\n", "---\n", "{}"])
def test_an_empty_configuration_is_the_default(run: Terminal, tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert run("select", QWEN, "--cluster", listed(tmp_path, NODE, SMALL), "--config", config).code == 0


class Cluster:
    """An API server with one ConfigMap."""

    def __init__(self, data: Json | None) -> None:
        self.data = data

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[tuple[list[Json], str]]:
        metadata = {"namespace": "aim-engine", "name": "aim-engine-operator-config"}
        yield [] if self.data is None else [{"metadata": metadata, "data": self.data}], "1"


@pytest.mark.parametrize(("text", "told"), CONFIGS.values(), ids=CONFIGS.keys())
async def test_a_configmap_of_the_operator_that_is_none_is_told_by_name(text: str, told: str) -> None:
    with pytest.raises(CommandError, match="ConfigMap aim-engine/aim-engine-operator-config: ") as refused:
        await operator_config(Cluster({"config.yaml": text}))  # type: ignore[arg-type]
    assert told in str(refused.value)
    assert (await operator_config(Cluster({"config.yaml": "workers: 3"}))).workers == 3  # type: ignore[arg-type]
    assert (await operator_config(Cluster(None))).workers == 16  # type: ignore[arg-type]


USABLE: Json = {
    "apiVersion": "v1", "kind": "Config", "current-context": "a", "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:9"}}],
    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "users": [{"name": "a", "user": {"token": "x"}}],
}  # fmt: skip
KUBECONFIGS = {
    "no YAML": "a: [", "text": "hello", "empty": "", "an empty mapping": "{}", "a list": "- a", "bytes": "\xff\x00",
    "no such context": yaml.safe_dump({**USABLE, "current-context": "b"}), "clusters that are none": yaml.safe_dump({**USABLE, "clusters": 7}),
    "a certificate that is none": yaml.safe_dump({**USABLE, "clusters": [{"name": "a", "cluster": {"server": "https://x", "certificate-authority-data": "eA=="}}]}),
    "a certificate that is not there": yaml.safe_dump({**USABLE, "clusters": [{"name": "a", "cluster": {"server": "https://x", "certificate-authority": "/none"}}]}),
    "a server that is a number": yaml.safe_dump({**USABLE, "clusters": [{"name": "a", "cluster": {"server": 5}}]}),
}  # fmt: skip


@pytest.mark.parametrize("text", KUBECONFIGS.values(), ids=KUBECONFIGS.keys())
def test_a_broken_kubeconfig_is_told_in_a_line_with_what_to_do(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text, encoding="latin-1")
    monkeypatch.setenv("KUBECONFIG", str(path))
    for command in ("status", "snapshot", "doctor", "operator"):
        ended = run(command)
        assert (ended.code, ended.out) == (1, "")
        line = ended.err.splitlines()[-1]
        assert "kubeconfig" in line.lower()
        assert "; " in line
        assert ("--cluster" in line) is (command == "status"), "a remedy that the command has"


def test_a_cluster_that_does_not_answer_is_told_with_its_address(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(USABLE))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("aim_engine.kube.client._ATTEMPTS", 1)
    ended = run("status")
    assert ended.code == 1
    assert "the cluster does not answer: GET /api/v1/nodes: Cannot connect to host 127.0.0.1:9" in ended.err

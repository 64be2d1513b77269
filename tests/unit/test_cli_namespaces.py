"""Commands speak of the namespaces they were asked about, and say where there is nothing to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.cli_world import Json, Terminal, config_map, deployment, node, recipe, snapshot
from unit.selection_world import QWEN


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    return Terminal(capsys)


def named(name: str) -> tuple[str, Json]:
    return "Namespace", {"apiVersion": "v1", "metadata": {"name": name, "labels": {}}}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A broken recipe stands in team-a, and team-c has nothing."""
    return snapshot(
        tmp_path, node("gpu-1"), recipe("small"), config_map("broken", "a: ["), deployment("chat"),
        deployment("chat", "team-b"), *map(named, ("team-a", "team-b", "team-c")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("select", QWEN), False),
        (("select", QWEN, "-n", "team-a"), True),
        (("select", QWEN, "-n", "team-b"), False),
        (("explain", "chat", "-n", "team-a"), True),
        (("explain", "chat", "-n", "team-b"), False),
        (("diff", "chat", "-n", "team-b"), False),
        (("status", "-n", "team-a"), True),
        (("status", "-n", "team-b"), False),
        (("status", "chat", "-n", "team-b"), False),
        (("status",), True),
    ],
    ids=str,
)
def test_a_broken_recipe_is_told_to_those_who_ask_about_its_namespace(
    run: Terminal, cluster: Path, caplog: pytest.LogCaptureFixture, words: tuple[str, ...], told: bool
) -> None:
    ended = run(*words, "--cluster", cluster)
    assert (ended.code, "ConfigMap team-a/broken is passed over: " in ended.err) == (0, told), ended.err
    assert caplog.messages == [], "a command tells; a log would say it of every namespace"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-n", "nope"), "namespace 'nope' does not exist\n"),
        (("-n", "team-c"), "there are no AIMDeployments in namespace 'team-c'\n"),
        (("-n", "team-b"), ""),
    ],
    ids=str,
)
def test_status_says_why_there_is_nothing_to_show(
    run: Terminal, cluster: Path, words: tuple[str, ...], told: str
) -> None:
    ended = run("status", *words, "--cluster", cluster)
    assert (ended.code, ended.err) == (0, told)


def test_status_of_nodes_alone_knows_no_namespaces(run: Terminal, tmp_path: Path) -> None:
    nodes = snapshot(tmp_path, node("gpu-1"))
    assert run("status", "--nodes", nodes).err == "there are no AIMDeployments\n"
    told = run("status", "--nodes", nodes, "-n", "x").err
    assert told == "there are no AIMDeployments in namespace 'x'\n"

"""Commands speak of the namespaces they were asked about, and say where there is nothing to show."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aim_engine.cli import build_parser
from aim_engine.cli.cluster import home
from unit.cli_world import Json, Terminal, config_map, deployment, node, recipe, snapshot
from unit.selection_world import QWEN


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


def kubeconfig(path: Path, context: Json) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "a",
                "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:9"}}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a", **context}}],
                "users": [{"name": "a", "user": {"token": "x"}}],
            }
        )
    )  # fmt: skip
    return path


@pytest.mark.parametrize("words", [("explain", "chat"), ("status", "chat"), ("bench", "chat"), ("diff", "chat"), ("render", "chat"), ("select", QWEN)], ids=str)  # fmt: skip
@pytest.mark.parametrize(
    ("context", "flags", "meant"),
    [
        ({"namespace": "team-b"}, (), "team-b"),
        ({"namespace": "team-b"}, ("-n", "team-a"), "team-a"),
        ({}, (), "default"),
        (None, (), "default"),
    ],
    ids=str,
)
def test_the_namespace_is_that_of_the_context_as_with_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], context: Json | None,
    flags: tuple[str, ...], meant: str,
) -> None:  # fmt: skip
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path if context is None else kubeconfig(path, context)))
    typed = [*words, *flags]
    assert home(build_parser(typed).parse_args(typed)) == meant


def test_a_snapshot_is_not_of_the_context(
    run: Terminal, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline decides the same on every machine."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", {"namespace": "team-b"})))
    ended = run("explain", "chat", "--cluster", cluster)
    assert (ended.code, "does not exist in namespace 'default'" in ended.err) == (4, True)


def test_a_context_with_a_namespace_that_cannot_be_is_refused(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", {"namespace": "Team B"})))
    ended = run("explain", "chat")
    assert (ended.code, "the namespace of the kubeconfig's context, 'Team B' must be" in ended.err) == (
        4,
        True,
    )

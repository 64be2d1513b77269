"""Whatever a file holds, a command gives an answer or one clear line: never a traceback."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aim_engine.catalog.models import checkpoint_row, model_row
from aim_engine.cli import DEBUG_VARIABLE, main
from aim_engine.cli.live import with_client
from aim_engine.cli.output import CommandError
from aim_engine.kube.client import KubeClient
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.selection import CatalogueFacts
from unit.cli_world import GROUP, Json, config_map, deployment, node, pod, recipe
from unit.mutations import faulty, written
from unit.operator_world import running
from unit.selection_world import QWEN
from unit.test_importers_aim_build import PROFILE
from unit.test_importers_vllm_recipes import FILE, PATH

ROOT = Path(__file__).parents[2]
HARD = settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CUSTOM = "recipe_id: mine\nhuggingface_id: Qwen/Qwen3-32B\nhardware: MI300X\ngpu_count: 4\nprecision: bf16\n"
MEASURED = [{"tokensPerSecond": 100, "provenance": {"kind": "vendor", "source": "https://x"}}]
NODES = (
    node("gpu-1"),
    node("gpu-2", gpu="MI325X", partition="cpx_nps4", taints=[{"key": "a", "effect": "NoSchedule"}]),
)
RECIPES = (
    recipe("small", performance=MEASURED, env={"A": "b"}, allowedNamespaces={"matchLabels": {"a": "b"}}), recipe("large", gpus=8),
)  # fmt: skip
WISHES: Json = {
    "recipe": {"gpuCount": 1, "objective": "latency"}, "workload": {"maxInputTokens": 100}, "targets": {"minTokensPerSecond": 1},
    "scheduling": {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"a": "b"}, "priorityClassName": "p"},
    "overrides": {"engineArgs": {"max-num-seqs": 4, "compilation-config": {"level": 3}}, "env": {"A": "B"}},
}  # fmt: skip
WAITING = deployment("other")
WAITING[1]["status"] = {
    "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "y"}],
    "recipe": {"name": "small", "tier": "Primary"}, "recommendation": {"recipe": "a", "hash": "h", "message": "m"},
}  # fmt: skip
OBJECTS = [
    {"kind": kind, **obj}
    for kind, obj in (
        *NODES, pod("foreign", "gpu-1", 4), *RECIPES, config_map("mine", CUSTOM),
        ("Namespace", {"apiVersion": "v1", "metadata": {"name": "team-a", "labels": {"a": "b"}}}),
        ("PriorityClass", {"apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": "p"}, "value": 5}),
        *running(NODES[0], recipe("small"), recipe={"updatePolicy": "Automatic"}), WAITING,
    )
]  # fmt: skip
for each in OBJECTS:
    for manifest in (each.get("data") or {}).get("manifests", ()):
        manifest["spec"] = {"replicas": 1}  # so that faults are not all in pod templates
_FACTS = CatalogueFacts()
_MODEL, _CHECKPOINT = _FACTS.model(QWEN), _FACTS.checkpoint(QWEN)
assert _MODEL is not None
assert _CHECKPOINT is not None
HEAD: Json = {
    "apiVersion": GROUP, "kind": "Snapshot", "metadata": {"name": "s"}, "time": "2026-03-01T12:00:00Z", "objects": len(OBJECTS),
    "configuration": {"patienceSeconds": 5}, "modelFacts": [model_row(_MODEL)], "checkpoints": [checkpoint_row(_CHECKPOINT)],
    "unknownFacts": [{"id": "a/b", "reason": "gated"}],
}  # fmt: skip
SNAPSHOT = {"apiVersion": "v1", "kind": "List", "items": [HEAD, *OBJECTS]}
PLAIN = {"apiVersion": "v1", "kind": "List", "items": [obj for _, obj in NODES]}
APP = {"kind": "AIMDeployment", **deployment("chat", **WISHES)[1]}
CHANGE = {"apiVersion": "v1", "kind": "List", "items": [APP, OBJECTS[6], OBJECTS[4]]}
CONFIG = OperatorConfig(allowed_images=["a/"]).wire()
KUBECONFIG: Json = {
    "apiVersion": "v1", "kind": "Config", "current-context": "a",
    "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:9", "certificate-authority-data": "eA=="}}],
    "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a", "namespace": "n"}}],
    "users": [{"name": "a", "user": {"token": "x", "client-certificate-data": "eA==", "client-key-data": "eA=="}}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fault of ours is raised, not told; no cluster and no Hub is asked."""
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def survives(words: Sequence[object]) -> None:
    """The command ends by itself, and what it says can be printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    printed = out.getvalue() + err.getvalue()
    printed.encode()
    assert "Traceback" not in printed
    assert code in (0, 1, 2, 3, 4)
    assert code in (0, 3) or len(printed) > 0
    long = [line[:300] for line in err.getvalue().splitlines() if len(line) > 5000]
    assert not long or "import" in words, long


def stored(folder: Path, content: bytes, name: str = "file.yaml") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


FORMS = st.sampled_from(["json", "yaml", "wide", "table"])


@HARD
@given(content=written(faulty(SNAPSHOT)), form=FORMS, command=st.sampled_from(["select", "explain", "other", "status", "render", "diff", "list", "show"]))  # fmt: skip
def test_any_snapshot(tmp_path: Path, content: bytes, form: str, command: str) -> None:
    cluster = ("--cluster", stored(tmp_path, content))
    words: dict[str, tuple[object, ...]] = {
        "select": ("select", QWEN, "-n", "team-a", "-o", form, *cluster), "status": ("status", "-o", form, *cluster),
        "explain": ("explain", "chat", "-n", "team-a", "-o", form, *cluster),
        "other": ("explain", "other", "-n", "team-a", "-o", form, "--hub", *cluster),
        "render": ("render", "chat", "-n", "team-a", *cluster), "diff": ("diff", "chat", "-n", "team-a", *cluster),
        "list": ("recipes", "list", *cluster), "show": ("recipes", "show", "small", *cluster),
    }  # fmt: skip
    survives(words[command])


@HARD
@given(content=written(faulty(PLAIN)), form=FORMS)
def test_any_nodes(tmp_path: Path, content: bytes, form: str) -> None:
    nodes, recipes = (
        stored(tmp_path, content),
        stored(tmp_path, yaml.safe_dump_all([RECIPES[0][1]]).encode(), "recipes.yaml"),
    )
    survives(("select", QWEN, "--nodes", nodes, "--recipes", recipes, "-o", form))


@HARD
@given(
    content=written(faulty(CHANGE) | faulty(APP)),
    words=st.sampled_from([("explain",), ("explain", "-o", "json"), ("explain", "-o", "yaml"), ("render",), ("render", "-o", "json"), ("diff",)]),
)  # fmt: skip
def test_any_manifests(tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    folder = tmp_path / "apps"
    folder.mkdir(exist_ok=True)
    file = stored(folder, content)
    target = folder if words[0] == "explain" and len(content) % 2 else file
    survives(
        (*words, "-f", target, "--cluster", stored(tmp_path, yaml.safe_dump(SNAPSHOT).encode(), "s.yaml"))
    )


@HARD
@given(
    content=written(faulty(CONFIG))
    | st.sampled_from([b"", b"# nothing\n", b"a: [", b"[" * 50_000, b"- a", b"\xff", b"a: &a [*a]"])
)
def test_any_configuration(tmp_path: Path, content: bytes) -> None:
    config = stored(tmp_path, content, "config.yaml")
    cluster = stored(tmp_path, yaml.safe_dump(PLAIN).encode())
    recipes = stored(tmp_path, yaml.safe_dump_all([RECIPES[0][1]]).encode(), "recipes.yaml")
    survives(("select", QWEN, "--cluster", cluster, "--recipes", recipes, "--config", config))


@HARD
@given(
    content=written(faulty(RECIPES[0][1])), command=st.sampled_from(["validate", "list", "show", "select"])
)
def test_any_recipe(tmp_path: Path, content: bytes, command: str) -> None:
    recipes = stored(tmp_path, content)
    words: dict[str, tuple[object, ...]] = {
        "validate": ("recipes", "validate", recipes), "list": ("recipes", "list", "--recipes", recipes, "-o", "json"),
        "show": ("recipes", "show", "small", "--recipes", recipes, "-o", "json"),
        "select": ("select", QWEN, "--recipes", recipes, "--nodes", stored(tmp_path, yaml.safe_dump(PLAIN).encode(), "nodes.yaml")),
    }  # fmt: skip
    survives(words[command])


@HARD
@given(content=written(faulty(yaml.safe_load(PROFILE))))
def test_any_profile_of_aim_build(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "checkout" / "profiles" / "Qwen" / "Qwen3-32B"
    folder.mkdir(parents=True, exist_ok=True)
    stored(folder, content, "vllm-mi300x-fp16-tp1-throughput.yaml")
    survives(("recipes", "import", "aim-build", tmp_path / "checkout"))


@HARD
@given(content=written(faulty(yaml.safe_load(FILE))))
def test_any_recipe_of_the_vllm_project(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "checkout" / PATH
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    survives(("recipes", "import", "vllm-recipes", tmp_path / "checkout"))


@HARD
@given(content=written(faulty(KUBECONFIG)))
def test_any_kubeconfig(tmp_path: Path, content: bytes) -> None:
    async def nothing(_: KubeClient) -> int:
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(stored(tmp_path, content, "kubeconfig")))
        with contextlib.suppress(CommandError):
            with_client(nothing)


@HARD
@given(words=st.lists(st.sampled_from(["select", "explain", "-n", "-f", "--cluster", "\ud800", "x\x1b", "", "--gpu-count", "9" * 5000, "--hub", "-o", "json"]) | st.text(max_size=5), max_size=5))  # fmt: skip
def test_any_words(words: list[Any]) -> None:
    typed = [word for word in words if "\0" not in word]
    with contextlib.suppress(SystemExit):
        survives(typed)

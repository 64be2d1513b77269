"""The parts of the testbed that need no cluster."""

from __future__ import annotations

import http
import http.server
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed import gobuild, tools
from testbed.api import ApiClient
from testbed.engine_server import served_models
from testbed.fault_proxy import requested_resource
from testbed.nodes import make_node
from testbed.vllm_metrics import EngineState, Load, render

TESTS = Path(__file__).parent.parent
CAPTURE = (
    Path(os.environ.get("AIM_SHARED_DATA", TESTS.parent.parent / "shared" / "data")) / "vllm-0.32-metrics.txt"
)
LENGTHS = ("vllm:request_prompt_tokens_bucket", "vllm:request_generation_tokens_bucket")


def test_of_several_builders_one_builds_and_nobody_sees_a_half_file(tmp_path: Path) -> None:
    builds: list[Sequence[str]] = []
    seen_partial: list[bool] = []
    directory = tmp_path / "module-abc"

    def build(output: Path, missing: Sequence[str]) -> None:
        builds.append(missing)
        script = (
            f"printf half > {output}/one; sleep 0.2; printf whole > {output}/one; printf two > {output}/two"
        )
        gobuild.run_reporting("a fake build", ["sh", "-c", script])

    def user() -> None:
        gobuild.build_once(directory, ["one", "two"], build)
        seen_partial.append((directory / "one").read_text() != "whole")

    threads = [threading.Thread(target=user) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == [["one", "two"]]
    assert seen_partial == [False] * 4
    assert sorted(path.name for path in directory.iterdir()) == ["one", "two"]


def test_a_failed_build_leaves_nothing_and_shows_its_last_words(tmp_path: Path) -> None:
    def build(output: Path, _: Sequence[str]) -> None:
        gobuild.run_reporting(
            "a fake build", ["sh", "-c", f"echo x > {output}/one; echo no such package; exit 3"]
        )

    with pytest.raises(gobuild.BuildError, match=r"code 3\n    no such package"):
        gobuild.build_once(tmp_path / "module", ["one"], build)
    assert list((tmp_path / "module").iterdir()) == []


def test_a_program_of_another_version_is_not_taken(tmp_path: Path) -> None:
    kubectl = tools.TOOLS["kubectl"]
    version = tools.expected_version(kubectl)
    for text, right in (
        (version, True),
        (version + "1", False),
        (version + "-dirty", False),
        ("v1.0.0", False),
    ):
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\necho Client Version: {text}\n")
        program.chmod(0o755)
        assert tools.reports_version(program, kubectl) is right, text


def test_an_unavailable_tool_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise gobuild.BuildError("no toolchain here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gobuild, "find_go", broken)
    with pytest.raises(tools.ToolUnavailable, match=r"(?s)promtool.*no toolchain here.*Remedy"):
        tools.build_module("prometheus", ["promtool"])


def test_a_tool_that_is_named_twice_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builds: list[Sequence[str]] = []

    def built(_: str, names: Sequence[str]) -> dict[str, Path]:
        builds.append(names)
        return {name: tmp_path / name for name in names}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tools, "find_installed", lambda _: None)
    monkeypatch.setattr(tools, "build_module", built)
    assert list(tools.ensure(("kubectl", "kubelet", "kubectl"))) == ["kubectl", "kubelet"]
    assert builds == [["kubectl", "kubelet"]]


def test_nodes_are_labelled_like_the_labeller_does() -> None:
    labels = make_node("mi300x-8", "n")["metadata"]["labels"]
    assert labels["amd.com/gpu.device-id"] == "74a1"
    assert labels["beta.amd.com/gpu.device-id"] == "74a1"
    assert labels["beta.amd.com/gpu.device-id.74a1"] == "8"
    assert labels["amd.com/gpu.vram"] == "192G"
    assert labels["amd.com/gpu.compute-memory-partition"] == "spx_nps1"
    mixed = make_node("mi300x-4-mi210-4", "n")["metadata"]["labels"]
    assert "amd.com/gpu.device-id" not in mixed
    assert mixed["amd.com/gpu.device-id.74a1"] == mixed["amd.com/gpu.device-id.740f"] == "4"
    assert mixed["amd.com/gpu.family"] == "AI"


def test_resources_follow_the_naming_strategy() -> None:
    assert make_node("mi300x-cpx-nps4", "n")["status"]["allocatable"]["amd.com/gpu"] == "64"
    mixed = make_node("mi300x-cpx-nps4-mixed", "n")["status"]["allocatable"]
    assert mixed["amd.com/cpx_nps4"] == "64"
    assert "amd.com/gpu" not in mixed


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/nodes", "nodes"),
        ("/api/v1/namespaces/x", "namespaces"),
        ("/api/v1/namespaces/x/pods/y/status", "pods/status"),
        ("/apis/apps/v1/deployments", "deployments"),
        ("/apis/apps/v1/namespaces/x/deployments/y", "deployments"),
        ("/apis/apps/v1", ""),
        ("/version", ""),
    ],
)
def test_paths_name_resources(path: str, resource: str) -> None:
    assert requested_resource(path) == resource


@pytest.mark.parametrize(
    ("container", "names"),
    [
        ({"command": ["vllm", "serve"], "args": ["org/m", "--port=1"]}, ["org/m"]),
        (
            {"command": ["vllm", "serve", "org/m"], "args": ["--served-model-name", "a", "b", "--x"]},
            ["a", "b"],
        ),
        ({"args": ["org/m", "--served-model-name=a"]}, ["a"]),
        ({"command": ["python3", "-m", "server"], "args": ["--model-path", "org/m"]}, ["org/m"]),
        ({"env": [{"name": "AIM_MODEL_ID", "value": "org/m"}]}, ["org/m"]),
    ],
)
def test_the_served_model_is_read_from_the_pod(container: dict[str, Any], names: list[str]) -> None:
    assert served_models(container) == names


def test_counters_advance_with_the_load() -> None:
    state = EngineState(0.0, Load(tokens_per_second=100, tokens_per_request=10, prompt_tokens_per_request=30))
    for _ in range(100):
        state.advance(0.1)
    assert state.generation_tokens == pytest.approx(1000, abs=1)
    assert state.prompt_tokens == pytest.approx(3000, abs=1)
    assert state.finished["stop"] == pytest.approx(100, abs=1)
    assert state.ttft.counts[-1] == state.finished["stop"]
    assert state.ttft.total == pytest.approx(state.finished["stop"] * state.load.ttft)


def series(text: str) -> dict[str, set[tuple[str, ...]]]:
    """Sample name -> the sets of label names (with the value of ``le``) it occurs with, and "TYPE name" -> type."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            found[f"TYPE {name}"] = {(kind,)}
        elif not line.startswith("#"):
            name, _, labels = line.partition("{")
            pairs = re.findall(r'(\w+)="([^"]*)"', labels.rpartition("}")[0])
            keys = tuple(sorted(f"le={value}" if key == "le" else key for key, value in pairs))
            found.setdefault(name, set()).add(keys)
    return found


def test_served_metrics_are_those_of_vllm() -> None:
    if not CAPTURE.exists():
        pytest.skip(f"no scrape of a real vLLM at {CAPTURE}")
    real = series(CAPTURE.read_text())
    for name, shapes in series(render(EngineState(0.0), "m")).items():
        if name.startswith(LENGTHS):  # their bounds end at the longest context of the engine
            continue
        assert shapes == real[name], name


class Forgetful(http.server.BaseHTTPRequestHandler):
    """Keeps the connection after its first answer and closes it, without a word, on the next request."""

    protocol_version = "HTTP/1.1"
    answered = False

    def do_GET(self) -> None:
        asked.append(self.command)
        if self.answered:
            self.close_connection = True
            return
        self.answered = True
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


asked: list[str] = []
"""The methods of the requests that Forgetful has read."""


def test_reading_is_asked_again_when_the_connection_was_closed_and_writing_is_not() -> None:
    asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            client = ApiClient(f"http://127.0.0.1:{server.server_port}")
            assert [client.request("GET", "/"), client.request("GET", "/")] == [{}, {}]
            with pytest.raises(ConnectionError):
                client.request("POST", "/")
        finally:
            server.shutdown()
            thread.join()
    assert asked == ["GET", "GET", "GET", "POST"]

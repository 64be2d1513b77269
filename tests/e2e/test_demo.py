"""`make demo` and `make demo-down` as a user runs them, in a directory of the test's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.fixtures import WITHOUT_CLUSTER
from testbed.plane import ControlPlane

ROOT = Path(__file__).parents[2]
UP_TIMEOUT = 900
DOWN_TIMEOUT = 400
ENDING = 60.0

pytestmark = [
    pytest.mark.serial,
    pytest.mark.cluster,
    pytest.mark.skipif(
        os.environ.get(WITHOUT_CLUSTER) == "1", reason=f"needs a control plane ({WITHOUT_CLUSTER}=1)"
    ),
]


def demo(
    command: str, directory: Path, timeout: int, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one command of the demo."""
    clean = {key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "KUBECONFIG_DEMO")}
    paths = os.pathsep.join(str(ROOT / part) for part in ("operator", "tests"))
    return subprocess.run(
        [sys.executable, "-m", "demo", command, "--dir", str(directory), *options],
        env={**clean, "PYTHONPATH": paths, **environment}, capture_output=True, text=True, timeout=timeout, cwd=directory.parent,
    )  # fmt: skip


def processes_of(directory: Path) -> list[str]:
    """Command lines of living processes that name the directory, or whose files are there."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            working = str((entry / "cwd").readlink())
        except OSError:
            continue
        if any(str(directory) in text for text in (command, environment, working)):
            found.append(f"{entry.name} {command}")
    return found


def nothing_runs(directory: Path) -> None:
    """What was told to end is gone within a while."""
    end = time.monotonic() + ENDING
    while processes_of(directory) and time.monotonic() < end:
        time.sleep(0.2)
    assert processes_of(directory) == []


def may_create(plane: ControlPlane, namespace: str) -> bool:
    """Whether a member of the group team-a may create AIMDeployments there."""
    attributes = {
        "group": "aim.engine.amd.com",
        "resource": "aimdeployments",
        "verb": "create",
        "namespace": namespace,
    }
    review = plane.request(
        "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {"spec": {"user": "jane", "groups": ["team-a"], "resourceAttributes": attributes}},
    )  # fmt: skip
    return bool(review["status"]["allowed"])


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory for a demo, which is taken down whatever happens."""
    place = tmp_path / "demo"
    yield place
    demo("down", place, DOWN_TIMEOUT)


def test_the_demo_shows_the_product_and_leaves_nothing_behind(directory: Path) -> None:
    up = demo("up", directory, UP_TIMEOUT)
    assert up.returncode == 0, up.stdout[-3000:] + up.stderr[-3000:]
    told = up.stdout
    for row in (
        r"^aim-demo +qwen3-32b +True +Qwen/Qwen3-32B +qwen3-32b-\S+ .*2/2 .*Serving +Primary +http://",
        r"^aim-demo +llama-3-3-70b +True .*llama-3-3-70b-instruct-mi300x-2x-fp8 +2xMI300X +fp8 ",
        r"^aim-demo +llama-3-1-405b +False .*InsufficientCapacity",
        r"^aim-demo +team-qwen3-8b +True .*configmap/team-qwen3-8b +1xMI210 ",
        r"^aim-demo +too-large +False .*NoEligibleRecipe",
        r"^qwen3-32b-mi300x-1x-bf16 +Qwen/Qwen3-32B +MI300X +1 +bf16 +vllm ",
        r"^qwen3-32b-\S+ +Chosen +best under the wishes",
        r"^qwen3-32b-\S+ +Outranked +fits, but ",
        r"^llama-3-1-405b-instruct-mi300x-8x-fp8 +CapacityInsufficient +needs 8 free MI300X",
        r"^generated/llama-3-3-70b-instruct-mi210-1x-bf16 +MemoryInsufficient ",
        r"^- --tensor-parallel-size",
        r"amd.com/gpu: '1'",
        r'"object": "chat.completion"',
        r"^aim_recipe_selection_total\{result=\"selected\"\} 3",
        r"export KUBECONFIG=",
        r"make demo-down",
    ):
        assert re.search(row, told, re.MULTILINE), f"{row}\n{told}"
    assert processes_of(directory)

    again = demo("up", directory, DOWN_TIMEOUT)
    assert again.returncode == 1
    assert "runs in" in again.stderr
    assert "make demo-down" in again.stderr

    down = demo("down", directory, DOWN_TIMEOUT)
    assert down.returncode == 0, down.stdout + down.stderr
    nothing_runs(directory)
    assert demo("down", directory, DOWN_TIMEOUT).returncode == 0


def test_a_failed_step_is_named_with_its_log_and_nothing_is_left(directory: Path) -> None:
    up = demo("up", directory, UP_TIMEOUT, "--nodes", "cpu-only", "--patience", "30")
    assert up.returncode == 1
    assert "make demo failed. step failed: apply deploy/samples/qwen3-32b.yaml" in up.stderr
    assert "NoEligibleRecipe" in up.stderr
    assert str(directory / "logs" / "operator.log") in up.stderr
    assert (directory / "logs" / "operator.log").exists()
    nothing_runs(directory)


def test_the_demo_runs_on_a_cluster_of_the_user(directory: Path, tmp_path: Path) -> None:
    with ControlPlane.start(tmp_path / "own") as own:
        own.add_nodes("mi300x-8", "mi210-4")
        up = demo("up", directory, UP_TIMEOUT, KUBECONFIG_DEMO=str(own.kubeconfig))
        assert up.returncode == 0, up.stdout[-3000:] + up.stderr[-3000:]
        assert re.search(
            r"^aim-demo +qwen3-32b +\S+ +Qwen/Qwen3-32B +qwen3-32b-mi300x", up.stdout, re.MULTILINE
        )
        assert "port-forward" in up.stdout
        second = demo("up", tmp_path / "second", DOWN_TIMEOUT, KUBECONFIG_DEMO=str(own.kubeconfig))
        assert second.returncode == 1
        assert "has AIM Engine already" in second.stderr
        assert own.kubectl("get", "aimd", "-n", "aim-demo", "-o", "name").stdout
        own.kubectl("create", "namespace", "team-a")
        own.kubectl("create", "rolebinding", "edit", "-n", "team-a", "--clusterrole=edit", "--group=team-a")
        own.wait_for(
            lambda: may_create(own, "team-a"), 240, "an editor of team-a to be allowed AIMDeployments"
        )
        assert not may_create(own, "aim-demo"), "rights end at the namespace"
        down = demo("down", directory, DOWN_TIMEOUT)
        assert down.returncode == 0, down.stdout + down.stderr
        left = own.kubectl("get", "crd,ns,clusterrole,clusterrolebinding", "-o", "name").stdout
        assert not re.search(r"aim-engine|aim-demo|aim\.engine", left)
    nothing_runs(directory)


def test_a_cluster_that_does_not_answer_is_told(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "nobody.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n"
    )
    up = demo("up", directory, DOWN_TIMEOUT, KUBECONFIG_DEMO=str(file))
    assert up.returncode == 1
    assert "make demo failed. step failed: install CRDs" in up.stderr

"""The parts of the test cluster that need no node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import host, images
from cluster.claims import meminfo
from cluster.components import changed
from cluster.inside import full_name

ROOT = Path(__file__).resolve().parents[2]


def test_without_root_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(host.HostUnfitError, match="a real node needs root"):
        host.ensure_host_packages.__wrapped__()


def test_without_packages_and_apt_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "probe_kernel", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setitem(host.PROGRAMS, "a-package", ("bin/no-such-program",))
    assert re.fullmatch(r"needs apt-get, or installed: .*a-package", host.why_unfit() or "")


def test_what_the_kernel_refuses_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "probe_kernel", lambda: "unshare(0x20000): Operation not permitted")
    assert "Operation not permitted" in (host.why_unfit() or "")


def test_only_new_packages_are_fetched_and_upgrades_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = "Inst passwd [1:4.13] (1:4.14 Debian:12)\nInst runc (1.1.5 Debian:12)\nConf runc (1.1.5)\n"
    done = subprocess.CompletedProcess([], 0, simulated, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert host.to_fetch(["runc", "passwd"]) == ["runc"]


def test_tests_that_cannot_run_are_listed_by_name() -> None:
    files = ["tests/cluster/test_node.py", "tests/cluster/test_lifecycle.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--no-header", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env=os.environ | {"AIM_TESTS_WITHOUT_CLUSTER": "1"},
        capture_output=True,
        text=True,
    )
    report = done.stdout.partition("NOT RUN for want of a real node: AIM_TESTS_WITHOUT_CLUSTER=1")[2]
    assert "test_node.py::test_the_node_is_ready_and_has_a_runtime" in report, done.stdout + done.stderr
    assert "test_lifecycle.py::test_a_node_whose_owner_is_killed_leaves_nothing" in report
    assert done.returncode == 0


def test_an_image_is_made_of_what_its_dockerfile_copies() -> None:
    names = {name for name, _ in images.inputs(ROOT, ROOT / "Dockerfile")}
    assert {"Dockerfile", ".dockerignore", "requirements-runtime.lock", "pyproject.toml"} <= names
    assert "operator/aim_engine/handlers.py" in names
    assert any(name.startswith("recipes/") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "docs/")) or name.endswith(".pyc")]


def test_a_changed_or_renamed_file_makes_another_image(tmp_path: Path) -> None:
    def key() -> str:
        return images.hash_of(images.inputs(tmp_path, tmp_path / "Dockerfile"), [])

    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY --chown=1 \\\n  a folder /\nCOPY --from=x /y /z\n"
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_text("1")
    (tmp_path / "folder" / "b").write_text("1")
    (tmp_path / "unrelated").write_text("1")
    keys = [key()]
    (tmp_path / "unrelated").write_text("2")
    assert key() == keys[0]
    (tmp_path / "folder" / "b").write_text("2")
    keys.append(key())
    (tmp_path / "folder" / "b").rename(tmp_path / "folder" / "c")
    keys.append(key())
    (tmp_path / "a").chmod(0o755)
    keys.append(key())
    assert len(set(keys)) == 4


def test_the_engines_dependencies_are_those_that_the_operator_is_locked_to() -> None:
    lock = (ROOT / "requirements-runtime.lock").read_text()
    chosen = images.locked(lock, images.ENGINE_NEEDS)
    assert re.findall(r"(?m)^([\w.-]+)==", chosen) == list(images.ENGINE_NEEDS)
    assert chosen.count("--hash=sha256:") > len(images.ENGINE_NEEDS)
    assert "kubernetes" not in chosen


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("engine", "docker.io/library/engine:latest"),
        ("engine:1", "docker.io/library/engine:1"),
        ("vllm/engine:1", "docker.io/vllm/engine:1"),
        ("localhost/engine", "localhost/engine:latest"),
        ("registry.example:5000/a/b:1", "registry.example:5000/a/b:1"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
    ],
)
def test_image_names_are_completed_as_the_runtime_does(name: str, full: str) -> None:
    assert full_name(name) == full


def test_flags_are_replaced_removed_and_added() -> None:
    arguments = ["--a=1", "--b=2", "--c=3"]
    assert changed(arguments, {"--a": "9", "--b": None, "--d": "4"}) == ["--c=3", "--a=9", "--d=4"]


def test_the_claimed_memory_leaves_the_rest_of_meminfo_alone() -> None:
    own, claimed = Path("/proc/meminfo").read_text().splitlines(), meminfo().splitlines()
    assert claimed[0].split() == ["MemTotal:", str(2 << 30), "kB"]
    assert [line.split(":")[0] for line in claimed] == [line.split(":")[0] for line in own]

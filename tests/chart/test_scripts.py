"""deploy/scripts as an administrator runs them: against a real API server, with the real kubectl and helm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.documented import NAMESPACE
from chart.helm import Json, on
from chart.installed import aim_engine, environment, hooks, plane_of_releases, ready, select, uninstall_all
from testbed.plane import ControlPlane
from testbed.product import GROUP, ROOT, Operator, deployment

SCRIPTS = ROOT / "deploy" / "scripts"
NAMES = sorted(script.name for script in SCRIPTS.iterdir())
TEAM = "team-a"
RECIPE = {"modelID": "Qwen/Qwen3-8B", "hardware": {"gpuModel": "MI300X", "gpuCount": 1}, "precision": "bf16"}


@pytest.mark.parametrize("name", NAMES)
def test_shellcheck_finds_nothing(name: str) -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "shellcheck is missing: make deps"
    done = subprocess.run([program, SCRIPTS / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert os.access(SCRIPTS / name, os.X_OK)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with plane_of_releases() as running:
        yield running


@pytest.fixture(scope="module")
def shell(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(plane, tmp_path_factory.mktemp("user") / "bin")


def script(shell: dict[str, str], name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPTS / name, *words], env=shell, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_usage_is_told(shell: dict[str, str], name: str) -> None:
    help_ = script(shell, name, "--help")
    assert (help_.returncode, help_.stderr) == (0, "")
    assert help_.stdout.startswith(f"Usage: {name}")
    wrong = script(shell, name, "--no-such-thing")
    assert wrong.returncode == 2
    assert "'--no-such-thing'; see --help" in wrong.stderr


def test_without_a_cluster_or_programs_it_says_so(shell: dict[str, str], tmp_path: Path) -> None:
    nowhere = script(
        {**shell, "KUBECONFIG": str(tmp_path / "none")}, "deploy-with-recipe-support.sh", "--check"
    )
    assert nowhere.returncode == 3
    assert "no cluster answers" in nowhere.stderr
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("bash", "env", "dirname", "cat"):
        (bare / program).symlink_to(str(shutil.which(program)))
    without = script({**shell, "PATH": str(bare)}, "deploy-with-recipe-support.sh", "--check")
    assert without.returncode == 3
    assert "helm is not on PATH" in without.stderr


def test_a_user_without_rights_is_told_which(plane: ControlPlane, shell: dict[str, str]) -> None:
    plane.kubeconfig_for_user("jane")
    mine = {**shell, "KUBECONFIG": str(plane.kubeconfig_for_user("jane"))}
    plane.kubectl("create", "clusterrolebinding", "jane-view", "--clusterrole=view", "--user=jane")
    plane.kubectl("create", "clusterrole", "see-nodes", "--verb=list,get", "--resource=nodes")
    plane.kubectl("create", "clusterrolebinding", "jane-nodes", "--clusterrole=see-nodes", "--user=jane")
    plane.await_right("jane", "list", "nodes")
    plane.await_right("jane", "list", "pods")
    done = script(mine, "deploy-with-recipe-support.sh", "--namespace", NAMESPACE, "--check")
    assert done.returncode == 3
    assert "you may not create customresourcedefinitions.apiextensions.k8s.io" in done.stderr
    assert "Kubernetes 1." in done.stdout


def test_it_checks_installs_waits_and_explains(
    plane: ControlPlane, shell: dict[str, str], tmp_path: Path
) -> None:
    checked = script(shell, "deploy-with-recipe-support.sh", "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "20 AMD GPUs on 3 nodes" in checked.stdout
    assert on(plane, "list", "-A", "-q").stdout == ""
    words = ("--model", "Qwen/Qwen3-32B", "--gpu-type", "MI300X", "--gpu-count", "2")
    first = script(shell, "deploy-with-recipe-support.sh", *words, "--no-wait")
    assert first.returncode == 0, first.stdout + first.stderr
    try:
        aim_engine(plane, "hook", "recipes")
        select(plane, "aim-engine", tmp_path)
        with Operator.start(plane):
            again = script(
                shell,
                "deploy-with-recipe-support.sh",
                "--timeout",
                "180s",
                "--",
                "--set",
                "aim_engine.debug=true",
            )
            assert again.returncode == 0, again.stdout + again.stderr
            assert "[6/6] The choice" in again.stdout
            assert "Ready=True Serving" in again.stdout
            assert "kubectl port-forward service/aim-engine-service" in again.stdout
            spec = ready(plane, "aim-engine")["spec"]
            assert spec["recipe"]["gpuCount"] == 2, "what was set before stays"
            assert spec["overrides"]["env"] == {"VLLM_LOGGING_LEVEL": "DEBUG"}
            late = script(shell, "deploy-with-recipe-support.sh", "--timeout", "45s", "--gpu-type", "MI355X")
            assert late.returncode == 1
            assert "Not ready yet" in late.stdout
            assert "RecipeSelected=False" in late.stdout
        refused = script(shell, "deploy-with-recipe-support.sh", "--no-wait", "--precision", "bf17")
        assert refused.returncode == 2
        assert "value must be one of 'bf16'" in refused.stderr
    finally:
        uninstall_all(plane)
        plane.kubectl("delete", "configmap", "aim-engine-recipe-config", "-n", NAMESPACE)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--gpu-type", "MI300"), "--gpu-type MI300: no such GPU is known; use one of MI210 MI250 "),
        (("--model", "not a model"), "aim_engine/model_id"),
        (("--gpu-count", "none"), "aim_engine/gpu_count"),
    ],
)
def test_a_check_refuses_what_cannot_be_meant(
    shell: dict[str, str], words: tuple[str, ...], told: str
) -> None:
    done = script(shell, "deploy-with-recipe-support.sh", "--check", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr


def test_a_check_tells_whether_a_node_has_the_gpu(shell: dict[str, str]) -> None:
    there = script(shell, "deploy-with-recipe-support.sh", "--check", "--gpu-type", "MI300X")
    assert there.returncode == 0, there.stderr
    assert "a node has MI300X" in there.stdout
    assert "helm v" in there.stdout
    missing = script(shell, "deploy-with-recipe-support.sh", "--check", "--gpu-type", "MI355X")
    assert missing.returncode == 0
    assert "no node is labelled as MI355X: the model will wait" in missing.stderr


def own_objects() -> list[Json]:
    """What a backup must hold beside releases: recipes of all kinds, and a deployment that belongs to no release."""
    recipe = yaml.safe_dump(RECIPE)
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "labelled", "namespace": TEAM, "labels": {"aim.engine.amd.com/recipe": "true"}}, "data": {"recipe.yaml": recipe}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "named", "namespace": TEAM}, "data": {"recipe.yaml": recipe}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": TEAM}, "data": {"a": "b"}},
        {"apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMRecipe", "metadata": {"name": "own"}, "spec": RECIPE},
        {**deployment("chat", TEAM, "Qwen/Qwen3-8B", recipe={"configMap": "named"}, service={"apiKeySecret": {"name": "chat-key", "key": "key"}})},
    ]  # fmt: skip


def essence(plane: ControlPlane, kind: str, name: str, namespace: str | None = None) -> Any:
    """What a restored object must have as before."""
    where = f"/api/v1/namespaces/{namespace}/configmaps" if kind == "configmaps" else f"{GROUP}/namespaces/{namespace}/{kind}" if namespace else f"{GROUP}/{kind}"  # fmt: skip
    obj = plane.request("GET", f"{where}/{name}")
    labels = obj["metadata"].get("labels")
    return labels, obj.get("spec"), obj.get("data")


def test_a_backup_brings_everything_back_after_the_cluster_was_wiped(
    plane: ControlPlane, shell: dict[str, str], tmp_path: Path
) -> None:
    on(
        plane,
        "install",
        "aim-engine",
        "./helm",
        "-n",
        NAMESPACE,
        "--set",
        "aim_engine.gpu_count=2",
        "--set",
        "operator.config.workers=4",
    )
    select(plane, "aim-engine", tmp_path)
    plane.apply(*own_objects())
    on(plane, "install", "second", "./helm", "-n", TEAM, "--set", "aim_engine.model_id=Qwen/Qwen3-8B")
    on(plane, "upgrade", "second", "./helm", "-n", TEAM, "--set", "aim_engine.vllm_args.max_num_seqs=32")
    edited = plane.request("GET", f"{GROUP}/aimrecipes")["items"][0]["metadata"]["name"]
    plane.kubectl("annotate", "aimrecipe", edited, "note=ours")
    kept = [
        ("aimrecipes", "own", None), ("aimrecipes", edited, None), ("configmaps", "labelled", TEAM), ("configmaps", "named", TEAM),
        ("configmaps", "aim-engine-recipe-config", NAMESPACE), ("aimdeployments", "chat", TEAM), ("aimdeployments", "aim-engine", NAMESPACE),
        ("aimdeployments", "second", TEAM),
    ]  # fmt: skip
    before = [essence(plane, *each) for each in kept]

    backup = tmp_path / "backup"
    done = script(shell, "backup.sh", "--output", backup)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (backup / "releases.txt").read_text() == f"{NAMESPACE} aim-engine\n{TEAM} second\n"
    assert (backup / "secrets.txt").read_text() == f"{TEAM}/chat-key\n"
    assert yaml.safe_load((backup / "releases" / NAMESPACE / "aim-engine.yaml").read_text()) == {
        "aim_engine": {"gpu_count": 2}, "operator": {"config": {"workers": 4}},
    }  # fmt: skip
    saved = {name: [obj for obj in yaml.safe_load_all((backup / f"{name}.yaml").read_text()) if obj] for name in ("configmaps", "aimrecipes", "aimdeployments")}  # fmt: skip
    assert {obj["metadata"]["name"] for obj in saved["aimrecipes"]} == {"own", edited}
    assert {obj["metadata"]["name"] for obj in saved["configmaps"]} == {
        "labelled",
        "named",
        "aim-engine-recipe-config",
    }
    assert [obj["metadata"]["name"] for obj in saved["aimdeployments"]] == ["chat"]
    for obj in (obj for found in saved.values() for obj in found):
        assert not {"uid", "resourceVersion", "managedFields", "creationTimestamp"} & set(obj["metadata"])
    again = script(shell, "backup.sh", "--output", backup)
    assert again.returncode == 2
    assert "is there already" in again.stderr

    plane.kubectl("delete", "aimdeployment", "chat", "-n", TEAM)
    uninstall_all(plane)
    plane.kubectl("delete", "crd", "aimdeployments.aim.engine.amd.com", "aimrecipes.aim.engine.amd.com")
    plane.kubectl("delete", "configmap", "aim-engine-recipe-config", "-n", NAMESPACE)
    plane.kubectl("delete", "namespace", TEAM, "--timeout=400s")

    dry = script(shell, "restore.sh", "--dry-run", backup)
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert "would run: helm upgrade --install aim-engine" in dry.stdout
    assert on(plane, "list", "-A", "-q").stdout == ""

    try:
        done = script(shell, "restore.sh", backup)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Secret {TEAM}/chat-key is missing" in done.stdout
        assert [essence(plane, *each) for each in kept] == before
        selector = yaml.safe_dump_all(hooks(plane, "aim-engine"))
        assert "--keep-recorded" in selector, "the recorded decision is kept"
        assert "--keep-recorded" not in yaml.safe_dump_all(hooks(plane, "second", TEAM)), "there was none"
        assert "can serve here and is kept" in select(plane, "aim-engine", tmp_path)
        assert script(shell, "restore.sh", "--choose-anew", backup).returncode == 0
        assert [essence(plane, *each) for each in kept] == before
        assert "--keep-recorded" not in yaml.safe_dump_all(hooks(plane, "aim-engine"))
    finally:
        plane.kubectl("delete", "aimdeployment", "chat", "-n", TEAM, "--ignore-not-found")
        uninstall_all(plane)


def test_what_is_no_backup_is_refused(shell: dict[str, str], tmp_path: Path) -> None:
    done = script(shell, "restore.sh", tmp_path)
    assert done.returncode == 2
    assert "this is no directory of backup.sh" in done.stderr

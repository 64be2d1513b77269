"""The commands of the pages, run page by page in their order against a real API server with the chart on it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from chart.documented import NAMESPACE
from chart.installed import aim_engine, environment, plane_of_releases, ready, select, uninstall_all
from chart.pages import DOCS, WRITTEN, Block, blocks, commands, words
from testbed import foreign
from testbed.plane import ControlPlane
from testbed.processes import Processes
from testbed.product import ROOT, Operator, free_port

ELSEWHERE = {
    "docker": "tests/cluster builds the image from the same Dockerfile",
    "pip": "tests/unit/test_deploy.py installs the wheel",
    "make": "tests/unit/test_deploy_docs.py and the demo's tests",
    "curl": "tests/cluster: nothing listens here",
    "cd": "all is run where it leads",
    "kubectl logs": "tests/cluster: simulated kubelets have no logs",
    "kubectl port-forward": "tests/cluster: simulated kubelets forward nothing",
    "helm test": "tests/cluster: its Pod is not run here",
    "aim-engine recipes import": "tests/unit/test_cli_recipes_import.py: needs checkouts of other projects",
    "kubectl apply --server-side -k deploy/manifests": "tests/unit/test_deploy_cluster.py: another installation",
    "kubectl apply --server-side -R -f recipes": "tests/unit/test_deploy_cluster.py: another installation",
    "kubectl delete -k deploy/manifests": "tests/unit/test_deploy_cluster.py: another installation",
}
"""Beginnings of commands that are not run here, and who shows them, or why nobody can."""
PAGES = {
    "getting-started.md": False, "guides/helm.md": False, "guides/custom-recipes.md": False, "guides/multi-model.md": False,
    "guides/disaster-recovery.md": True, "guides/troubleshooting.md": True, "guides/tenancy.md": True, "guides/gitops.md": True,
    "guides/air-gapped.md": False, "operations/install.md": False, "operations/upgrade.md": True, "operations/uninstall.md": True,
    "operations/production-checklist.md": True, "reference/configuration.md": True, "../README.md": False,
}  # fmt: skip
"""Pages with commands -> whether a release is there before the first of them."""
REQUIREMENTS = ["aim_engine.gpu_count=1", "aim_engine.performance.max_input_length=8192"]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A plane with the kinds of the Prometheus Operator, and an operator that outlives every installation."""
    with plane_of_releases() as running:
        crds = [*(ROOT / "deploy" / "helm" / "crds").iterdir(), *foreign.crds("prometheus-operator")]
        running.kubectl(
            "apply",
            "--server-side",
            "--field-manager=helm",
            *(word for path in crds for word in ("-f", str(path))),
        )
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        aim_engine(running, "hook", "recipes")
        port = free_port()
        processes = Processes(running.workdir / "operators" / "docs")
        config = running.workdir / "operators" / "docs" / "config.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "listen": f"127.0.0.1:{port}",
                    "hub": {"enabled": False},
                    "lease": {"name": "docs"},
                    "namespace": "default",
                }
            )
        )
        with Operator(running, processes, "docs", port, running.kubeconfig, config, "") as operator:
            operator.run()
            yield running


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory in which the paths of the pages lead where they do for a reader, in the repository and in deploy/."""
    for name in ("helm", "scripts", "samples"):
        (tmp_path / name).symlink_to(ROOT / "deploy" / name)
    for name in ("deploy", "recipes", "crds"):
        (tmp_path / name).symlink_to(ROOT / name)
    apps, mine = tmp_path / "apps", tmp_path / "my-recipes"
    apps.mkdir()
    sample = (ROOT / "deploy" / "samples" / "qwen3-32b.yaml").read_text()
    (apps / "chat.yaml").write_text(sample.replace("aim-demo", NAMESPACE))
    mine.mkdir()
    recipe = next((ROOT / "recipes").glob("*/*mi300x-1x*.yaml")).read_text()
    (mine / "mine.yaml").write_text(
        re.sub(r"^  name: .*", "  name: mine", recipe, count=1, flags=re.MULTILINE)
    )
    flat = {
        "recipe_id": "team",
        "huggingface_id": "Qwen/Qwen3-8B",
        "hardware": "MI300X",
        "gpu_count": 1,
        "precision": "bf16",
        "backend": "vllm",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(flat))
    air_gapped = next(
        block for block in blocks(DOCS / "guides" / "air-gapped.md") if block.language == "yaml"
    )
    (tmp_path / "values.yaml").write_text(air_gapped.text)
    return tmp_path


def elsewhere(command: str) -> bool:
    return any(" ".join(words(command)).startswith(start) for start in ELSEWHERE)


def shown(page: str) -> list[tuple[Block, str]]:
    """Commands of a page that are run here."""
    return [
        (block, command)
        for block in blocks(DOCS / page)
        if block.language == "sh"
        for command in commands(block)
        if not elsewhere(command)
    ]


def there(shell: dict[str, str]) -> set[str]:
    done = subprocess.run(
        ["helm", "list", "--all-namespaces", "--output", "json"],
        env=shell,
        capture_output=True,
        text=True,
        check=True,
    )
    return {each["name"] for each in json.loads(done.stdout)}


def prepared(plane: ControlPlane, shell: dict[str, str], command: str) -> str:
    """The command as it can be run now. Pages show ways to install side by side: all but the first are dry runs of the server."""
    told = words(command)
    if told[:2] == ["helm", "install"] and told[2] in there(shell):
        return f"{command} --dry-run=server"
    if told[:3] == ["kubectl", "create", "namespace"]:
        plane.kubectl("delete", "namespace", told[3], "--ignore-not-found", "--timeout=60s")
    return command


def installed(plane: ControlPlane, shell: dict[str, str], desk: Path) -> None:
    """The release that most pages speak of, with its recorded decision, twice upgraded so that there is a way back."""
    flags = [word for each in REQUIREMENTS for word in ("--set", each)]
    subprocess.run(
        ["helm", "install", "aim-engine", "./helm", *flags],
        cwd=desk,
        env=shell,
        check=True,
        capture_output=True,
    )
    select(plane, "aim-engine", desk)
    subprocess.run(
        ["helm", "upgrade", "aim-engine", "./helm", "--reuse-values"],
        cwd=desk,
        env=shell,
        check=True,
        capture_output=True,
    )
    ready(plane, "aim-engine")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_in_their_order(plane: ControlPlane, desk: Path, page: str) -> None:
    shell = environment(plane, desk / "bin")
    for name in (NAMESPACE, "team-a"):
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    if PAGES[page]:
        installed(plane, shell, desk)
    if page == "operations/uninstall.md":
        subprocess.run(
            ["helm", "install", "aim-engine-llama", "./helm"],
            cwd=desk,
            env=shell,
            check=True,
            capture_output=True,
        )
    try:
        for block, command in shown(page):
            line = prepared(plane, shell, command)
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", line],
                cwd=desk,
                env=shell,
                capture_output=True,
                text=True,
                timeout=180,
            )
            assert done.returncode == 0, f"{block.place}: {command}\n{done.stdout}{done.stderr}"
    finally:
        plane.kubectl("delete", "aimdeployments", "--all", "-A", check=False)
        uninstall_all(plane)
        plane.kubectl("delete", "configmap", "-A", "-l", "aim.engine.amd.com/recipe", check=False)
        plane.kubectl("delete", "namespace", "aim-demo", "team-a", "--ignore-not-found", "--timeout=60s")
        crds = [word for path in (ROOT / "deploy" / "helm" / "crds").iterdir() for word in ("-f", str(path))]
        plane.kubectl("apply", "--server-side", "--field-manager=helm", *crds)


def test_every_page_with_commands_is_run() -> None:
    with_commands = {page for page in WRITTEN if any(block.language == "sh" for block in blocks(page))}
    assert {(DOCS / page).resolve() for page in PAGES} >= {page.resolve() for page in with_commands}


def test_what_is_run_elsewhere_is_shown_somewhere() -> None:
    """An entry that no page needs, or whose witness is gone, is out of date."""
    everything = [
        command
        for page in PAGES
        for block in blocks(DOCS / page)
        if block.language == "sh"
        for command in commands(block)
    ]
    for start, witness in ELSEWHERE.items():
        assert any(" ".join(words(command)).startswith(start) for command in everything), start
        for name in re.findall(r"tests/[\w/]+(?:\.py)?", witness):
            assert (ROOT / name).exists(), name

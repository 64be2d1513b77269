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
from testbed.addresses import free_port
from testbed.plane import ControlPlane
from testbed.processes import Processes
from testbed.product import ROOT, Operator

ELSEWHERE = {
    "docker": "tests/cluster builds the image from the same Dockerfile",
    "pip": "tests/unit/test_deploy.py installs the wheel",
    "make": "tests/unit/test_deploy_docs.py and the demo's tests",
    "curl": "tests/cluster: nothing listens here",
    "cd": "all is run where it leads",
    "kubectl logs": "tests/cluster: simulated kubelets have no logs",
    "kubectl port-forward": "tests/cluster: simulated kubelets forward nothing",
    "helm test": "tests/cluster: its Pod is not run here",
    "aim-engine doctor": "tests/e2e/test_cli.py: the operator of these tests holds a Lease of its own",
    "aim-engine bench": "tests/e2e/test_bench.py: nothing answers here",
    "kubectl run bench": "tests/e2e/test_bench.py: no image runs here",
    "aim-engine dashboards preview": "tests/unit/test_dashboards_preview.py: needs a Prometheus",
    "kubectl apply --server-side -k deploy/manifests/monitoring": "tests/e2e/test_monitoring.py: another installation",
    "kubectl apply --server-side -k dashboards": "tests/e2e/test_dashboards.py: another installation",
    "aim-engine recipes import": "tests/unit/test_cli_recipes_import.py: needs checkouts of other projects",
    "kubectl apply --server-side -k deploy/manifests": "tests/unit/test_deploy_cluster.py: another installation",
    "kubectl apply --server-side -R -f recipes": "tests/unit/test_deploy_cluster.py: another installation",
    "kubectl delete -k deploy/manifests": "tests/unit/test_deploy_cluster.py: another installation",
}
"""Beginnings of commands that are not run here, and who shows them, or why nobody can."""
PAGES = {
    "reference/configuration.md": True, "concepts/selection.md": True, "guides/gitops.md": True, "guides/troubleshooting.md": True, "guides/tenancy.md": True, "guides/monitoring.md": True, "guides/benchmarking.md": True,
    "guides/disaster-recovery.md": True, "operations/upgrade.md": True, "getting-started.md": False,
    "guides/helm.md": False, "guides/custom-recipes.md": False, "guides/multi-model.md": False, "guides/air-gapped.md": False,
    "operations/install.md": False, "../README.md": False,
    "operations/uninstall.md": True,
}  # fmt: skip
"""Pages with commands -> whether a release is there before the first of them; those that share one stand together. The
last one removes the CRDs."""
REQUIREMENTS = ["aim_engine.gpu_count=1", "aim_engine.performance.max_input_length=8192"]


class Desk:
    """A reader's shell in a directory where the paths of the pages lead where they do in the repository and in deploy/."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.plane = plane
        self.directory = directory
        self.environment = environment(plane, directory / "bin")

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=400
        )  # fmt: skip

    def releases(self) -> set[str]:
        """Names of what is installed."""
        return {
            each["name"] for each in json.loads(self.run("helm list --all-namespaces --output json").stdout)
        }

    def install(self, name: str) -> None:
        """A release with a recorded decision, upgraded once so that there is a way back."""
        flags = " ".join(f"--set {each}" for each in REQUIREMENTS)
        for line in (f"helm install {name} ./helm {flags}", f"helm upgrade {name} ./helm --reuse-values"):
            done = self.run(line)
            assert done.returncode == 0, done.stderr
        select(self.plane, name, self.directory)
        lease = {"name": f"{name}-operator", "namespace": NAMESPACE}
        self.plane.apply(
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": lease, "spec": {}}
        )

    def prepared(self, command: str) -> str:
        """The command as it can be run now. Pages show ways side by side: of installations all but the first are dry runs of
        the server, and what is uninstalled a second time is installed again before."""
        told = words(command)
        if told[:2] == ["helm", "install"] and told[2] in self.releases():
            return f"{command} --dry-run=server"
        if told[:2] == ["helm", "uninstall"] or "deployment aim-engine-operator" in command:
            name = told[2] if told[0] == "helm" else "aim-engine"
            if name not in self.releases():
                self.install(name)
        if told[:3] == ["kubectl", "create", "namespace"]:
            self.plane.kubectl("delete", "namespace", told[3], "--ignore-not-found", "--timeout=400s")
        return command


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A plane with the kinds of the Prometheus Operator and cert-manager, and an operator that outlives every installation."""
    with plane_of_releases() as running:
        crds = [
            *(ROOT / "deploy" / "helm" / "crds").iterdir(),
            *foreign.crds("prometheus-operator"),
            *foreign.crds("cert-manager"),
        ]
        running.kubectl(
            "apply",
            "--server-side",
            "--field-manager=helm",
            *(word for path in crds for word in ("-f", str(path))),
        )
        running.establish_crds()
        aim_engine(running, "hook", "recipes")
        port = free_port()
        processes = Processes(running.workdir / "operators" / "docs")
        config = running.workdir / "operators" / "docs" / "config.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "listen": f"127.0.0.1:{port}",
                    "hub": {"enabled": False},
                    "leaderElection": False,
                    "namespace": "default",
                }
            )
        )
        with Operator(running, processes, "docs", port, running.kubeconfig, config, "") as operator:
            operator.run()
            yield running


@pytest.fixture
def desk(plane: ControlPlane, tmp_path: Path) -> Desk:
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
    return Desk(plane, tmp_path)


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


RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))
NEEDS = {
    "kubectl logs": "a kubelet", "kubectl get --raw": "an engine in the pod", "kubectl top": "a metrics server", "kubectl get secret": "a validator that made one",
    "aim-engine doctor": "the operator's Lease", "make": "a checkout", "curl": "a server", "amd-smi": "a GPU",
    "rocm-smi": "a GPU",
}  # fmt: skip
"""Beginnings of commands of runbooks that cannot work on simulated nodes, and what they need."""


def test_the_commands_of_the_runbooks_work(plane: ControlPlane, desk: Desk) -> None:
    if "aim-engine" not in desk.releases():
        desk.install("aim-engine")
    ready(plane, "aim-engine")
    pods = plane.request(
        "GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=aim.engine.amd.com/deployment%3Daim-engine"
    )
    (pod, *_) = pods["items"]
    stand_ins = {
        "NAMESPACE": NAMESPACE,
        "NAME": "aim-engine",
        "POD": pod["metadata"]["name"],
        "NODE": pod["spec"]["nodeName"],
    }
    shown_there = {
        command: block.place for page in RUNBOOKS for block in blocks(page) if block.language == "sh" for command in commands(block)
    }  # fmt: skip
    assert len(shown_there) > 20
    for command, place in shown_there.items():
        if any(" ".join(words(command)).startswith(start) for start in NEEDS):
            continue
        line = re.sub(r"\b(NAMESPACE|NAME|POD|NODE)\b(?!:)", lambda found: stand_ins[found[0]], command)
        done = desk.run(line)
        assert done.returncode == 0, f"{place}: {line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_in_their_order(plane: ControlPlane, desk: Desk, page: str) -> None:
    if not PAGES[page]:
        clear(plane)
    elif "aim-engine" not in desk.releases():
        desk.install("aim-engine")
        ready(plane, "aim-engine")
    for name in (NAMESPACE, "team-a"):
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for block, command in shown(page):
        line = desk.prepared(command)
        done = desk.run(line)
        assert done.returncode == 0, f"{block.place}: {line}\n{done.stdout}{done.stderr}"
        if line.startswith("helm install") and line == command and "recipe-config" in block.page.read_text():
            select(plane, words(command)[2], desk.directory)


def clear(plane: ControlPlane) -> None:
    """As before the first page: CRDs and the release's namespace."""
    plane.kubectl("delete", "aimdeployments", "--all", "-A", check=False)
    uninstall_all(plane)
    plane.kubectl("delete", "configmap", "-A", "-l", "aim.engine.amd.com/recipe", check=False)
    plane.kubectl("delete", "configmap", "custom-recipe", "-n", NAMESPACE, "--ignore-not-found")
    plane.kubectl("delete", "namespace", "aim-demo", "team-a", "--ignore-not-found", "--timeout=400s")
    crds = [word for path in (ROOT / "deploy" / "helm" / "crds").iterdir() for word in ("-f", str(path))]
    plane.kubectl("apply", "--server-side", "--field-manager=helm", *crds)
    plane.establish_crds()


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

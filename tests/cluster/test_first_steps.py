"""docs/getting-started.md typed word for word, and an upgrade whose hook Jobs are real, on a real node with real containers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.pages import DOCS, blocks, commands, words
from chart.releases import OLD, previous_chart
from cluster import images
from cluster.commands import Background
from cluster.real import RealCluster
from testbed.product import ROOT, condition, path

pytestmark = pytest.mark.serial

NAMESPACE = "aim-engine"
DEPLOY = ROOT / "deploy"
PATIENCE = 480
NOT_TYPED = {
    "docker": "the image is built from the same Dockerfile",
    "make": "the demo has tests of its own",
    "cd": "all is typed there",
}


@pytest.fixture(scope="module")
def cluster(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """The cluster with the image of this source under the names that old and new chart use, and GPUs."""
    operator = images.operator_image()
    real_cluster.load(operator, "aim-engine-operator:0.1.0", f"aim-engine-operator:{OLD}")
    real_cluster.load(images.engine_image(), "vllm/vllm-openai-rocm:v0.32.0")
    real_cluster.set_gpus(8)
    real_cluster.offer("helm")
    # Tests before these may have left their namespace to end by itself.
    real_cluster.kubectl("wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=400s", check=False)
    with real_cluster.default_namespace("default"):
        yield real_cluster
    real_cluster.kubectl("delete", "namespace", NAMESPACE, "aim-demo", "--ignore-not-found", "--wait=false")


@pytest.fixture
def uninstalled(cluster: RealCluster) -> Iterator[None]:
    yield
    cluster.run(["helm", "uninstall", "aim-engine", "-n", NAMESPACE, "--wait"], check=False)


def answers(cluster: RealCluster, command: str) -> bool:
    return cluster.run(["bash", "-c", command], cwd=DEPLOY, check=False).returncode == 0


def test_the_first_steps_word_for_word(cluster: RealCluster, uninstalled: None) -> None:
    with contextlib.ExitStack() as stack:
        forward: Background | None = None
        for block in blocks(DOCS / "getting-started.md"):
            if block.language != "sh":
                continue
            for command in commands(block):
                program = words(command)[0]
                if program in NOT_TYPED:
                    continue
                if "port-forward" in command:
                    forward = stack.enter_context(cluster.background(["bash", "-c", command], cwd=DEPLOY))
                elif program == "curl":
                    cluster.wait_for(
                        functools.partial(answers, cluster, f"{command} --fail"),
                        240,
                        f"{command}: {forward and forward.output()}",
                    )
                else:
                    done = cluster.run(["bash", "-c", command], cwd=DEPLOY, check=False, timeout=PATIENCE)
                    assert done.returncode == 0, (
                        f"{block.place}: {command}\n{done.stdout}{done.stderr}\n{cluster.happenings(NAMESPACE)}"
                    )
                if "kubectl logs job/" in command:
                    assert "[6/6] The choice" in done.stdout


def engine_pods(cluster: RealCluster) -> list[str]:
    selector = "aim.engine.amd.com/deployment=aim-engine"
    return sorted(
        cluster.kubectl(
            "get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "jsonpath={.items[*].metadata.uid}"
        ).stdout.split()
    )


def has_field(cluster: RealCluster) -> bool:
    """Whether the API server knows the field that the CRD of the chart before lacks."""
    crd: Any = cluster.request(
        "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/aimdeployments.aim.engine.amd.com"
    )
    properties: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
        "spec"
    ]["properties"]
    return "suspend" in properties


def serving(cluster: RealCluster) -> Any:
    """The AIMDeployment once it is Ready; a busy node's probes may take it back for a moment."""
    obj = cluster.request("GET", path(NAMESPACE, "aim-engine"))
    return obj if condition(obj, "Ready").get("status") == "True" else None


def test_an_upgrade_brings_newer_crds_and_moves_no_model(
    cluster: RealCluster, uninstalled: None, tmp_path: Path
) -> None:
    old = previous_chart(tmp_path)
    cluster.kubectl(
        "delete",
        "crd",
        "aimdeployments.aim.engine.amd.com",
        "aimrecipes.aim.engine.amd.com",
        "--ignore-not-found",
    )
    words = [
        "helm",
        "install",
        "aim-engine",
        str(old),
        "-n",
        NAMESPACE,
        "--create-namespace",
        "--set",
        "aim_engine.gpu_count=2",
    ]
    cluster.run(words)
    cluster.wait_for(lambda: serving(cluster), PATIENCE, "the model to answer")
    assert not has_field(cluster)
    before = engine_pods(cluster)
    recorded = cluster.kubectl(
        "get", "configmap", "aim-engine-recipe-config", "-n", NAMESPACE, "-o", "yaml"
    ).stdout
    for command in ("helm upgrade aim-engine ./helm --reset-then-reuse-values", "helm rollback aim-engine"):
        cluster.run(["bash", "-c", f"{command} -n {NAMESPACE}"], cwd=DEPLOY)
        assert has_field(cluster), "CRDs are brought forward, and not back"
        cluster.wait_deployment(NAMESPACE, "aim-engine-operator", PATIENCE)
        obj = cluster.wait_for(lambda: serving(cluster), PATIENCE, "the model to answer")
        assert engine_pods(cluster) == before
    chosen = yaml.safe_load(yaml.safe_load(recorded)["data"]["decision.yaml"])["chosen"]["recipe"]
    assert obj["status"]["recipe"]["name"] == chosen

"""The shipped image and manifests, run as a cluster runs them: by their own specifications, accounts and probes."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cluster import images
from cluster.commands import is_true
from cluster.real import RealCluster
from testbed.product import NAMESPACE, ROOT, deployment, path

MODEL = "Qwen/Qwen3-32B"
RECIPE = ROOT / "recipes" / "qwen3" / "qwen3-32b-mi300x-1x-bf16.yaml"
SHIPPED_NAME = "aim-engine-operator:0.1.0"
"""As deploy/manifests names the image."""


def engine_name() -> str:
    """Under what name the recipe's engine is run."""
    return f"vllm/vllm-openai-rocm:v{yaml.safe_load(RECIPE.read_text())['spec']['engineVersion']}"


@pytest.fixture
def installed(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """The cluster while the operator is installed from deploy/manifests."""
    real_cluster.load(images.operator_image(), SHIPPED_NAME)
    real_cluster.load(images.engine_image(), engine_name())
    manifests = str(ROOT / "deploy" / "manifests")
    real_cluster.kubectl("apply", "--server-side", "-k", manifests)
    yield real_cluster
    real_cluster.kubectl("delete", "--wait=false", "-k", manifests)
    real_cluster.set_gpus(0)


def test_the_installed_operator_serves_a_model_on_the_node(
    installed: RealCluster, live_namespace: str
) -> None:
    installed.wait_deployment(NAMESPACE, "aim-engine-operator")
    installed.set_gpus(8, partition="spx_nps1")
    installed.apply(RECIPE)
    installed.request("POST", path(live_namespace), deployment("qwen", live_namespace, MODEL))
    deployed = installed.wait_for(lambda: ready(installed, live_namespace), 480, "the model to be served")
    url = urllib.parse.urlsplit(deployed["status"]["url"])
    text = installed.fetch_served(f"http://{url.netloc}/v1/models")
    assert json.loads(text)["data"][0]["id"] == MODEL
    assert "vllm:num_requests_running" in installed.fetch(f"http://{url.netloc}/metrics")[1]


def ready(cluster: RealCluster, namespace: str) -> dict[str, Any]:
    """The AIMDeployment once it is ready, {} before."""
    found: dict[str, Any] = cluster.request("GET", path(namespace, "qwen"))
    return found if is_true(found, "Ready") else {}

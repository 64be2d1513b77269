"""The life of a release on a real API server: from the chart before, upgrade, rollback, and what an uninstallation leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chart.documented import NAMESPACE
from chart.helm import Json, on
from chart.installed import PATIENCE, plane_of_releases, ready, select, uninstall_all
from chart.releases import OLD, previous_chart
from testbed.plane import ControlPlane
from testbed.product import Operator, path

LEFT = {"configmap/aim-engine-recipe-config"}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with plane_of_releases() as running:
        yield running


@pytest.fixture
def uninstalled(plane: ControlPlane) -> Iterator[None]:
    yield
    uninstall_all(plane)
    plane.kubectl("delete", "configmap", "-n", NAMESPACE, "-l", "aim.engine.amd.com/recipe=decision")


@pytest.fixture
def namespace_b(plane: ControlPlane) -> str:
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team-b"}})
    return "team-b"


def engine(plane: ControlPlane, name: str) -> tuple[str, int, list[str]]:
    """(uid, generation, uids of pods) of a model's Deployment: what must not change where the model does not."""
    where = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"
    deployment = plane.request("GET", where)
    pods = plane.request(
        "GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=aim.engine.amd.com/deployment%3D{name}"
    )
    uids = sorted(pod["metadata"]["uid"] for pod in pods["items"])
    return deployment["metadata"]["uid"], deployment["metadata"]["generation"], uids


def left(plane: ControlPlane) -> set[str]:
    """What of ours is in the namespace and, beside CRDs and recipes, in the cluster."""
    kinds = "all,configmap,secret,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,controllerrevision,pvc,lease"
    wide = "clusterrole,clusterrolebinding,validatingwebhookconfiguration,validatingadmissionpolicy,validatingadmissionpolicybinding"
    found = plane.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name").stdout.split()
    found += plane.kubectl(
        "get", wide, "-l", "app.kubernetes.io/name=aim-engine", "-o", "name"
    ).stdout.split()
    return set(found) - {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def status(plane: ControlPlane, release: str) -> Json:
    found: list[Any] = json.loads(on(plane, "history", release, "-n", NAMESPACE, "-o", "json").stdout)
    last: Json = found[-1]
    return last


def test_a_values_change_that_forgets_a_requirement_is_refused(
    plane: ControlPlane, uninstalled: None
) -> None:
    install = (
        "-n",
        NAMESPACE,
        "--set",
        "aim_engine.gpu_count=2",
        "--set",
        "aim_engine.vllm_args.max_model_len=16384",
    )
    on(plane, "install", "aim-engine", "./helm", *install)
    spec = plane.request("GET", path(NAMESPACE, "aim-engine"))["spec"]
    refused = on(
        plane,
        "upgrade",
        "aim-engine",
        "./helm",
        "-n",
        NAMESPACE,
        "--set",
        "aim_engine.debug=true",
        check=False,
    )
    assert refused.returncode != 0
    assert "recipe.gpuCount 2" in refused.stderr
    assert "--reuse-values" in refused.stderr
    assert plane.request("GET", path(NAMESPACE, "aim-engine"))["spec"] == spec
    told = on(
        plane, "upgrade", "aim-engine", "./helm", "-n", NAMESPACE, "--set", "aim_engine.gpu_count=2"
    ).stdout
    assert "overrides is kept as the installed release has it" in told
    assert plane.request("GET", path(NAMESPACE, "aim-engine"))["spec"] == spec
    meant = ("--set", "aim_engine.accept_changes=true", "--set", "aim_engine.model_id=Qwen/Qwen3-8B")
    on(plane, "upgrade", "aim-engine", "./helm", "-n", NAMESPACE, *meant)
    after = plane.request("GET", path(NAMESPACE, "aim-engine"))["spec"]
    assert after["model"]["id"] == "Qwen/Qwen3-8B"
    assert "gpuCount" not in after["recipe"]
    assert "overrides" not in after


def test_a_second_release_brings_no_operator_whatever_its_namespace(
    plane: ControlPlane, uninstalled: None, namespace_b: str
) -> None:
    on(plane, "install", "aim-engine", "./helm", "-n", NAMESPACE)
    done = on(plane, "install", "second", "./helm", "-n", namespace_b)
    assert f"the operator of release {NAMESPACE}/aim-engine serves this one" in done.stdout
    found = plane.kubectl(
        "get", "deployments", "-A", "-l", "app.kubernetes.io/component=operator", "-o", "name"
    ).stdout.split()
    assert found == ["deployment.apps/aim-engine-operator"]
    on(plane, "upgrade", "aim-engine", "./helm", "-n", NAMESPACE)
    found = plane.kubectl(
        "get", "deployments", "-A", "-l", "app.kubernetes.io/component=operator", "-o", "name"
    ).stdout.split()
    assert found == ["deployment.apps/aim-engine-operator"], "the owner stays the owner"


def test_the_webhook_configuration_comes_back(plane: ControlPlane, uninstalled: None) -> None:
    """As docs/guides/troubleshooting.md says."""
    on(plane, "install", "aim-engine", "./helm", "-n", NAMESPACE)
    plane.kubectl("delete", "validatingwebhookconfiguration", "aim-engine-recipe-validator")
    on(plane, "upgrade", "aim-engine", "./helm", "-n", NAMESPACE, "--reuse-values")
    plane.kubectl("get", "validatingwebhookconfiguration", "aim-engine-recipe-validator")


def test_upgrade_from_the_chart_before_rollback_and_uninstallation(
    plane: ControlPlane, uninstalled: None, tmp_path: Path
) -> None:
    old = previous_chart(tmp_path)
    on(
        plane,
        "install",
        "aim-engine",
        old,
        "-n",
        NAMESPACE,
        "--set",
        "aim_engine.gpu_count=2",
        "--set",
        "operator.config.workers=4",
        "--set",
        "admission_controller.policy.enabled=true",
    )
    with Operator.start(plane, watchNamespaces=[]):
        assert "recorded in ConfigMap" in select(plane, "aim-engine", tmp_path)
        before = ready(plane, "aim-engine")["status"]["recipe"]
        assert before["gpuCount"] == 2
        running = engine(plane, "aim-engine")

        on(plane, "upgrade", "aim-engine", "./helm", "-n", NAMESPACE, "--reset-then-reuse-values")
        operator = plane.request(
            "GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aim-engine-operator"
        )
        assert operator["spec"]["replicas"] == 2, (
            "a value that the chart before did not have takes its default"
        )
        assert operator["spec"]["template"]["spec"]["containers"][0]["image"] == "aim-engine-operator:0.1.0"
        config = plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/aim-engine-operator-config")
        assert "workers: 4" in config["data"]["config.yaml"]
        assert ready(plane, "aim-engine")["status"]["recipe"] == before
        assert engine(plane, "aim-engine") == running, "an upgrade moves no model"

        on(plane, "rollback", "aim-engine", "-n", NAMESPACE)
        assert status(plane, "aim-engine")["chart"] == f"aim-engine-{OLD}"
        assert ready(plane, "aim-engine")["status"]["recipe"] == before
        assert engine(plane, "aim-engine") == running, "nor does a rollback"

        on(plane, "upgrade", "aim-engine", "./helm", "-n", NAMESPACE, "--reset-then-reuse-values")
    on(plane, "uninstall", "aim-engine", "-n", NAMESPACE, "--wait")
    plane.wait_for(lambda: left(plane) == LEFT, PATIENCE, f"the rest to be collected, {left(plane) - LEFT}")
    crds = plane.kubectl("get", "crd", "-o", "name").stdout
    assert "aimdeployments.aim.engine.amd.com" in crds
    assert plane.request("GET", "/apis/aim.engine.amd.com/v1alpha1/aimrecipes")["items"]


def test_helm_3_installs_upgrades_and_uninstalls_it_too(
    plane: ControlPlane, uninstalled: None, tmp_path: Path
) -> None:
    """And helm 4 takes the release over."""
    words = (
        "--namespace",
        NAMESPACE,
        "--set",
        "aim_engine.gpu_count=1",
        "--set",
        "aim_engine.hardware.memory_utilization=0.9",
    )
    told = on(plane, "install", "aim-engine", "./helm", *words, program="helm3").stdout
    assert "kubectl logs job/aim-engine-recipe-selector" in told
    spec = plane.request("GET", path(NAMESPACE, "aim-engine"))["spec"]
    assert spec["overrides"]["engineArgs"] == {"gpu-memory-utilization": 0.9}
    refused = on(
        plane,
        "upgrade",
        "aim-engine",
        "./helm",
        "-n",
        NAMESPACE,
        "--set",
        "aim_engine.debug=true",
        check=False,
        program="helm3",
    )
    assert "--reuse-values" in refused.stderr
    wrong = on(
        plane,
        "upgrade",
        "aim-engine",
        "./helm",
        "-n",
        NAMESPACE,
        "--set",
        "aim_engine.gpu_cuont=2",
        check=False,
        program="helm3",
    )
    assert "additional properties 'gpu_cuont' not allowed" in wrong.stderr
    on(
        plane,
        "upgrade",
        "aim-engine",
        "./helm",
        "-n",
        NAMESPACE,
        "--reset-then-reuse-values",
        program="helm3",
    )
    on(plane, "upgrade", "aim-engine", "./helm", "-n", NAMESPACE, "--reset-then-reuse-values")
    assert plane.request("GET", path(NAMESPACE, "aim-engine"))["spec"] == spec
    on(plane, "uninstall", "aim-engine", "-n", NAMESPACE, "--wait", program="helm3")
    plane.wait_for(lambda: left(plane) - LEFT == set(), PATIENCE, "the rest to be collected")

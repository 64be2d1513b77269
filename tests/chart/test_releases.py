"""The life of a release on a real API server: from the chart before, upgrade, rollback, and what an uninstallation leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.documented import NAMESPACE
from chart.helm import Json, on
from chart.installed import plane_of_releases, ready, select, uninstall_all
from chart.schema import HELM
from testbed.plane import ControlPlane
from testbed.product import Operator

LEFT = {"configmap/aim-engine-recipe-config"}
OLD = "0.0.9"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with plane_of_releases() as running:
        yield running


@pytest.fixture
def uninstalled(plane: ControlPlane) -> Iterator[None]:
    yield
    uninstall_all(plane)
    plane.kubectl("delete", "configmap", "-n", NAMESPACE, "-l", "aim.engine.amd.com/recipe=decision")


def previous_chart(directory: Path) -> Path:
    """The chart as a release before this one: older version and image, a value less, a field less in a CRD."""
    chart = directory / "helm"
    shutil.copytree(HELM, chart)
    meta = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**meta, "version": OLD, "appVersion": OLD}))
    for name in ("guards.yaml", "tests/test.yaml"):
        (chart / "templates" / name).unlink()
    helpers = chart / "templates" / "operator.yaml"
    helpers.write_text(helpers.read_text().replace("{{ .Values.operator.replicas }}", "1"))
    values = yaml.safe_load((chart / "values.yaml").read_text())
    schema = json.loads((chart / "values.schema.json").read_text())
    for content in (values["operator"], schema["properties"]["operator"]["properties"]):
        del content["replicas"]
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    (chart / "values.schema.json").write_text(json.dumps(schema))
    crd = chart / "crds" / "aimdeployments.yaml"
    content = yaml.safe_load(crd.read_text())
    del content["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][
        "suspend"
    ]
    crd.write_text(yaml.safe_dump(content))
    return chart


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
        plane.wait_for(
            lambda: (
                left(plane) == LEFT | {"lease.coordination.k8s.io/aim-engine-operator"} or left(plane) == LEFT
            ),
            60,
            f"the rest to be collected: {left(plane)}",
        )
    crds = plane.kubectl("get", "crd", "-o", "name").stdout
    assert "aimdeployments.aim.engine.amd.com" in crds
    assert plane.request("GET", "/apis/aim.engine.amd.com/v1alpha1/aimrecipes")["items"]

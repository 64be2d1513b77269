"""The shipped manifests on a real API server: applied as the README says, admitted, and no more rights than told."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from testbed.api import ApiStatusError
from testbed.fixtures import WITHOUT_CLUSTER
from testbed.plane import ControlPlane
from testbed.product import GROUP, NAMESPACE, USER, deployment, path

ROOT = Path(__file__).parents[2]
REPLICAS = 2


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A plane of its own: what is installed here would be in the way of other tests."""
    if os.environ.get(WITHOUT_CLUSTER) == "1":
        pytest.skip(f"needs a control plane ({WITHOUT_CLUSTER}=1)")
    with ControlPlane.start() as running:
        running.add_nodes("cpu-only", "cpu-only")
        running.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy" / "manifests"))
        running.establish_crds()
        running.kubectl("apply", "--server-side", "--recursive", "-f", str(ROOT / "recipes"))
        yield running


def user(plane: ControlPlane, name: str, role: str, namespace: str) -> str:
    """A certificate user who has a built-in role in one namespace."""
    plane.kubeconfig_for_user(name)
    plane.kubectl("create", "rolebinding", name, f"--clusterrole={role}", f"--user={name}", "-n", namespace)
    return name


def code_of(plane: ControlPlane, who: str, method: str, where: str, body: object = None) -> int:
    """Status code of a request by somebody."""
    try:
        plane.request(method, where, body, user=who)
    except ApiStatusError as error:
        return error.code
    return http.client.OK


def test_the_manifests_are_those_of_the_chart(plane: ControlPlane) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "manifests" / "generate.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["aim-engine-operator", "aim-engine-recipe-validator"])
def test_the_pods_are_admitted_where_restricted_is_enforced(plane: ControlPlane, name: str) -> None:
    labels = plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    where = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"
    ready = plane.wait_for(
        lambda: plane.request("GET", where)["status"].get("readyReplicas") == REPLICAS and plane.request("GET", where),
        240, f"both replicas of {name} to run",
    )  # fmt: skip
    assert not [c for c in ready["status"]["conditions"] if c["type"] == "ReplicaFailure"]
    nodes = {
        pod["spec"]["nodeName"]
        for pod in plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
        if pod["metadata"]["name"].startswith(name)
    }
    assert len(nodes) == REPLICAS


def test_a_pod_that_is_not_restricted_is_refused_there(plane: ControlPlane) -> None:
    spec = {"containers": [{"name": "main", "image": "example/any:1"}]}
    body = {"metadata": {"name": "lax"}, "spec": spec}
    with pytest.raises(ApiStatusError, match="restricted"):
        plane.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", body)


def test_the_disruption_budget_and_the_service_find_the_pods(plane: ControlPlane) -> None:
    where = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/aim-engine-operator"
    plane.wait_for(
        lambda: plane.request("GET", where)["status"]["expectedPods"] == REPLICAS, 240, "the budget"
    )
    service = plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/services/aim-engine-metrics")
    selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    found = plane.kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "name").stdout.split()
    assert len(found) == REPLICAS


def test_applying_again_changes_nothing(plane: ControlPlane) -> None:
    where = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aim-engine-operator"
    before = plane.request("GET", where)["metadata"]["generation"]
    plane.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy" / "manifests"))
    assert plane.request("GET", where)["metadata"]["generation"] == before


def test_every_sample_passes_strict_validation(plane: ControlPlane) -> None:
    samples = ROOT / "deploy" / "samples"
    plane.kubectl("apply", "--server-side", "-f", str(samples / "namespace.yaml"))
    plane.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(samples))


def test_editors_of_a_namespace_edit_deployments_and_only_read_recipes(
    plane: ControlPlane, namespace: str
) -> None:
    editor = user(plane, f"{namespace}-editor", "edit", namespace)
    body = deployment("app", namespace, suspend=True)
    # Of the roles that are aggregated into theirs, each is in force at a time of its own.
    for verb, resource in (
        ("get", "aimdeployments"), ("create", "aimdeployments"), ("patch", "aimdeployments/scale"), ("list", "aimrecipes"),
    ):  # fmt: skip
        plane.await_right(
            editor, verb, resource, "aim.engine.amd.com", namespace if resource != "aimrecipes" else ""
        )
    assert code_of(plane, editor, "POST", path(namespace), body) == http.client.OK
    assert (
        code_of(plane, editor, "PATCH", path(namespace, "app"), {"spec": {"replicas": 2}}) == http.client.OK
    )
    scale = {"spec": {"replicas": 1}}
    assert code_of(plane, editor, "PATCH", path(namespace, "app", "scale"), scale) == http.client.OK
    status = {"status": {"replicas": 1}}
    assert code_of(plane, editor, "PATCH", path(namespace, "app", "status"), status) == http.client.FORBIDDEN
    assert code_of(plane, editor, "GET", f"{GROUP}/aimrecipes") == http.client.OK
    recipe = yaml.safe_load(next((ROOT / "recipes").glob("*/*.yaml")).read_text())
    recipe["metadata"]["name"] = "mine"
    assert code_of(plane, editor, "POST", f"{GROUP}/aimrecipes", recipe) == http.client.FORBIDDEN
    assert code_of(plane, editor, "DELETE", path(namespace, "app")) == http.client.OK


def test_viewers_read_and_change_nothing(plane: ControlPlane, namespace: str) -> None:
    viewer = user(plane, f"{namespace}-viewer", "view", namespace)
    plane.wait_for(
        lambda: code_of(plane, viewer, "GET", path(namespace)) == http.client.OK,
        240,
        "the roles to aggregate",
    )
    body = deployment("app", namespace)
    assert code_of(plane, viewer, "POST", path(namespace), body) == http.client.FORBIDDEN
    assert code_of(plane, viewer, "GET", path("default")) == http.client.FORBIDDEN


def test_the_operator_reads_no_secrets_and_creates_no_pods(plane: ControlPlane) -> None:
    assert code_of(plane, USER, "GET", "/api/v1/secrets") == http.client.FORBIDDEN
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "example/any:1"}]}}
    assert code_of(plane, USER, "POST", "/api/v1/namespaces/default/pods", pod) == http.client.FORBIDDEN
    assert code_of(plane, USER, "DELETE", path("default", "any")) == http.client.FORBIDDEN
    assert code_of(plane, USER, "GET", "/api/v1/pods") == http.client.OK

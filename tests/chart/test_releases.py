"""The life of a release on a real API server: from the chart before, upgrade, rollback, and what an uninstallation leaves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chart.documented import NAMESPACE
from chart.helm import Json, helm, on
from chart.installed import PATIENCE, aim_engine, plane_of_releases, ready, select, uninstall_all
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
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-b"}})
    return "team-b"


def release(
    plane: ControlPlane,
    verb: str,
    *flags: str,
    name: str = "aim-engine",
    chart: str | Path = "./helm",
    namespace: str = NAMESPACE,
    given: Sequence[str] = (),
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """What helm does with a release; `given`: values as `--set` takes them."""
    of_chart = [chart] if verb in ("install", "upgrade") else []
    values = [word for value in given for word in ("--set", value)]
    return on(plane, verb, name, *of_chart, "-n", namespace, *flags, *values, **options)


def spec_of(plane: ControlPlane) -> Json:
    """The spec of the release's AIMDeployment."""
    spec: Json = plane.request("GET", path(NAMESPACE, "aim-engine"))["spec"]
    return spec


def operators(plane: ControlPlane) -> list[str]:
    """The operator's Deployments, in all namespaces."""
    ours = "app.kubernetes.io/component=operator"
    return plane.kubectl("get", "deployments", "-A", "-l", ours, "-o", "name").stdout.split()


def engine(plane: ControlPlane, name: str) -> tuple[str, int, list[str]]:
    """(uid, generation, uids of pods) of a model's Deployment: what must not change where the model does not."""
    where = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"
    deployment = plane.request("GET", where)
    pods = plane.request(
        "GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=aim.engine.amd.com/deployment%3D{name}"
    )
    uids = sorted(pod["metadata"]["uid"] for pod in pods["items"])
    return deployment["metadata"]["uid"], deployment["metadata"]["generation"], uids


def chosen(plane: ControlPlane) -> Json:
    """The recipe in force. Where the operator was faster than the selector, the same choice is kept once more as the recorded one."""
    recipe: Json = ready(plane, "aim-engine")["status"]["recipe"]
    return {name: value for name, value in recipe.items() if name != "revision"}


def left(plane: ControlPlane) -> set[str]:
    """What of ours is in the namespace and, beside CRDs and recipes, in the cluster."""
    kinds = "all,configmap,secret,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,controllerrevision,pvc,lease"
    wide = "clusterrole,clusterrolebinding,validatingwebhookconfiguration,validatingadmissionpolicy,validatingadmissionpolicybinding"
    found = plane.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name").stdout.split()
    found += plane.kubectl(
        "get", wide, "-l", "app.kubernetes.io/name=aim-engine", "-o", "name"
    ).stdout.split()
    return set(found) - {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def status(plane: ControlPlane) -> Json:
    found: list[Any] = json.loads(release(plane, "history", "-o", "json").stdout)
    last: Json = found[-1]
    return last


def test_a_values_change_that_forgets_a_requirement_is_refused(
    plane: ControlPlane, uninstalled: None
) -> None:
    release(plane, "install", given=["aim_engine.gpu_count=2", "aim_engine.vllm_args.max_model_len=16384"])
    spec = spec_of(plane)
    refused = release(plane, "upgrade", given=["aim_engine.debug=true"], check=False)
    assert refused.returncode != 0
    assert "recipe.gpuCount 2" in refused.stderr
    assert "--reuse-values" in refused.stderr
    assert spec_of(plane) == spec
    told = release(plane, "upgrade", given=["aim_engine.gpu_count=2"]).stdout
    assert "overrides is kept as the installed release has it" in told
    assert spec_of(plane) == spec
    release(plane, "upgrade", given=["aim_engine.accept_changes=true", "aim_engine.model_id=Qwen/Qwen3-8B"])
    after = spec_of(plane)
    assert after["model"]["id"] == "Qwen/Qwen3-8B"
    assert "gpuCount" not in after["recipe"]
    assert "overrides" not in after


def test_a_secret_that_is_missing_is_told(plane: ControlPlane, uninstalled: None) -> None:
    """By helm, as the user who installs: neither operator nor validator may read one."""
    token, keys = "aim_engine.spec.model.tokenSecret", "aim_engine.spec.service.apiKeySecret"
    named = [f"{token}.name=hf-token", f"{token}.key=token", f"{keys}.name=keys", f"{keys}.key=key"]
    told = release(plane, "install", given=named).stdout
    assert "NOTE: Secret hf-token of model.tokenSecret is not there" in told
    assert "kubectl create secret generic keys -n aim-engine --from-literal=key=VALUE." in told
    plane.kubectl("create", "secret", "generic", "hf-token", "-n", NAMESPACE, "--from-literal=token=x")
    told = release(plane, "upgrade", "--reuse-values").stdout
    assert "Secret keys of service.apiKeySecret is not there" in told
    assert "hf-token of" not in told
    plane.kubectl("delete", "secret", "hf-token", "-n", NAMESPACE)


def test_a_second_release_brings_no_operator_whatever_its_namespace(
    plane: ControlPlane, uninstalled: None, namespace_b: str
) -> None:
    release(plane, "install")
    done = release(plane, "install", name="second", namespace=namespace_b)
    assert f"the operator of release {NAMESPACE}/aim-engine serves this one" in done.stdout
    assert operators(plane) == ["deployment.apps/aim-engine-operator"]
    release(plane, "upgrade")
    assert operators(plane) == ["deployment.apps/aim-engine-operator"], "the owner stays the owner"


def test_the_webhook_configuration_comes_back(plane: ControlPlane, uninstalled: None) -> None:
    """As docs/guides/troubleshooting.md says."""
    release(plane, "install")
    plane.kubectl("delete", "validatingwebhookconfiguration", "aim-engine-recipe-validator")
    release(plane, "upgrade", "--reuse-values")
    plane.kubectl("get", "validatingwebhookconfiguration", "aim-engine-recipe-validator")


def test_upgrade_from_the_chart_before_rollback_and_uninstallation(
    plane: ControlPlane, uninstalled: None, tmp_path: Path
) -> None:
    release(
        plane, "install", chart=previous_chart(tmp_path),
        given=["aim_engine.gpu_count=2", "operator.config.workers=4", "admission_controller.policy.enabled=true"],
    )  # fmt: skip
    with Operator.start(plane, watchNamespaces=[]):
        assert "recorded in ConfigMap" in select(plane, "aim-engine", tmp_path)
        before = chosen(plane)
        assert before["gpuCount"] == 2
        running = engine(plane, "aim-engine")

        release(plane, "upgrade", "--reset-then-reuse-values")
        operator = plane.request(
            "GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/aim-engine-operator"
        )
        assert operator["spec"]["replicas"] == 2, (
            "a value that the chart before did not have takes its default"
        )
        assert operator["spec"]["template"]["spec"]["containers"][0]["image"] == "aim-engine-operator:0.1.0"
        config = plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/aim-engine-operator-config")
        assert "workers: 4" in config["data"]["config.yaml"]
        assert chosen(plane) == before
        assert engine(plane, "aim-engine") == running, "an upgrade moves no model"

        release(plane, "rollback")
        assert status(plane)["chart"] == f"aim-engine-{OLD}"
        assert chosen(plane) == before
        assert engine(plane, "aim-engine") == running, "nor does a rollback"

        release(plane, "upgrade", "--reset-then-reuse-values")
    release(plane, "uninstall", "--wait")
    plane.wait_for(lambda: left(plane) == LEFT, PATIENCE, f"the rest to be collected, {left(plane) - LEFT}")
    crds = plane.kubectl("get", "crd", "-o", "name").stdout
    assert "aimdeployments.aim.engine.amd.com" in crds
    assert plane.request("GET", "/apis/aim.engine.amd.com/v1alpha1/aimrecipes")["items"]


def test_helm_3_installs_upgrades_and_uninstalls_it_too(
    plane: ControlPlane, uninstalled: None, tmp_path: Path
) -> None:
    """And helm 4 takes the release over."""
    values = ["aim_engine.gpu_count=1", "aim_engine.hardware.memory_utilization=0.9"]
    told = release(plane, "install", given=values, program="helm3").stdout
    assert "kubectl logs job/aim-engine-recipe-selector" in told
    spec = spec_of(plane)
    assert spec["overrides"]["engineArgs"] == {"gpu-memory-utilization": 0.9}
    for value, message in (
        ("aim_engine.debug=true", "--reuse-values"),
        ("aim_engine.gpu_cuont=2", "additional properties 'gpu_cuont' not allowed"),
    ):
        refused = release(plane, "upgrade", given=[value], check=False, program="helm3")
        assert refused.returncode != 0
        assert message in refused.stderr
    for program in ("helm3", "helm"):
        release(plane, "upgrade", "--reset-then-reuse-values", program=program)
    assert spec_of(plane) == spec
    release(plane, "uninstall", "--wait", program="helm3")
    plane.wait_for(lambda: left(plane) - LEFT == set(), PATIENCE, "the rest to be collected")


def test_an_owner_keeps_its_operator_whoever_else_brings_one(
    plane: ControlPlane, uninstalled: None, namespace_b: str
) -> None:
    release(plane, "install", given=[f"watchNamespaces={{{NAMESPACE}}}"])
    refused = release(plane, "install", name="second", namespace=namespace_b, check=False)
    assert refused.returncode != 0
    assert (
        f"The operator of release {NAMESPACE}/aim-engine serves {NAMESPACE}, and not this" in refused.stderr
    )
    assert f"Set watchNamespaces={{{namespace_b}}}" in refused.stderr
    both = f"watchNamespaces={{{namespace_b},{NAMESPACE}}}"
    refused = release(plane, "install", name="second", namespace=namespace_b, given=[both], check=False)
    assert f"one that this release brings would serve {NAMESPACE} too" in refused.stderr
    own = f"watchNamespaces={{{namespace_b}}}"
    release(plane, "install", name="second", namespace=namespace_b, given=[own])
    each = ["deployment.apps/aim-engine-operator", "deployment.apps/second-operator"]
    assert operators(plane) == each
    release(plane, "upgrade", "--reuse-values")
    release(plane, "upgrade", "--reuse-values", name="second", namespace=namespace_b)
    assert operators(plane) == each
    told = release(plane, "install", name="third", namespace=namespace_b).stdout
    assert f"the operator of release {namespace_b}/second serves this one" in told
    release(plane, "upgrade", given=["operator.mode=always"])
    release(plane, "upgrade", "--reset-values", name="second", namespace=namespace_b)
    assert operators(plane) == each, "whoever has one keeps it, also where another serves all namespaces"


def test_a_log_level_that_is_set_back_reaches_the_engine(plane: ControlPlane, uninstalled: None) -> None:
    release(plane, "install", given=["aim_engine.debug=true"])
    loud = {"VLLM_LOGGING_LEVEL": "DEBUG"}
    assert spec_of(plane)["overrides"]["env"] == loud
    release(plane, "upgrade", given=["aim_engine.env_vars.NCCL_DEBUG=WARN"])
    assert spec_of(plane)["overrides"]["env"] == {**loud, "NCCL_DEBUG": "WARN"}, "forgotten, not set back"
    told = release(plane, "upgrade", given=["aim_engine.debug=false"]).stdout
    assert spec_of(plane)["overrides"] == {"env": {"NCCL_DEBUG": "WARN"}}
    assert "overrides is kept" in told
    release(plane, "upgrade", given=["aim_engine.log_level=warning"])
    assert spec_of(plane)["overrides"]["env"]["VLLM_LOGGING_LEVEL"] == "WARNING"
    release(plane, "upgrade", "--reuse-values", given=["aim_engine.log_level=INFO"])
    assert spec_of(plane)["overrides"] == {"env": {"NCCL_DEBUG": "WARN"}}


def test_the_guard_is_not_in_the_way_of_who_removed_the_crds_first(
    plane: ControlPlane, uninstalled: None
) -> None:
    release(plane, "install")
    words = (f"--operator={NAMESPACE}/aim-engine-operator", "--release=other/release")
    with pytest.raises(AssertionError, match="still serves aim-engine/aim-engine"):
        aim_engine(plane, "hook", "uninstall", *words)
    plane.kubectl("delete", "crd", "aimdeployments.aim.engine.amd.com")
    assert "no AIMDeployment of others" in aim_engine(plane, "hook", "uninstall", *words)


def test_a_namespace_that_is_deleted_leaves_no_gate_that_nobody_answers(plane: ControlPlane) -> None:
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "passing"}})
    release(plane, "install", name="passing", namespace="passing")
    name = "passing-recipe-validator"
    assert name in plane.kubectl("get", "validatingwebhookconfiguration", "-o", "name").stdout
    plane.kubectl("delete", "namespace", "passing", "--timeout=240s")
    plane.wait_for(
        lambda: name not in plane.kubectl("get", "validatingwebhookconfiguration", "-o", "name").stdout,
        PATIENCE,
        "the webhook configuration to be collected",
    )
    plane.kubectl("delete", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/instance=passing")


def test_helm_lists_the_deployments_of_the_cluster_once(plane: ControlPlane, uninstalled: None) -> None:
    """Of many thousands, it would else load them for every template that asks who brings the operator."""
    release(plane, "install")
    plane.kubectl("create", "clusterrolebinding", "jane", "--clusterrole=cluster-admin", "--user=jane")
    plane.await_right("jane", "list", "deployments", "apps")
    mark = plane.audit.mark()
    words = ("template", "aim-engine", "./helm", "-n", NAMESPACE, "--dry-run=server")
    helm(*words, kubeconfig=plane.kubeconfig_for_user("jane"))
    asked = [
        (each.verb, each.resource, each.namespace)
        for each in plane.audit.records(mark)
        if each.user == "jane"
    ]
    assert asked.count(("list", "deployments.apps", "")) == 1

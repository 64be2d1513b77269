"""The chart's ValidatingAdmissionPolicy on a real API server: warns first, refuses when told to, locks nobody out."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from testbed import chart
from testbed.api import ApiStatusError
from testbed.plane import ControlPlane
from testbed.product import NAMESPACE, ROOT, deployment, path

TENANT = "team-a"
MODEL = "example/policy"
POLICY = "aim-engine-deployments"
PARAMETERS = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{POLICY}-policy"
BINDING = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{POLICY}"
SECRET = {"name": "hub-token", "key": "token"}
PATIENCE = 240.0
READER, WRITER = "may-read-secrets", "may-not"


def shipped(action: str, **values: Any) -> list[dict[str, Any]]:
    policy = {
        "enabled": True, "action": action, "allowedRegistries": ["registry.example.com/", "vllm/"], "maxGPUs": 16,
    }  # fmt: skip
    objects = chart.render(admission_controller={"policy": policy}, **values)
    wanted = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    return [
        each for each in objects if each["kind"] in wanted or each["metadata"]["name"] == f"{POLICY}-policy"
    ]


@pytest.fixture(scope="module")
def governed() -> Iterator[ControlPlane]:
    """A plane with the policy, which warns at first, and two users who may edit AIMDeployments."""
    with ControlPlane.start(kwok=False, scheduler=False) as plane:
        plane.apply(ROOT / "crds" / "aimrecipes.yaml", ROOT / "crds" / "aimdeployments.yaml")
        plane.establish_crds()
        for name in (NAMESPACE, TENANT, "team-b"):
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        rules = [{"apiGroups": ["aim.engine.amd.com"], "resources": ["*"], "verbs": ["*"]}]
        secrets = {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["hub-token"],
            "verbs": ["get"],
        }
        for user, has in ((WRITER, rules), (READER, [*rules, secrets])):
            plane.kubeconfig_for_user(user)
            role = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "metadata": {"name": user, "namespace": TENANT},
            }
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
            subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
            plane.apply(
                {**role, "kind": "Role", "rules": has},
                {**role, "kind": "RoleBinding", "roleRef": reference, "subjects": subjects},
            )
        plane.await_right(WRITER, "create", "aimdeployments", "aim.engine.amd.com", TENANT)
        plane.await_right(READER, "create", "aimdeployments", "aim.engine.amd.com", TENANT)
        plane.apply(*shipped("Warn"))
        yield plane


def told(plane: ControlPlane, body: dict[str, Any]) -> str:
    """What kubectl shows of a dry run that goes through."""
    done = plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(body))
    return done.stderr


def dry(plane: ControlPlane, user: str | None = None, **spec: Any) -> None:
    plane.request("POST", f"{path(TENANT)}?dryRun=All", deployment("tried", TENANT, MODEL, **spec), user=user)


def refused(plane: ControlPlane, user: str | None = None, **spec: Any) -> str:
    try:
        dry(plane, user, **spec)
    except ApiStatusError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def denying(governed: ControlPlane) -> ControlPlane:
    """The same with policy.action Deny, in force."""
    governed.apply(*shipped("Deny"))
    wrong: dict[str, Any] = {"overrides": {"image": "elsewhere.example.com/x:1"}}
    governed.wait_for(
        lambda: "not from an allowed registry" in refused(governed, **wrong) and not refused(governed),
        PATIENCE,
        "the policy to refuse by its parameters",
    )
    return governed


def test_first_it_only_warns(governed: ControlPlane) -> None:
    assert governed.request("GET", BINDING)["spec"]["validationActions"] == ["Warn", "Audit"]
    body = deployment("tried", TENANT, MODEL, overrides={"image": "elsewhere.example.com/x:1"}, replicas=17)
    said = governed.wait_for(
        lambda: said if "allowed registry" in (said := told(governed, body)) else "", PATIENCE, "a warning"
    )
    assert "Warning: Validation failed for ValidatingAdmissionPolicy" in said
    assert "spec.overrides.image 'elsewhere.example.com/x:1': is not from an allowed registry" in said
    assert "spec.recipe.gpuCount x spec.replicas '17': is above the limit of 16 GPUs" in said


def test_the_expressions_have_no_warnings_of_their_own(governed: ControlPlane) -> None:
    where = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{POLICY}"
    status = governed.wait_for(
        lambda: governed.request("GET", where).get("status"), PATIENCE, "the type check"
    )
    assert status.get("typeChecking", {}).get("expressionWarnings", []) == []


def test_images_come_from_the_allowed_registries(denying: ControlPlane) -> None:
    said = refused(denying, overrides={"image": "elsewhere.example.com/x:1"})
    assert "is not from an allowed registry; use one of registry.example.com/, vllm/" in said
    assert refused(denying, overrides={"image": "registry.example.com.evil.org/x:1"})
    dry(denying, overrides={"image": "registry.example.com/x:1"})
    dry(denying)


def test_one_object_asks_for_no_more_gpus_than_allowed(denying: ControlPlane) -> None:
    said = refused(denying, recipe={"gpuCount": 8}, replicas=3)
    assert "'24': is above the limit of 16 GPUs for one AIMDeployment; lower one of the two" in said
    dry(denying, recipe={"gpuCount": 8}, replicas=2)
    dry(denying, recipe={"gpuCount": 8}, replicas=0)


def test_scaling_is_no_way_around(denying: ControlPlane) -> None:
    denying.request("POST", path(TENANT), deployment("scaled", TENANT, MODEL))
    where = path(TENANT, "scaled", "scale")
    with pytest.raises(ApiStatusError, match="above the limit of 16 GPUs"):
        denying.request("PATCH", where, {"spec": {"replicas": 17}})
    denying.request("PATCH", where, {"spec": {"replicas": 16}})


@pytest.mark.parametrize(
    "field", [{"model": {"id": MODEL, "tokenSecret": SECRET}}, {"service": {"apiKeySecret": SECRET}}]
)
def test_a_secret_is_named_only_by_who_may_read_it(denying: ControlPlane, field: dict[str, Any]) -> None:
    body = deployment("tried", TENANT, MODEL)
    body["spec"] |= field
    with pytest.raises(
        ApiStatusError, match="you may not read Secret hub-token in namespace team-a"
    ) as caught:
        denying.request("POST", f"{path(TENANT)}?dryRun=All", body, user=WRITER)
    assert caught.value.code == http.client.FORBIDDEN
    denying.request("POST", f"{path(TENANT)}?dryRun=All", body, user=READER)
    other = deployment("tried", TENANT, MODEL)
    other["spec"]["model"] = {"id": MODEL, "tokenSecret": {"name": "another", "key": "token"}}
    with pytest.raises(ApiStatusError, match="you may not read Secret another"):
        denying.request("POST", f"{path(TENANT)}?dryRun=All", other, user=READER)


def test_what_stood_there_before_is_nobodys_trouble(denying: ControlPlane) -> None:
    body = deployment("old", TENANT, MODEL, replicas=16, overrides={"image": "vllm/x:1"})
    body["spec"]["model"]["tokenSecret"] = SECRET
    denying.request("POST", path(TENANT), body, user=READER)
    denying.request(
        "PATCH", PARAMETERS, {"data": {"maxGPUs": "4", "allowedRegistries": "registry.example.com/"}}
    )
    denying.wait_for(lambda: refused(denying, replicas=5), PATIENCE, "the parameters to be in force")
    where = path(TENANT, "old")
    denying.request("PATCH", where, {"metadata": {"labels": {"a": "b"}}}, user=WRITER)
    denying.request("PATCH", where, {"spec": {"overrides": {"engineArgs": {"max-num-seqs": 8}}}}, user=WRITER)
    denying.request("PATCH", where, {"spec": {"replicas": 12}}, user=WRITER)
    with pytest.raises(ApiStatusError, match="above the limit of 4 GPUs"):
        denying.request("PATCH", where, {"spec": {"replicas": 13}}, user=WRITER)
    denying.request("PATCH", where, {"spec": {"replicas": 0}}, user=WRITER)
    denying.request("DELETE", where, user=WRITER)


@pytest.mark.parametrize(
    "data", [{"maxGPUs": None, "allowedRegistries": None}, {"maxGPUs": "1000", "allowedRegistries": ""}]
)
def test_parameters_that_are_missing_or_empty_allow(denying: ControlPlane, data: dict[str, Any]) -> None:
    denying.request("PATCH", PARAMETERS, {"data": data})
    denying.wait_for(
        lambda: not refused(denying, replicas=100, overrides={"image": "elsewhere.example.com/x:1"}),
        PATIENCE, "everything to be allowed",
    )  # fmt: skip


def test_with_watched_namespaces_the_others_are_not_judged() -> None:
    objects = shipped("Deny", watchNamespaces=[NAMESPACE, TENANT])
    (binding,) = chart.of_kind(objects, "ValidatingAdmissionPolicyBinding")
    (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert (expression["key"], expression["values"]) == ("kubernetes.io/metadata.name", [NAMESPACE, TENANT])

"""Rights: the shipped roles allow what the programs do, and what they allow is used or explained (deploy/rights.yaml).

Everything of the chart that talks to the API server runs here with its own ServiceAccount and role, cluster-wide and with
`watchNamespaces`; the API server's audit log says what was asked and what was refused.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.support import KINDS, recipe_object
from testbed import chart
from testbed.api import ApiStatusError
from testbed.audit import AuditRecord
from testbed.chart import EVERYWHERE, RELEASE, Right
from testbed.plane import ControlPlane
from testbed.product import GROUP, LEASE, NAMESPACE, ROOT, Operator, condition, deployment, path
from testbed.validator import Validator

RIGHTS = yaml.safe_load((ROOT / "deploy" / "rights.yaml").read_text())
TENANT, STRANGER = "team-a", "team-b"
WATCHED = [NAMESPACE, TENANT]
MODEL = "example/rights"
PATIENCE = 240.0
REMOTE_CODE = "aim.engine.amd.com/allow-remote-code"
SHORT_LIVED = {f"{RELEASE}-{name}" for name in ("recipe-selector", "crd-upgrade", "uninstall-guard", "test")}
Json = dict[str, Any]

both_modes = pytest.mark.parametrize("mode", ["clusterwide", "namespaced"])


def values_of(mode: str) -> Json:
    return {"watchNamespaces": WATCHED} if mode == "namespaced" else {}


def stated(account: str, mode: str) -> set[Right]:
    """The rights of an account as deploy/rights.yaml has them."""
    found = set()
    for right in RIGHTS[account]["rights"]:
        if right.get("mode", mode) != mode:
            continue
        match right["scope"]:
            case "cluster":
                places = [EVERYWHERE]
            case "watched":
                places = [EVERYWHERE] if mode == "clusterwide" else WATCHED
            case "release":
                places = [NAMESPACE]
            case other:
                raise AssertionError(other)
        names = tuple(right.get("names", ()))
        found |= {Right(place, right["resource"], names, verb) for place in places for verb in right["verbs"]}
    return found


def excused(account: str, mode: str) -> set[tuple[str, str]]:
    """(resource, verb) that the audit log need not show."""
    return {
        (right["resource"], verb)
        for right in RIGHTS[account]["rights"]
        if right.get("mode", mode) == mode
        for verb in right.get("unused", ())
    }


@dataclass
class Installed:
    """The chart's accounts and roles on a plane, the operator and the validator as processes, and their work done."""

    mode: str
    plane: ControlPlane
    objects: list[Json]
    operator: Operator
    validator: Validator
    records: list[AuditRecord] = field(default_factory=list)

    def of(self, account: str) -> list[AuditRecord]:
        """What an account asked while the work was done."""
        user = f"system:serviceaccount:{NAMESPACE}:{account}"
        return [record for record in self.records if record.user == user]

    def used(self, account: str) -> set[tuple[str, str]]:
        """(resource, verb) of what it was not refused."""
        return {
            (f"{record.resource}/{record.subresource}".rstrip("/"), record.verb)
            for record in self.of(account)
            if record.code != http.client.FORBIDDEN
        }


@pytest.fixture(scope="module", params=["clusterwide", "namespaced"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    mode = request.param
    objects = chart.render(**values_of(mode))
    config = yaml.safe_load(
        chart.one(objects, "ConfigMap", f"{RELEASE}-operator-config")["data"]["config.yaml"]
    )
    with ControlPlane.start() as plane:
        for name in (NAMESPACE, TENANT, STRANGER):
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        plane.add_nodes("mi300x-8")
        plane.apply(ROOT / "crds" / "aimrecipes.yaml", ROOT / "crds" / "aimdeployments.yaml")
        plane.establish_crds()
        kinds = (
            "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Secret", "Service",
            "ValidatingWebhookConfiguration",
        )  # fmt: skip
        plane.apply(*chart.of_kind(objects, *kinds))
        await_rights(plane, objects)
        plane.apply(one_deployment(objects))
        mark = plane.audit.mark()
        hooks(plane, objects, tmp_path_factory.mktemp("hooks"))
        plane.request("POST", f"{GROUP}/aimrecipes", recipe_object("own", MODEL))
        with (
            Operator.start(
                plane,
                **{
                    **config,
                    "recipeStatusSeconds": 1,
                    "hub": {"enabled": False},
                    "lease": {**config["lease"], **LEASE},
                },
            ) as operator,
            Validator.start(plane, installed=True, config=config) as validator,
        ):
            world = Installed(mode, plane, objects, operator, validator)
            try:
                work(world)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{operator.log()}\n{validator.log()}") from None
            world.records = plane.audit.records(mark)
            yield world


def await_rights(plane: ControlPlane, objects: list[Json]) -> None:
    """Until the authorizer knows what is installed: none of a refusal before that is the chart's fault."""
    for account in chart.accounts(objects):
        for right in chart.rights(objects, account):
            if not right.names:
                plural, _, subresource = right.resource.partition("/")
                name, _, group = plural.partition(".")
                plane.await_right(
                    f"system:serviceaccount:{NAMESPACE}:{account}",
                    right.verb,
                    f"{name}/{subresource}".rstrip("/"),
                    group,
                    "" if right.namespace == EVERYWHERE else right.namespace,
                )


def one_deployment(objects: list[Json]) -> Json:
    """The operator's Deployment, without pods: the hooks look at it."""
    found = dict(chart.one(objects, "Deployment", f"{RELEASE}-operator"))
    return {**found, "spec": {**found["spec"], "replicas": 0}}


def hook(plane: ControlPlane, account: str, *words: str) -> str:
    """A hook Job's command with the Job's ServiceAccount."""
    kubeconfig = plane.kubeconfig_for_service_account(NAMESPACE, account)
    env = {
        "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT / "operator"), "no_proxy": "127.0.0.1,localhost",
        "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "aim_engine", *words], env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def hooks(plane: ControlPlane, objects: list[Json], folder: Path) -> None:
    """All hook Jobs of an installation, an upgrade and an end, with the arguments of the chart."""
    recipe = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "custom-recipe", "namespace": NAMESPACE},
        "data": {"recipe.yaml": yaml.safe_dump({
            "recipe_id": "mine", "huggingface_id": "Qwen/Qwen3-8B", "hardware": "MI300X", "gpu_count": 1,
            "precision": "bfloat16", "backend": "vllm", "config": {"args": {"--max-model-len": 8192}},
        })},
    }  # fmt: skip
    plane.apply(recipe)
    settings = chart.one(objects, "ConfigMap", f"{RELEASE}-recipe-selector")["data"]
    (folder / "config.yaml").write_text(settings["config.yaml"])
    request = yaml.safe_load(settings["request.yaml"])
    account = f"{RELEASE}-recipe-selector"
    assert "recipes: " in hook(plane, account, *arguments(objects, account, "catalogue"))
    request["spec"]["recipe"] = {"configMap": "custom-recipe"}
    request["spec"].pop("model", None)
    (folder / "request.yaml").write_text(yaml.safe_dump(request))
    words = [word.replace("/request/", f"{folder}/") for word in arguments(objects, account, "selector")]
    assert "recorded in ConfigMap" in hook(plane, account, *words)
    assert "can serve here and is kept" in hook(plane, account, *words, "--keep-recorded")
    for name, container in (("crd-upgrade", "crd-upgrade"), ("uninstall-guard", "guard")):
        hook(plane, f"{RELEASE}-{name}", *arguments(objects, f"{RELEASE}-{name}", container))
    hook(plane, f"{RELEASE}-test", "hook", "test", f"--release={NAMESPACE}/{RELEASE}")


def arguments(objects: list[Json], job: str, container: str) -> list[str]:
    """Arguments of a container of a hook Job."""
    (found,) = [
        each for each in chart.of_kind(objects, "Job")
        if each["metadata"]["name"] == job and "post-delete" not in each["metadata"]["annotations"]["helm.sh/hook"]
    ]  # fmt: skip
    spec = found["spec"]["template"]["spec"]
    (args,) = [
        c["args"] for c in (*spec.get("initContainers", ()), *spec["containers"]) if c["name"] == container
    ]
    return list(args)


def work(world: Installed) -> None:
    """Everything that operator and validator do in their life: children made, repaired, recorded and dropped."""
    plane = world.plane
    custom = {
        "metadata": {"name": "plain", "namespace": TENANT},
        "data": plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/custom-recipe")["data"],
    }
    plane.request("POST", KINDS["ConfigMap"].format(TENANT), custom)
    plane.request(
        "POST", path(TENANT), deployment("named", TENANT, "Qwen/Qwen3-8B", recipe={"configMap": "plain"})
    )
    plane.request(
        "POST", path(TENANT), deployment("claims", TENANT, MODEL, cache={"existingClaim": "not-there"})
    )
    wait_reason(plane, "claims", "PrerequisitesMet", "VolumeClaimNotFound")
    app = deployment(
        "app", TENANT, MODEL, replicas=2, cache={"sizeGiB": 1, "retain": False, "accessMode": "ReadWriteMany"}
    )
    plane.request("POST", path(TENANT), app)
    children = {
        "Deployment": "app", "Service": "app-service", "PersistentVolumeClaim": "app-cache", "PodDisruptionBudget": "app",
    }  # fmt: skip
    for kind, name in children.items():
        plane.wait_for(lambda k=kind, n=name: find(plane, k, n), PATIENCE, f"{kind} {name}")  # type: ignore[misc]
    spoilt: Mapping[str, tuple[str, Any]] = {
        "Deployment": ("spec.template.spec.enableServiceLinks", True),
        "Service": ("spec.selector.somebody", "else"),
        "PersistentVolumeClaim": ("metadata.labels.app~kubernetes~io/managed-by", "somebody"),
        "PodDisruptionBudget": ("spec.maxUnavailable", 2),
    }
    for kind, (where, value) in spoilt.items():
        address = f"{KINDS[kind].format(TENANT)}/{children[kind]}"
        change = value
        for key in reversed(keys := [key.replace("~", ".") for key in where.split(".")]):
            change = {key: change}
        plane.request("PATCH", address, change)
        plane.wait_for(
            lambda a=address, k=keys, v=value: at(plane.request("GET", a), k) != v,  # type: ignore[misc]
            PATIENCE, f"{kind} to be repaired",
        )  # fmt: skip
    for number in range(4):
        change = {"spec": {"overrides": {"engineArgs": {"max-num-seqs": 64 + number}}}}
        plane.request("PATCH", path(TENANT, "app"), change)
        observed(plane, "app")
    plane.wait_for(lambda: count(plane, "ControllerRevision", "app") == 3, PATIENCE, "old records to go")
    plane.request("PATCH", path(TENANT, "app"), {"spec": {"replicas": 1}})
    plane.wait_for(lambda: not find(plane, "PodDisruptionBudget", "app"), PATIENCE, "the budget to go")
    assert condition(observed(plane, "named"), "RecipeSelected")["status"] == "True"
    events = KINDS["Event"].format(TENANT)
    plane.wait_for(
        lambda: [e for e in plane.request("GET", events)["items"] if e["regarding"].get("name") == "app"],
        PATIENCE, "what happened to be told by events",
    )  # fmt: skip
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{RELEASE}-operator"
    first = plane.request("GET", lease)["metadata"]["resourceVersion"]
    plane.wait_for(
        lambda: plane.request("GET", lease)["metadata"]["resourceVersion"] != first, PATIENCE, "a renewal"
    )


def at(obj: Any, keys: list[str]) -> Any:
    """The value at a path, None where it ends early."""
    for key in keys:
        obj = (obj or {}).get(key)
    return obj


def find(plane: ControlPlane, kind: str, name: str) -> Json | None:
    try:
        found: Json = plane.request("GET", f"{KINDS[kind].format(TENANT)}/{name}")
    except ApiStatusError as error:
        if error.code != http.client.NOT_FOUND:
            raise
        return None
    return found


def count(plane: ControlPlane, kind: str, owner: str) -> int:
    query = f"?labelSelector=aim.engine.amd.com%2Fdeployment%3D{owner}"
    return len(plane.request("GET", KINDS[kind].format(TENANT) + query)["items"])


def observed(plane: ControlPlane, name: str, namespace: str = TENANT) -> Json:
    def look() -> Json:
        obj: Json = plane.request("GET", path(namespace, name))
        seen = obj.get("status", {}).get("observedGeneration")
        return obj if seen == obj["metadata"]["generation"] else {}

    return plane.wait_for(look, PATIENCE, f"{name} to be looked at")


def wait_reason(plane: ControlPlane, name: str, kind: str, wanted: str) -> None:
    def reason() -> bool:
        return bool(condition(observed(plane, name), kind).get("reason") == wanted)

    plane.wait_for(reason, PATIENCE, f"{name}: {kind} {wanted}")


@both_modes
def test_the_table_has_every_right_of_the_chart_and_no_other(mode: str) -> None:
    objects = chart.render(**values_of(mode))
    assert chart.accounts(objects) == sorted(RIGHTS)
    for account in RIGHTS:
        assert chart.rights(objects, account) == stated(account, mode), account


def test_nothing_was_forbidden(installed: Installed) -> None:
    refused = [
        record
        for account in RIGHTS
        for record in installed.of(account)
        if record.code in (http.client.FORBIDDEN, http.client.UNAUTHORIZED)
    ]
    assert refused == []


@pytest.mark.parametrize("account", sorted(RIGHTS))
def test_what_is_granted_is_used_or_explained(installed: Installed, account: str) -> None:
    granted = {(right.resource, right.verb) for right in chart.rights(installed.objects, account)}
    used = installed.used(account)
    assert used
    assert granted - used == excused(account, installed.mode)
    assert used <= granted


def test_the_validator_wrote_its_secret_and_its_webhook_configuration_and_nothing_else(
    installed: Installed,
) -> None:
    name = f"{RELEASE}-recipe-validator"
    written = {
        (record.resource, record.namespace, record.name)
        for record in installed.of(name)
        if record.verb not in ("get", "list", "watch")
    }
    assert written == {
        ("secrets", NAMESPACE, f"{name}-tls"),
        ("validatingwebhookconfigurations.admissionregistration.k8s.io", "", name),
    }


@both_modes
def test_nobody_may_read_secrets_make_pods_or_touch_rbac_and_webhooks(mode: str) -> None:
    objects = chart.render(**values_of(mode))
    validator = f"{RELEASE}-recipe-validator"
    for account in chart.accounts(objects):
        for right in chart.rights(objects, account):
            plural, _, group = right.resource.partition(".")
            assert "*" not in (right.resource, right.verb), right
            assert right.verb not in (
                "escalate",
                "bind",
                "impersonate",
                "deletecollection",
                "approve",
                "sign",
            ), right
            assert group.partition("/")[0] not in ("rbac.authorization.k8s.io", "certificates.k8s.io"), right
            assert plural not in (
                "serviceaccounts/token",
                "pods/exec",
                "pods/attach",
                "pods/log",
                "nodes/proxy",
            ), right
            if plural in ("pods", "nodes"):
                assert right.verb in ("list", "watch"), right
            if plural == "secrets":
                assert (account, right.namespace, right.names) == (
                    validator,
                    NAMESPACE,
                    (f"{validator}-tls",),
                )
                assert right.verb in ("get", "patch")
            if group == "admissionregistration.k8s.io":
                assert (account, right.names) == (validator, (validator,))
                assert right.verb in ("get", "patch")
            if group == "apiextensions.k8s.io":
                assert account in SHORT_LIVED
                assert right.names


@both_modes
def test_only_the_jobs_of_hooks_have_rights_that_go(mode: str) -> None:
    objects = chart.render(**values_of(mode))
    for each in chart.of_kind(
        objects, "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"
    ):
        name = each["metadata"]["name"].partition(":")[0].removesuffix("-tenant")
        policy = each["metadata"].get("annotations", {}).get("helm.sh/hook-delete-policy", "")
        assert ("hook-succeeded" in policy and "hook-failed" in policy) is (name in SHORT_LIVED), name


def test_namespaced_mode_grants_no_cluster_wide_write_but_to_hooks_and_for_the_webhook() -> None:
    objects = chart.render(**values_of("namespaced"))
    wide = {right for right in chart.rights(objects, f"{RELEASE}-operator") if right.namespace == EVERYWHERE}
    assert {right.resource for right in wide} == {
        "nodes", "pods", "aimrecipes.aim.engine.amd.com", "priorityclasses.scheduling.k8s.io",
    }  # fmt: skip
    assert {right.verb for right in wide} == {"list", "watch"}
    validator = {r for r in chart.rights(objects, f"{RELEASE}-recipe-validator") if r.namespace == EVERYWHERE}
    assert {right.resource for right in validator if right.verb not in ("list", "watch")} == {
        "validatingwebhookconfigurations.admissionregistration.k8s.io"
    }


def test_a_release_outside_of_its_watched_namespaces_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"watchNamespaces .* must name aim-engine too"):
        chart.render(watchNamespaces=[TENANT])


def access(
    plane: ControlPlane,
    account: str,
    verb: str,
    group: str,
    resource: str,
    namespace: str = "",
    name: str = "",
) -> bool:
    """What the API server's authorizer says."""
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": f"system:serviceaccount:{NAMESPACE}:{account}", "resourceAttributes": attributes},
    }
    return bool(
        plane.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"][
            "allowed"
        ]
    )


@pytest.mark.parametrize("account", [f"{RELEASE}-operator", f"{RELEASE}-recipe-validator"])
def test_the_authorizer_refuses_what_would_be_more_than_a_model_server(
    installed: Installed, account: str
) -> None:
    plane = installed.plane
    for namespace in (NAMESPACE, TENANT, "kube-system"):
        for verb in ("get", "list", "watch", "create", "patch", "delete"):
            assert not access(plane, account, verb, "", "secrets", namespace)
        for resource in ("pods", "pods/exec", "serviceaccounts", "serviceaccounts/token"):
            assert not access(plane, account, "create", "", resource, namespace)
        for resource in ("roles", "rolebindings"):
            assert not access(plane, account, "create", "rbac.authorization.k8s.io", resource, namespace)
    for resource in (
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
    ):
        for verb in ("list", "create", "patch", "delete"):
            assert not access(plane, account, verb, "admissionregistration.k8s.io", resource)
    assert not access(plane, account, "patch", "", "nodes")
    assert not access(plane, account, "patch", "aim.engine.amd.com", "aimdeployments", TENANT)
    own = (account, "get", "", "secrets", NAMESPACE, f"{RELEASE}-recipe-validator-tls")
    assert access(plane, *own) is (account != f"{RELEASE}-operator")


def test_only_watched_namespaces_are_served(installed: Installed) -> None:
    plane = installed.plane
    plane.request("POST", path(STRANGER), deployment("app", STRANGER, MODEL))
    if installed.mode == "clusterwide":
        assert observed(plane, "app", STRANGER)
        return
    plane.request("POST", path(TENANT), deployment("later", TENANT, MODEL))
    assert observed(plane, "later")
    assert "status" not in plane.request("GET", path(STRANGER, "app"))
    assert not [
        record
        for record in installed.records
        if record.user.endswith("-operator") and record.namespace == STRANGER
    ]


def test_labels_of_a_namespace_are_seen_in_either_mode(installed: Installed) -> None:
    plane = installed.plane
    wants = deployment("code", TENANT, MODEL, overrides={"engineArgs": {"trust-remote-code": True}})
    with pytest.raises(ApiStatusError, match="not allowed in this namespace"):
        plane.request("POST", f"{path(TENANT)}?dryRun=All", wants)
    plane.request("PATCH", f"/api/v1/namespaces/{TENANT}", {"metadata": {"labels": {REMOTE_CODE: "true"}}})

    def accepted() -> bool:
        try:
            plane.request("POST", f"{path(TENANT)}?dryRun=All", wants)
        except ApiStatusError:
            return False
        return True

    plane.wait_for(accepted, PATIENCE, "the validator to see the label")


def test_a_watched_namespace_that_goes_ends_nobody(installed: Installed) -> None:
    plane = installed.plane
    plane.request("DELETE", f"/api/v1/namespaces/{TENANT}")

    def gone() -> bool:
        try:
            plane.request("GET", f"/api/v1/namespaces/{TENANT}")
        except ApiStatusError as error:
            return error.code == http.client.NOT_FOUND
        return False

    plane.wait_for(gone, PATIENCE, f"{TENANT} to be gone")
    plane.request("POST", path(NAMESPACE), deployment("after", NAMESPACE, MODEL))
    assert observed(plane, "after", NAMESPACE)
    installed.operator.stop()
    installed.operator.run()
    plane.request("POST", path(NAMESPACE), deployment("restarted", NAMESPACE, MODEL))
    assert observed(plane, "restarted", NAMESPACE)

"""Pod Security on a real API server: the chart's own pods where `restricted` is enforced, the engines' where they may be."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from aim_engine.api.enums import Backend
from aim_engine.render import EngineConfig, render
from testbed import chart
from testbed.api import ApiStatusError
from testbed.plane import ControlPlane
from unit.test_render import inputs, pod_of, recipe

USER = 1000
Json = dict[str, Any]


def enforcing(plane: ControlPlane, level: str) -> str:
    """A new namespace that enforces a Pod Security Standard, newest version."""
    name = f"{level}-{uuid.uuid4().hex[:8]}"
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn", "audit")}
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    where = f"/api/v1/namespaces/{name}/serviceaccounts"
    plane.wait_for(lambda: plane.request("GET", f"{where}/default"), 240, "the default ServiceAccount")
    return name


def create(plane: ControlPlane, namespace: str, spec: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    body = {"metadata": {"generateName": "tried-", "labels": labels}, "spec": spec}
    plane.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", body)


def pods(objects: list[Json]) -> dict[str, tuple[Json, Json]]:
    """Spec and labels of every pod of the chart, by the name of what makes it."""
    found = {}
    for each in chart.of_kind(objects, "Deployment", "Job"):
        template = each["spec"]["template"]
        name = f"{each['kind']} {each['metadata']['name']} {each['metadata'].get('annotations', {}).get('helm.sh/hook', '')}"
        found[name] = (template["spec"], template.get("metadata", {}).get("labels", {}))
    for each in chart.of_kind(objects, "Pod"):
        found[f"Pod {each['metadata']['name']}"] = (each["spec"], each["metadata"]["labels"])
    return found


@pytest.mark.parametrize("source", ["selfSigned", "secret"])
def test_every_pod_of_the_chart_is_admitted_where_restricted_is_enforced(
    plane: ControlPlane, source: str
) -> None:
    certificates = {"source": source, **({"secretName": "given"} if source == "secret" else {})}
    objects = chart.render(admission_controller={"certificates": certificates})
    namespace = enforcing(plane, "restricted")
    for account in chart.accounts(objects):
        plane.request(
            "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}}
        )
    found = pods(objects)
    assert len(found) >= 6
    for name, (spec, labels) in found.items():
        try:
            create(plane, namespace, spec, labels)
        except ApiStatusError as error:
            raise AssertionError(f"{name}: {error}") from None


def test_every_container_of_the_chart_is_bounded_read_only_and_of_a_numeric_user() -> None:
    for name, (spec, _) in pods(chart.render()).items():
        context = spec["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (
            True,
            65532,
            65532,
        ), name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "nodeName"} & set(spec), name
        for volume in spec.get("volumes", ()):
            assert set(volume) & {"configMap", "secret", "emptyDir"}, (name, volume)
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip
            if container["name"] != "none":
                assert container["resources"]["limits"]["memory"], name
                assert spec["serviceAccountName"], name
            else:
                assert spec["automountServiceAccountToken"] is False


def engine_pod(backend: Backend, **settings: Any) -> tuple[Json, Json]:
    manifests = render(inputs(chosen=recipe(backend=backend, engineArgs={}), config=EngineConfig(**settings)))
    template = manifests.deployment["spec"]["template"]
    return pod_of(manifests), template["metadata"]["labels"]


@pytest.mark.parametrize("backend", list(Backend))
def test_engines_are_admitted_where_baseline_is_enforced(plane: ControlPlane, backend: Backend) -> None:
    create(plane, enforcing(plane, "baseline"), *engine_pod(backend))


@pytest.mark.parametrize("backend", list(Backend))
def test_engines_with_a_numeric_user_are_admitted_where_restricted_is_enforced(
    plane: ControlPlane, backend: Backend
) -> None:
    namespace = enforcing(plane, "restricted")
    create(plane, namespace, *engine_pod(backend, run_as_user=USER))
    create(plane, namespace, *engine_pod(backend, run_as_user=USER, read_only_root_filesystem=True))


def test_what_restricted_and_baseline_refuse_of_engines_is_what_the_docs_say(plane: ControlPlane) -> None:
    with pytest.raises(ApiStatusError, match="runAsNonRoot"):
        create(plane, enforcing(plane, "restricted"), *engine_pod(Backend.VLLM))
    with pytest.raises(ApiStatusError, match="seccompProfile"):
        create(plane, enforcing(plane, "baseline"), *engine_pod(Backend.VLLM, seccomp_profile="Unconfined"))


def test_a_read_only_engine_writes_to_volumes_alone() -> None:
    spec, _ = engine_pod(Backend.VLLM, read_only_root_filesystem=True)
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert set(mounts) == {"/cache", "/dev/shm", "/scratch", "/tmp"}  # noqa: S108
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert set(volumes) == set(mounts.values())
    assert {each["name"]: each.get("value") for each in container["env"]}["HOME"] == "/scratch"


# NetworkPolicies


def policies(**values: Any) -> dict[str, Json]:
    return {
        each["metadata"]["name"]: dict(each)
        for each in chart.of_kind(chart.render(**values), "NetworkPolicy")
    }


def reaches(policy: Json, port: str, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a pod of that namespace and these labels may connect to a named port."""
    return any(
        any(each["port"] == port for each in rule["ports"])
        and ("from" not in rule or any(_peer(peer, policy, namespace, labels) for peer in rule["from"]))
        for rule in policy["spec"]["ingress"]
    )


def _peer(peer: Json, policy: Json, namespace: str, labels: Mapping[str, str]) -> bool:
    home = policy["metadata"]["namespace"]
    names = {"kubernetes.io/metadata.name": namespace}
    there = _selects(peer["namespaceSelector"], names) if "namespaceSelector" in peer else namespace == home
    return there and _selects(peer.get("podSelector", {}), labels)


def _selects(selector: Json, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", ()))


OPERATOR = {"app.kubernetes.io/name": "aim-engine", "app.kubernetes.io/component": "operator"}


def test_policies_select_the_pods_they_are_for_and_name_ports_that_exist() -> None:
    objects = chart.render()
    found = policies()
    assert set(found) == {"aim-engine-operator", "aim-engine-recipe-validator", "aim-engine-engine"}
    for name in ("aim-engine-operator", "aim-engine-recipe-validator"):
        template = chart.one(objects, "Deployment", name)["spec"]["template"]
        assert _selects(found[name]["spec"]["podSelector"], template["metadata"]["labels"])
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert {port["port"] for rule in found[name]["spec"]["ingress"] for port in rule["ports"]} == ports
    spec, labels = engine_pod(Backend.VLLM)
    mine = {**labels, "aim.engine.amd.com/deployment": "aim-engine"}
    assert _selects(found["aim-engine-engine"]["spec"]["podSelector"], mine)
    assert not _selects(found["aim-engine-engine"]["spec"]["podSelector"], labels), "engines of others"
    assert [port["name"] for port in spec["containers"][0]["ports"]] == ["http"]


def test_an_engine_is_reached_from_declared_namespaces_prometheus_and_its_operator_alone() -> None:
    declared = {"fromNamespaces": ["monitoring"], "engineFromNamespaces": ["gateway"]}
    policy = policies(networkPolicy=declared)["aim-engine-engine"]
    for namespace in ("aim-engine", "monitoring", "gateway"):
        assert reaches(policy, "http", namespace, {})
    assert not reaches(policy, "http", "team-a", {})
    assert not reaches(policy, "http", "team-a", OPERATOR), "labels of the operator in another namespace"
    assert not reaches(policy, "29500", "aim-engine", {}), "torch.distributed"
    elsewhere = policies(operator={"mode": "never"}, networkPolicy=declared)["aim-engine-engine"]
    assert reaches(elsewhere, "http", "wherever-it-is", OPERATOR)
    assert not reaches(elsewhere, "http", "wherever-it-is", {})


def test_a_default_installation_lets_a_prometheus_of_any_namespace_scrape_engine_operator_and_validator() -> (
    None
):
    for name, port in (("engine", "http"), ("operator", "http"), ("recipe-validator", "health")):
        assert reaches(policies()[f"aim-engine-{name}"], port, "monitoring", {})
    assert not reaches(policies()["aim-engine-engine"], "29500", "monitoring", {}), "torch.distributed"


def test_metrics_are_read_from_declared_namespaces_alone_and_reviews_come_from_the_api_server() -> None:
    found = policies(networkPolicy={"fromNamespaces": ["monitoring"]})
    assert reaches(found["aim-engine-operator"], "http", "monitoring", {})
    assert not reaches(found["aim-engine-operator"], "http", "team-a", {})
    assert reaches(found["aim-engine-recipe-validator"], "https", "anywhere", {})
    assert not reaches(found["aim-engine-recipe-validator"], "health", "team-a", {})


def test_the_api_server_accepts_the_policies(plane: ControlPlane, namespace: str) -> None:
    declared = {"fromNamespaces": ["monitoring"], "engineFromNamespaces": ["gateway"]}
    for policy in policies(networkPolicy=declared).values():
        body = {**policy, "metadata": {"name": policy["metadata"]["name"]}}
        plane.request("POST", f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies", body)

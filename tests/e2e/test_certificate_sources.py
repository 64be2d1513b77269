"""Certificates that others make: given as a Secret, or made by cert-manager, whose own CRDs judge the chart's Certificate.

That the validator makes its own is the subject of test_admission_certificates.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import certs, chart, foreign
from testbed.api import ApiStatusError
from testbed.chart import EVERYWHERE, RELEASE
from testbed.plane import ControlPlane
from testbed.product import NAMESPACE, deployment, install, path
from testbed.validator import NAME, Validator

PATIENCE = 240.0
MOUNT = "/etc/aim-engine-tls"
HOSTS = (f"{NAME}.{NAMESPACE}.svc", f"{NAME}.{NAMESPACE}.svc.cluster.local")
ISSUER = {"name": "my-issuer", "kind": "ClusterIssuer"}
SOURCES = {
    "secret": {"source": "secret", "secretName": "given-tls"},
    "certManager": {"source": "certManager", "issuerRef": ISSUER},
}
Json = dict[str, Any]

each_source = pytest.mark.parametrize("source", sorted(SOURCES))


def shipped(source: str) -> list[Json]:
    return chart.render(admission_controller={"certificates": SOURCES[source]})


@pytest.fixture(scope="module")
def guarded() -> Iterator[ControlPlane]:
    with ControlPlane.start(kwok=False, scheduler=False) as plane:
        install(plane, recipes=())
        plane.apply(*foreign.crds("cert-manager"))
        plane.establish_crds()
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team-a"}})
        yield plane


class Issuer:
    """Writes files as a Secret that is mounted: all of a new version appears at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = 0

    def issue(self) -> None:
        """A new CA and a leaf of it."""
        authority = certs.certificate_authority(f"issuer {self._version}")
        leaf = certs.server_certificate(authority, HOSTS)
        self._version += 1
        new = self.folder / f"..{self._version}"
        new.mkdir(parents=True)
        files = {
            "tls.crt": leaf.certificate_pem,
            "tls.key": leaf.key_pem,
            "ca.crt": authority.certificate_pem,
        }
        for name, content in files.items():
            (new / name).write_bytes(content)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        (self.folder / "..next").symlink_to(new.name)
        os.replace(self.folder / "..next", self.folder / "..data")


def refusal(plane: ControlPlane, **spec: Any) -> str:
    """ "" when the gate lets an object pass, else what was said."""
    try:
        plane.request("POST", f"{path('team-a')}?dryRun=All", deployment("tried", "team-a", "a/b", **spec))
    except ApiStatusError as error:
        return str(error)
    return ""


@each_source
def test_the_validator_serves_what_it_is_given_and_follows_a_rotation(
    guarded: ControlPlane, tmp_path: Path, source: str
) -> None:
    objects = shipped(source)
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service",
             "ValidatingWebhookConfiguration")  # fmt: skip
    guarded.apply(*(each for each in chart.of_kind(objects, *kinds) if NAME in each["metadata"]["name"]))
    config = yaml.safe_load(
        chart.one(objects, "ConfigMap", f"{RELEASE}-operator-config")["data"]["config.yaml"]
    )
    assert config["admission"]["certificates"] == source
    issuer = Issuer(tmp_path)
    issuer.issue()
    mark = guarded.audit.mark()
    with Validator.start(guarded, installed=True, config=config, directory=str(tmp_path)) as validator:
        wrong = {"overrides": {"engineArgs": {"no-such-flag": True}}}
        guarded.wait_for(lambda: "no-such-flag" in refusal(guarded, **wrong), PATIENCE, "the gate to refuse")
        assert refusal(guarded) == ""
        before = validator.webhooks()[0]["clientConfig"]["caBundle"]
        issuer.issue()
        guarded.wait_for(
            lambda: validator.webhooks()[0]["clientConfig"]["caBundle"] != before,
            PATIENCE,
            "the new CA to be trusted",
        )
        guarded.wait_for(
            lambda: "no-such-flag" in refusal(guarded, **wrong), PATIENCE, "the gate to refuse again"
        )
        guarded.wait_for(lambda: not refusal(guarded), PATIENCE, "the gate to let a good one pass again")
    account = f"system:serviceaccount:{NAMESPACE}:{NAME}"
    assert not [
        each for each in guarded.audit.records(mark) if each.user == account and each.resource == "secrets"
    ]
    assert guarded.audit.forbidden(mark, account) == []


@each_source
def test_the_validator_then_needs_no_right_to_any_secret(source: str) -> None:
    objects = shipped(source)
    rights = chart.rights(objects, NAME)
    assert not [right for right in rights if right.resource == "secrets"]
    assert {right.namespace for right in rights} == {EVERYWHERE}
    assert not [
        each for each in chart.of_kind(objects, "Secret") if each["metadata"]["name"].startswith(NAME)
    ]


@each_source
def test_the_secret_is_mounted_where_the_validator_looks(source: str) -> None:
    pod = chart.one(shipped(source), "Deployment", NAME)["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "tls"]
    expected = {"secret": "given-tls", "certManager": f"{NAME}-tls"}[source]
    assert volume["secret"]["secretName"] == expected
    (mounted,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "tls"]
    assert (mounted["mountPath"], mounted["readOnly"]) == (MOUNT, True)


def test_cert_managers_own_crds_accept_the_certificate_and_its_ca_is_injected(guarded: ControlPlane) -> None:
    objects = shipped("certManager")
    (certificate,) = chart.of_kind(objects, "Certificate")
    guarded.apply(certificate)
    where = f"/apis/cert-manager.io/v1/namespaces/{NAMESPACE}/certificates/{certificate['metadata']['name']}"
    stored = guarded.request("GET", where)["spec"]
    assert certificate["spec"].items() <= stored.items(), "a field that the CRD does not know is pruned"
    assert stored["secretName"] == f"{NAME}-tls"
    assert set(HOSTS) <= set(stored["dnsNames"])
    assert stored["issuerRef"] == ISSUER
    configuration = chart.one(objects, "ValidatingWebhookConfiguration", NAME)
    wanted = f"{NAMESPACE}/{certificate['metadata']['name']}"
    assert configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == wanted


def test_a_certificate_with_a_field_unknown_to_cert_manager_would_be_noticed(guarded: ControlPlane) -> None:
    (certificate,) = chart.of_kind(shipped("certManager"), "Certificate")
    spoilt = {**certificate, "spec": {**certificate["spec"], "secretNames": "typo"}}
    done = guarded.kubectl(
        "create",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
        stdin=yaml.safe_dump(spoilt),
        check=False,
    )
    assert 'unknown field "spec.secretNames"' in done.stderr


def test_cert_manager_without_an_issuer_is_refused_by_the_chart() -> None:
    with pytest.raises(RuntimeError, match="issuerRef"):
        chart.render(admission_controller={"certificates": {"source": "certManager"}})

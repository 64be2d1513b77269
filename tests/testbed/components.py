"""Command lines of the control plane's programs, and how each shows that it is ready."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.certs import Pki

HERE = Path(__file__).parent
AUDIT_POLICY = HERE / "audit-policy.yaml"
STAGES = HERE / "stages.yaml"

# Off because an EndpointSlice refuses loopback addresses, and all our pods have one.
ENDPOINT_CONTROLLERS = (
    "endpointslice-controller",
    "endpoints-controller",
    "endpointslice-mirroring-controller",
)
# These would talk to a cloud or hand out addresses to nodes that do not exist.
CLOUD_CONTROLLERS = (
    "node-ipam-controller",
    "node-route-controller",
    "cloud-node-lifecycle-controller",
    "service-lb-controller",
    "certificatesigningrequest-signing-controller",
)
SWITCHED_OFF = (*CLOUD_CONTROLLERS, *ENDPOINT_CONTROLLERS)
GENEROUS_CLIENT = ("--kube-api-qps=2000", "--kube-api-burst=4000")


@dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int
    kwok: int


@dataclass(frozen=True)
class Layout:
    """Everything the command lines depend on."""

    workdir: Path
    ports: Ports
    pki: Pki
    pod_cidr: str
    service_cidr: str

    @property
    def audit_log(self) -> Path:
        """One JSON line for each audited request."""
        return self.workdir / "audit.log"

    def component_kubeconfig(self, component: str) -> Path:
        """Credentials of a component."""
        return self.workdir / "kubeconfigs" / f"{component}.yaml"


def etcd_arguments(layout: Layout) -> list[str]:
    """A single member that does not wait for the disk."""
    client = f"http://127.0.0.1:{layout.ports.etcd}"
    peer = f"http://127.0.0.1:{layout.ports.etcd_peer}"
    return [
        f"--data-dir={layout.workdir / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=8589934592",
        "--log-level=warn",
    ]


def apiserver_arguments(layout: Layout) -> list[str]:
    """RBAC on, audited, with ServiceAccount tokens and API aggregation."""
    pki = layout.pki
    return [
        f"--etcd-servers=http://127.0.0.1:{layout.ports.etcd}",
        f"--secure-port={layout.ports.apiserver}",
        "--bind-address=127.0.0.1",
        # Never dialled; the endpoint of the Service "kubernetes" may not be a loopback address.
        "--advertise-address=192.0.2.1",
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={layout.service_cidr}",
        f"--tls-cert-file={pki.server_certificate}",
        f"--tls-private-key-file={pki.server_key}",
        f"--client-ca-file={pki.ca}",
        f"--service-account-key-file={pki.service_account_public_key}",
        f"--service-account-signing-key-file={pki.service_account_key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--disable-admission-plugins=TaintNodesByCondition",
        f"--proxy-client-cert-file={pki.proxy_certificate}",
        f"--proxy-client-key-file={pki.proxy_key}",
        f"--requestheader-client-ca-file={pki.ca}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--audit-policy-file={AUDIT_POLICY}",
        f"--audit-log-path={layout.audit_log}",
        # A request is answered only after its line is in the file, so that a client may count right away.
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=100000",
    ]


def controller_manager_arguments(layout: Layout, switched_off: Sequence[str] = SWITCHED_OFF) -> list[str]:
    """All controllers that work without a cloud or real nodes."""
    return [
        f"--kubeconfig={layout.component_kubeconfig('kube-controller-manager')}",
        f"--service-account-private-key-file={layout.pki.service_account_key}",
        f"--root-ca-file={layout.pki.ca}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports.controller_manager}",
        f"--controllers=*,{','.join(f'-{name}' for name in switched_off)}",
        *GENEROUS_CLIENT,
    ]


def scheduler_arguments(layout: Layout) -> list[str]:
    """The default profile of the default scheduler."""
    return [
        f"--kubeconfig={layout.component_kubeconfig('kube-scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports.scheduler}",
        *GENEROUS_CLIENT,
    ]


def kwok_arguments(layout: Layout) -> list[str]:
    """Kubelets for the nodes annotated as fake, with our pod life cycle."""
    return [
        f"--kubeconfig={layout.component_kubeconfig('kwok')}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
        f"--cidr={layout.pod_cidr}",
        "--node-ip=127.0.0.1",
        f"--server-address=127.0.0.1:{layout.ports.kwok}",
        f"--config={STAGES}",
    ]


def answers_ok(port: int, path: str, *, tls: bool) -> bool:
    """Whether a GET on 127.0.0.1 answers 200 now. Certificates are not checked: this asks for life, nothing else."""
    connection: http.client.HTTPConnection
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

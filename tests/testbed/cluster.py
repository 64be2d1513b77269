"""Working with a running control plane: credentials, requests, kubectl, nodes, pods and waiting."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from testbed import certs, pods, tools
from testbed.api import Answered, ApiClient, ApiStatusError
from testbed.audit import AuditLog
from testbed.kubeconfig import certificate_user, kubeconfig, token_user, write_kubeconfig
from testbed.nodes import make_node

T = TypeVar("T")
ADMIN = "testbed-admin"
ADMIN_GROUP = "system:masters"
FIELD_MANAGER = "testbed"
TOKEN_SECONDS = 10 * 365 * 24 * 3600
POLL_SECONDS = 0.05
NOT_FOUND = 404
KUBECTL_TIMEOUT = 600.0


class WaitTimeoutError(AssertionError):
    """Something did not happen in time; the message shows what the components logged last."""


def state_file(workdir: Path) -> Path:
    """The file that tells other processes about the plane in ``workdir``."""
    return workdir / "state.json"


class Cluster:
    """A running control plane, whichever process started it."""

    def __init__(self, workdir: Path, url: str) -> None:
        self.workdir = workdir
        self.url = url
        self.ca_file = workdir / "pki" / "ca.crt"
        self.kubeconfig = workdir / "kubeconfigs" / "admin.yaml"
        self.audit = AuditLog(workdir / "audit.log")
        self._groups: dict[str, tuple[str, ...]] = {ADMIN: (ADMIN_GROUP,)}
        self._clients: dict[str, ApiClient] = {}

    @classmethod
    def open(cls, workdir: Path) -> Cluster:
        """The plane that another process runs in ``workdir``."""
        return Cluster(workdir, json.loads(state_file(workdir).read_text())["url"])

    # Credentials

    def write_certificate_kubeconfig(self, path: Path, user: str, groups: Sequence[str]) -> Path:
        """Write a kubeconfig with a new client certificate of ``user`` in ``groups``."""
        pair = certs.client_certificate(certs.load_authority(self.workdir / "pki"), user, groups)
        return write_kubeconfig(path, kubeconfig(self.url, self.ca_file, certificate_user(pair)))

    def kubeconfig_for_user(self, name: str, groups: Sequence[str] = ()) -> Path:
        """Kubeconfig of a user with a client certificate; RBAC decides what the user may do."""
        self._groups[name] = tuple(groups)
        self._clients.pop(name, None)
        return self.write_certificate_kubeconfig(self._kubeconfig_path("user", name), name, groups)

    def kubeconfig_for_service_account(self, namespace: str, name: str, *, server: str | None = None) -> Path:
        """Kubeconfig with a token of a ServiceAccount, waiting for the account to exist.

        ``server`` replaces the API server's address, for example by that of a fault proxy.
        """
        token = self.service_account_token(namespace, name)
        content = kubeconfig(server or self.url, self.ca_file, token_user(token), namespace)
        return write_kubeconfig(
            self._kubeconfig_path("sa" if server is None else "sa-proxied", namespace, name), content
        )

    def service_account_token(self, namespace: str, name: str) -> str:
        """A bearer token of a ServiceAccount, from the TokenRequest API."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        answer = self.wait_for(
            lambda: self.request("POST", path, body), 60, f"the ServiceAccount {namespace}/{name} to exist"
        )
        return str(answer["status"]["token"])

    def _kubeconfig_path(self, *parts: str) -> Path:
        return self.workdir / "kubeconfigs" / ("-".join(parts).replace(":", "_").replace("/", "_") + ".yaml")

    # Requests

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = None,
        user: str | None = None,
    ) -> Any:
        """Send one request and return the parsed answer. A PATCH is a merge patch unless ``content_type`` is given.

        ``user`` is the administrator by default, else a name as the audit log shows it: that of a certificate user
        (with the groups given to :meth:`kubeconfig_for_user`) or ``system:serviceaccount:NAMESPACE:NAME``.
        Raises ApiStatusError for an answer from 400 up and OSError when nobody answers.
        """
        return self._client(user or ADMIN).request(method, path, body, content_type=content_type)

    def ask(self, method: str, path: str, body: Any = None, *, user: str | None = None) -> Answered:
        """As :meth:`request`, but every answer is returned, with the warnings that came with it."""
        return self._client(user or ADMIN).ask(method, path, body)

    def _client(self, user: str) -> ApiClient:
        if user not in self._clients:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            token = None
            if user.startswith("system:serviceaccount:"):
                _, _, namespace, name = user.split(":")
                token = self.service_account_token(namespace, name)
            else:
                authority = certs.load_authority(self.workdir / "pki")
                pair = certs.client_certificate(authority, user, self._groups.get(user, ()))
                file = self._kubeconfig_path("client", user).with_suffix(".pem")
                file.touch(mode=0o600)
                file.write_bytes(pair.certificate_pem + pair.key_pem)
                context.load_cert_chain(file)
            self._clients[user] = ApiClient(self.url, context, token)
        return self._clients[user]

    def kubectl(
        self, *arguments: str, kubeconfig: Path | None = None, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, as administrator unless another ``kubeconfig`` is given.

        With ``check`` a failure raises RuntimeError that shows what kubectl wrote.
        """
        argv = [
            str(tools.tool("kubectl")),
            f"--kubeconfig={kubeconfig or self.kubeconfig}",
            f"--cache-dir={self.workdir / 'kubectl-cache'}",
            *arguments,
        ]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=KUBECTL_TIMEOUT)
        if check and done.returncode != 0:
            raise RuntimeError(
                f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
            )
        return done

    def apply(self, *objects: Mapping[str, Any] | Path) -> None:
        """Server-side apply objects, manifest files or directories of them, as field manager "testbed"."""
        command = ("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}")
        items = [item for item in objects if not isinstance(item, Path)]
        if items:
            self.kubectl(
                *command, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
            )
        for path in objects:
            if isinstance(path, Path):
                self.kubectl(*command, "--recursive", "-f", str(path))

    def establish_crds(self, timeout: float = 180) -> None:
        """Wait until every kind there is has its API. `kubectl wait` would end with an error for a CRD of this very moment,
        whose conditions are still null."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

        def established() -> set[str]:
            """Their names, once it is all of them."""
            crds = self.request("GET", path)["items"]
            ready = {
                crd["metadata"]["name"]
                for crd in crds
                for each in crd["status"].get("conditions") or ()
                if each["type"] == "Established" and each["status"] == "True"
            }
            return ready if len(ready) == len(crds) else set()

        wanted = self.wait_for(established, timeout, "every CRD to be established")
        self.wait_for(lambda: wanted <= self._kinds_of_kubectl(), timeout, "kubectl to know every CRD")

    def _kinds_of_kubectl(self) -> set[str]:
        """Plurals with their groups. A new kind is in the discovery documents some time after its API answers."""
        return set(self.kubectl("api-resources", "--output=name", check=False).stdout.split())

    # Rights

    def may(self, user: str, verb: str, resource: str, group: str = "", namespace: str = "") -> bool:
        """What the API server's authorizer says now; ``resource`` may have a subresource."""
        plural, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "resource": plural, "subresource": subresource, "group": group}
        review = self.request(
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {
                "spec": {
                    "user": user,
                    "groups": ["system:authenticated"],
                    "resourceAttributes": {**attributes, "namespace": namespace},
                }
            },
        )
        return bool(review["status"]["allowed"])

    def await_right(self, user: str, verb: str, resource: str, group: str = "", namespace: str = "") -> None:
        """Wait until a right is in force: the authorizer learns of roles and bindings after they are written."""
        self.wait_for(
            lambda: self.may(user, verb, resource, group, namespace), 180, f"{user} to {verb} {resource}"
        )

    # Nodes and pods

    def add_nodes(self, *kinds: str, names: Sequence[str] | None = None, **overrides: Any) -> list[str]:
        """Create one simulated node for each kind of the catalogue (nodes.yaml) and return their names.

        Without ``names`` a node is called after its kind with the next free number. ``overrides`` go to
        :func:`testbed.nodes.make_node`.
        """
        taken = {item["metadata"]["name"] for item in self.request("GET", "/api/v1/nodes")["items"]}
        chosen: list[str] = []
        for position, kind in enumerate(kinds):
            name = names[position] if names else free_name(kind, taken)
            taken.add(name)
            chosen.append(name)
            self.request("POST", "/api/v1/nodes", make_node(kind, name, **overrides))
        return chosen

    def set_pod_status(
        self, namespace: str, name: str, status: Mapping[str, Any], *, merge: str = "strategic-merge"
    ) -> Any:
        """Patch the status of a pod; simulated kubelets leave it as it is. ``merge="merge"`` replaces lists."""
        return self.request(
            "PATCH",
            f"/api/v1/namespaces/{namespace}/pods/{name}/status",
            {"status": status},
            content_type=f"application/{merge}-patch+json",
        )

    def _change_pod(
        self, namespace: str, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Any:
        pod = self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        return self.set_pod_status(namespace, name, change(pod), merge="merge")

    def crash_pod(
        self,
        namespace: str,
        name: str,
        *,
        exit_code: int = 1,
        message: str = "",
        reason: str = "Error",
        waiting: str = "CrashLoopBackOff",
    ) -> Any:
        """Let every container of a pod end and wait for its restart, see :func:`testbed.pods.crashed_status`."""
        return self._change_pod(
            namespace,
            name,
            lambda pod: pods.crashed_status(
                pod, exit_code=exit_code, message=message, reason=reason, waiting=waiting
            ),
        )

    def image_pull_error(self, namespace: str, name: str, *, message: str | None = None) -> Any:
        """Let the images of a pod be unobtainable, see :func:`testbed.pods.image_pull_status`."""
        return self._change_pod(namespace, name, lambda pod: pods.image_pull_status(pod, message))

    def recover_pod(self, namespace: str, name: str) -> Any:
        """Let every container of a pod run and be ready again; restart counts and last states stay."""
        return self._change_pod(namespace, name, pods.running_status)

    # Waiting

    def wait_for(self, predicate: Callable[[], T], timeout: float, what: str) -> T:
        """Poll until ``predicate`` returns something true and return it.

        A 404 from the API counts as "not yet". After ``timeout`` seconds raises WaitTimeoutError, which says that
        ``what`` was waited for and ends with the tail of every component's log.
        """
        deadline = time.monotonic() + timeout
        while True:
            last: object = None
            try:
                value = predicate()
                if value:
                    return value
                last = value
            except ApiStatusError as error:
                if error.code != NOT_FOUND:
                    raise
                last = error
            if time.monotonic() >= deadline:
                raise WaitTimeoutError(
                    f"waited {timeout:g} s for {what}; last seen: {last!r}\n{self.log_tails()}"
                )
            time.sleep(POLL_SECONDS)

    def log(self, component: str, lines: int = 40) -> str:
        """The last lines that a component has written."""
        return tail(self.workdir / "logs" / f"{component}.log", lines)

    def log_tails(self, lines: int = 5) -> str:
        """The last lines of every component."""
        logs = sorted((self.workdir / "logs").glob("*.log"))
        return "\n".join(f"--- {log.stem}\n{tail(log, lines)}" for log in logs)


def free_name(kind: str, taken: set[str]) -> str:
    """The kind with the lowest number that gives a name not in ``taken``."""
    number = 0
    while f"{kind}-{number}" in taken:
        number += 1
    return f"{kind}-{number}"


def tail(path: Path, lines: int) -> str:
    """The last lines of a file, or a note that there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"

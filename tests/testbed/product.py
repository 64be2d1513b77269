"""The product on a plane as an administrator installs it: CRDs, RBAC, recipes, and the operator as its own process."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from testbed.addresses import free_port
from testbed.cluster import Cluster
from testbed.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "aim-engine"
SERVICE_ACCOUNT = "aim-engine-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
GROUP = "/apis/aim.engine.amd.com/v1alpha1"
START_TIMEOUT = 240
ENDING = 90.0
"""Seconds; it ends within a few, on a machine that does not stand still."""
LEASE = {"durationSeconds": 120}
"""Of operators of which there is one: with the shipped one, an API server that stands still for ten seconds ends them."""


def install(plane: Cluster, *, recipes: Sequence[Path] = (ROOT / "recipes",)) -> None:
    """CRDs, namespace, ServiceAccount and RBAC as shipped, and the recipe catalogue."""
    plane.apply(ROOT / "crds" / "aimrecipes.yaml", ROOT / "crds" / "aimdeployments.yaml")
    plane.establish_crds()
    plane.apply(ROOT / "deploy" / "manifests" / "namespace.yaml", ROOT / "deploy" / "manifests" / "rbac.yaml")
    plane.await_right(USER, "list", "nodes")
    for path in recipes:
        plane.apply(path)


@dataclass
class Operator:
    """One operator process with the shipped ServiceAccount."""

    plane: Cluster
    processes: Processes
    name: str
    port: int
    kubeconfig: Path
    config_file: Path
    python_path: str

    @classmethod
    def start(
        cls, plane: Cluster, *, server: str | None = None, name: str = "operator", wait: bool = True,
        python_path: str = "", **config: Any,
    ) -> Self:  # fmt: skip
        """Start `aim-engine operator` and wait until it is ready. `server` points it at a fault proxy; `config` goes
        into its configuration file; `python_path` goes before our own sources."""
        kubeconfig = plane.kubeconfig_for_service_account(NAMESPACE, SERVICE_ACCOUNT, server=server)
        port = free_port()
        directory = plane.workdir / "operators" / name
        processes = Processes(directory)
        config_file = directory / "config.yaml"
        config_file.write_text(
            yaml.safe_dump(
                {"listen": f"127.0.0.1:{port}", "hub": {"enabled": False}, "lease": LEASE, **config}
            )
        )
        operator = cls(plane, processes, name, port, kubeconfig, config_file, python_path)
        operator.run(wait=wait)
        return operator

    def run(self, *, wait: bool = True) -> None:
        """Start the process (again)."""
        path = os.pathsep.join(part for part in (self.python_path, str(ROOT / "operator")) if part)
        self.processes.start(
            self.name,
            [
                "/usr/bin/env", f"KUBECONFIG={self.kubeconfig}", f"PYTHONPATH={path}", "no_proxy=127.0.0.1,localhost",
                sys.executable, "-m", "aim_engine", "operator", "--config", str(self.config_file),
            ],
        )  # fmt: skip
        if wait:
            self.plane.wait_for(self.leads, START_TIMEOUT, f"operator {self.name} to lead\n{self.log()}")

    def get(self, path: str) -> tuple[int, str]:
        """(status, body) of an HTTP request to the operator; status 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """Value of the first series whose line starts with `name`; 0 when there is none."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(name):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def ready(self) -> bool:
        """Whether the caches are filled."""
        return self.get("/readyz")[0] == 200

    def leads(self) -> bool:
        """Whether this replica reconciles."""
        return self.ready() and self.metric("aim_operator_active ") == 1

    def log(self, lines: int = 40) -> str:
        """The last lines it wrote."""
        file = self.processes.log_file(self.name)
        return "\n".join(file.read_text().splitlines()[-lines:]) if file.exists() else ""

    def stop(self) -> int | None:
        """SIGTERM, wait, and return the exit code."""
        return self.processes.stop(self.name, ENDING)

    def kill(self) -> None:
        """End without any chance to clean up."""
        self.processes.stop(self.name, timeout=0)

    def close(self) -> None:
        """End the process for good; it gives its Lease back, so that the next one need not wait for its end."""
        self.stop()
        self.processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def deployment(name: str, namespace: str, model: str = "Qwen/Qwen3-32B", **spec: Any) -> dict[str, Any]:
    """An AIMDeployment."""
    return {
        "apiVersion": "aim.engine.amd.com/v1alpha1",
        "kind": "AIMDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"id": model}, **spec},
    }


def path(namespace: str, name: str = "", subresource: str = "") -> str:
    """URL path of AIMDeployments."""
    parts = [GROUP, "namespaces", namespace, "aimdeployments", name, subresource]
    return "/".join(part for part in parts if part)


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an object; {} when it is not there."""
    found = obj.get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == kind), {})

"""The validator on a plane: its processes with the shipped ServiceAccount, behind a real Service address."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import yaml

from testbed.addresses import free_port
from testbed.cluster import Cluster
from testbed.processes import Processes
from testbed.product import ENDING, NAMESPACE, ROOT, deployment, path
from testbed.services import Backend, ServiceForwarder

NAME = "aim-engine-recipe-validator"
USER = f"system:serviceaccount:{NAMESPACE}:{NAME}"
CONFIGURATION = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{NAME}"
START_TIMEOUT = 240
PATIENCE = 30
"""Seconds, the most that the API server gives a webhook: a validator that stands still for a while refuses nobody."""
MISSES = 3
"""Probes in a row without an answer that take a replica out, as with a kubelet."""
_PORT = 8443
_IN_WEBHOOKS = {"failure_policy": "failurePolicy", "timeout_seconds": "timeoutSeconds"}
"""Settings that the API server has to know, by their names in a webhook."""


@dataclass
class Replica:
    """One process."""

    name: str
    port: int
    health_port: int
    ready: bool = False
    missed: int = 0
    """Probes without an answer, in a row."""


@dataclass
class Validator:
    """Some replicas of `aim-engine webhook`. Only those that say they are ready get connections, as from a Service."""

    plane: Cluster
    processes: Processes
    config: dict[str, Any]
    whole: Mapping[str, Any] = field(default_factory=dict)
    forwarder: ServiceForwarder | None = None
    replicas: list[Replica] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _number: int = 0

    @classmethod
    def start(
        cls, plane: Cluster, *, replicas: int = 1, installed: bool = False, config: Mapping[str, Any] | None = None,
        **admission: Any,
    ) -> Self:  # fmt: skip
        """Install what is shipped, unless it is `installed`, start the replicas, and wait until the API server asks
        them. `config` is the operator's configuration, `admission` goes over its part for the validator."""
        if not installed:
            plane.apply(ROOT / "deploy" / "manifests" / "validator.yaml")
        service = plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/services/{NAME}")
        ports = [{"name": "https", "port": _PORT, "targetPort": "https"}]
        plane.request(
            "PATCH", f"/api/v1/namespaces/{NAMESPACE}/services/{NAME}", {"spec": {"ports": ports}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
        processes = Processes(plane.workdir / "validators")
        validator = cls(
            plane,
            processes,
            {
                "poll_seconds": 1, "drain_seconds": 1, "reach_seconds": 0, "service_port": _PORT,
                "timeout_seconds": PATIENCE, **admission,
            },
            config or {},
        )  # fmt: skip
        for _ in range(replicas):
            validator.add()
        validator.forwarder = ServiceForwarder(service["spec"]["clusterIP"], _PORT, validator.backends)
        threading.Thread(target=validator._look, name="endpoints", daemon=True).start()
        try:
            plane.wait_for(validator.is_on, START_TIMEOUT, "the webhooks to be on")
            validator._await_refusal()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{validator.log()}") from None
        return validator

    def add(self) -> Replica:
        """Start one more replica."""
        self._number += 1
        replica = Replica(f"validator-{self._number}", free_port(), free_port())
        kubeconfig = self.plane.kubeconfig_for_service_account(NAMESPACE, NAME)
        config_file = self.processes.directory / f"{replica.name}.yaml"
        settings = {
            **self.whole.get("admission", {}),
            **{_camel(key): value for key, value in self.config.items()},
            "listen": f"127.0.0.1:{replica.port}",
            "healthListen": f"127.0.0.1:{replica.health_port}",
        }
        config_file.write_text(yaml.safe_dump({**self.whole, "admission": settings}))
        self.processes.start(
            replica.name,
            [
                "/usr/bin/env", f"KUBECONFIG={kubeconfig}", f"PYTHONPATH={ROOT / 'operator'}", "no_proxy=127.0.0.1,localhost",
                sys.executable, "-m", "aim_engine", "webhook", "--config", str(config_file),
            ],
        )  # fmt: skip
        self.replicas.append(replica)
        return replica

    def end(self, replica: Replica) -> int | None:
        """What the kubelet does to a pod that is deleted: no new connections, then SIGTERM."""
        self.replicas.remove(replica)
        time.sleep(0.3)
        return self.processes.stop(replica.name, ENDING)

    def backends(self) -> Sequence[Backend]:
        """The replicas that are ready."""
        return [("127.0.0.1", each.port) for each in self.replicas if each.ready]

    def webhooks(self) -> list[dict[str, Any]]:
        """The webhooks as the API server has them."""
        found: list[dict[str, Any]] = self.plane.request("GET", CONFIGURATION).get("webhooks") or []
        return found

    def is_on(self) -> bool:
        """Whether the API server asks us."""
        return bool(self.webhooks()) and all(each.ready for each in self.replicas)

    def reconfigure(self, **admission: Any) -> None:
        """Restart every replica with other settings, as `helm upgrade` would, and wait until they are in force."""
        self.config |= admission
        for old in list(self.replicas):
            self.end(old)
            self.add()
        told = {key: admission[name] for name, key in _IN_WEBHOOKS.items() if name in admission}
        self.plane.wait_for(
            lambda: self.is_on() and all(told.items() <= each.items() for each in self.webhooks()),
            START_TIMEOUT, "the webhooks to be on with other settings",
        )  # fmt: skip
        self._await_refusal()

    def off(self) -> None:
        """Have the API server ask nobody, as where the validator is not installed."""
        for each in self.replicas:
            os.kill(self.processes.pids[each.name], signal.SIGSTOP)
        self.plane.request("PATCH", CONFIGURATION, {"webhooks": None})
        # A question before the API server's own watch has told it takes as long as a webhook may.
        time.sleep(0.5)
        self.plane.wait_for(lambda: self._said() == http.client.CREATED, START_TIMEOUT, "nobody to be asked")

    def on(self) -> None:
        """Have it ask us again."""
        for each in self.replicas:
            os.kill(self.processes.pids[each.name], signal.SIGCONT)
        self.plane.wait_for(self.is_on, START_TIMEOUT, "the webhooks to be on again")
        self._await_refusal()

    def _await_refusal(self) -> None:
        refuses = http.client.UNPROCESSABLE_ENTITY
        self.plane.wait_for(lambda: self._said() == refuses, START_TIMEOUT, "the API server to ask us")

    def _said(self) -> int:
        """What the API server says to an object that we refuse whatever our settings."""
        wrong = deployment("probe", NAMESPACE, overrides={"engineArgs": {"port": 80}})
        return self.plane.ask("POST", f"{path(NAMESPACE)}?dryRun=All", wrong).code

    def metric(self, name: str) -> float:
        """Sum of the series that start with `name`, over all replicas."""
        lines = self.metrics().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def metrics(self) -> str:
        """What all replicas say of themselves."""
        return "\n".join(_get(each, "/metrics")[1] for each in self.replicas)

    def log(self) -> str:
        """The last lines of every replica."""
        files = [self.processes.log_file(each.name) for each in self.replicas]
        return "\n".join(
            line for file in files if file.exists() for line in file.read_text().splitlines()[-30:]
        )

    def close(self) -> None:
        """End all, and have the API server ask nobody."""
        self._stop.set()
        self.plane.request("DELETE", CONFIGURATION)
        self.plane.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/services/{NAME}")
        self.processes.close()
        if self.forwarder:
            self.forwarder.close()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            for replica in list(self.replicas):
                status = _get(replica, "/readyz")[0]
                replica.missed = replica.missed + 1 if status == 0 else 0
                if status or replica.missed == MISSES:
                    replica.ready = status == 200

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _get(replica: Replica, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", replica.health_port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)

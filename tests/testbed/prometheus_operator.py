"""The real Prometheus Operator on a plane: what it makes of ServiceMonitors, PodMonitors and PrometheusRules."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import yaml

from testbed import certs, foreign, tools
from testbed.addresses import free_port
from testbed.cluster import ADMIN, Cluster
from testbed.processes import Processes

NAMESPACE = "monitoring"
NAME = "all"
PATIENCE = 90.0
_SELECT_ALL: Mapping[str, Any] = {
    f"{kind}{part}": {} for kind in ("serviceMonitor", "podMonitor", "rule") for part in ("Selector", "NamespaceSelector")
}  # fmt: skip


@dataclass
class PrometheusOperator:
    """The operator's process, and a Prometheus object that selects every monitor and rule of the plane."""

    plane: Cluster
    processes: Processes

    @classmethod
    def start(cls, plane: Cluster) -> Self:
        """Install the CRDs and start it; it works when :meth:`scrape_configs` answers."""
        for file in foreign.crds("prometheus-operator"):
            plane.kubectl("apply", "--server-side", "-f", str(file))
        plane.establish_crds()
        directory = plane.workdir / "prometheus-operator"
        directory.mkdir(parents=True, exist_ok=True)
        pair = certs.client_certificate(
            certs.load_authority(plane.workdir / "pki"), ADMIN, ("system:masters",)
        )
        (directory / "tls.crt").write_bytes(pair.certificate_pem)
        (directory / "tls.key").write_bytes(pair.key_pem)
        running = cls(plane, Processes(directory))
        running.processes.start(
            "prometheus-operator",
            [
                str(tools.tool("prometheus-operator")), f"--apiserver={plane.url}", f"--cert-file={directory / 'tls.crt'}",
                f"--key-file={directory / 'tls.key'}", f"--ca-file={plane.ca_file}",
                f"--web.listen-address=127.0.0.1:{free_port()}",
            ],
        )  # fmt: skip
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        plane.apply(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "Prometheus",
                "metadata": {"name": NAME, "namespace": NAMESPACE},
                "spec": {"replicas": 1, "serviceDiscoveryRole": "EndpointSlice", **_SELECT_ALL},
            }
        )
        return running

    def scrape_configs(self) -> dict[str, dict[str, Any]]:
        """Scrape configurations that it made of all monitors, by job; {} before the first."""
        secret = self.plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/prometheus-{NAME}")
        packed = (secret.get("data") or {}).get("prometheus.yaml.gz")
        if not packed:
            return {}
        config = yaml.safe_load(gzip.decompress(base64.b64decode(packed)))
        return {job["job_name"]: job for job in config.get("scrape_configs") or []}

    def rules(self) -> dict[str, str]:
        """Rules files that it made of all PrometheusRules, by file name."""
        where = f"/api/v1/namespaces/{NAMESPACE}/configmaps/prometheus-{NAME}-rulefiles-0"
        return dict(self.plane.request("GET", where).get("data") or {})

    def log(self) -> str:
        """Its last lines."""
        file = self.processes.log_file("prometheus-operator")
        return "\n".join(file.read_text().splitlines()[-20:]) if file.exists() else ""

    def close(self) -> None:
        """End it."""
        self.processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def runnable(config: Mapping[str, Any], kubeconfig: str, interval: str) -> dict[str, Any]:
    """A scrape configuration as a Prometheus outside the cluster runs it: with a kubeconfig, the shard that the reloader in its
    pod would fill in, and more often. Nothing else changes."""
    found = yaml.safe_load(yaml.safe_dump(dict(config)).replace("$(SHARD)", "0"))
    found["scrape_interval"] = interval
    for each in found["kubernetes_sd_configs"]:
        each["kubeconfig_file"] = kubeconfig
    return dict(found)

"""A cluster with work on it and a real Prometheus that watches: operator, validator, simulated engines, AMD's exporter.

For a test: ``with BusyCluster.start(directory) as cluster: cluster.prometheus.query(...)``. As a program it draws the
pictures of the guide: ``python -m testbed.busy_cluster --pictures docs/images --minutes 12``.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from testbed import busy_scenario as scenario
from testbed.amd_exporter import Device, page
from testbed.api import ApiStatusError
from testbed.engines import EngineFleet
from testbed.hub import LocalHub
from testbed.pages import Pages
from testbed.plane import ControlPlane
from testbed.product import GROUP, ROOT, Operator, install
from testbed.prometheus import Prometheus
from testbed.validator import Validator
from testbed.vllm_metrics import Load

Json = dict[str, Any]
JOBS = ROOT / "deploy" / "prometheus" / "prometheus.yaml"
RULES = ROOT / "deploy" / "prometheus" / "aim-engine.rules.yaml"
ENGINES = "aim-engine-engines"
VRAM_MB = {"74a1": 196592, "74a5": 262128, "75a0": 294896, "75a3": 294896, "740f": 65520}
MODELS = {"74a1": "MI300X", "74a5": "MI325X", "75a0": "MI350X", "75a3": "MI355X", "740f": "MI210"}
PATIENCE = 240.0
MEASURING = {"intervalSeconds": 1, "leastWindowSeconds": 3, "publishSeconds": 0, "conditionSeconds": 0}


@dataclass
class BusyCluster:
    """All of it. ``busy`` keeps changing the loads until the end."""

    plane: ControlPlane
    operator: Operator
    validator: Validator
    fleet: EngineFleet
    prometheus: Prometheus
    _stack: contextlib.ExitStack
    _over: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def start(cls, directory: Path, *, interval: str = "2s") -> Self:
        """Start everything, deploy the scenario, and return when all that can serve does and Prometheus reads it."""
        stack = contextlib.ExitStack()
        try:
            return cls._start(directory, interval, stack)
        except BaseException:
            stack.close()
            raise

    @classmethod
    def _start(cls, directory: Path, interval: str, stack: contextlib.ExitStack) -> Self:
        plane = stack.enter_context(ControlPlane.start())
        hub = stack.enter_context(LocalHub())
        install(plane, recipes=())
        plane.add_nodes(*scenario.NODES)
        for name in scenario.NAMESPACES:
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        operator = stack.enter_context(
            Operator.start(
                plane, recipeStatusSeconds=1, measuring=MEASURING, hub={"enabled": True, "endpoint": hub.url}
            )
        )
        validator = stack.enter_context(Validator.start(plane))
        fleet = stack.enter_context(EngineFleet(plane))
        exporter = stack.enter_context(Pages({"/metrics": lambda: page(devices(plane, fleet))}))
        targets = {
            "aim-engine-operator": operator.port, "aim-engine-recipe-validator": validator.replicas[0].health_port,
            "amd-device-metrics-exporter": exporter.port,
        }  # fmt: skip
        jobs = [*(_static(name, port) for name, port in targets.items()), _engines(plane.kubeconfig)]
        prometheus = stack.enter_context(
            Prometheus.start(directory / "prometheus", jobs, interval=interval, rule_files=[RULES])
        )
        cluster = cls(plane, operator, validator, fleet, prometheus, stack)
        cluster._begin(cluster._be_busy)
        cluster._deploy()
        cluster._begin(cluster._be_used)
        return cluster

    def _begin(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=work.__name__, daemon=True)
        thread.start()
        self._stack.callback(thread.join, 30)
        self._stack.callback(self._over.set)

    def _deploy(self) -> None:
        plane = self.plane
        for body in scenario.RECIPES:
            plane.request("POST", f"{GROUP}/aimrecipes", body)
        plane.wait_for(lambda: self.operator.metric("aim_gpu_allocatable{") > 0, PATIENCE, "GPUs to be seen")
        account = "/api/v1/namespaces/research/serviceaccounts/default"
        plane.wait_for(lambda: _found(plane, account), PATIENCE, "the default ServiceAccount")
        plane.request("POST", "/api/v1/namespaces/research/pods", scenario.STRANGER)
        plane.wait_for(
            lambda: self._used_by_others("MI325X") == 6, PATIENCE, "the operator to see the stranger"
        )
        for tenant in scenario.TENANTS:
            plane.request("POST", scenario.deployments_path(tenant.namespace), tenant.body())
        wanted = sum(tenant.replicas for tenant in scenario.SERVED)
        plane.wait_for(lambda: len(self.fleet.serving()) == wanted, PATIENCE, f"{wanted} engines to listen")
        plane.request("DELETE", "/api/v1/namespaces/research/pods/training?gracePeriodSeconds=0")

    def _used_by_others(self, model: str) -> float:
        return self.operator.metric(f'aim_gpu_used{{gpu_type="{model}",by="other"}}')

    def _be_busy(self) -> None:
        began = time.monotonic()
        while not self._over.wait(0.2):
            seconds = time.monotonic() - began
            numbers: dict[str, int] = {}
            for namespace, pod in sorted(self.fleet.serving()):
                name = pod.rsplit("-", 2)[0]
                tenant = next(t for t in scenario.SERVED if (t.namespace, t.name) == (namespace, name))
                replica = numbers[name] = numbers.get(name, -1) + 1
                load = scenario.load_at(tenant, replica, seconds)
                with contextlib.suppress(KeyError):  # it went away in between
                    self.fleet.set(namespace, pod, **vars_of(load))

    def _be_used(self) -> None:
        """What users do all day: try what is refused, change their minds, and look what a model would get."""
        where = scenario.deployments_path("research")
        for turn in itertools.count():
            self._try("POST", f"{where}?dryRun=All", scenario.REFUSED)
            self._try("POST", f"{where}?dryRun=All", scenario.DOUBTFUL)
            match turn % 12:
                case 0:
                    targets = {"minTokensPerSecond": 1000 + turn // 12 % 2}
                    self._try("PATCH", f"{where}/giant", {"spec": {"targets": targets}})
                case 4:
                    self._try("POST", where, scenario.TRIAL)
                case 8:
                    self._try("DELETE", f"{where}/{scenario.TRIAL['metadata']['name']}")
            if self._over.wait(1.5):
                return

    def _try(self, method: str, path: str, body: Any = None) -> None:
        """What is refused, or not gone yet, is tried again in a later turn."""
        with contextlib.suppress(ApiStatusError, OSError):
            self.plane.request(method, path, body)

    def close(self) -> None:
        """End everything."""
        self._over.set()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def vars_of(load: Load) -> Mapping[str, Any]:
    """The fields of a load by name."""
    return {name: getattr(load, name) for name in load.__dataclass_fields__}


def _found(plane: ControlPlane, path: str) -> bool:
    try:
        return bool(plane.request("GET", path))
    except ApiStatusError as error:
        if error.code != http.client.NOT_FOUND:
            raise
        return False


def _static(name: str, port: int) -> Json:
    return {
        "job_name": name,
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }


def _engines(kubeconfig: Path) -> Json:
    """The shipped job for engines: Prometheus finds their pods by itself and labels their series."""
    jobs = yaml.safe_load(JOBS.read_text())["scrape_configs"]
    job: Json = next(each for each in jobs if each["job_name"] == ENGINES)
    (discovery,) = job["kubernetes_sd_configs"]
    del job["scrape_interval"]
    return {**job, "kubernetes_sd_configs": [{**discovery, "kubeconfig_file": str(kubeconfig)}]}


def devices(plane: ControlPlane, fleet: EngineFleet) -> Iterator[Device]:
    """The GPUs of all nodes; those that pods hold are busy as their engines are."""
    pods = plane.request("GET", "/api/v1/pods")["items"]
    for node in plane.request("GET", "/api/v1/nodes")["items"]:
        name, labels = node["metadata"]["name"], node["metadata"]["labels"]
        holders = iter(list(_holders([pod for pod in pods if pod["spec"].get("nodeName") == name])))
        device_id = labels.get("amd.com/gpu.device-id", "")
        for gpu in range(int(node["status"]["allocatable"].get("amd.com/gpu", 0))):
            holder = next(holders, None)
            known = Device(name, gpu, MODELS[device_id], VRAM_MB[device_id])
            yield _busy(known, holder, fleet) if holder else known


def _holders(pods: Iterable[Json]) -> Iterator[tuple[str, str]]:
    """The pod of each GPU that is held."""
    for pod in pods:
        limits = [c.get("resources", {}).get("limits", {}) for c in pod["spec"]["containers"]]
        for _ in range(sum(int(limit.get("amd.com/gpu", 0)) for limit in limits)):
            yield pod["metadata"]["namespace"], pod["metadata"]["name"]


def _busy(device: Device, holder: tuple[str, str], fleet: EngineFleet) -> Device:
    namespace, pod = holder
    try:
        busy = min(1.0, fleet.set(namespace, pod).running / 60)
    except KeyError:
        busy = 0.6
    flicker = 0.012 * device.gpu_id
    return Device(
        device.hostname, device.gpu_id, device.model, device.vram_mb, namespace, pod,
        activity=max(0.0, busy * (1 - flicker)), memory=0.9 - flicker / 4,
    )  # fmt: skip


def main() -> None:
    """Let the cluster work for a while and draw its dashboards."""
    parser = argparse.ArgumentParser(prog="python -m testbed.busy_cluster", description=main.__doc__)
    parser.add_argument("--pictures", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=12.0)
    options = parser.parse_args()
    from aim_engine.cli import main as command

    with (
        tempfile.TemporaryDirectory() as directory,
        BusyCluster.start(Path(directory), interval="2s") as cluster,
    ):
        time.sleep(options.minutes * 60)
        shared = [
            "dashboards", "preview", "--prometheus", cluster.prometheus.url, "--output", str(options.pictures),
            "--since", f"{round(options.minutes * 60)}s", "--scrape-interval", "2s",
        ]  # fmt: skip
        command([*shared, "fleet", "recommendations", "operator"])
        command([*shared, "recipes", "--var", "model=example/chat-.*"])
        command([*shared, "deployment", "--var", "namespace=team-b", "--var", "aimdeployment=reasoner"])


if __name__ == "__main__":
    main()

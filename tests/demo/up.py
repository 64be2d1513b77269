"""Bring the demo up and show it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import holder, show
from demo.down import take_down
from demo.kube import Kubectl, account_kubeconfig, find_kubectl
from demo.place import Place, State
from demo.scenario import NAMESPACE, SAMPLES, Sample, condition, is_judged
from demo.steps import StepError, step, wait_for
from testbed import tools
from testbed.__main__ import up as plane_up
from testbed.background import holder as plane_holder
from testbed.cluster import state_file

ROOT = holder.ROOT
SAMPLES_DIRECTORY = ROOT / "deploy" / "samples"
OPERATOR_NAMESPACE, OPERATOR_ACCOUNT = "aim-engine", "aim-engine-operator"
CRDS = ("aimrecipes.aim.engine.amd.com", "aimdeployments.aim.engine.amd.com")
STATUS_TIMEOUT = 120.0
CRD_TIMEOUT = 180.0
SIMULATED = """\
Nodes and engines are simulated: there is no kubelet, so kubectl logs, exec and port-forward do not answer (engines answer at
their pods' addresses, as above), and Secrets that samples name need not exist. In the first half minute Kubernetes' garbage
collector does not know our kinds yet: what you delete then goes a little later."""
QUESTION = {"messages": [{"role": "user", "content": "Say hello from an MI300X."}], "max_tokens": 24}


@dataclass(frozen=True)
class Demo:
    """A demo that is coming up."""

    place: Place
    admin: Kubectl
    own_cluster: bool
    patience: float
    """Seconds that a sample may take."""

    @property
    def operator_log(self) -> Path:
        return self.place.logs / "operator.log"

    def install(self) -> None:
        """What an administrator does once, except that the operator runs here and not as a pod."""
        with step("install CRDs, RBAC and the recipe catalogue", self.place.holder_log):
            if self.own_cluster and State.read(self.place) is None and self.admin.exists("crd", *CRDS):
                raise RuntimeError(
                    "this cluster has AIM Engine already, and the demo would change it. Apply deploy/samples there yourself"
                )
            State(str(self.admin.kubeconfig), self.own_cluster).write(self.place)
            self.admin.apply(ROOT / "crds" / "aimrecipes.yaml")
            self.admin.apply(ROOT / "crds" / "aimdeployments.yaml")
            wait_for("the CRDs to be served", self._established, CRD_TIMEOUT)
            for name in ("namespace.yaml", "rbac.yaml", "user-roles.yaml"):
                self.admin.apply(ROOT / "deploy" / "manifests" / name)
            self.admin.apply(ROOT / "recipes")

    def _established(self) -> bool:
        """`kubectl wait` would end with an error for a CRD of this very moment, whose conditions are still null; and a new
        kind is in the discovery documents some time after its API answers."""
        found = (self.admin.get("crd", name)["status"].get("conditions") or () for name in CRDS)
        established = all(
            {"Established": "True"}.items() <= {each["type"]: each["status"] for each in conditions}.items()
            for conditions in found
        )
        return established and {*CRDS} <= {*self.admin.run("api-resources", "--api-group=aim.engine.amd.com", "--output=name").split()}  # fmt: skip

    def start_operator(self) -> str:
        """Start the operator with its ServiceAccount's token; returns its address."""
        with step("start the operator with its own ServiceAccount and the shipped RBAC", self.operator_log):
            text = account_kubeconfig(self.admin, OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
            self.place.operator_kubeconfig.touch(mode=0o600)
            self.place.operator_kubeconfig.write_text(text)
            return holder.start(
                self.place, engines_kubeconfig=None if self.own_cluster else self.admin.kubeconfig
            )

    def apply(self, sample: Sample) -> None:
        """Apply a sample and wait for what it is there to show; a real cluster may decide otherwise."""
        with step(f"apply deploy/samples/{sample.file}: {sample.about}", self.operator_log):
            self.admin.apply(SAMPLES_DIRECTORY / sample.file)
            expected = is_judged if self.own_cluster else sample.as_expected
            try:
                wait_for(
                    f"AIMDeployment {sample.name}",
                    lambda: expected(self.deployment(sample.name)),
                    self.patience,
                )
            except TimeoutError as error:
                told = show.conditions(self.deployment(sample.name)) or "it has no conditions"
                raise TimeoutError(f"{error}\n{told}") from None
            found = self.deployment(sample.name)
            print(f"    Ready={condition(found, 'Ready')}: {condition(found, 'Ready', 'message')}")

    def deployment(self, name: str) -> dict[str, Any]:
        """An AIMDeployment of the demo."""
        return self.admin.get("aimdeployment", name, f"--namespace={NAMESPACE}")

    def show(self, listen: str) -> None:
        """What a user would look at."""
        recipes = ("get", "aimrecipes")
        wait_for("the recipes' statuses", self._recipes_counted, STATUS_TIMEOUT)
        show.heading("What the catalogue offers, and how often each recipe fits the GPUs that are free now")
        show.command("kubectl get aimrecipes", self.admin.run(*recipes))
        show.heading("What was asked for, and what became of it")
        show.command("kubectl get aimd -A -o wide", self.admin.run("get", "aimd", "-A", "-o", "wide"))
        for name, title in (
            (
                "qwen3-32b",
                "Why qwen3-32b got its recipe, and why the others were not taken (status.selection)",
            ),
            ("llama-3-1-405b", "What llama-3-1-405b waits for"),
            ("too-large", "Why too-large cannot work"),
        ):
            show.heading(title)
            found = self.deployment(name)
            print(f"{condition(found, 'RecipeSelected', 'message')}\n\n{show.decision(found)}")
        rendered = self.admin.get("deployments", f"--namespace={NAMESPACE}")["items"]
        for deployment in rendered[:1] if self.own_cluster else rendered:
            if self.own_cluster or deployment["metadata"]["name"] == "qwen3-32b":
                show.heading(f"The Deployment that was rendered for {deployment['metadata']['name']}")
                print(show.engine(deployment))
        if not self.own_cluster:
            self._ask()
        show.heading(f"The operator's metrics, http://{listen}/metrics")
        print(show.metrics(holder.fetch(listen, "/metrics")))

    def _recipes_counted(self) -> bool:
        return all("fits" in recipe.get("status", {}) for recipe in self.admin.get("aimrecipes")["items"])

    def _ask(self) -> None:
        with step("ask the model", self.place.logs / "engines.log"):
            pods = self.admin.get(
                "pods", f"--namespace={NAMESPACE}", "-l", "aim.engine.amd.com/deployment=qwen3-32b"
            )
            pod = pods["items"][0]
            address = f"{pod['status']['podIP']}:{pod['spec']['containers'][0]['ports'][0]['containerPort']}"
            question = {"model": "Qwen/Qwen3-32B", **QUESTION}
            answer = _post(address, "/v1/chat/completions", question)
            show.heading("An answer from the (simulated) engine in one of its pods")
            show.command(
                f"curl -s http://{address}/v1/chat/completions -H 'Content-Type: application/json' -d '{json.dumps(question)}'",
                json.dumps(answer, indent=1),
            )

    def farewell(self) -> None:
        """How to go on and how to stop."""
        directory = "" if self.place.directory == ROOT / ".demo" else f" DEMO_DIR={self.place.directory}"
        show.heading("The demo keeps running. Go on by hand:")
        print(f"  export KUBECONFIG={self.admin.kubeconfig}")
        print(f"  export PATH={self.admin.program.parent}:$PATH      # kubectl")
        print(
            "  kubectl get aimrecipes; kubectl get aimd -A -o wide; kubectl explain aimdeployment.spec.recipe"
        )
        print(f"  kubectl -n {NAMESPACE} scale aimd qwen3-32b --replicas=3")
        print(f"  kubectl -n {NAMESPACE} delete aimd qwen3-32b llama-3-3-70b     # and llama-3-1-405b starts")
        if self.own_cluster:
            print(
                f"  kubectl -n {NAMESPACE} port-forward svc/qwen3-32b-service 8000:8000   # once it is Ready"
            )
        print(f"  tail -f {self.operator_log}")
        if not self.own_cluster:
            print(SIMULATED)
        print(f"Stop and remove it:  make demo-down{directory}")


def _post(address: str, path: str, body: Any) -> Any:
    deadline = time.monotonic() + STATUS_TIMEOUT
    while True:
        connection = http.client.HTTPConnection(address, timeout=STATUS_TIMEOUT)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != http.client.OK:
                raise RuntimeError(f"POST http://{address}{path} answered {answer.status}: {text}")
            return json.loads(text)
        except ConnectionError as error:
            if time.monotonic() >= deadline:
                raise RuntimeError(f"nobody answers at http://{address}{path}") from error
            time.sleep(0.2)
        finally:
            connection.close()


def _start_plane(place: Place, nodes: Sequence[str]) -> Path:
    log = place.plane / "up.log"
    with step(
        "get the control plane's programs (built once a machine, about seven minutes on two cores)", log
    ):
        tools.ensure()
    with step(f"start a control plane with simulated nodes {', '.join(nodes)}", log):
        with contextlib.redirect_stdout(io.StringIO()):
            code = plane_up(place.plane, nodes)
        if code != 0:
            raise RuntimeError("the control plane did not start")
        return Path(json.loads(state_file(place.plane).read_text())["kubeconfig"])


def up(place: Place, own_kubeconfig: Path | None, nodes: Sequence[str], patience: float) -> int:
    """Run the demo; on failure everything is taken down again, the logs stay."""
    if place.holder() or plane_holder(place.plane):
        print(f"a demo runs in {place.directory} already; end it with: make demo-down", file=sys.stderr)
        return 1
    if State.read(place) is not None and own_kubeconfig:
        print(f"an earlier demo in {place.directory} was not ended; first: make demo-down", file=sys.stderr)
        return 1
    place.clear()
    place.logs.mkdir(parents=True, exist_ok=True)
    try:
        kubeconfig = own_kubeconfig or _start_plane(place, nodes)
        own_cluster = own_kubeconfig is not None
        demo = Demo(place, Kubectl(find_kubectl(own_cluster=own_cluster), kubeconfig), own_cluster, patience)
        demo.install()
        listen = demo.start_operator()
        demo.admin.apply(SAMPLES_DIRECTORY / "namespace.yaml")
        for sample in SAMPLES:
            demo.apply(sample)
        with step("look at the result", demo.operator_log):
            demo.show(listen)
        demo.farewell()
    except (Exception, KeyboardInterrupt) as error:
        told = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
        print(f"\nmake demo failed. {told}\nLogs stay in {place.directory}.", file=sys.stderr, flush=True)
        take_down(place)
        return 1
    return 0

"""What the end-to-end tests share: one tenant's corner of a cluster, and short words for what they look at."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.inventory import Tracker
from aim_engine.reconcile.intake import decode_pod
from testbed.api import ApiStatusError
from testbed.audit import AuditRecord
from testbed.cluster import POLL_SECONDS, WaitTimeoutError
from testbed.plane import ControlPlane
from testbed.product import GROUP, USER, Operator, condition, deployment, path

Json = dict[str, Any]

POOL_LABEL = "tests.aim/pool"
DEPLOYMENT_LABEL = "aim.engine.amd.com/deployment"
PATIENCE = 180.0
"""Seconds; what is waited for takes well under one when the machine is idle, and much longer on two busy cores."""
COLLECTION = 240.0
"""Seconds; the garbage collector looks for new kinds of owners every 30 s, so the first deletions on a plane are slow."""
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "ControllerRevision": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "Event": "/apis/events.k8s.io/v1/namespaces/{}/events",
    "Pod": "/api/v1/namespaces/{}/pods",
}


def recipe_object(
    name: str, model: str, *, gpus: int = 1, gpu_model: str = "MI300X", precision: str = "bf16", **spec: Any
) -> Json:
    """An AIMRecipe. A model that no catalogue knows keeps its memory fit unknown, and so out of the test."""
    return {
        "apiVersion": "aim.engine.amd.com/v1alpha1",
        "kind": "AIMRecipe",
        "metadata": {"name": name},
        "spec": {
            "modelID": model,
            "hardware": {"gpuModel": gpu_model, "gpuCount": gpus},
            "precision": precision,
            **spec,
        },
    }


def reason(obj: Mapping[str, Any], kind: str) -> str:
    """Reason of a condition, "" when it is not there."""
    return str(condition(dict(obj), kind).get("reason", ""))


def message(obj: Mapping[str, Any], kind: str) -> str:
    """Message of a condition, "" when it is not there."""
    return str(condition(dict(obj), kind).get("message", ""))


def is_true(obj: Mapping[str, Any], kind: str) -> bool:
    """Whether a condition is True and speaks of the present spec."""
    found = condition(dict(obj), kind)
    return bool(
        found.get("status") == "True" and found.get("observedGeneration") == obj["metadata"].get("generation")
    )


def is_current(obj: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the present spec."""
    return bool(obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"])


def candidates(obj: Mapping[str, Any]) -> dict[str, Json]:
    """Verdicts of the last selection by recipe."""
    found = obj.get("status", {}).get("selection", {}).get("candidates", [])
    return {entry["recipe"]: entry for entry in found}


def container(workload: Mapping[str, Any]) -> Json:
    """The only container of a Deployment or ReplicaSet."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


def http_get(url: str) -> tuple[int, Any]:
    """Status and JSON body of a plain GET."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def operator_writes(
    plane: ControlPlane, since: int, *, namespace: str | None = None, events: bool = False
) -> list[AuditRecord]:
    """The operator's writes after a mark, failed ones included. The Lease is left out: it is renewed by the clock."""
    found = plane.audit.writes(since, user=USER, namespace=namespace, include_events=events)
    return [record for record in found if not record.resource.startswith("leases")]


def settle(tenant: Tenant, quiet: float = 2.0) -> None:
    """Wait until the operator has written nothing for `quiet` seconds, Events and recipe statuses included.

    Seconds in which the operator or the API server stood still do not count: what they were about to do comes after.
    """

    def is_quiet() -> bool:
        mark = tenant.plane.audit.mark()
        end = time.monotonic() + quiet
        while (looked := time.monotonic()) < end:
            tenant.plane.request("GET", f"/api/v1/namespaces/{tenant.namespace}")
            tenant.operator.get("/healthz")
            if time.monotonic() - looked > quiet / 2:
                return False
            time.sleep(POLL_SECONDS)
        return not operator_writes(tenant.plane, mark, events=True)

    tenant.plane.wait_for(is_quiet, 240, "the operator to come to rest")


def survived(operator: Operator) -> None:
    """Fail where the operator has ended or lost its Lease; one that only is slow to answer is waited for."""
    with contextlib.suppress(WaitTimeoutError):
        operator.plane.wait_for(
            lambda: operator.name not in operator.processes.running() or operator.leads(),
            PATIENCE,
            "an answer",
        )
    assert operator.leads(), f"the operator is no longer up:\n{operator.log()}"


@dataclass
class Tenant:
    """A namespace with nodes of its own: pods with the tenant's node selector run nowhere else."""

    plane: ControlPlane
    operator: Operator
    namespace: str
    nodes: list[str] = field(default_factory=list)
    recipes: list[str] = field(default_factory=list)
    _unseen: bool = False
    """Whether something was made that the operator may not have seen yet."""

    @property
    def model(self) -> str:
        """A model that only this tenant's recipes know."""
        return f"example/{self.namespace}"

    # Making things

    def add_node(self, kind: str = "mi300x-8", **overrides: Any) -> str:
        """A node that only this tenant's pods select."""
        labels = {POOL_LABEL: self.namespace, **overrides.pop("labels", {})}
        name = f"{self.namespace}-{len(self.nodes)}"
        self.plane.add_nodes(kind, names=[name], labels=labels, **overrides)
        self.nodes.append(name)
        self._unseen = True
        return name

    def add_recipe(self, suffix: str = "r", **spec: Any) -> str:
        """A cluster recipe of the tenant's model; returns its name."""
        name = f"{self.namespace}-{suffix}"
        model = spec.pop("model", self.model)
        self.plane.request("POST", f"{GROUP}/aimrecipes", recipe_object(name, model, **spec))
        self.recipes.append(name)
        self._unseen = True
        return name

    def body(self, name: str = "app", *, model: str | None = None, **spec: Any) -> Json:
        """An AIMDeployment of the tenant's model on the tenant's nodes."""
        scheduling = {"nodeSelector": {POOL_LABEL: self.namespace}, **spec.pop("scheduling", {})}
        return deployment(name, self.namespace, model or self.model, scheduling=scheduling, **spec)

    def deploy(self, name: str = "app", **spec: Any) -> Json:
        """Create an AIMDeployment, once the operator has seen the nodes, recipes and strangers' pods that were made for it.

        It watches each kind by itself, so that without waiting its first decision might be one without them.
        """
        if self._unseen:
            self.wait_for("the operator to see recipes and GPUs as they are", self._is_seen)
            self._unseen = False
        created: Json = self.plane.request("POST", path(self.namespace), self.body(name, **spec))
        return created

    def corner(self, *, gpus: int = 1, **spec: Any) -> str:
        """The usual start: a node with eight GPUs and one recipe; returns the recipe's name."""
        self.add_node()
        return self.add_recipe(gpus=gpus, **spec)

    def create(self, kind: str, body: Json) -> Json:
        """Create another object in the namespace."""
        created: Json = self.plane.request("POST", KINDS[kind].format(self.namespace), body)
        self._unseen |= kind == "Pod"
        return created

    def occupy(self, gpus: int, name: str = "stranger", *, node: int = 0) -> None:
        """Take GPUs of one of the tenant's nodes by a pod that is not ours, and wait until it runs."""
        limits = {"amd.com/gpu": str(gpus)}
        spec = {
            "nodeName": self.nodes[node],
            "containers": [{"name": "main", "image": "example/job:1", "resources": {"limits": limits}}],
        }
        self.create("Pod", {"metadata": {"name": name}, "spec": spec})
        self.plane.wait_for(
            lambda: self.find("Pod", name)["status"].get("phase") == "Running", PATIENCE, f"pod {name} to run"
        )

    # Looking

    def get(self, name: str = "app") -> Json:
        """An AIMDeployment."""
        found: Json = self.plane.request("GET", path(self.namespace, name))
        return found

    def find(self, kind: str, name: str) -> Json:
        """Another object of the namespace; ApiStatusError 404 when it is not there."""
        found: Json = self.plane.request("GET", f"{KINDS[kind].format(self.namespace)}/{name}")
        return found

    def exists(self, kind: str, name: str) -> bool:
        """Whether an object is there."""
        try:
            return bool(self.find(kind, name))
        except ApiStatusError as error:
            if error.code != http.client.NOT_FOUND:
                raise
            return False

    def all(self, kind: str, *, owner: str | None = None) -> list[Json]:
        """Objects of a kind, all or those labelled as an AIMDeployment's."""
        query = f"?labelSelector={DEPLOYMENT_LABEL}%3D{owner}" if owner else ""
        found: list[Json] = self.plane.request("GET", KINDS[kind].format(self.namespace) + query)["items"]
        return found

    def pods(self, name: str = "app") -> list[Json]:
        """Pods of an AIMDeployment that are not being deleted."""
        return [pod for pod in self.all("Pod", owner=name) if "deletionTimestamp" not in pod["metadata"]]

    def recipe(self, name: str) -> Json:
        """A cluster recipe."""
        found: Json = self.plane.request("GET", f"{GROUP}/aimrecipes/{name}")
        return found

    def events(self, name: str = "app") -> list[Json]:
        """Events about an AIMDeployment by whoever, oldest first."""
        about = [
            event
            for event in self.all("Event")
            if event["regarding"].get("kind") == "AIMDeployment" and event["regarding"].get("name") == name
        ]
        return sorted(about, key=lambda event: str(event["eventTime"]))

    # Waiting

    def wait(
        self, what: str, holds: Callable[[Json], Any], name: str = "app", *, timeout: float = PATIENCE
    ) -> Json:
        """The AIMDeployment as soon as something holds of it."""

        def look() -> Json | None:
            found = self.get(name)
            return found if holds(found) else None

        __tracebackhide__ = True
        found: Json = self.wait_for(f"{name}: {what}", look, timeout=timeout)
        return found

    def wait_ready(self, name: str = "app", *, timeout: float = PATIENCE) -> Json:
        """The AIMDeployment as soon as it is Ready for its present spec."""
        return self.wait("to be Ready", lambda obj: is_true(obj, "Ready"), name, timeout=timeout)

    def wait_reason(self, kind: str, expected: str, name: str = "app", *, timeout: float = PATIENCE) -> Json:
        """The AIMDeployment as soon as a condition has a reason, for its present spec."""
        return self.wait(
            f"{kind} to have reason {expected}",
            lambda obj: reason(obj, kind) == expected and is_current(obj),
            name,
            timeout=timeout,
        )

    def wait_for(self, what: str, holds: Callable[[], Any], *, timeout: float = PATIENCE) -> Any:
        """Anything else. A failure shows the tenant's deployments and what the operator wrote last."""
        __tracebackhide__ = True
        try:
            return self.plane.wait_for(holds, timeout, what)
        except WaitTimeoutError as error:
            told = str(error).split("\n", 1)[0]
        raise AssertionError(f"{told[:2000]}\n{self.summary()}")

    def seen(self) -> None:
        """Wait until the operator has seen all that was written to recipes and nodes so far, statuses included.

        It gets what happens to one kind in its order, so that a new recipe, of no model that anybody asks for, and a new
        node tell.
        """
        self.add_recipe(f"seen-{len(self.recipes)}", model="example/asked-by-nobody")
        self.add_node("mi210-4")
        self.wait_for("the operator to see recipes and GPUs as they are", self._is_seen)
        self._unseen = False

    def _is_seen(self) -> bool:
        """Whether the operator shows the tenant's recipes, and the GPUs that a fresh look at nodes and pods gives."""
        fresh = Tracker()
        fresh.replace_nodes(self.plane.request("GET", "/api/v1/nodes")["items"])
        fresh.replace_pods(decode_pod(pod)[0] for pod in self.plane.request("GET", "/api/v1/pods")["items"])
        there = {
            item["metadata"]["name"] for item in self.plane.request("GET", f"{GROUP}/aimrecipes")["items"]
        }
        wanted = {f'aim_recipe_info{{namespace="",aimrecipe="{name}",' for name in there & {*self.recipes}}
        for model, gpus in fresh.totals().items():
            wanted.add(f'aim_gpu_allocatable{{gpu_type="{model}"}} {gpus.allocatable}\n')
            wanted.add(f'aim_gpu_used{{gpu_type="{model}",by="other"}} {gpus.others}\n')
        shown = self.operator.get("/metrics")[1]
        return all(line in shown for line in wanted)

    def wait_new(self, kind: str, name: str, old: Json) -> Json:
        """An object of that name that is not the old one."""

        def look() -> Json | None:
            found = self.find(kind, name)
            return found if found["metadata"]["uid"] != old["metadata"]["uid"] else None

        found: Json = self.wait_for(f"{kind} {name} to come back", look)
        return found

    def wait_none(self, kind: str, owner: str, *, timeout: float = PATIENCE) -> None:
        """No object of a kind is labelled as an AIMDeployment's any more."""
        self.wait_for(f"no {kind} to be left", lambda: not self.all(kind, owner=owner), timeout=timeout)

    def summary(self) -> str:
        """Statuses of the tenant's deployments and the operator's last lines."""
        told: list[str] = []
        for obj in self.plane.request("GET", path(self.namespace))["items"][:5]:
            status = obj.get("status", {})
            told.append(f"--- {obj['metadata']['name']} generation {obj['metadata']['generation']}")
            told += [
                f"{c['type']}={c['status']} {c['reason']} ({c['observedGeneration']}): {c['message'][:300]}"
                for c in status.get("conditions", [])
            ]
            told += [f"recipe {status.get('recipe')}", f"ready {status.get('ready')}"]
        return "\n".join([*told, "--- operator", self.operator.log(15)])

    # Changing

    def update(self, name: str = "app", **spec: Any) -> Json:
        """Merge into the spec of an AIMDeployment."""
        changed: Json = self.plane.request("PATCH", path(self.namespace, name), {"spec": spec})
        return changed

    def change(self, kind: str, name: str, patch: Any, *, content_type: str | None = None) -> Json:
        """Patch another object of the namespace."""
        where = f"{KINDS[kind].format(self.namespace)}/{name}"
        changed: Json = self.plane.request("PATCH", where, patch, content_type=content_type)
        return changed

    def change_recipe(self, name: str, **spec: Any) -> None:
        """Merge into the spec of a cluster recipe."""
        self.plane.request("PATCH", f"{GROUP}/aimrecipes/{name}", {"spec": spec})

    def delete(self, kind: str, name: str) -> None:
        """Delete an object of the namespace at once."""
        where = (
            f"{KINDS[kind].format(self.namespace)}/{name}?gracePeriodSeconds=0&propagationPolicy=Background"
        )
        self.plane.request("DELETE", where)

    def remove(self, name: str = "app") -> None:
        """Delete an AIMDeployment."""
        self.plane.request("DELETE", path(self.namespace, name))

    def leave(self) -> None:
        """Remove everything this tenant brought, deployments first so that nothing is rendered anew."""
        self.plane.request("DELETE", path(self.namespace))
        for name in self.recipes:
            self._drop(f"{GROUP}/aimrecipes/{name}")
        for name in self.nodes:
            self._drop(f"/api/v1/nodes/{name}")

    def _drop(self, where: str) -> None:
        try:
            self.plane.request("DELETE", where)
        except ApiStatusError as error:
            if error.code != http.client.NOT_FOUND:
                raise

"""Objects for the tests of the cluster."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the Pod Security Standard of that name asks for, and a root file system that cannot be written."""
PORT = 8000


def container(image: str, *command: str, **more: Any) -> Json:
    """A restricted container that may use little."""
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, **more.pop("resources", {})}
    entry = {"command": list(command)} if command else {}
    return {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": RESTRICTED,
        "resources": resources,
        **entry,
        **more,
    }


def pod(name: str, namespace: str, main: Json, labels: dict[str, str] | None = None, **spec: Any) -> Json:
    """A pod of one container that ends at once when told to."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}},
        "spec": {"containers": [main], "terminationGracePeriodSeconds": 0, **spec},
    }


def job(name: str, namespace: str, main: Json) -> Json:
    """A Job that is tried once."""
    template = {"spec": {"containers": [main], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": template},
    }


def service(name: str, namespace: str) -> Json:
    """A Service in front of the pods of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": PORT}]},
    }


def engine(image: str, model: str, **more: Any) -> Json:
    """A container of the simulated engine as a real one would be run. Its image would run as root."""
    return container(
        image,
        *("vllm", "serve", model, f"--port={PORT}"),
        securityContext=RESTRICTED | {"runAsUser": 1000},
        ports=[{"name": "http", "containerPort": PORT}],
        readinessProbe={"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
        **more,
    )

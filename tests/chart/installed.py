"""A plane on which the chart is installed: hook Jobs complete by themselves there, so what they do is done beside it by the same code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.documented import NAMESPACE
from chart.helm import Json, on, rendered
from testbed import tools
from testbed.cluster import Cluster
from testbed.fixtures import WITHOUT_CLUSTER
from testbed.kubeconfig import write_kubeconfig
from testbed.plane import ControlPlane
from testbed.product import ROOT, condition, path

PATIENCE = 240
SECONDS = 400


@contextmanager
def plane_of_releases() -> Iterator[ControlPlane]:
    """A plane with GPUs, the release namespace, and a kubeconfig whose context is in it."""
    if os.environ.get(WITHOUT_CLUSTER) == "1":
        pytest.skip(f"needs a control plane ({WITHOUT_CLUSTER}=1)")
    with ControlPlane.start() as plane:
        plane.add_nodes("mi300x-8", "mi300x-8", "mi210-4", "cpu-only")
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        config = yaml.safe_load(plane.kubeconfig.read_text())
        config["contexts"][0]["context"]["namespace"] = NAMESPACE
        write_kubeconfig(plane.kubeconfig, config)
        yield plane


def environment(plane: Cluster, programs: Path) -> dict[str, str]:
    """Variables for a user's shell: kubectl, helm and aim-engine on PATH, the plane as the current cluster."""
    programs.mkdir(exist_ok=True)
    for name, target in tools.ensure(("kubectl", "helm")).items():
        link = programs / name
        if not link.exists():
            link.symlink_to(target)
    ours = programs / "aim-engine"
    ours.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "operator"} exec {sys.executable} -m aim_engine "$@"\n')
    ours.chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))},
        "PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": str(plane.kubeconfig), "HOME": str(programs.parent),
        "no_proxy": "127.0.0.1,localhost",
    }  # fmt: skip


def hooks(plane: Cluster, release: str, namespace: str = NAMESPACE) -> list[Json]:
    """The hook objects of a release's last revision."""
    return rendered(on(plane, "get", "hooks", release, "--namespace", namespace).stdout)


def select(plane: Cluster, release: str, directory: Path, namespace: str = NAMESPACE) -> str:
    """Do what the release's selector does in its Job, with the Job's own arguments and files; its log."""
    found = {
        (obj["kind"], obj["metadata"]["name"]): obj for obj in reversed(hooks(plane, release, namespace))
    }
    name = f"{release}-recipe-selector"
    request = directory / "request"
    request.mkdir(exist_ok=True)
    for file, content in found["ConfigMap", name]["data"].items():
        (request / file).write_text(content)
    job = next(obj for obj in hooks(plane, release, namespace) if obj["kind"] == "Job" and obj["metadata"]["name"] == name and obj["spec"]["template"]["spec"]["containers"][0]["name"] == "selector")  # fmt: skip
    pod = job["spec"]["template"]["spec"]
    log = ""
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        words = [word.replace("/request/", f"{request}/") for word in container["args"]]
        log += aim_engine(plane, *words)
    return log


def aim_engine(plane: Cluster, *words: str) -> str:
    """Run `aim-engine` against a plane as its administrator."""
    done = subprocess.run(
        [sys.executable, "-m", "aim_engine", *words], capture_output=True, text=True, timeout=SECONDS,
        env={**os.environ, "KUBECONFIG": str(plane.kubeconfig), "PYTHONPATH": str(ROOT / "operator"), "HF_HUB_OFFLINE": "1", "no_proxy": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def uninstall_all(plane: Cluster) -> None:
    """Uninstall every release, the operator's last."""
    listed: list[Mapping[str, Any]] = yaml.safe_load(
        on(plane, "list", "--all-namespaces", "-o", "json").stdout
    )
    names = [(each["namespace"], each["name"]) for each in listed]
    for namespace, name in sorted(names, key=lambda each: each[1] == "aim-engine"):
        on(plane, "uninstall", name, "--namespace", namespace, "--wait")


def ready(plane: Cluster, name: str, namespace: str = NAMESPACE) -> Json:
    """The AIMDeployment, once it serves."""

    def serving() -> Json | None:
        obj: Json = plane.request("GET", path(namespace, name))
        return obj if condition(obj, "Ready").get("status") == "True" else None

    found = plane.wait_for(serving, PATIENCE, f"{namespace}/{name} to be ready")
    assert found
    return found

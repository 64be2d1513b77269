"""A small cluster as files, and the command line run against it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aim_engine.cli import main
from aim_engine.cli.snapshot_file import write_snapshot
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.facts import Place
from aim_engine.selection import CatalogueFacts
from unit.selection_world import QWEN, node_object

Json = dict[str, Any]
TAKEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GROUP = "aim.engine.amd.com/v1alpha1"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    """Runs commands and catches what they print."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: object) -> Ended:
        try:
            code = main([str(word) for word in words])
        except SystemExit as ended:  # argparse's own way out
            code = int(ended.code or 0)
        printed = self.capsys.readouterr()
        return Ended(code, printed.out, printed.err)


def node(name: str, **more: Any) -> tuple[str, Json]:
    return "Node", {"apiVersion": "v1", **node_object(name, **more)}


def pod(name: str, on: str, gpus: int, *, owner: str | None = None, secret: str = "") -> tuple[str, Json]:
    """A running pod that holds GPUs; its environment names a secret that must not leave the cluster."""
    labels = {"app": name, **({"aim.engine.amd.com/deployment": owner} if owner else {})}
    container = {
        "name": "engine",
        "env": [{"name": "TOKEN", "value": secret}],
        "resources": {"limits": {"amd.com/gpu": str(gpus)}, "requests": {"cpu": "4", "memory": "16Gi"}},
    }
    return "Pod", {
        "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "team-a", "uid": f"pod-{name}", "labels": labels,
            "annotations": {"note": secret}, "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"nodeName": on, "containers": [container]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip


def recipe(
    name: str, *, model: str = QWEN, gpus: int = 1, gpu: str = "MI300X", **spec: Any
) -> tuple[str, Json]:
    body = {"modelID": model, "hardware": {"gpuModel": gpu, "gpuCount": gpus}, "precision": "bf16"}
    wire = {**body, "engineArgs": {"max-model-len": 8192}, **spec}
    return "AIMRecipe", {"apiVersion": GROUP, "kind": "AIMRecipe", "metadata": {"name": name}, "spec": wire}


def deployment(name: str, namespace: str = "team-a", **spec: Any) -> tuple[str, Json]:
    return "AIMDeployment", {
        "apiVersion": GROUP,
        "kind": "AIMDeployment",
        "metadata": {
            "name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1,
            "creationTimestamp": "2026-02-01T00:00:00Z",
        },
        "spec": {"model": {"id": QWEN}, **spec},
    }  # fmt: skip


def config_map(name: str, text: str, *, labelled: bool = True) -> tuple[str, Json]:
    labels = {"aim.engine.amd.com/recipe": "true"} if labelled else {}
    return "ConfigMap", {
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "team-a", "uid": f"cm-{name}", "labels": labels},
        "data": {"recipe.yaml": text, "password": "hunter2"},
    }


def snapshot(folder: Path, *objects: tuple[str, Json], config: OperatorConfig | None = None) -> Path:
    """A snapshot file of these objects."""
    path = folder / "snapshot.yaml"
    lines = write_snapshot(
        objects, config or OperatorConfig(), CatalogueFacts(), [Place(QWEN)], TAKEN, "0.1.0"
    )
    path.write_text("".join(lines))
    return path

"""What the doctor finds in clusters of all states, and that it finds it instead of failing itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.cli.checks import Cluster, Finding, Forbidden, Health, findings
from aim_engine.reconcile.config import OperatorConfig
from unit.cli_world import Json, config_map, node, pod, recipe
from unit.operator_world import running
from unit.selection_world import UNHURRIED

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CRDS = frozenset(
    {"aimdeployments.aim.engine.amd.com", "aimrecipes.aim.engine.amd.com", "widgets.example.com"}
)
REFUSED = Forbidden("GET /x: forbidden")
Objects = list[tuple[str, Json]]


def lease(age: float = 1, **spec: Any) -> Json:
    renewed = (NOW - timedelta(seconds=age)).isoformat()
    return {"spec": {"holderIdentity": "op-1", "leaseDurationSeconds": 15, "renewTime": renewed, **spec}}


def cluster(*objects: tuple[str, Json], **more: Any) -> Cluster:
    healthy = Cluster(
        crds=CRDS, denied=(), lease=lease(), webhooks=("aim-engine",), objects=objects, config=OperatorConfig(), namespace="aim-engine",
    )  # fmt: skip
    return replace(healthy, **more)


def bare(name: str, **labels: str) -> tuple[str, Json]:
    """A node that offers no GPU."""
    return "Node", {
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def unknown_gpu(name: str) -> tuple[str, Json]:
    kind, obj = node(name)
    obj["metadata"]["labels"] = {"amd.com/gpu.device-id": "ffff"}
    return kind, obj


def broken_record() -> Objects:
    kind, record = next(
        (kind, obj) for kind, obj in running(node("gpu-1"), recipe("small")) if kind == "ControllerRevision"
    )
    return [(kind, {**record, "data": {"renderer": 1}})]


SMALL = recipe("small")
WHOLE, SLICED = node("gpu-1"), node("cpx-1", gpus=64, partition="cpx_nps4")
OK, WARNING, FAILED = Health.OK, Health.WARNING, Health.FAILED

CASES: dict[str, tuple[Cluster, str, Health, str, str | None]] = {
    "all well": (cluster(WHOLE, SMALL), "capacity", OK, "free GPUs: 8 MI300X", None),
    "the CRDs are missing": (cluster(WHOLE, crds=frozenset()), "CRDs", FAILED, "missing: aimdeployments.", "kubectl apply"),
    "one CRD is missing": (cluster(WHOLE, crds=frozenset(sorted(CRDS)[:1])), "CRDs", FAILED, "missing: aimrecipes.", "kubectl apply"),
    "CRDs may not be listed": (cluster(WHOLE, SMALL, crds=REFUSED), "CRDs", WARNING, "not looked at: GET /x: forbidden", "administrator"),
    "rights may not be asked for": (cluster(WHOLE, SMALL, denied=REFUSED), "RBAC", WARNING, "not looked at", "administrator"),
    "rights are missing": (cluster(WHOLE, SMALL, denied=("list nodes", "list pods")), "RBAC", FAILED, "may not list nodes, list pods", "kubectl"),
    "webhooks may not be listed": (cluster(WHOLE, SMALL, webhooks=REFUSED), "webhook", WARNING, "not looked at", "administrator"),
    "no webhook": (cluster(WHOLE, SMALL, webhooks=()), "webhook", OK, "none is installed", None),
    "the Lease may not be read": (cluster(WHOLE, SMALL, lease=REFUSED), "operator", WARNING, "not looked at", "administrator"),
    "no Lease": (cluster(WHOLE, SMALL, lease=None), "operator", FAILED, "no operator holds the Lease in namespace aim-engine", "--operator-namespace"),
    "a Lease that was given back": (cluster(WHOLE, SMALL, lease=lease(holderIdentity="")), "operator", FAILED, "no operator holds", "get pods"),
    "an empty Lease": (cluster(WHOLE, SMALL, lease={}), "operator", FAILED, "no operator holds", "get pods"),
    "an old Lease": (cluster(WHOLE, SMALL, lease=lease(age=300)), "operator", FAILED, "op-1 has not renewed the Lease for 300 s", "kubectl -n aim-engine logs"),
    "a configuration that is none": (
        cluster(WHOLE, SMALL, config="ConfigMap a/b: wrong"), "configuration", FAILED, "ConfigMap a/b: wrong", "correct it",
    ),
    "no nodes": (cluster(SMALL), "device plugin", FAILED, "no node offers amd.com/gpu", "add nodes"),
    "nodes without GPUs": (cluster(bare("cpu-1"), SMALL), "device plugin", FAILED, "no node offers amd.com/gpu", "add nodes"),
    "GPUs without device plugin": (
        cluster(bare("gpu-2", **{"feature.node.kubernetes.io/pci-1002.present": "true"}), WHOLE, SMALL), "device plugin", FAILED,
        "AMD GPUs without the resource amd.com/gpu on gpu-2", "install AMD's GPU operator",
    ),
    "whole and partitioned GPUs of one model": (cluster(WHOLE, SLICED, SMALL), "capacity", OK, "free GPUs: 8 MI300X, 64 MI300X/cpx_nps4", None),
    "GPUs of a cordoned node are not free": (
        cluster(node("gpu-1", unschedulable=True), SMALL), "capacity", WARNING, "no GPU is free", "wait",
    ),
    "a cordoned node": (cluster(node("gpu-1", unschedulable=True), SMALL), "capacity", WARNING, "node gpu-1 takes no pods: it is cordoned", None),
    "many cordoned nodes": (
        cluster(*(node(f"gpu-{i}", unschedulable=True) for i in range(9)), SMALL), "capacity", WARNING, "4 more nodes take no pods", None,
    ),
    "all GPUs in use": (cluster(WHOLE, pod("other", "gpu-1", 8), SMALL), "capacity", WARNING, "no GPU is free", "wait"),
    "unhealthy GPUs": (
        cluster(node("gpu-1", unhealthy=3), SMALL), "device plugin", WARNING, "node gpu-1: 3 of 8 amd.com/gpu are unhealthy", "log of AMD's device plugin",
    ),
    "labels that nobody knows": (cluster(unknown_gpu("gpu-9"), SMALL), "labels", WARNING, "node gpu-9: device id 'ffff' is unknown", None),
    "no recipes": (cluster(WHOLE), "recipes", FAILED, "there are none", "kubectl apply"),
    "recipes of other GPUs": (
        cluster(node("gpu-1", gpu="MI355X"), SMALL), "recipes", WARNING, "1, of which 0 are for GPUs of this cluster", "add recipes",
    ),
    "recipes of another partition": (cluster(SLICED, SMALL), "recipes", WARNING, "1, of which 0 are for GPUs of this cluster", "add recipes"),
    "a recipe that cannot be read": (
        cluster(WHOLE, SMALL, recipe("odd", precision="fp5")), "recipes", WARNING, "cannot be read: odd", "recipes validate",
    ),
    "a ConfigMap that is no recipe": (
        cluster(WHOLE, SMALL, config_map("mine", "a: [")), "recipes", WARNING, "ConfigMap team-a/mine is no recipe", None,
    ),
    "a record that is none": (
        cluster(WHOLE, SMALL, *running(WHOLE, SMALL)[:1], *broken_record()), "records", FAILED, "namespace team-a: ControllerRevision", "delete controllerrevision",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_state_of_a_cluster_has_its_finding(
    case: tuple[Cluster, str, Health, str, str | None],
) -> None:
    looked_at, check, health, message, remedy = case
    found = list(findings(looked_at, NOW))
    matching = [each for each in found if (each.check, each.health) == (check, health)]
    told = next((each for each in matching if message in each.message), None)
    assert told, found
    assert told.remedy is None if remedy is None else remedy in (told.remedy or "")
    rest: list[Finding] = [each for each in found if each.health is FAILED and each.check != check]
    assert rest == [] or message.startswith("missing"), "one fault is told as one"


def test_a_running_deployment_holds_its_gpus() -> None:
    found = list(findings(cluster(WHOLE, SMALL, *running(WHOLE, SMALL)), NOW))
    assert [each.message for each in found if each.check == "capacity"] == ["free GPUs: 7 MI300X"]
    assert {each.health for each in found} == {OK}


NODES = st.builds(
    lambda name, gpu, partition, ready, cordoned, sick: node(
        name, gpu=gpu, gpus=8, partition=partition, ready=ready, unschedulable=cordoned, unhealthy=sick
    ),
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["MI210", "MI300X", "MI355X"]),
    st.sampled_from([None, "spx_nps1", "cpx_nps4", "dpx_nps2", "odd"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 8),
)


@UNHURRIED
@given(st.lists(NODES, unique_by=lambda each: each[1]["metadata"]["name"]), st.sets(st.integers(0, 2)))
def test_any_cluster_has_findings(nodes: Objects, recipes: set[int]) -> None:
    there = [SMALL, recipe("odd", precision="fp5"), recipe("new", gpu="MI355X")]
    found = list(findings(cluster(*nodes, *(there[i] for i in recipes)), NOW))
    assert {"CRDs", "RBAC", "operator", "webhook", "device plugin", "recipes"} <= {
        each.check for each in found
    }

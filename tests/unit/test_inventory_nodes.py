"""Nodes: GPU model, partition and usability from every form of label, and odd nodes that must not raise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.api.deployment import Toleration
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.inventory import GPUGroup, NodeFacts, Taint, every_gpu, read_node, tolerates


def node(labels: dict[str, Any] | None = None, gpus: Any = "8", **status: Any) -> dict[str, Any]:
    amounts = {"amd.com/gpu": gpus, "cpu": "96", "memory": "1Ti", "pods": "110"}
    return {
        "metadata": {"name": "gpu-1", "labels": labels},
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
            **status,
        },
    }


def resource_node(labels: dict[str, str], **resources: str) -> dict[str, Any]:
    amounts = {f"amd.com/{name}": value for name, value in resources.items()}
    return node(labels, allocatable=amounts, capacity=amounts)


@pytest.mark.parametrize(
    ("labels", "model"),
    [
        ({"amd.com/gpu.device-id": "74a1"}, "MI300X"),
        ({"beta.amd.com/gpu.device-id": "74a5"}, "MI325X"),
        ({"amd.com/gpu.device-id.740f": "4"}, "MI210"),
        ({"beta.amd.com/gpu.device-id.75a3": "8"}, "MI355X"),
        ({"amd.com/gpu.device-id.74a1": "4", "amd.com/gpu.device-id.74a9": "4"}, "MI300X"),
        ({"amd.com/gpu.device-id": "74a1", "amd.com/gpu.product-name": "AMD_Instinct_MI210"}, "MI300X"),
        ({"amd.com/gpu.product-name": "AMD_Instinct_MI300X"}, "MI300X"),
        ({"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, "MI300X"),
        ({"amd.com/gpu.device-id": "ffff", "amd.com/gpu.product-name": "AMD_Instinct_MI355X"}, "MI355X"),
        ({"feature.node.kubernetes.io/amd-gpu-mi300x": "true"}, "MI300X"),
        ({"site.example.com/gpu": "big"}, "MI325X"),
    ],
)
def test_the_gpu_model_is_read_from_every_form_of_label(labels: dict[str, str], model: str) -> None:
    facts = read_node(node(labels), {"site.example.com/gpu=big": "MI325X"})
    assert facts.gpu_model == model
    assert facts.groups == (GPUGroup(model, None, "amd.com/gpu", 8, 8),)


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (None, "node labeller"),
        ({"amd.com/gpu.family": "AI"}, "node labeller"),
        ({"amd.com/gpu.device-id": "ffff"}, "device id 'ffff' is unknown to the catalogue"),
        ({"amd.com/gpu.device-id.74a1": "4", "amd.com/gpu.device-id.74a5": "4"}, "several kinds"),
        ({"amd.com/gpu.device-id.74a1": "4", "amd.com/gpu.device-id.7448": "1"}, "several kinds"),
        ({"amd.com/gpu.product-name": "AMD_Radeon_Graphics"}, "unknown to the catalogue"),
        ({"amd.com/gpu.product-name": "Instinct-MI300X-rev2"}, "cannot select"),
    ],
)
def test_gpus_that_cannot_be_recognised_leave_a_note(labels: dict[str, str] | None, note: str) -> None:
    facts = read_node(node(labels))
    assert facts.gpu_model is None
    assert facts.groups[0].gpu_model is None
    assert any(note in problem for problem in facts.problems), facts.problems


@pytest.mark.parametrize(
    ("labels", "partition"),
    [
        ({}, None),
        ({"amd.com/gpu.compute-memory-partition": "spx_nps1"}, None),
        ({"amd.com/gpu.compute-memory-partition": "cpx_nps4"}, "cpx_nps4"),
        ({"amd.com/compute-memory-partition": "dpx_nps1"}, "dpx_nps1"),
        ({"amd.com/gpu.compute-memory-partition": "odd"}, "odd"),
    ],
)
def test_the_partition_mode_comes_from_either_label(labels: dict[str, str], partition: str | None) -> None:
    facts = read_node(node({"amd.com/gpu.device-id": "74a1", **labels}, "64"))
    assert facts.groups == (GPUGroup("MI300X", partition, "amd.com/gpu", 64, 64),)
    assert bool(facts.problems) == (partition == "odd")


def test_the_mixed_strategy_gives_one_group_per_resource_name() -> None:
    facts = read_node(resource_node({"amd.com/gpu.device-id": "74a1"}, spx_nps1="4", cpx_nps4="32"))
    assert facts.groups == (
        GPUGroup("MI300X", "cpx_nps4", "amd.com/cpx_nps4", 32, 32),
        GPUGroup("MI300X", None, "amd.com/spx_nps1", 4, 4),
    )


def test_unhealthy_gpus_show_as_capacity_above_allocatable() -> None:
    obj = node({"amd.com/gpu.device-id": "74a1"}, allocatable={"amd.com/gpu": "7"})
    (group,) = read_node(obj).groups
    assert (group.capacity, group.allocatable) == (8, 7)


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"metadata": None, "spec": None, "status": None},
        {"metadata": {"name": "n", "labels": None}, "status": {"allocatable": None, "conditions": None}},
        node({"amd.com/gpu.device-id": "74a1"}, "0"),
        node({"amd.com/gpu.device-id": "74a1"}, 0),
    ],
)
def test_nodes_without_gpus_have_no_groups_and_raise_nothing(obj: dict[str, Any]) -> None:
    assert read_node(obj).groups == ()


@pytest.mark.parametrize(("quantity", "gpus"), [("1e3", 1000), ("8000m", 8), (8, 8)])
def test_odd_quantities_are_read(quantity: Any, gpus: int) -> None:
    assert read_node(node({"amd.com/gpu.device-id": "74a1"}, quantity)).groups[0].allocatable == gpus


@pytest.mark.parametrize("quantity", ["eight", "", "-8", "1e99", [8], None, True])
def test_quantities_that_are_none_count_as_nothing_with_a_note(quantity: Any) -> None:
    facts = read_node(node({"amd.com/gpu.device-id": "74a1"}, quantity))
    assert facts.groups == ()
    assert any("counts as 0" in problem for problem in facts.problems)


def test_readiness_cordon_deletion_and_blocking_taints_are_read() -> None:
    obj = node({"amd.com/gpu.device-id": "74a1"}, conditions=[{"type": "Ready", "status": "Unknown"}])
    obj["spec"] = {
        "unschedulable": True,
        "taints": [
            {"key": "amd-gpu-unhealthy", "effect": "NoSchedule"},
            {"key": "soft", "effect": "PreferNoSchedule"},
        ],
    }
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    facts = read_node(obj)
    assert (facts.ready, facts.unschedulable, facts.deleting) == (False, True, True)
    assert facts.taints == (Taint("amd-gpu-unhealthy", "", "NoSchedule"),)


@pytest.mark.parametrize(
    ("toleration", "taint", "tolerated"),
    [
        (None, Taint("amd.com/gpu", "", "NoSchedule"), True),
        (None, Taint("a", "", "NoSchedule"), False),
        (Toleration(operator="Exists"), Taint("a", "b", "NoExecute"), True),
        (Toleration(key="a", operator="Exists"), Taint("a", "b", "NoSchedule"), True),
        (Toleration(key="a", value="b"), Taint("a", "b", "NoSchedule"), True),
        (Toleration(key="a", operator="Equal", value="c"), Taint("a", "b", "NoSchedule"), False),
        (Toleration(key="a", operator="Exists", effect="NoExecute"), Taint("a", "", "NoSchedule"), False),
    ],
)
def test_taints_are_tolerated_as_the_scheduler_does(
    toleration: Toleration | None, taint: Taint, tolerated: bool
) -> None:
    assert tolerates((toleration,) if toleration else (), taint) is tolerated


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "metadata": st.fixed_dictionaries({"name": _JSON, "labels": _JSON}),
            "spec": st.fixed_dictionaries({"taints": _JSON, "unschedulable": _JSON}),
            "status": st.fixed_dictionaries(
                {
                    "allocatable": _JSON | st.fixed_dictionaries({"amd.com/gpu": _JSON, "cpu": _JSON, "pods": _JSON}),
                    "capacity": _JSON,
                    "conditions": _JSON,
                }
            ),
        }
    )
)  # fmt: skip
def test_no_node_raises(obj: dict[str, Any]) -> None:
    facts = read_node(obj)
    assert isinstance(facts, NodeFacts)
    assert all(group.allocatable >= 0 for group in facts.groups)


def test_the_cluster_that_has_everything_has_every_gpu_those_without_a_device_id_too() -> None:
    assert {key.gpu_model for key in every_gpu().pools} == set(gpu_catalog())

"""Pods: effective requests as the scheduler computes them, and odd pods that must not raise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.inventory import PodUsage, read_pod

GIB = 2**30


def container(cpu: str = "1", memory: str = "1Gi", gpus: str = "0", **more: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory, "amd.com/gpu": gpus}}, **more}


def pod(phase: str = "Running", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": "u",
            "namespace": "team-a",
            "name": "p",
            "labels": {"aim.engine.amd.com/deployment": "qwen"},
        },
        "spec": {"nodeName": "gpu-1", **spec},
        "status": {"phase": phase},
    }


def amounts(usage: PodUsage) -> tuple[int, int, int]:
    return usage.gpus.get("amd.com/gpu", 0), usage.cpu_milli, usage.memory_bytes // GIB


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [container(gpus="4"), container("500m")]}, (4, 1500, 2)),
        ({"containers": []}, (0, 0, 0)),
        ({"containers": [container("1e3", "1e0", "1")]}, (1, 1_000_000, 0)),
        ({"containers": [container("2")], "initContainers": [container("8", "4Gi", "1")]}, (1, 8000, 4)),
        (
            {"containers": [container("2")], "initContainers": [container("3", restartPolicy="Always"), container("1")]},
            (0, 5000, 2),
        ),
        (
            {"containers": [container("1")], "initContainers": [container("3", restartPolicy="Always"), container("9")]},
            (0, 12000, 2),
        ),
        (
            {"containers": [container("1")], "initContainers": [container("9"), container("3", restartPolicy="Always")]},
            (0, 9000, 2),
        ),
        ({"containers": [container()], "overhead": {"cpu": "250m", "memory": "1Gi"}}, (0, 1250, 2)),
        (
            {
                "containers": [container(gpus="2")],
                "resources": {"requests": {"cpu": "4"}},
                "overhead": {"cpu": "1"},
            },
            (2, 5000, 1),
        ),
        ({"containers": [{"resources": {"limits": {"amd.com/gpu": 8, "cpu": "4"}}}]}, (8, 4000, 0)),
        ({"containers": [{}, {"resources": None}]}, (0, 0, 0)),
    ],
)  # fmt: skip
def test_effective_requests_are_those_of_the_scheduler(
    spec: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    assert amounts(read_pod(pod(**spec))) == expected


def test_partition_resources_are_counted_by_their_name() -> None:
    usage = read_pod(
        pod(containers=[{"resources": {"requests": {"amd.com/cpx_nps4": "2", "nvidia.com/gpu": "1"}}}])
    )
    assert dict(usage.gpus) == {"amd.com/cpx_nps4": 2}


def test_owner_node_and_end_are_read() -> None:
    usage = read_pod(pod())
    assert (usage.owner, usage.node, usage.terminal, usage.terminating) == (
        ("team-a", "qwen"),
        "gpu-1",
        False,
        False,
    )
    assert read_pod(pod("Failed")).terminal
    assert read_pod(pod("Succeeded")).terminal
    assert not read_pod(pod("Unknown")).terminal


@pytest.mark.parametrize("quantity", ["many", "-1", None, [], "1e99", True])
def test_odd_quantities_count_as_nothing_with_a_note(quantity: Any) -> None:
    usage = read_pod(pod(containers=[{"resources": {"requests": {"cpu": quantity}}}]))
    assert usage.cpu_milli == 0
    assert "cpu" in usage.problems[0]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_CONTAINERS = (
    st.lists(st.fixed_dictionaries({"resources": _JSON, "restartPolicy": _JSON}), max_size=3) | _JSON
)


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "metadata": _JSON,
            "spec": st.fixed_dictionaries(
                {
                    "nodeName": _JSON,
                    "containers": _CONTAINERS,
                    "initContainers": _CONTAINERS,
                    "overhead": _JSON,
                    "resources": _JSON,
                }
            ),
            "status": _JSON,
        }
    )
)
def test_no_pod_raises(obj: dict[str, Any]) -> None:
    usage = read_pod(obj)
    assert usage.cpu_milli >= 0
    assert usage.memory_bytes >= 0

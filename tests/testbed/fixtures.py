"""Pytest plugin: one control plane for each session (each worker of a parallel run) and a namespace for each test.

Add ``pytest_plugins = ["testbed.fixtures"]`` to the top conftest.py.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from testbed.plane import ControlPlane

WITHOUT_CLUSTER = "AIM_TESTS_WITHOUT_CLUSTER"
PROGRAMS = frozenset({"e2e", "chart", "cluster"})
"""Directories of tests that start control planes, nodes or helm."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a control plane, so that ``-m "not cluster"`` leaves the quick ones.

    All of ``tests/e2e`` does, some with planes of their own; AIM_TESTS_WITHOUT_CLUSTER=1 skips them, counted. A test among
    a dozen programs that share two cores is tried again when it fails, twice at most, and told under RERUN with its traceback.
    """
    without = os.environ.get(WITHOUT_CLUSTER) == "1"
    for item in items:
        directory, plane = item.path.parent.name, "plane" in getattr(item, "fixturenames", ())
        if plane or directory in PROGRAMS:
            item.add_marker(pytest.mark.flaky(reruns=2))
        if plane or directory == "e2e":
            item.add_marker("cluster")
            if without:
                item.add_marker(pytest.mark.skip(reason=f"needs a control plane ({WITHOUT_CLUSTER}=1)"))


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A whole control plane without nodes, shared by the tests of the session.

    A machine that cannot provide one makes the tests fail; they are skipped only where the user said so by
    AIM_TESTS_WITHOUT_CLUSTER=1.
    """
    try:
        running = ControlPlane.start()
    except Exception as error:
        pytest.fail(f"the control plane could not be started: {error}", pytrace=False)
    with running:
        yield running


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    """A new namespace in which pods can be created; deleted, without waiting, after the test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    plane.wait_for(lambda: plane.request("GET", account), 180, f"the default ServiceAccount of {name}")
    yield name
    plane.request("DELETE", f"/api/v1/namespaces/{name}")

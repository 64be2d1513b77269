"""One operator and its engines for each session (each worker), and a tenant with own nodes for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.support import Tenant
from testbed.engines import EngineFleet
from testbed.plane import ControlPlane
from testbed.product import Operator, install


@pytest.fixture(scope="session")
def operator(plane: ControlPlane) -> Iterator[Operator]:
    """The product as installed on the session's plane; recipe statuses are written at once instead of lazily,
    and a node is kept after seconds instead of minutes for who waits."""
    install(plane)
    with Operator.start(plane, recipeStatusSeconds=1, patienceSeconds=6) as running:
        yield running


@pytest.fixture(scope="session")
def fleet(plane: ControlPlane) -> Iterator[EngineFleet]:
    """Simulated engines in the session's pods."""
    with EngineFleet(plane) as engines:
        yield engines


@pytest.fixture
def tenant(plane: ControlPlane, operator: Operator, namespace: str) -> Iterator[Tenant]:
    """A namespace with nodes of its own. The operator must have survived the test."""
    corner = Tenant(plane, operator, namespace)
    yield corner
    corner.leave()
    assert operator.leads(), f"the operator is no longer up:\n{operator.log()}"

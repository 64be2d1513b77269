"""One operator and its engines for each session (each worker), and a tenant with own nodes for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from admission.corpus import LABELS
from e2e.support import Tenant, survived
from testbed.engines import EngineFleet
from testbed.plane import ControlPlane
from testbed.product import Operator, install
from testbed.validator import Validator


@pytest.fixture(scope="session")
def operator(plane: ControlPlane) -> Iterator[Operator]:
    """The product as installed on the session's plane; recipe statuses are written at once instead of lazily,
    and a node is kept after seconds instead of minutes for who waits. It compares its caches with fresh lists so seldom
    that in a test only an event can have told it of something."""
    install(plane)
    with Operator.start(plane, recipeStatusSeconds=1, patienceSeconds=10, resyncSeconds=3600) as running:
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
    survived(operator)


@pytest.fixture(scope="module")
def guarded() -> Iterator[ControlPlane]:
    """A plane of the module's own, with the shipped recipes and the namespaces of the corpus: its validator would
    judge everybody's objects."""
    with ControlPlane.start(kwok=False, scheduler=False) as running:
        install(running)
        for name, labels in LABELS.items():
            running.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        yield running


@pytest.fixture(scope="module")
def validator(guarded: ControlPlane) -> Iterator[Validator]:
    """One replica."""
    with Validator.start(guarded) as running:
        yield running

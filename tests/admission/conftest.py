"""One plane with one validator for all tests of this folder that need them, and nobody else on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from admission.corpus import LABELS
from testbed.plane import ControlPlane
from testbed.product import install
from testbed.validator import Validator


@pytest.fixture(scope="module")
def guarded() -> Iterator[ControlPlane]:
    """A plane with the shipped recipes and the namespaces of the corpus."""
    with ControlPlane.start(kwok=False, scheduler=False, controller_manager=False) as running:
        install(running)
        for name, labels in LABELS.items():
            running.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        yield running


@pytest.fixture(scope="module")
def validator(guarded: ControlPlane) -> Iterator[Validator]:
    with Validator.start(guarded) as running:
        yield running

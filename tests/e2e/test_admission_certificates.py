"""Certificates of the gate: made, rotated and replaced without one good request failing."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from testbed.plane import ControlPlane
from testbed.product import NAMESPACE, deployment, install, path
from testbed.validator import CONFIGURATION, NAME, Replica, Validator

SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}-tls"
ROTATE = "aim.engine.amd.com/rotate-certificates"
REQUESTS = 1000
PATIENCE = 240


@pytest.fixture(scope="module")
def guarded() -> Iterator[ControlPlane]:
    with ControlPlane.start(kwok=False, scheduler=False) as running:
        install(running, recipes=())
        running.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team-a"}})
        yield running


@pytest.fixture(scope="module")
def validator(guarded: ControlPlane) -> Iterator[Validator]:
    with Validator.start(guarded, replicas=2, rotation_overlap_seconds=12, drain_seconds=5) as running:
        yield running


class Load:
    """Good objects, created as dry runs from several threads until it is enough and the rest of the test is done."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.good = 0
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._create, args=(n,), daemon=True) for n in range(4)]

    def _create(self, number: int) -> None:
        while not self._done.is_set() or self.good < REQUESTS:
            obj = deployment(f"good-{number}", "team-a")
            try:
                self.plane.request("POST", f"{path('team-a')}?dryRun=All", obj)
            except Exception as error:
                with self._lock:
                    self.failures.append(str(error))
            else:
                with self._lock:
                    self.good += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(300)


def served(replica: Replica) -> bytes:
    """The certificate that a replica shows to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", replica.port), 60) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def rotate(plane: ControlPlane, validator: Validator) -> None:
    """Force a rotation and wait until every replica serves the new certificate."""
    before = {replica.name: served(replica) for replica in validator.replicas}
    plane.request("PATCH", SECRET, {"metadata": {"annotations": {ROTATE: "now"}}})
    plane.wait_for(
        lambda: all(served(replica) != before[replica.name] for replica in validator.replicas),
        PATIENCE,
        "all replicas to serve a new certificate",
    )
    assert len({served(replica) for replica in validator.replicas}) == 1


def test_no_good_request_fails_during_rotations_and_a_rolling_restart(
    guarded: ControlPlane, validator: Validator
) -> None:
    with Load(guarded) as load:
        rotate(guarded, validator)
        rotate(guarded, validator)
        for old in list(validator.replicas):
            new = validator.add()
            guarded.wait_for(lambda each=new: each.ready, PATIENCE, "the new replica to be ready")  # type: ignore[misc]
            validator.end(old)
    assert load.failures == []
    assert load.good >= REQUESTS


def test_a_lost_or_spoilt_secret_is_made_good(guarded: ControlPlane, validator: Validator) -> None:
    for spoil in ({"data": None}, {"data": {"tls.crt": "bm9uc2Vuc2U="}}):
        before = served(validator.replicas[0])
        guarded.request("PATCH", SECRET, spoil)
        guarded.wait_for(lambda b=before: served(validator.replicas[0]) != b, PATIENCE, "a new certificate")  # type: ignore[misc]
        guarded.wait_for(lambda: accepted(guarded), PATIENCE, "the API server to trust it")


def accepted(plane: ControlPlane) -> bool:
    try:
        plane.request("POST", f"{path('team-a')}?dryRun=All", deployment("probe", "team-a"))
    except Exception:
        return False
    return True


def test_a_hand_edit_of_the_webhooks_is_undone(guarded: ControlPlane, validator: Validator) -> None:
    edited = validator.webhooks()
    edited[0]["failurePolicy"] = "Ignore"
    guarded.request("PATCH", CONFIGURATION, {"webhooks": edited})
    guarded.wait_for(
        lambda: validator.webhooks()[0]["failurePolicy"] == "Fail",
        PATIENCE,
        "the webhook to be as configured",
    )


def test_at_rest_nothing_is_written(guarded: ControlPlane, validator: Validator) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:{NAME}"

    def rests() -> bool:
        """Three seconds without a write, in which the replicas did not stand still."""
        mark = guarded.audit.mark()
        end = time.monotonic() + 3
        while (looked := time.monotonic()) < end:
            validator.metrics()
            if time.monotonic() - looked > 1.5:
                return False
            time.sleep(0.1)
        return guarded.audit.writes(mark, user=user) == []

    guarded.wait_for(rests, PATIENCE, "what the tests before began to end")
    mark = guarded.audit.mark()
    time.sleep(4)
    assert guarded.audit.writes(mark, user=user) == []
    assert guarded.audit.forbidden(mark) == []

"""Certificates of the gate: made, rotated and replaced without one good request failing; and what a server must survive."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from testbed.plane import ControlPlane
from testbed.product import NAMESPACE, deployment, install, path
from testbed.validator import CONFIGURATION, NAME, Replica, Validator

SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}-tls"
ROTATE = "aim.engine.amd.com/rotate-certificates"
REQUESTS = 1000
PATIENCE = 40


@pytest.fixture(scope="module")
def guarded() -> Iterator[ControlPlane]:
    with ControlPlane.start(kwok=False, scheduler=False) as running:
        install(running, recipes=())
        running.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team-a"}})
        yield running


@pytest.fixture(scope="module")
def validator(guarded: ControlPlane) -> Iterator[Validator]:
    with Validator.start(guarded, replicas=2, rotation_overlap_seconds=2) as running:
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
            thread.join(PATIENCE)


def served(replica: Replica) -> bytes:
    """The certificate that a replica shows to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", replica.port), 5) as plain, context.wrap_socket(plain) as tls:
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
    time.sleep(3)
    mark = guarded.audit.mark()
    time.sleep(4)
    assert guarded.audit.writes(mark, user=f"system:serviceaccount:{NAMESPACE}:{NAME}") == []
    assert guarded.audit.forbidden(mark) == []


# A server that must survive


def post(
    replica: Replica, body: bytes, kind: str = "application/json", where: str = "/aimdeployments"
) -> tuple[int, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", replica.port, timeout=20, context=context)
    try:
        connection.request("POST", where, body, {"Content-Type": kind})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def review(**change: Any) -> dict[str, Any]:
    request = {
        "uid": "1", "operation": "CREATE", "userInfo": {"username": "a"}, "namespace": "team-a",
        "resource": {"group": "aim.engine.amd.com", "version": "v1alpha1", "resource": "aimdeployments"},
        "object": deployment("a", "team-a"), **change,
    }  # fmt: skip
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


MALFORMED = [
    (400, b""), (400, b"{"), (400, b"[]"), (400, b"null"), (400, b"\xff\xfe"), (400, b'{"kind": "Pod"}'),
    (400, b'{"kind": "AdmissionReview"}'), (400, b"[" * 100_000),
    *((400, json.dumps(review(**change)).encode()) for change in (
        {"uid": None}, {"operation": 7}, {"resource": None}, {"resource": {"group": ""}}, {"userInfo": "me"},
        {"object": None}, {"object": "text"}, {"oldObject": 7},
    )),
    (404, json.dumps(review(resource={"group": "", "version": "v1", "resource": "pods"})).encode()),
]  # fmt: skip


def test_what_is_no_review_is_told_so_and_the_next_one_is_answered(validator: Validator) -> None:
    replica = validator.replicas[0]
    for status, body in MALFORMED:
        assert post(replica, body)[0] == status, body[:60]
    assert post(replica, b"{}", "text/plain")[0] == 415
    assert post(replica, b"x" * (9 * 2**20))[0] == 413
    assert post(replica, json.dumps(review()).encode())[0] == 200


@pytest.mark.parametrize(
    "spec",
    [
        {"model": 7}, {"model": {"id": ["a"]}}, {"recipe": "x"}, {"overrides": {"engineArgs": [1]}}, {"overrides": {"env": {"A": 1}}},
        {"replicas": "two"}, {"workload": {"maxInputTokens": 1.5}}, None, [], "text", {"scheduling": {"tolerations": [None]}},
    ],
)  # fmt: skip
def test_an_object_of_any_shape_gets_an_answer(validator: Validator, spec: Any) -> None:
    """The API server checks the schema first, so these come only from a client of our own."""
    obj = {**deployment("a", "team-a"), "spec": spec}
    status, text = post(validator.replicas[0], json.dumps(review(object=obj)).encode())
    assert status == 200
    assert "Traceback" not in text
    answer = json.loads(text)["response"]
    assert answer["allowed"] or answer["status"]["code"] == 422, answer


def test_slow_clients_and_many_at_once_leave_it_up(validator: Validator) -> None:
    replica = validator.replicas[0]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    slow = [context.wrap_socket(socket.create_connection(("127.0.0.1", replica.port), 5)) for _ in range(20)]
    for each in slow:
        each.sendall(
            b"POST /aimdeployments HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
    body = json.dumps(review()).encode()
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: post(replica, body)[0], range(200)))
    assert set(answers) == {200}
    for each in slow:
        each.settimeout(20)
        assert b" 408 " in each.recv(200)
        each.close()

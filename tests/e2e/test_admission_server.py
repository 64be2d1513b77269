"""The validator's server against clients that are broken, slow, greedy or many: it stays up and goes on answering."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from testbed.plane import ControlPlane
from testbed.product import deployment, path
from testbed.validator import Replica, Validator

MOST_MEMORY_KIB = 400 * 1024
"""The chart's limit is 512 MiB."""
MANY = 200


@pytest.fixture(scope="module")
def validator(guarded: ControlPlane) -> Iterator[Validator]:
    """One replica."""
    with Validator.start(guarded) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(validator: Validator) -> Iterator[None]:
    """After whatever a test did, the same process answers a good review."""
    (replica,) = validator.replicas
    process = validator.processes.pids[replica.name]
    yield
    assert post(replica, json.dumps(review()).encode())[0] == 200
    assert validator.processes.pids[replica.name] == process
    assert "Traceback" not in validator.log()
    memory = next(
        line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "VmHWM" in line
    )
    assert int(memory.split()[1]) < MOST_MEMORY_KIB


def context() -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


CUT = 0
"""What is refused by its first part can be answered, and the connection closed, while the rest is being sent."""


def post(replica: Replica, body: bytes, where: str = "/aimdeployments", **headers: str) -> tuple[int, str]:
    """Send a body past the API server; `_` stands for `-` in headers. CUT when it closed before it had all of it."""
    connection = http.client.HTTPSConnection("127.0.0.1", replica.port, timeout=120, context=context())
    told = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    try:
        connection.request("POST", where, body, told)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (ConnectionError, ssl.SSLEOFError, http.client.RemoteDisconnected):
        return CUT, ""
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
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/yaml", ""):
        assert post(replica, b"{}", Content_Type=kind)[0] == 415
    assert post(replica, b"x" * (9 * 2**20))[0] in (413, CUT)


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


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


HUGE: dict[str, tuple[dict[str, Any], str]] = {
    "deep": ({"compilation-config": nested(900)}, "spec: is nested more than 100 levels deep; write it with fewer"),
    "long": ({"max-num-seqs": [1] * 300_000}, "spec.overrides.engineArgs.max-num-seqs "),
    "wide": ({f"x{i}": i for i in range(50_000)}, "spec.overrides.engineArgs: there are 50000 arguments"),
}  # fmt: skip


@pytest.mark.parametrize("what", HUGE)
def test_an_object_of_any_size_gets_an_answer(validator: Validator, what: str) -> None:
    args, line = HUGE[what]
    obj = deployment("a", "team-a", overrides={"engineArgs": args})
    status, text = post(validator.replicas[0], json.dumps(review(object=obj)).encode())
    assert status == 200
    answer = json.loads(text)["response"]
    assert answer["status"]["message"].startswith(line)
    assert len(text) < 65536
    again = review(object=obj, oldObject=obj, operation="UPDATE")
    assert json.loads(post(validator.replicas[0], json.dumps(again).encode())[1])["response"]["allowed"]


def test_what_is_no_request_for_us_is_answered_as_such(validator: Validator) -> None:
    replica = validator.replicas[0]
    body = json.dumps(review()).encode()
    assert post(replica, body, "/nobody-serves-this")[0] in (200, 404)
    assert post(replica, body, "/" + "a" * 20_000)[0] in (400, 404, 414, CUT)
    assert post(replica, body, X_Long="a" * 100_000)[0] in (400, CUT)
    connection = http.client.HTTPSConnection("127.0.0.1", replica.port, timeout=120, context=context())
    connection.request("GET", "/aimdeployments")
    assert connection.getresponse().status == 405
    connection.close()


def test_a_body_beyond_the_limit_is_not_read_however_it_is_sent(validator: Validator) -> None:
    replica = validator.replicas[0]
    assert post(replica, gzip.compress(b"0" * 200_000_000, 1), Content_Encoding="gzip")[0] in (
        400,
        413,
        415,
        CUT,
    )
    with context().wrap_socket(socket.create_connection(("127.0.0.1", replica.port), 60)) as endless:
        endless.sendall(
            b"POST /aimdeployments HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        answer = b""
        try:
            for _ in range(64):
                endless.sendall(chunk)
            answer = endless.recv(200)
        except OSError:  # it closed the connection while we went on sending
            answer = b" 413 "
    assert b" 413 " in answer


def test_idle_and_slow_clients_keep_nobody_waiting(validator: Validator) -> None:
    replica = validator.replicas[0]
    head = b"POST /aimdeployments HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with ExitStack() as opened:
        for _ in range(50):  # never speak
            opened.enter_context(socket.create_connection(("127.0.0.1", replica.port), 60))
        slow = [
            opened.enter_context(
                context().wrap_socket(socket.create_connection(("127.0.0.1", replica.port), 60))
            )
            for _ in range(40)
        ]
        for number, each in enumerate(slow):
            each.sendall(head if number % 2 else head + b"Content-Length: 1000\r\n\r\n{")
        body = json.dumps(review()).encode()
        with ThreadPoolExecutor(MANY) as pool:
            answers = list(pool.map(lambda _: post(replica, body)[0], range(MANY)))
        assert set(answers) == {200}
        for each in slow[::2]:
            each.settimeout(180)
            assert b" 408 " in each.recv(200)


def test_many_at_once_are_all_answered_in_time(guarded: ControlPlane, validator: Validator) -> None:
    """The API server fails a request whose webhook is late, for the policy is Fail."""
    timeout = {each["timeoutSeconds"] for each in validator.webhooks()}
    assert timeout == {validator.config["timeout_seconds"]}

    def create(number: int) -> tuple[int, str]:
        obj = deployment(f"many-{number}", "team-a", workload={"maxBatchSize": 1 + number % 10})
        answered = guarded.ask("POST", f"{path('team-a')}?dryRun=All", obj)
        return answered.code, answered.message

    with ThreadPoolExecutor(MANY) as pool:
        answers = list(pool.map(create, range(MANY)))
    assert {message for code, message in answers if code != 201} == set()

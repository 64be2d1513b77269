"""The testbed keeps its promises, on the real thing."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed import tools
from testbed.addresses import Slot
from testbed.api import ApiStatusError
from testbed.cluster import Cluster
from testbed.engines import EngineFleet
from testbed.fault_proxy import FaultProxy
from testbed.nodes import kinds
from testbed.plane import ControlPlane

pytest_plugins = ["testbed.fixtures"]
TESTS = Path(__file__).parent.parent
PATIENCE = 240.0


def pod(name: str, *, gpus: int = 0, **metadata: Any) -> dict[str, Any]:
    """A pod with one container."""
    container = {"name": "engine", "image": "example/engine:1"}
    if gpus:
        container["resources"] = {"limits": {"amd.com/gpu": str(gpus)}}  # type: ignore[assignment]
    return {"metadata": {"name": name, **metadata}, "spec": {"containers": [container]}}


def create_pod(plane: ControlPlane, namespace: str, name: str, **arguments: Any) -> str:
    """Create a pod and return its first resourceVersion, from before any other program has touched it."""
    created = plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod(name, **arguments))
    version: str = created["metadata"]["resourceVersion"]
    return version


def get_pod(plane: ControlPlane, namespace: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = plane.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    return found


def is_ready(found: dict[str, Any]) -> bool:
    conditions = found.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def wait_ready(plane: ControlPlane, namespace: str, name: str) -> dict[str, Any]:
    def ready() -> dict[str, Any] | None:
        found = get_pod(plane, namespace, name)
        return found if is_ready(found) else None

    found = plane.wait_for(ready, PATIENCE, f"pod {name} to be ready")
    assert found is not None
    return found


def states_since(plane: ControlPlane, namespace: str, version: str) -> list[dict[str, Any]]:
    """All states that pods of the namespace have had since a version, until the last of them is ready."""

    def look() -> list[dict[str, Any]] | None:
        query = f"watch=1&resourceVersion={version}&timeoutSeconds=2"
        told = plane.request("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")
        # A single line is a whole JSON text, and comes parsed.
        events = [told] if isinstance(told, dict) else [json.loads(line) for line in told.splitlines()]
        states: list[dict[str, Any]] = [event["object"] for event in events]
        return states if states and is_ready(states[-1]) else None

    found = plane.wait_for(look, PATIENCE, "the states of a pod")
    assert found is not None
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(pids: Sequence[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def node(plane: ControlPlane) -> str:
    """A node for pods without GPUs."""
    return plane.add_nodes("cpu-only")[0]


# Nodes


def test_every_kind_is_accepted_by_the_api(plane: ControlPlane) -> None:
    names = plane.add_nodes(*kinds(), unschedulable=True)
    for name in names:
        found = plane.request("DELETE", f"/api/v1/nodes/{name}")
        assert found


def test_the_scheduler_counts_gpus(plane: ControlPlane, namespace: str) -> None:
    (name,) = plane.add_nodes("mi300x-8")
    template = pod("x", gpus=4, labels={"app": "x"})
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x", "namespace": namespace},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": template},
    }
    plane.apply(deployment)

    def settled() -> list[dict[str, Any]] | None:
        items = plane.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        refused = [
            entry["message"]
            for item in items
            for entry in item["status"].get("conditions", [])
            if entry.get("message")
        ]
        done = sum(is_ready(item) for item in items) == 2 and any(
            "Insufficient amd.com/gpu" in m for m in refused
        )
        return items if done else None

    items = plane.wait_for(settled, PATIENCE, "two pods on the node and the third refused")
    assert items is not None
    addresses = {item["status"]["podIP"] for item in items if is_ready(item)}
    assert len(addresses) == 2
    assert all(
        ipaddress.ip_address(address) in ipaddress.ip_network("127.64.0.0/11") for address in addresses
    )
    plane.request("DELETE", f"/api/v1/nodes/{name}")


# Pods


def test_a_pod_starts_at_its_own_pace(plane: ControlPlane, namespace: str, node: str) -> None:
    created = create_pod(plane, namespace, "slow", annotations={"testbed.aim/ready-after": "5s"})
    wait_ready(plane, namespace, "slow")
    # Looked up in what happened, for the moment itself is easily missed.
    started = next(found for found in states_since(plane, namespace, created) if found["status"].get("podIP"))
    assert not is_ready(started)
    assert started["status"]["containerStatuses"][0]["started"] is False
    ready = wait_ready(plane, namespace, "slow")["status"]["containerStatuses"][0]
    assert ready["ready"]
    assert ready["started"]
    assert ready["state"]["running"]


def test_a_pod_crashes_by_annotation(plane: ControlPlane, namespace: str, node: str) -> None:
    create_pod(plane, namespace, "doomed")
    wait_ready(plane, namespace, "doomed")
    path = f"/api/v1/namespaces/{namespace}/pods/doomed"
    plane.request("PATCH", path, {"metadata": {"annotations": {"testbed.aim/crash": "HIP out of memory"}}})
    plane.wait_for(lambda: not is_ready(get_pod(plane, namespace, "doomed")), PATIENCE, "the pod to crash")
    container = get_pod(plane, namespace, "doomed")["status"]["containerStatuses"][0]
    assert container["state"] == {
        "waiting": {
            "reason": "CrashLoopBackOff",
            "message": "back-off 10s restarting failed container=engine",
        }
    }
    assert container["lastState"]["terminated"]["message"] == "HIP out of memory"
    assert container["restartCount"] == 1


def test_a_status_written_by_a_test_stays(plane: ControlPlane, namespace: str, node: str) -> None:
    create_pod(plane, namespace, "patched")
    wait_ready(plane, namespace, "patched")
    plane.crash_pod(namespace, "patched", exit_code=137, message="killed", reason="OOMKilled")
    # Any touch makes the simulator look at the pod again.
    path = f"/api/v1/namespaces/{namespace}/pods/patched"
    touched = plane.request("PATCH", path, {"metadata": {"annotations": {"touched": "yes"}}})
    create_pod(plane, namespace, "later")
    wait_ready(plane, namespace, "later")
    crashed = get_pod(plane, namespace, "patched")
    assert crashed["metadata"]["resourceVersion"] == touched["metadata"]["resourceVersion"]
    terminated = crashed["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"], terminated["message"]) == (
        137,
        "OOMKilled",
        "killed",
    )
    plane.image_pull_error(namespace, "patched")
    stuck = get_pod(plane, namespace, "patched")["status"]
    assert stuck["phase"] == "Pending"
    assert stuck["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
    plane.recover_pod(namespace, "patched")
    recovered = get_pod(plane, namespace, "patched")
    assert is_ready(recovered)
    assert recovered["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_pod_can_fail_from_the_start(plane: ControlPlane, namespace: str, node: str) -> None:
    create_pod(plane, namespace, "unpulled", annotations={"testbed.aim/image-pull-error": "not found"})
    create_pod(plane, namespace, "broken", annotations={"testbed.aim/crash": "bad flag"})

    def waiting(name: str) -> str | None:
        containers = get_pod(plane, namespace, name)["status"].get("containerStatuses") or [{}]
        reason: str | None = containers[0].get("state", {}).get("waiting", {}).get("reason")
        return reason

    assert plane.wait_for(lambda: waiting("unpulled"), PATIENCE, "the image error") == "ImagePullBackOff"
    assert plane.wait_for(lambda: waiting("broken"), PATIENCE, "the crash") == "CrashLoopBackOff"
    annotations = {"metadata": {"annotations": {"testbed.aim/image-pull-error": None}}}
    plane.request("PATCH", f"/api/v1/namespaces/{namespace}/pods/unpulled", annotations)
    wait_ready(plane, namespace, "unpulled")


def test_kubelets_can_pause(plane: ControlPlane, namespace: str, node: str) -> None:
    plane.stop_kubelets()
    create_pod(plane, namespace, "waiting")
    plane.wait_for(
        lambda: get_pod(plane, namespace, "waiting")["spec"].get("nodeName"),
        PATIENCE,
        "the pod to be scheduled",
    )
    plane.image_pull_error(namespace, "waiting")
    assert not is_ready(get_pod(plane, namespace, "waiting"))
    plane.start_kubelets()
    wait_ready(plane, namespace, "waiting")


def test_jobs_complete_and_fail(plane: ControlPlane, namespace: str, node: str) -> None:
    for name, notes in (("good", {}), ("bad", {"testbed.aim/crash": "no such model"})):
        template = pod(name, annotations=notes)
        template["spec"]["restartPolicy"] = "Never"
        body = {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}}
        plane.request("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", body)

    def ended(name: str) -> set[str]:
        status = plane.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")["status"]
        return {entry["type"] for entry in status.get("conditions", []) if entry["status"] == "True"}

    plane.wait_for(lambda: "Complete" in ended("good"), PATIENCE, "the job to complete")
    plane.wait_for(lambda: "Failed" in ended("bad"), PATIENCE, "the job to fail")


# Audit and credentials


def test_the_audit_log_counts_who_wrote_what(plane: ControlPlane, namespace: str) -> None:
    plane.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "writer"}})
    user = f"system:serviceaccount:{namespace}:writer"
    mark = plane.audit.mark()
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    with pytest.raises(ApiStatusError) as refused:
        plane.request("POST", maps, {"metadata": {"name": "a"}}, user=user)
    assert refused.value.code == 403
    binding = {
        "metadata": {"name": "edit"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "writer", "namespace": namespace}],
    }
    plane.request("POST", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", binding)

    def create() -> bool:
        try:
            plane.request("POST", maps, {"metadata": {"name": "a"}}, user=user)
        except ApiStatusError as error:
            if error.code != 403:
                raise
            return False
        return True

    plane.wait_for(create, PATIENCE, "the role binding to work")
    plane.request("PATCH", f"{maps}/a", {"data": {"x": "y"}}, user=user)
    plane.request("GET", f"{maps}/a", user=user)
    written = plane.audit.writes(mark, user=user, ok_only=True)
    assert [(record.verb, record.resource, record.name, record.code) for record in written] == [
        ("create", "configmaps", "a", 201),
        ("patch", "configmaps", "a", 200),
    ]
    assert plane.audit.writes(mark, user=user, verb="patch", resource="configmaps", namespace=namespace)
    assert plane.audit.forbidden(mark, user)
    assert [record.verb for record in plane.audit.records(mark) if record.user == user][-1] == "get"
    assert plane.audit.writes(plane.audit.mark(), user=user) == []


def test_a_certificate_user_has_only_what_its_groups_give(plane: ControlPlane, namespace: str) -> None:
    nobody = plane.kubeconfig_for_user("nobody")
    answer = plane.kubectl("get", "pods", "-n", namespace, kubeconfig=nobody, check=False)
    assert answer.returncode == 1
    assert 'User "nobody" cannot list' in answer.stderr
    chief = plane.kubeconfig_for_user("chief", ["system:masters"])
    whoami = json.loads(plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=chief).stdout)
    assert whoami["status"]["userInfo"]["username"] == "chief"
    assert "system:masters" in whoami["status"]["userInfo"]["groups"]
    assert plane.request("GET", f"/api/v1/namespaces/{namespace}/pods", user="chief")["items"] == []
    assert "nobody" in {record.user for record in plane.audit.forbidden()}


# Faults


def test_the_api_server_can_go_and_come_back(plane: ControlPlane, namespace: str, node: str) -> None:
    plane.stop_apiserver()
    with pytest.raises(OSError, match=r"refused|reset|closed"):
        plane.request("GET", "/api")
    plane.start_apiserver()
    assert plane.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["name"] == namespace
    create_pod(plane, namespace, "afterwards")
    wait_ready(plane, namespace, "afterwards")


class Watcher:
    """A watch of ConfigMaps through a proxy, read line by line."""

    def __init__(self, proxy: FaultProxy, ca: Path, token: str, namespace: str) -> None:
        context = ssl.create_default_context(cafile=ca)
        host = proxy.url.removeprefix("https://")
        self._connection = http.client.HTTPSConnection(host, timeout=60, context=context)
        path = f"/api/v1/namespaces/{namespace}/configmaps?watch=1&timeoutSeconds=60"
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        self.response = self._connection.getresponse()

    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.response.readline())
        return found

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    made = plane.fault_proxy()
    yield made
    made.stop()


def get(plane: ControlPlane, url: str, token: str) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        context = ssl.create_default_context(cafile=plane.ca_file)
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


@pytest.fixture
def reader(plane: ControlPlane, namespace: str) -> str:
    """A token that may do everything."""
    plane.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "reader"}})
    binding = {
        "metadata": {"name": f"reader-{namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
    }
    plane.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    return plane.service_account_token(namespace, "reader")


def test_the_proxy_fails_as_told(plane: ControlPlane, namespace: str, proxy: FaultProxy, reader: str) -> None:
    url = f"{proxy.url}/api/v1/namespaces/{namespace}/configmaps"
    plane.wait_for(lambda: get(plane, url, reader)[0] == 200, PATIENCE, "the binding to work")
    rule = proxy.fail(lambda _, path: path.endswith("/configmaps"), status=429, times=2, retry_after=1)
    code, headers = get(plane, url, reader)
    assert (code, headers["Retry-After"]) == (429, "1")
    assert get(plane, f"{proxy.url}/api/v1/pods", reader)[0] == 200
    assert [get(plane, url, reader)[0] for _ in range(2)] == [429, 200]
    assert rule.hits == 2
    assert proxy.requests["GET", "configmaps"] >= 4
    proxy.block()
    with pytest.raises(OSError, match="refused"):
        get(plane, url, reader)
    proxy.unblock()
    assert get(plane, url, reader)[0] == 200


def test_a_kubeconfig_can_point_to_the_proxy(
    plane: ControlPlane, namespace: str, proxy: FaultProxy, reader: str
) -> None:
    plane.await_right(f"system:serviceaccount:{namespace}:reader", "list", "configmaps")
    kubeconfig = plane.kubeconfig_for_service_account(namespace, "reader", server=proxy.url)
    assert plane.kubectl("auth", "whoami", kubeconfig=kubeconfig).stdout
    assert plane.kubectl("get", "configmaps", "-A", kubeconfig=kubeconfig).returncode == 0
    assert proxy.requests["GET", "configmaps"] == 1


def test_watches_stream_and_can_be_cut_or_expire(
    plane: ControlPlane, namespace: str, proxy: FaultProxy, reader: str
) -> None:
    url = f"{proxy.url}/api/v1/namespaces/{namespace}/configmaps"
    plane.wait_for(lambda: get(plane, url, reader)[0] == 200, PATIENCE, "the binding to work")
    watcher = Watcher(proxy, plane.ca_file, reader, namespace)
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    plane.request("POST", maps, {"metadata": {"name": "seen"}})
    while watcher.event()["object"]["metadata"]["name"] != "seen":
        pass
    assert proxy.open_watches == 1
    assert proxy.cut_watches() == 1
    assert watcher.response.readline() == b""
    watcher.close()

    watcher = Watcher(proxy, plane.ca_file, reader, namespace)
    assert proxy.cut_watches(mid_line=True) == 1
    with pytest.raises(http.client.IncompleteRead) as cut:
        watcher.response.read()
    assert cut.value.partial.splitlines()[-1].startswith(b'{"type":"MODIFIED"')
    watcher.close()

    proxy.gone_on_watch()
    watcher = Watcher(proxy, plane.ca_file, reader, namespace)
    event = watcher.event()
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    watcher.close()
    assert proxy.requests["WATCH", "configmaps"] == 3


# Engines


@pytest.fixture
def quiet_plane() -> Iterator[ControlPlane]:
    """A plane whose pod addresses nobody has used before."""
    with ControlPlane.start() as running:
        running.add_nodes("cpu-only")
        running.wait_for(
            lambda: running.request("GET", "/api/v1/namespaces/default/serviceaccounts/default"),
            PATIENCE,
            "the ServiceAccount",
        )
        yield running


def test_an_engine_answers_on_the_address_of_its_pod(quiet_plane: ControlPlane) -> None:
    plane, namespace = quiet_plane, "default"
    body = pod("engine", labels={"app.kubernetes.io/component": "inference-engine"})
    body["metadata"]["annotations"] = {"testbed.aim/load": '{"waiting": 3}'}
    body["spec"]["containers"][0] |= {
        "command": ["vllm", "serve"],
        "args": ["org/model", "--served-model-name", "short", "long", "--port", "8000"],
        "ports": [{"name": "http", "containerPort": 8000}],
    }
    with EngineFleet(plane) as fleet:
        plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
        url = plane.wait_for(lambda: fleet.url(namespace, "engine"), PATIENCE, "the engine to listen")
        assert url is not None
        assert ipaddress.ip_address(url[7:].split(":")[0]) in ipaddress.ip_network("127.64.0.0/11")

        def fetch(path: str, data: dict[str, Any] | None = None) -> str:
            sent = json.dumps(data).encode() if data else None
            headers = {"Content-Type": "application/json"}
            with urllib.request.urlopen(
                urllib.request.Request(url + path, sent, headers), timeout=60
            ) as answer:
                return str(answer.read().decode())

        assert fetch("/health") == ""
        assert [model["id"] for model in json.loads(fetch("/v1/models"))["data"]] == ["short", "long"]
        chat = {"model": "long", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
        answer = json.loads(fetch("/v1/chat/completions", chat))
        assert answer["usage"]["completion_tokens"] == 5
        assert answer["choices"][0]["finish_reason"] == "length"
        streamed = fetch("/v1/chat/completions", {**chat, "stream": True})
        assert streamed.count("data: ") == 7
        assert streamed.endswith("data: [DONE]\n\n")

        def metric(name: str) -> float:
            found = re.search(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", fetch("/metrics"), re.MULTILINE)
            assert found
            return float(found[1])

        assert metric("num_requests_waiting") == 3
        assert metric("generation_tokens_total") == 10
        fleet.set(namespace, "engine", tokens_per_second=10000, waiting=7)
        assert metric("num_requests_waiting") == 7
        plane.wait_for(lambda: metric("generation_tokens_total") > 1000, PATIENCE, "tokens to be generated")
        fleet.set(namespace, "engine", healthy=False)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            fetch("/health")
        plane.crash_pod(namespace, "engine")
        plane.wait_for(
            lambda: fleet.url(namespace, "engine") is None, PATIENCE, "the engine to go with its pod"
        )
        with pytest.raises(urllib.error.URLError, match="refused"):
            fetch("/health")


# Life and death of planes


def test_two_planes_do_not_meet(plane: ControlPlane, namespace: str, node: str) -> None:
    with ControlPlane.start() as other:
        assert other.url != plane.url
        other.add_nodes("cpu-only")
        default = "/api/v1/namespaces/default/serviceaccounts/default"
        other.wait_for(lambda: other.request("GET", default), PATIENCE, "the ServiceAccount")
        create_pod(plane, namespace, "twin")
        create_pod(other, "default", "twin")
        mine = wait_ready(plane, namespace, "twin")["status"]["podIP"]
        theirs = wait_ready(other, "default", "twin")["status"]["podIP"]
        assert mine != theirs
        pids, workdir = list(other.pids.values()), other.workdir
        with pytest.raises(ApiStatusError) as missing:
            other.request("GET", f"/api/v1/namespaces/{namespace}")
        assert missing.value.code == 404
    assert gone_within(pids, PATIENCE)
    assert not workdir.exists()


def test_a_port_lost_to_somebody_else_is_replaced(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_ports, offers = Slot.free_ports, []

    with socket.create_server(("127.0.0.1", 0)) as somebody_else:

        def first_offer_is_taken(slot: Slot, count: int) -> list[int]:
            ports = free_ports(slot, count)
            offers.append(ports)
            return ports if len(offers) > 1 else [*ports[:2], somebody_else.getsockname()[1], *ports[3:]]

        monkeypatch.setattr(Slot, "free_ports", first_offer_is_taken)
        with ControlPlane.start(scheduler=False, controller_manager=False, kwok=False) as other:
            assert other.request("GET", "/version")["gitVersion"].startswith("v")
    assert len(offers) == 2


def test_nothing_survives_the_death_of_the_owner(plane: ControlPlane, tmp_path: Path) -> None:
    program = (
        "import json, sys, threading, time; from pathlib import Path; from testbed.plane import ControlPlane\n"
        # Started from a thread that ends: the components must not die with it.
        "out = []\n"
        "t = threading.Thread(target=lambda: out.append(ControlPlane.start(Path(sys.argv[1]))))\n"
        "t.start(); t.join(); time.sleep(0.3)\n"
        "print(json.dumps([out[0].pids, out[0]._processes.exit_codes()]), flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "plane")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    try:
        assert owner.stdout
        pids, codes = json.loads(owner.stdout.readline())
        assert set(codes.values()) == {None}
        assert all(alive(pid) for pid in pids.values())
    finally:
        owner.kill()
        owner.communicate()
    assert gone_within(list(pids.values()), PATIENCE), {name: pid for name, pid in pids.items() if alive(pid)}


def test_components_die_with_a_killed_warden(plane: ControlPlane, tmp_path: Path) -> None:
    with ControlPlane.start(
        tmp_path / "plane", scheduler=False, controller_manager=False, kwok=False
    ) as small:
        pids = small.pids
        os.kill(pids.pop("warden"), signal.SIGKILL)
        assert gone_within(list(pids.values()), PATIENCE)


def test_a_plane_can_stay_up_after_the_command(plane: ControlPlane, tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    environment = os.environ | {"PYTHONPATH": str(TESTS)}

    def testbed(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "testbed", *arguments, "--dir", str(directory)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=300,
        ).stdout

    kubeconfig = Path(testbed("up", "--nodes", "mi300x-8", "mi210-4").strip())
    try:
        pids = json.loads((directory / "state.json").read_text())["pids"]
        names = subprocess.run(
            [tools.tool("kubectl"), f"--kubeconfig={kubeconfig}", "get", "nodes", "-o", "name"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        assert names.split() == ["node/mi210-4-0", "node/mi300x-8-0"]
        assert Cluster.open(directory).add_nodes("mi300x-8", "cpu-only") == ["mi300x-8-1", "cpu-only-0"]
    finally:
        testbed("down")
    assert gone_within(list(pids.values()), PATIENCE)
    assert not (directory / "state.json").exists()

"""The real node itself, and simulated ones beside it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import network
from cluster.images import engine_image as engine_archive
from cluster.inside import InsideCluster
from cluster.manifests import PORT, container, engine, pod, service
from cluster.real import RealCluster
from testbed.cluster import Cluster

MODEL = "Qwen/Qwen3-32B"


def gpus(image: str, count: int) -> dict[str, object]:
    """An engine that asks for GPUs."""
    return engine(image, MODEL, resources={"limits": {"amd.com/gpu": str(count)}})


@pytest.fixture
def four_gpus(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """The cluster while its node has four GPUs."""
    real_cluster.set_gpus(4)
    yield real_cluster
    real_cluster.set_gpus(0)


def node_of(cluster: Cluster, namespace: str, name: str) -> str:
    """Where a pod was scheduled."""
    found = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    return str(found["spec"].get("nodeName", ""))


def test_the_node_is_ready_and_has_a_runtime(real_cluster: RealCluster) -> None:
    node = real_cluster.request("GET", f"/api/v1/nodes/{real_cluster.node}")
    assert real_cluster.node_ready()
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    capacity = node["status"]["capacity"]
    assert int(capacity["cpu"]) > 64, "engines ask for many"
    assert capacity["memory"] == "2Ti"
    assert {"type": "InternalIP", "address": network.NODE_ADDRESS} in node["status"]["addresses"]


def test_the_same_kubeconfig_is_good_outside_and_inside(real_cluster: RealCluster) -> None:
    outside = real_cluster.kubectl("get", "nodes", "--output=name").stdout
    inside = real_cluster.run(["kubectl", "get", "nodes", "--output=name"]).stdout
    assert outside == inside == f"node/{real_cluster.node}\n"


def test_another_process_can_work_with_the_cluster(real_cluster: RealCluster) -> None:
    opened = InsideCluster.open(real_cluster.workdir)
    assert opened.node_pid == real_cluster.node_pid
    assert (
        opened.run(["kubectl", "get", "namespace", "default", "--output=name"]).stdout
        == "namespace/default\n"
    )


def test_a_command_that_takes_too_long_ends_with_all_it_started(real_cluster: RealCluster) -> None:
    mark = b"600.0625"

    def running() -> list[str]:
        commands = {path.parent.name: path for path in Path("/proc").glob("[0-9]*/cmdline")}
        return [pid for pid, path in commands.items() if mark in words_of(path)]

    with pytest.raises(subprocess.TimeoutExpired):
        real_cluster.run(["sh", "-c", f"sleep {mark.decode()} & sleep {mark.decode()}"], timeout=1)
    real_cluster.wait_for(lambda: not running(), 240, "the processes to be gone")


def words_of(command_line: Path) -> bytes:
    """The words of a process, nothing once it has ended."""
    try:
        return command_line.read_bytes()
    except OSError:
        return b""


def test_nothing_leaves_the_namespace(real_cluster: RealCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        status, reason = real_cluster.fetch(f"http://127.0.0.1:{outside.getsockname()[1]}/", timeout=2)
        assert status == 0, reason
    status, reason = real_cluster.fetch("http://name-of-nobody.invalid/", timeout=2)
    assert status == 0, reason


def test_an_engine_with_gpus_runs_on_the_node_and_answers_through_its_service(
    four_gpus: RealCluster, live_namespace: str, engine_image: str
) -> None:
    four_gpus.apply(pod("engine", live_namespace, gpus(engine_image, 4)), service("engine", live_namespace))
    four_gpus.wait_pod(live_namespace, "engine")
    url = f"http://engine.{live_namespace}.svc:{PORT}"
    four_gpus.wait_for(lambda: four_gpus.fetch(f"{url}/health")[0] == 200, 240, "the Service")
    assert MODEL in four_gpus.fetch(f"{url}/v1/models")[1]
    address = four_gpus.request("GET", f"/api/v1/namespaces/{live_namespace}/services/engine")["spec"][
        "clusterIP"
    ]
    assert four_gpus.fetch(f"http://{address}:{PORT}/health")[0] == 200


def test_gpus_are_given_out_once_and_taken_back_in_the_end(
    four_gpus: RealCluster, live_namespace: str, engine_image: str
) -> None:
    labels = four_gpus.request("GET", f"/api/v1/nodes/{four_gpus.node}")["metadata"]["labels"]
    assert labels["amd.com/gpu.device-id"] == "74a1"
    four_gpus.apply(pod("first", live_namespace, gpus(engine_image, 3)))
    four_gpus.wait_pod(live_namespace, "first")
    four_gpus.apply(pod("second", live_namespace, gpus(engine_image, 2)))
    path = f"/api/v1/namespaces/{live_namespace}/pods/second"
    four_gpus.wait_for(
        lambda: "Insufficient amd.com/gpu" in str(four_gpus.request("GET", path)["status"]), 240, "a refusal"
    )
    four_gpus.request("DELETE", f"/api/v1/namespaces/{live_namespace}/pods/first")
    four_gpus.wait_pod(live_namespace, "second")
    four_gpus.set_gpus(0)
    node = four_gpus.request("GET", f"/api/v1/nodes/{four_gpus.node}")
    assert node["status"]["allocatable"]["amd.com/gpu"] == "0"
    assert not [label for label in node["metadata"]["labels"] if "amd.com/gpu" in label]


def test_simulated_nodes_take_the_engines_and_the_real_one_the_rest(
    real_cluster: RealCluster, live_namespace: str, engine_image: str, operator_image: str
) -> None:
    (simulated,) = real_cluster.add_nodes("mi300x-8")
    tolerations = [{"key": "amd.com/gpu", "operator": "Exists"}]
    try:
        real_cluster.apply(
            pod("engine", live_namespace, gpus(engine_image, 8), tolerations=tolerations),
            pod("rest", live_namespace, container(operator_image, "sleep", "600")),
        )
        for name in ("engine", "rest"):
            real_cluster.wait_pod(live_namespace, name)
        assert node_of(real_cluster, live_namespace, "engine") == simulated
        assert node_of(real_cluster, live_namespace, "rest") == real_cluster.node
    finally:
        real_cluster.request("DELETE", f"/api/v1/nodes/{simulated}")


def test_an_image_runs_under_any_name_that_a_manifest_gives_it(
    real_cluster: RealCluster, live_namespace: str
) -> None:
    names = ("vllm/some-engine:v1", "registry.example/vllm/engine:v2", "bare:v3")
    real_cluster.load(engine_archive(), *names)
    for number, name in enumerate(names):
        real_cluster.apply(pod(f"p{number}", live_namespace, engine(name, MODEL)))
    for number in range(len(names)):
        real_cluster.wait_pod(live_namespace, f"p{number}")


def test_a_claim_without_a_class_gets_a_volume_of_the_node(
    real_cluster: RealCluster, live_namespace: str, operator_image: str
) -> None:
    directory = real_cluster.add_volume("cache", "2Gi")
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "cache", "namespace": live_namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    volumes = [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}]
    main = container(
        operator_image,
        *("sh", "-c", "echo weights > /cache/file && sleep 600"),
        volumeMounts=[{"name": "cache", "mountPath": "/cache"}],
    )
    real_cluster.apply(claim, pod("writer", live_namespace, main, volumes=volumes))
    real_cluster.wait_pod(live_namespace, "writer")
    file = directory / "file"
    real_cluster.wait_for(
        lambda: file.exists() and file.read_text() == "weights\n", 240, "the file with its content"
    )
    real_cluster.request("DELETE", "/api/v1/persistentvolumes/cache")

"""Why an engine does not serve is read from its pod and told with a remedy; and it recovers by itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from e2e.support import COLLECTION, Tenant, container, is_true, message, reason


@dataclass(frozen=True)
class Crash:
    """Last words of an engine, and what the user must read."""

    words: str
    expected: str
    told: tuple[str, ...]
    """Parts of the message: the numbers and the remedy."""
    exit_code: int = 1
    end: str = "Error"


CRASHES = {
    "out of GPU memory": Crash(
        "(EngineCore_DP0 pid=71) ERROR 06-02 10:11:12 [core.py:700] torch.OutOfMemoryError: HIP out of memory. "
        "Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 191.98 GiB of which 1.10 GiB is free.",
        "OutOfGPUMemory",
        ("2.50 GiB", "more GPUs"),
    ),
    "KV cache too small": Crash(
        "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (9.37 GiB). Based on the available memory, the estimated "
        "maximum model length is 76752. Try increasing `gpu_memory_utilization` or decreasing `max_model_len`.",
        "KVCacheTooSmall",
        ("131072", "max-model-len to at most 76752"),
    ),
    "gated model": Crash(
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo for url "
        "https://huggingface.co/meta-llama/Llama-3.3-70B-Instruct/resolve/main/config.json.",
        "ModelAccessDenied",
        ("gated", "tokenSecret"),
    ),
    "unknown flag": Crash(
        "usage: vllm serve [model_tag] [options]\nvllm: error: unrecognized arguments: --no-such-flag 1",
        "UnknownEngineFlag",
        ("--no-such-flag", "engineArgs"),
        exit_code=2,
    ),
    "out of host memory": Crash(
        "", "OutOfHostMemory", ("memory limit", "resources.memory"), 137, "OOMKilled"
    ),
    "no such model": Crash(
        "OSError: example/typo is not a local folder and is not a valid model identifier listed on the Hub",
        "ModelNotFound",
        ("modelID",),
    ),
    "disk full": Crash("OSError: [Errno 28] No space left on device", "StorageFull", ("cache.sizeGiB",)),
    "anything else": Crash(
        "RuntimeError: something nobody has seen", "EngineCrashed", ("something nobody has seen",)
    ),
}


@pytest.mark.parametrize("kind", CRASHES)
def test_the_cause_of_a_crash_is_told_with_a_remedy_and_the_engine_recovers(
    tenant: Tenant, kind: str
) -> None:
    crash = CRASHES[kind]
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    name = pod["metadata"]["name"]
    tenant.plane.crash_pod(
        tenant.namespace, name, exit_code=crash.exit_code, message=crash.words, reason=crash.end
    )
    down = tenant.wait_reason("Available", crash.expected)
    for part in (name, *crash.told):
        assert part in message(down, "Available")
    assert reason(down, "Ready") == crash.expected
    tenant.wait_for("an event about it", lambda: any(e["reason"] == crash.expected for e in tenant.events()))
    tenant.plane.recover_pod(tenant.namespace, name)
    tenant.wait_ready()


def test_a_crash_of_one_replica_leaves_the_others_serving_and_is_told(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(replicas=2)
    tenant.wait("two replicas to answer", lambda obj: obj.get("status", {}).get("ready") == "2/2")
    name = tenant.pods()[0]["metadata"]["name"]
    tenant.plane.crash_pod(tenant.namespace, name, message=CRASHES["out of GPU memory"].words)
    partly = tenant.wait("one replica to be lost", lambda obj: obj["status"]["ready"] == "1/2")
    partly = tenant.wait("the cause to be told", lambda obj: "OutOfGPUMemory" in message(obj, "Available"))
    assert is_true(partly, "Available")
    assert "1 of 2 replicas answer" in message(partly, "Available")


def test_restarts_of_a_crashing_engine_post_no_new_events(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    name = pod["metadata"]["name"]
    tenant.plane.crash_pod(tenant.namespace, name, message="RuntimeError: again")
    tenant.wait_reason("Available", "EngineCrashed")
    for _ in range(3):
        tenant.plane.crash_pod(tenant.namespace, name, message="RuntimeError: again")
    tenant.wait("the restarts to be told", lambda obj: "4 restarts" in message(obj, "Available"))
    tenant.wait_reason("Available", "EngineCrashed")
    crashes = tenant.wait_for(
        "the event", lambda: [e for e in tenant.events() if e["reason"] == "EngineCrashed"]
    )
    assert len(crashes) == 1


def test_an_image_that_cannot_be_pulled_is_told(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready()
    (pod,) = tenant.pods()
    why = 'failed to pull image "example/engine:9": not found'
    tenant.plane.image_pull_error(tenant.namespace, pod["metadata"]["name"], message=why)
    told = message(tenant.wait_reason("Available", "ImagePullFailed"), "Available")
    assert "example/engine:9" in told
    assert "registry" in told
    tenant.plane.recover_pod(tenant.namespace, pod["metadata"]["name"])
    tenant.wait_ready()


def test_a_missing_secret_is_told_by_name(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(service={"apiKeySecret": {"name": "api-key", "key": "value"}})
    tenant.wait_ready()
    (pod,) = tenant.pods()
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "api-key" not found'}
    status = {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {
                "name": "engine",
                "image": "x",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": waiting},
            }
        ],
    }
    tenant.plane.set_pod_status(tenant.namespace, pod["metadata"]["name"], status, merge="merge")
    told = message(tenant.wait_reason("Available", "SecretNotFound"), "Available")
    assert 'secret "api-key" not found' in told
    assert "create it" in told
    tenant.plane.recover_pod(tenant.namespace, pod["metadata"]["name"])
    tenant.wait_ready()


def test_pods_that_no_node_takes_are_told_with_the_schedulers_words(tenant: Tenant) -> None:
    tenant.corner()
    tenant.deploy(
        scheduling={"priorityClassName": "system-node-critical"}, recipe={"whenNoCapacity": "CreatePending"}
    )
    tenant.wait("to be judged", lambda obj: obj.get("status"))
    tenant.plane.request(
        "PATCH", f"/api/v1/nodes/{tenant.nodes[0]}", {"metadata": {"labels": {"tests.aim/pool": None}}}
    )
    tenant.update(overrides={"env": {"NCCL_DEBUG": "INFO"}}, rollout={"strategy": "Recreate"})
    told = message(tenant.wait_reason("Available", "PodsUnschedulable"), "Available")
    assert "nodes are available" in told
    labels = {"tests.aim/pool": tenant.namespace}
    tenant.plane.request("PATCH", f"/api/v1/nodes/{tenant.nodes[0]}", {"metadata": {"labels": labels}})
    tenant.wait_ready()


def test_a_quota_that_refuses_the_pods_is_told_and_ends_when_it_is_raised(tenant: Tenant) -> None:
    tenant.corner()
    tenant.create("ResourceQuota", {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    tenant.wait_for(
        "the quota to count", lambda: tenant.find("ResourceQuota", "none").get("status", {}).get("hard")
    )
    tenant.deploy()
    told = message(tenant.wait_reason("Available", "PodCreationRefused"), "Available")
    assert "exceeded quota: none" in told
    tenant.delete("ResourceQuota", "none")
    tenant.wait_ready(timeout=COLLECTION)


def test_a_slow_engine_is_starting_and_not_broken(tenant: Tenant) -> None:
    tenant.corner()
    tenant.plane.stop_kubelets()
    try:
        tenant.deploy()
        starting = tenant.wait_reason("Available", "Starting")
        assert "0 of 1 replicas" in message(starting, "Available")
        assert container(tenant.find("Deployment", "app"))["startupProbe"]["failureThreshold"] >= 30
    finally:
        tenant.plane.start_kubelets()
    tenant.wait_ready()

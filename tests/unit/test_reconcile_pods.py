"""Why a pod does not answer: each kind of failure, read from a Pod object as the kubelet writes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.conditions import CONDITION_REASONS, ConditionReason, ConditionType
from aim_engine.api.enums import Backend
from aim_engine.api.meta import LABEL_DEPLOYMENT
from aim_engine.catalog.terminations import termination_rules
from aim_engine.reconcile.pods import PodHealth, cause, read_health
from unit.selection_world import UNHURRIED

C = ConditionReason


def pod_object(
    name: str = "chat-0",
    *,
    waiting: tuple[str, str] | None = None,
    terminated: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    ready: bool = False,
    node: str | None = "gpu-1",
    scheduled: tuple[str, str] | None = None,
    restarts: int = 0,
    deleted: bool = False,
) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {}}
    if waiting:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    if terminated:
        state = {"terminated": terminated}
    conditions: list[dict[str, Any]] = [{"type": "Ready", "status": str(ready)}]
    if scheduled:
        conditions.append({"type": "PodScheduled", "status": scheduled[0], "message": scheduled[1]})
    return {
        "metadata": {"name": name, "uid": name, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})},
        "spec": {"nodeName": node} if node else {},
        "status": {
            "conditions": conditions,
            "containerStatuses": [
                {"name": "engine", "state": state, "restartCount": restarts, **({"lastState": {"terminated": last}} if last else {})}
            ],
        },
    }  # fmt: skip


def ended(message: str, code: int = 1, reason: str = "Error") -> dict[str, Any]:
    return {"exitCode": code, "reason": reason, "message": message}


CRASHES = [
    ("vllm serve: error: unrecognized arguments: --max-modle-len", C.UNKNOWN_ENGINE_FLAG, "--max-modle-len"),
    ("vllm serve: error: argument --dtype: invalid choice: 'fp13'", C.INVALID_ENGINE_ARGUMENT, "--dtype"),
    ("Total number of attention heads (64) must be divisible by tensor parallel size (3).", C.INVALID_ENGINE_ARGUMENT, "64 attention heads"),
    ("User-specified max_model_len (99999) is greater than the derived max_model_len (max_position_embeddings=40960", C.INVALID_ENGINE_ARGUMENT, "at most 40960"),
    ("To serve at least one request with the models's max seq len (131072), (32.00 GiB KV cache is needed, which is larger than the available KV cache memory (10.00 GiB). Based on the available memory, the estimated maximum model length is 40960.", C.KV_CACHE_TOO_SMALL, "at most 40960"),
    ("No available memory for the cache blocks.", C.KV_CACHE_TOO_SMALL, "no memory for the KV cache"),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.", C.OUT_OF_GPU_MEMORY, "2.00 GiB"),
    ("RuntimeError: hipErrorOutOfMemory", C.OUT_OF_GPU_MEMORY, "ran out of memory"),
    ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", C.MODEL_ACCESS_DENIED, "tokenSecret"),
    ("requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url", C.MODEL_ACCESS_DENIED, "token"),
    ("huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error.", C.MODEL_NOT_FOUND, "modelID"),
    ("ValueError: The repository contains custom code which must be executed", C.REMOTE_CODE_REQUIRED, "trust-remote-code"),
    ("OSError: [Errno 28] No space left on device", C.STORAGE_FULL, "sizeGiB"),
    ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", C.MODEL_DOWNLOAD_FAILED, "network"),
    ("Segmentation fault", C.ENGINE_CRASHED, "Segmentation fault"),
    ("", C.ENGINE_CRASHED, "code 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "reason", "told"), CRASHES, ids=[f"{c[1]}-{n}" for n, c in enumerate(CRASHES)]
)
@pytest.mark.parametrize("where", ["terminated", "last"])
def test_a_crash_is_told_with_its_cause(message: str, reason: ConditionReason, told: str, where: str) -> None:
    waiting = ("CrashLoopBackOff", "back-off 10s") if where == "last" else None
    arguments: dict[str, Any] = {where: ended(message), "waiting": waiting, "restarts": 3}
    found = cause([read_health(pod_object(**arguments))], Backend.VLLM)
    assert found
    assert found.reason is reason
    assert told in found.message
    assert "chat-0" in found.message
    assert "3 restarts" in found.message


OTHERS: list[tuple[str, dict[str, Any], ConditionReason | None, str]] = [
    ("killed for memory", {"last": ended("", 137, "OOMKilled")}, C.OUT_OF_HOST_MEMORY, "memory"),
    ("image not there", {"waiting": ("ErrImagePull", "manifest unknown")}, C.IMAGE_PULL_FAILED, "manifest unknown"),
    ("image backs off", {"waiting": ("ImagePullBackOff", "Back-off pulling image")}, C.IMAGE_PULL_FAILED, "registry"),
    ("image name wrong", {"waiting": ("InvalidImageName", "")}, C.IMAGE_PULL_FAILED, "InvalidImageName"),
    ("secret missing", {"waiting": ("CreateContainerConfigError", 'secret "hf" not found')}, C.SECRET_NOT_FOUND, 'secret "hf" not found'),
    ("key missing", {"waiting": ("CreateContainerConfigError", "couldn't find key token in Secret a/hf")}, C.SECRET_NOT_FOUND, "couldn't find key token"),
    ("config of another kind", {"waiting": ("CreateContainerError", "context deadline exceeded")}, C.ENGINE_CRASHED, "context deadline exceeded"),
    ("no node", {"node": None, "scheduled": ("False", "0/5 nodes are available: 5 Insufficient amd.com/gpu.")}, C.PODS_UNSCHEDULABLE, "5 Insufficient"),
    ("no node and no word why", {"node": None, "scheduled": ("False", "")}, C.PODS_UNSCHEDULABLE, "no node takes the pod"),
    ("ended well and again and again", {"last": ended("", 0, "Completed"), "waiting": ("CrashLoopBackOff", "")}, C.ENGINE_CRASHED, "exit code 0"),
    ("loading", {}, None, ""),
    ("container being created", {"waiting": ("ContainerCreating", "")}, None, ""),
    ("scheduling", {"node": None}, None, ""),
    ("ended well once", {"terminated": ended("", 0, "Completed")}, None, ""),
    ("ready after a crash", {"ready": True, "last": ended("HIP out of memory")}, None, ""),
    ("on its way out", {"deleted": True, "terminated": ended("x", 143)}, None, ""),
    ("loading again after a crash tells the last cause", {"last": ended("HIP out of memory"), "restarts": 1}, C.OUT_OF_GPU_MEMORY, "1 restarts"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "state", "reason", "told"), OTHERS, ids=[case[0] for case in OTHERS])
def test_other_states_of_a_pod(
    name: str, state: dict[str, Any], reason: ConditionReason | None, told: str
) -> None:
    found = cause([read_health(pod_object(**state))], Backend.VLLM)
    assert (found.reason if found else None) is reason
    if found:
        assert told in found.message


def test_the_first_pod_by_name_speaks_and_a_crash_goes_before_a_missing_node() -> None:
    def health(*objects: dict[str, Any]) -> list[PodHealth]:
        return [read_health(obj) for obj in objects]

    crash_b = pod_object("b", terminated=ended("HIP out of memory"))
    crash_a = pod_object("a", terminated=ended("No space left on device"))
    homeless = pod_object("0", node=None, scheduled=("False", "no GPUs"))
    for pods in (health(crash_b, crash_a, homeless), health(homeless, crash_a, crash_b)):
        found = cause(pods, Backend.VLLM)
        assert found
        assert found.reason is C.STORAGE_FULL
    only = cause(health(homeless, pod_object("1")), Backend.VLLM)
    assert only
    assert only.reason is C.PODS_UNSCHEDULABLE


def test_no_pods_no_cause() -> None:
    assert cause([], Backend.VLLM) is None


def test_every_diagnosis_of_the_engine_is_a_documented_reason_of_available() -> None:
    for rule in termination_rules(Backend.VLLM):
        assert CONDITION_REASONS[ConditionReason(rule.reason)].condition is ConditionType.AVAILABLE


def test_messages_are_short_and_of_one_line() -> None:
    long = "error\n" + "\n".join(f"  frame {n} " + "x" * 200 for n in range(100))
    for state in (
        {"terminated": ended(long)},
        {"waiting": ("ErrImagePull", long)},
        {"node": None, "scheduled": ("False", long)},
    ):
        arguments: dict[str, Any] = dict(state)
        found = cause([read_health(pod_object(**arguments))], Backend.VLLM)
        assert found
        assert len(found.message) <= 700
        assert "\n" not in found.message


@UNHURRIED
@given(st.text(max_size=300), st.integers(0, 255), st.sampled_from([None, "Error", "OOMKilled", "Completed"]))
def test_any_last_words_give_some_cause_or_none(message: str, code: int, reason: str | None) -> None:
    health = read_health(pod_object(terminated={"exitCode": code, "reason": reason, "message": message}))
    found = cause([health], Backend.VLLM)
    assert (found is None) is (code == 0)


@pytest.mark.parametrize(
    "obj",
    [
        {"metadata": {"name": "a", "uid": "b"}},
        {"metadata": {"name": "a", "uid": "b"}, "status": {}},
        {
            "metadata": {"name": "a", "uid": "b"},
            "spec": None,
            "status": {"conditions": None, "containerStatuses": []},
        },
        {
            "metadata": {"name": "a", "uid": "b"},
            "status": {"containerStatuses": [{"state": None, "lastState": None}]},
        },
    ],
)
def test_missing_parts_count_as_not_told_yet(obj: dict[str, Any]) -> None:
    health = read_health(obj)
    assert not health.ready
    assert cause([health], Backend.VLLM) is None


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (None, False),
        ({"kind": "ReplicaSet", "name": "chat-5f9", "controller": True}, True),
        ({"kind": "ReplicaSet", "name": "chat-5f9", "controller": False}, False),
        ({"kind": "ReplicaSet", "name": "other-5f9", "controller": True}, False),
        ({"kind": "Job", "name": "chat-5f9", "controller": True}, False),
    ],
)
def test_a_replica_is_what_the_replica_set_made(owner: dict[str, Any] | None, expected: bool) -> None:
    obj = pod_object()
    obj["metadata"]["labels"] = {LABEL_DEPLOYMENT: "chat", "pod-template-hash": "5f9"}
    obj["metadata"]["ownerReferences"] = [owner] if owner else None
    assert read_health(obj).is_replica is expected


@pytest.mark.parametrize("first", [True, False])
def test_the_engine_is_read_whatever_sidecars_were_injected(first: bool) -> None:
    obj = pod_object(terminated=ended("HIP out of memory"))
    sidecar = {"name": "aaa-proxy", "state": {"running": {}}, "restartCount": 9}
    statuses = obj["status"]["containerStatuses"]
    obj["status"]["containerStatuses"] = [sidecar, *statuses] if first else [*statuses, sidecar]
    health = read_health(obj)
    assert health.restarts == 0
    found = cause([health], Backend.VLLM)
    assert found
    assert found.reason is C.OUT_OF_GPU_MEMORY

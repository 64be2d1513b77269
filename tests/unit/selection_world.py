"""Small worlds for tests of selection: recipes, requests and clusters in one line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import Reason
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.models import Checkpoint, ModelFacts
from aim_engine.inventory import Inventory, NodeState, PodUsage, Tracker, Usage, build_inventory, read_node
from aim_engine.selection import (
    Candidate,
    CatalogueFacts,
    Decision,
    Observation,
    Request,
    Source,
    Verdict,
    candidate,
    decide,
)

QWEN = "Qwen/Qwen3-32B"
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
GPT_OSS = "openai/gpt-oss-120b"
UNKNOWN = "acme/unheard-of"
DEVICE_IDS = {
    "MI210": "740f", "MI250X": "740c", "MI300X": "74a1", "MI325X": "74a5", "MI350X": "75a0", "MI355X": "75a3",
}  # fmt: skip
FACTS = CatalogueFacts()
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For laws: a busy machine is no failure."""


class NoFacts:
    """Facts of a world in which no model is known."""

    def model(self, model_id: str) -> ModelFacts | None:  # noqa: ARG002
        return None

    def checkpoint(self, source_id: str) -> Checkpoint | None:  # noqa: ARG002
        return None

    def unknown(self, model_id: str) -> str | None:  # noqa: ARG002
        return "nobody knows"

    def at(self, revision: str | None, repository: str | None) -> NoFacts:  # noqa: ARG002
        return self


def node_object(
    name: str = "gpu-1",
    gpu: str = "MI300X",
    gpus: int = 8,
    *,
    partition: str | None = None,
    cpu: str = "96",
    memory: str = "1Ti",
    ready: bool = True,
    unhealthy: int = 0,
    pods: int = 110,
    **spec: Any,
) -> dict[str, Any]:
    amounts = {"amd.com/gpu": str(gpus), "cpu": cpu, "memory": memory, "pods": str(pods)}
    labels = {"amd.com/gpu.device-id": DEVICE_IDS[gpu]}
    if partition:
        labels["amd.com/gpu.compute-memory-partition"] = partition
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "allocatable": {**amounts, "amd.com/gpu": str(gpus - unhealthy)},
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def node(
    name: str = "gpu-1",
    gpu: str = "MI300X",
    gpus: int = 8,
    *,
    used: int = 0,
    used_cpu: int = 0,
    used_memory_gib: int = 0,
    **more: Any,
) -> NodeState:
    """A node of which some GPUs, CPUs and memory are in use."""
    facts = read_node(node_object(name, gpu, gpus, **more))
    taken = Usage(
        {"amd.com/gpu": used} if used else {}, used_cpu * 1000, used_memory_gib * 2**30, 1 if used else 0
    )
    return NodeState(facts, taken)


def cluster(*nodes: NodeState) -> Inventory:
    return build_inventory(nodes)


def recipe(
    name: str,
    *,
    origin: Source = Source.CATALOGUE,
    listed: bool = True,
    gpu: str = "MI300X",
    count: int = 1,
    precision: str = "bf16",
    model: str = QWEN,
    partition: str | None = None,
    cpu: str = "8",
    memory: str = "64Gi",
    tokens: int | None = None,
    first_token: int | None = None,
    inter_token: int | None = None,
    provenance: str = "vendor",
    measured_with: str | None = None,
    concurrency: int | None = None,
    observed: Observation | None = None,
    **fields: Any,
) -> Candidate:
    """A candidate; `fields` are further fields of the spec as users write them."""
    wire: dict[str, Any] = {
        "modelID": model,
        "hardware": {"gpuModel": gpu, "gpuCount": count},
        "precision": precision,
        "engineArgs": {"max-model-len": 8192},
        "resources": {"cpu": cpu, "memory": memory},
        **fields,
    }
    if partition:
        wire["hardware"]["partition"] = partition
    point = {
        "tokensPerSecond": tokens,
        "timeToFirstTokenMilliseconds": first_token,
        "interTokenLatencyMilliseconds": inter_token,
    }
    if told := {key: value for key, value in point.items() if value is not None}:
        origin_of_it = {
            "kind": provenance,
            "source": "https://example.com/run",
            "engineVersion": measured_with,
        }
        load = {"workload": {"concurrency": concurrency}} if concurrency else {}
        wire["performance"] = [{**told, **load, "provenance": origin_of_it}]
    made = candidate(name, origin, AIMRecipeSpec.strict_load(wire), listed=listed)
    return replace(made, observed=observed)


def request(
    model: str | None = QWEN, namespace: str = "team-a", labels: Mapping[str, str] | None = None, **spec: Any
) -> Request:
    """A request; `spec` is written as users write it, under Python's names for the parts."""
    wire: dict[str, Any] = {"model": {"id": model} if model else {}, **spec}
    return Request(namespace, AIMDeploymentSpec.strict_load(wire), labels or {})


def wishing(model: str | None = QWEN, *, replicas: int = 1, **wishes: Any) -> Request:
    """A request with wishes under `spec.recipe`."""
    return request(model, recipe=wishes, replicas=replicas)


def chosen(decision: Decision) -> str | None:
    return decision.choice.assessment.candidate.name if decision.choice else None


def verdict_on(decision: Decision, name: str) -> Verdict:
    return next(verdict for verdict in decision.verdicts if verdict.recipe == name)


def reasons(decision: Decision) -> dict[str, Reason]:
    return {verdict.recipe: verdict.reason for verdict in decision.verdicts}


def choose(
    recipes: Iterable[Candidate], inventory: Inventory, asked: Request | None = None, facts: Any = FACTS
) -> Decision:
    return decide(asked or request(), recipes, inventory, facts)


def tracker_of(*objects: dict[str, Any]) -> Tracker:
    tracker = Tracker()
    tracker.replace_nodes(objects)
    return tracker


def pod(uid: str, gpus: int, on: str, owner: tuple[str, str] | None = None) -> PodUsage:
    return PodUsage(uid, "ns", uid, on, owner, {"amd.com/gpu": gpus}, 0, 0, terminal=False, terminating=False)

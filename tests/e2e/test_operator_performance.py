"""What engines deliver, measured by the running operator: status, condition, metrics, and what recipes are known to do here."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.support import Json, Tenant, is_true, message, reason, survived
from testbed.engines import EngineFleet
from testbed.plane import ControlPlane
from testbed.product import Operator, condition, install

QUICK: dict[str, Any] = {
    "intervalSeconds": 1, "windowSeconds": 6, "leastWindowSeconds": 3, "publishSeconds": 2, "conditionSeconds": 1, "timeoutSeconds": 2,
}  # fmt: skip
PATIENCE = 240.0
BUSY: dict[str, Any] = {
    "tokens_per_second": 1200.0,
    "running": 16,
    "waiting": 5,
    "kv_cache_usage": 0.8,
    "ttft": 0.4,
}


@pytest.fixture(scope="module")
def measured_plane() -> Iterator[tuple[ControlPlane, Operator, EngineFleet]]:
    """A plane of its own: its operator looks at engines every second and writes what it sees soon."""
    with ControlPlane.start() as plane:
        install(plane, recipes=[])
        with (
            Operator.start(plane, recipeStatusSeconds=1, measuring=QUICK) as operator,
            EngineFleet(plane) as fleet,
        ):
            yield plane, operator, fleet


@pytest.fixture
def world(
    measured_plane: tuple[ControlPlane, Operator, EngineFleet], request: pytest.FixtureRequest
) -> Iterator[tuple[Tenant, EngineFleet]]:
    plane, operator, fleet = measured_plane
    name = request.node.name.replace("_", "-").removeprefix("test-")[:40].strip("-")
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    corner = Tenant(plane, operator, name)
    yield corner, fleet
    corner.leave()
    survived(operator)


def load(tenant: Tenant, fleet: EngineFleet, name: str = "app", **load: Any) -> None:
    """Put a load on all engines of a deployment, as soon as they listen."""

    def put() -> bool:
        pods = [pod["metadata"]["name"] for pod in tenant.pods(name)]
        if not pods or any(fleet.url(tenant.namespace, pod) is None for pod in pods):
            return False
        for pod in pods:
            fleet.set(tenant.namespace, pod, **load)
        return True

    tenant.wait_for("engines to listen", put, timeout=PATIENCE)


def tokens(obj: Json) -> int:
    return int(obj.get("status", {}).get("performance", {}).get("tokensPerSecond") or 0)


def baseline(obj: Json) -> int:
    found = obj.get("status", {}).get("performance", {}).get("baseline") or {}
    return int(found.get("tokensPerSecond", 0))


def series(tenant: Tenant, family: str, name: str = "app") -> float | None:
    """The value of a gauge of one deployment as the operator serves it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{tenant.operator.port}/metrics", timeout=120) as answer:
        page = answer.read().decode()
    for found in text_string_to_metric_families(page):
        for sample in found.samples:
            labels = sample.labels
            if sample.name == family and (labels.get("namespace"), labels.get("aimdeployment")) == (
                tenant.namespace,
                name,
            ):
                return float(sample.value)
    return None


def test_a_loaded_model_shows_its_numbers_and_meets_or_misses_its_target(
    world: tuple[Tenant, EngineFleet],
) -> None:
    tenant, fleet = world
    recipe = tenant.corner()
    tenant.deploy(replicas=2, targets={"minTokensPerSecond": 1000})
    first = tenant.wait_ready(timeout=PATIENCE)
    assert condition(first, "PerformanceOnTarget")["status"] == "Unknown"
    load(tenant, fleet, **BUSY)
    good = tenant.wait_reason("PerformanceOnTarget", "OnTarget", timeout=PATIENCE)
    good = tenant.wait("to show both replicas", lambda obj: 2100 < tokens(obj) < 2700, timeout=PATIENCE)
    assert is_true(good, "Ready")
    performance = good["status"]["performance"]
    assert performance["replicas"] == 2
    assert performance["expected"]["source"] == "target"
    assert performance["timeToFirstTokenMilliseconds"]["p95"] > 250
    tenant.wait_for(
        "the gauge to show the same",
        lambda: 2100 < (series(tenant, "aim_performance_tokens_per_second") or 0) < 2700,
        timeout=PATIENCE,
    )
    tenant.wait_for(
        "the gauge of those who wait to show both",
        lambda: 5 < (series(tenant, "aim_performance_requests_waiting") or 0) <= 10,
        timeout=PATIENCE,
    )

    def observed() -> Json | None:
        found: Json = tenant.recipe(recipe).get("status", {}).get("observed") or {}
        return found if 1000 < found.get("tokensPerSecond", 0) < 1400 else None

    seen = tenant.wait_for("the recipe to show what it does here", observed, timeout=PATIENCE)
    assert (seen["deployments"], seen["gpuModel"], seen["recipeHash"]) == (
        1, "MI300X", good["status"]["recipe"]["hash"],
    )  # fmt: skip

    load(tenant, fleet, **{**BUSY, "tokens_per_second": 500.0})
    tenant.wait_reason("PerformanceOnTarget", "BelowTarget", timeout=PATIENCE)
    bad = tenant.wait(
        "to be told of both replicas",
        lambda obj: "of 2000 asked on 2 replicas" in message(obj, "PerformanceOnTarget"),
        timeout=PATIENCE,
    )
    assert "requests wait" in message(bad, "PerformanceOnTarget")
    assert is_true(bad, "Ready")
    told = tenant.wait_for(
        "an Event", lambda: [e for e in tenant.events() if e["reason"] == "BelowTarget"], timeout=PATIENCE
    )
    assert told[0]["type"] == "Warning"

    load(tenant, fleet, tokens_per_second=0.0, running=0, waiting=0)
    idle = tenant.wait_reason("PerformanceOnTarget", "NoDemand", timeout=PATIENCE)
    assert condition(idle, "PerformanceOnTarget")["status"] == "Unknown"


def test_a_restarted_engine_and_a_restarted_operator_lose_nothing(world: tuple[Tenant, EngineFleet]) -> None:
    tenant, fleet = world
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready(timeout=PATIENCE)
    load(tenant, fleet, **BUSY)
    tenant.wait("to have a baseline", lambda obj: 1000 < baseline(obj) < 1400, timeout=PATIENCE)
    (pod,) = tenant.pods()
    tenant.delete("Pod", pod["metadata"]["name"])
    tenant.wait_for(
        "another pod",
        lambda: [other for other in tenant.pods() if other["metadata"]["uid"] != pod["metadata"]["uid"]],
    )
    tenant.wait_ready(timeout=PATIENCE)
    load(tenant, fleet, **{**BUSY, "tokens_per_second": 700.0})
    slow = tenant.wait_reason("PerformanceOnTarget", "PerformanceRegressed", timeout=PATIENCE)
    assert "neither engine nor GPU driver changed" in message(slow, "PerformanceOnTarget")
    assert slow["status"]["performance"]["baseline"]["percent"] < 85


def test_better_observed_numbers_make_a_recommendation(world: tuple[Tenant, EngineFleet]) -> None:
    """Two recipes of equal standing: the one that is seen to be faster here is recommended to who runs the other."""
    tenant, fleet = world
    tenant.add_node()
    one = tenant.add_recipe("one", gpus=1)
    other = tenant.add_recipe("other", gpus=1, engineArgs={"max-num-seqs": 256})
    tenant.deploy("a", recipe={"name": one})
    tenant.deploy("b", recipe={"name": other})
    tenant.deploy("c")
    for name in ("a", "b", "c"):
        tenant.wait_ready(name, timeout=PATIENCE)
    chosen = tenant.get("c")["status"]["recipe"]["name"]
    slow, fast = ("a", "b") if chosen == one else ("b", "a")
    load(tenant, fleet, slow, **{**BUSY, "tokens_per_second": 400.0})
    load(tenant, fleet, "c", **{**BUSY, "tokens_per_second": 400.0})
    load(tenant, fleet, fast, **{**BUSY, "tokens_per_second": 1600.0})
    better = other if chosen == one else one
    found = tenant.wait(
        "to recommend the faster recipe",
        lambda obj: (obj.get("status", {}).get("recommendation") or {}).get("recipe") == better,
        "c",
        timeout=PATIENCE,
    )
    assert found["status"]["recipe"]["name"] == chosen


def test_a_deployment_that_is_gone_leaves_no_series(world: tuple[Tenant, EngineFleet]) -> None:
    tenant, fleet = world
    tenant.corner()
    tenant.deploy()
    tenant.wait_ready(timeout=PATIENCE)
    load(tenant, fleet, **BUSY)
    tenant.wait_for(
        "a gauge", lambda: series(tenant, "aim_performance_tokens_per_second") is not None, timeout=PATIENCE
    )
    tenant.remove()
    tenant.wait_for(
        "no gauge", lambda: series(tenant, "aim_performance_tokens_per_second") is None, timeout=PATIENCE
    )


def test_an_unmonitored_deployment_is_left_alone(world: tuple[Tenant, EngineFleet]) -> None:
    tenant, fleet = world
    tenant.corner()
    tenant.deploy(monitoring={"enabled": False})
    tenant.deploy("watched")
    tenant.wait_ready(timeout=PATIENCE)
    tenant.wait_ready("watched", timeout=PATIENCE)
    load(tenant, fleet, "watched", **BUSY)
    load(tenant, fleet, **BUSY)
    tenant.wait("to be measured", lambda obj: tokens(obj) > 0, "watched", timeout=PATIENCE)
    quiet = tenant.get()
    assert "performance" not in quiet["status"]
    assert reason(quiet, "PerformanceOnTarget") == "MeasuringDisabled"

"""The API server fails in every way it can; the operator stays up, asks with patience, and believes in no ghosts."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.support import Tenant, is_true, message, operator_writes, reason, settle, survived
from testbed.fault_proxy import FaultProxy
from testbed.plane import ControlPlane
from testbed.product import GROUP, ROOT, Operator, condition, install

RECOVERY = 240.0
"""Seconds; the longest pause between two attempts that a test provokes is about ten."""
WATCHES = 11
LEASE = {"durationSeconds": 30, "renewSeconds": 1}
"""A leader gives up after two thirds of it: a machine that stands still for ten seconds must not cost it the Lease."""
LONG_LEASE = {"durationSeconds": 600, "renewSeconds": 1}


@dataclass
class Stage:
    """A plane and the proxy through which its operator sees it."""

    plane: ControlPlane
    proxy: FaultProxy


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A plane of this module's own: its tests restart what others need."""
    with ControlPlane.start() as running:
        install(running)
        yield Stage(running, running.fault_proxy())


@pytest.fixture(scope="module")
def shaken_process(stage: Stage) -> Iterator[Operator]:
    """The operator that sees the API server through the proxy."""
    with Operator.start(stage.plane, server=stage.proxy.url, name="shaken", recipeStatusSeconds=1) as running:
        yield running


def settle_in(stage: Stage, operator: Operator) -> Iterator[Tenant]:
    name = f"fault-{uuid.uuid4().hex[:8]}"
    stage.plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    stage.plane.wait_for(
        lambda: stage.plane.request("GET", account), 240, f"the default ServiceAccount of {name}"
    )
    tenant = Tenant(stage.plane, operator, name)
    yield tenant
    tenant.leave()
    stage.plane.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def shaken(stage: Stage, shaken_process: Operator) -> Iterator[Tenant]:
    """A tenant of the operator behind the proxy. The operator has to be alive before and after."""
    if shaken_process.name not in shaken_process.processes.running():
        shaken_process.run()
    stage.plane.wait_for(shaken_process.leads, RECOVERY, "the operator to lead")
    wait_until_it_sees(stage)
    began = shaken_process.metric("process_start_time_seconds")
    yield from settle_in(stage, shaken_process)
    stage.proxy.clear()
    stage.proxy.unblock()
    survived(shaken_process)
    assert shaken_process.metric("process_start_time_seconds") == began, f"it ended:\n{shaken_process.log()}"


def blind(stage: Stage) -> None:
    """From now on the operator sees nothing; when it sees again, its watches are too old."""
    stage.proxy.block()


def see(stage: Stage) -> None:
    before = stage.proxy.requests
    stage.proxy.gone_on_watch(10**6)
    stage.proxy.unblock()
    make_all_watches_start_anew(stage, before)


def make_all_watches_start_anew(stage: Stage, before: Counter[tuple[str, str]]) -> None:
    """Wait until every watch was told that its version is too old, then let them pass."""
    watched = [key for key in before if key[0] == "WATCH"]
    stage.plane.wait_for(
        lambda: all(stage.proxy.requests[key] > before[key] for key in watched),
        RECOVERY,
        "all watches to be renewed",
    )
    stage.proxy.clear()


def wait_until_it_sees(stage: Stage) -> None:
    """What a test before broke may still be in its last pause."""
    stage.plane.wait_for(lambda: stage.proxy.open_watches >= WATCHES, RECOVERY, "all watches to be open")


def cut(stage: Stage, way: str) -> None:
    """Break all watches in one of three ways."""
    wait_until_it_sees(stage)
    before = stage.proxy.requests
    if way == "410":
        stage.proxy.gone_on_watch(10**6)
    assert stage.proxy.cut_watches(mid_line=way == "mid-line") >= WATCHES
    if way == "410":
        make_all_watches_start_anew(stage, before)


@pytest.mark.parametrize("status", [429, 500, 503, 409])
@pytest.mark.parametrize("where", ["/deployments", "/services", "/controllerrevisions", "/status"])
def test_a_refused_write_is_tried_again(shaken: Tenant, stage: Stage, where: str, status: int) -> None:
    shaken.corner()
    mine = f"/namespaces/{shaken.namespace}/"
    rule = stage.proxy.fail(
        lambda method, path: method in ("POST", "PATCH") and mine in path and path.endswith(where),
        status=status,
        times=2,
    )
    shaken.deploy()
    shaken.wait_ready(timeout=RECOVERY)
    assert rule.hits == 2


def test_retry_after_is_honoured(shaken: Tenant, stage: Stage) -> None:
    shaken.corner()
    mine = f"/namespaces/{shaken.namespace}/deployments"
    rule = stage.proxy.fail(
        lambda method, path: method == "POST" and path.endswith(mine), status=429, times=1, retry_after=3
    )
    began = time.monotonic()
    shaken.deploy()
    shaken.wait_for("the Deployment", lambda: shaken.exists("Deployment", "app"), timeout=RECOVERY)
    assert time.monotonic() - began >= 3 * 0.8
    assert rule.hits == 1


def test_what_cannot_be_written_is_tried_with_growing_pauses_and_stops_nobody_else(
    shaken: Tenant, stage: Stage
) -> None:
    shaken.corner()
    rule = stage.proxy.fail(
        lambda method, path: path.endswith(f"/{shaken.namespace}/aimdeployments/app/status"),
        status=500,
        times=None,
    )
    shaken.deploy()
    shaken.wait_for("the first refusal", lambda: rule.hits)
    shaken.deploy("other")
    shaken.wait_ready("other")
    before = rule.hits
    time.sleep(6)
    assert rule.hits - before <= 15
    assert shaken.operator.leads()
    stage.proxy.clear()
    shaken.wait_ready(timeout=RECOVERY)


def test_nothing_is_asked_in_a_hot_loop_while_the_api_server_fails(shaken: Tenant, stage: Stage) -> None:
    shaken.corner()
    shaken.deploy()
    shaken.wait_ready()
    stage.proxy.fail(status=500, times=None)
    stage.proxy.cut_watches()
    before = sum(stage.proxy.requests.values())
    time.sleep(5)
    asked = sum(stage.proxy.requests.values()) - before
    assert asked <= 150, stage.proxy.requests
    stage.proxy.clear()
    shaken.deploy("late")
    shaken.wait_ready("late", timeout=RECOVERY)


def test_nothing_is_asked_in_a_hot_loop_while_every_watch_is_too_old(shaken: Tenant, stage: Stage) -> None:
    stage.proxy.gone_on_watch(10**6)
    before = stage.proxy.requests
    stage.proxy.cut_watches()
    time.sleep(4)
    asked = stage.proxy.requests - before
    reads = {key: count for key, count in asked.items() if key[0] in ("GET", "WATCH")}
    assert sum(reads.values()) <= 150, reads
    stage.proxy.clear()
    shaken.corner()
    shaken.deploy()
    shaken.wait_ready(timeout=RECOVERY)


@pytest.mark.parametrize("way", ["410", "clean", "mid-line"])
def test_a_watch_that_breaks_goes_on(shaken: Tenant, stage: Stage, way: str) -> None:
    shaken.corner()
    for turn in range(2):
        cut(stage, way)
        shaken.deploy(f"d{turn}")
    for turn in range(2):
        shaken.wait_ready(f"d{turn}", timeout=RECOVERY)
    shaken.update("d0", replicas=2)
    shaken.wait("two replicas to answer", lambda obj: obj["status"]["ready"] == "2/2", "d0")


def test_a_deployment_that_runs_is_left_alone_while_watches_break(shaken: Tenant, stage: Stage) -> None:
    shaken.corner()
    shaken.deploy()
    shaken.wait_ready()
    settle(shaken)
    mark = shaken.plane.audit.mark()
    for way in ("410", "clean", "mid-line"):
        cut(stage, way)
    time.sleep(3)
    writes = operator_writes(shaken.plane, mark, namespace=shaken.namespace, events=True)
    assert writes == []


def test_a_restart_of_the_api_server_changes_nothing(shaken: Tenant, stage: Stage) -> None:
    shaken.corner()
    shaken.deploy()
    shaken.wait_ready()
    (pod,) = shaken.pods()
    version = shaken.find("Deployment", "app")["metadata"]["generation"]
    stage.plane.restart_apiserver()
    shaken.deploy("late")
    shaken.wait_ready("late", timeout=RECOVERY)
    assert [p["metadata"]["uid"] for p in shaken.pods()] == [pod["metadata"]["uid"]]
    assert shaken.find("Deployment", "app")["metadata"]["generation"] == version


def test_gpus_of_a_pod_that_went_unseen_are_free(shaken: Tenant, stage: Stage) -> None:
    shaken.corner(gpus=8)
    shaken.occupy(1)
    shaken.deploy()
    shaken.wait_reason("RecipeSelected", "InsufficientCapacity")
    blind(stage)
    shaken.delete("Pod", "stranger")
    see(stage)
    shaken.wait_ready(timeout=RECOVERY)


def test_a_promise_to_a_deployment_that_went_unseen_is_released(shaken: Tenant, stage: Stage) -> None:
    shaken.corner(gpus=8)
    shaken.create("ResourceQuota", {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    shaken.wait_for(
        "the quota to count", lambda: shaken.find("ResourceQuota", "none").get("status", {}).get("hard")
    )
    shaken.deploy("first")
    shaken.wait_reason("Available", "PodCreationRefused", "first")
    shaken.deploy("second")
    shaken.wait_reason("RecipeSelected", "InsufficientCapacity", "second")
    blind(stage)
    shaken.remove("first")
    see(stage)
    shaken.wait("a recipe", lambda obj: is_true(obj, "RecipeSelected"), "second", timeout=RECOVERY)
    shaken.delete("ResourceQuota", "none")
    shaken.wait_ready("second", timeout=RECOVERY)


def test_a_node_that_went_unseen_is_offered_to_nobody(shaken: Tenant, stage: Stage) -> None:
    shaken.corner(gpus=8)
    gone = shaken.add_node()
    shaken.wait_for(
        "both nodes to be known",
        lambda: shaken.recipe(shaken.recipes[0]).get("status", {}).get("fits", 0) >= 2,
    )
    blind(stage)
    shaken.plane.request("DELETE", f"/api/v1/nodes/{gone}")
    see(stage)
    shaken.wait_for(
        "its going to be known",
        lambda: shaken.recipe(shaken.recipes[0])["status"]["fits"] == 1,
        timeout=RECOVERY,
    )
    shaken.deploy(replicas=2)
    partly = shaken.wait(
        "one replica to answer", lambda obj: obj.get("status", {}).get("ready") == "1/2", timeout=RECOVERY
    )
    assert "1 of 2" in message(partly, "Available")
    assert shaken.find("Deployment", "app")["spec"]["replicas"] == 1


def test_a_recipe_that_went_unseen_is_chosen_by_nobody(shaken: Tenant, stage: Stage) -> None:
    shaken.corner()
    kept = shaken.add_recipe("kept", maturity="unoptimized", precision="fp16")
    before = shaken.operator.metric("aim_operator_cache_ghosts_total")
    ghost = f'aim_recipe_info{{namespace="",aimrecipe="{shaken.recipes[0]}",'
    shaken.wait_for("the recipe to be seen", lambda: shaken.operator.metric(ghost) == 1)
    blind(stage)
    shaken.plane.request("DELETE", f"{GROUP}/aimrecipes/{shaken.recipes[0]}")
    see(stage)
    shaken.wait_for(
        "the ghost to be found", lambda: ghost not in shaken.operator.get("/metrics")[1], timeout=RECOVERY
    )
    assert shaken.operator.metric("aim_operator_cache_ghosts_total") > before
    shaken.deploy()
    assert shaken.wait_ready()["status"]["recipe"]["name"] == kept


def test_a_deployment_made_and_a_child_deleted_unseen_are_made_good(shaken: Tenant, stage: Stage) -> None:
    shaken.corner()
    shaken.deploy()
    shaken.wait_ready()
    blind(stage)
    shaken.delete("Service", "app-service")
    shaken.deploy("late")
    see(stage)
    shaken.wait_ready("late", timeout=RECOVERY)
    shaken.wait_for(
        "the Service to come back", lambda: shaken.exists("Service", "app-service"), timeout=RECOVERY
    )


def test_an_operator_that_cannot_reach_the_api_server_at_its_start_waits_for_it(
    shaken: Tenant, stage: Stage
) -> None:
    shaken.corner()
    stage.proxy.block()
    with Operator.start(stage.plane, server=stage.proxy.url, name="early", wait=False) as early:
        shaken.wait_for("its port", lambda: early.get("/healthz")[0] != 0)
        assert early.get("/readyz")[0] == 503
        stage.proxy.unblock()
        shaken.wait_for("it to be ready", early.ready, timeout=RECOVERY)


# Two replicas, and upgrades


@pytest.fixture
def pair(stage: Stage, shaken_process: Operator, request: pytest.FixtureRequest) -> Iterator[list[Operator]]:
    """Two operators, with another Lease where a test says so, in place of the one behind the proxy."""
    shaken_process.stop()
    started: list[Operator] = []
    lease = getattr(request, "param", LEASE)

    def start(name: str) -> None:
        name = f"{name}-{uuid.uuid4().hex[:4]}"
        started.append(Operator.start(stage.plane, name=name, wait=False, lease=lease))

    try:
        start("one")
        start("two")
        stage.plane.wait_for(
            lambda: all(o.ready() for o in started) and any(o.leads() for o in started),
            RECOVERY,
            "two operators",
        )
        yield started
    finally:
        for one in started:
            one.stop()  # gives the Lease back
            one.close()


@pytest.fixture
def pair_tenant(stage: Stage, pair: list[Operator]) -> Iterator[Tenant]:
    """A tenant of the two."""
    yield from settle_in(stage, leader(pair))


def leader(pair: list[Operator]) -> Operator:
    (found,) = [one for one in pair if one.leads()]
    return found


def test_of_two_replicas_exactly_one_works(pair: list[Operator], pair_tenant: Tenant) -> None:
    pair_tenant.corner()
    mark = pair_tenant.plane.audit.mark()
    pair_tenant.deploy()
    pair_tenant.wait_ready()
    for _ in range(20):
        assert [one.leads() for one in pair].count(True) == 1
        time.sleep(0.1)
    made = [
        w
        for w in operator_writes(pair_tenant.plane, mark, namespace=pair_tenant.namespace)
        if w.verb == "create"
    ]
    assert len(made) == len({(w.resource, w.name) for w in made}) == 3


def test_the_second_replica_takes_over_when_the_leader_is_killed(
    pair: list[Operator], pair_tenant: Tenant
) -> None:
    pair_tenant.corner()
    pair_tenant.deploy()
    pair_tenant.wait_ready()
    settle(pair_tenant)
    first = leader(pair)
    (second,) = [one for one in pair if one is not first]
    mark = pair_tenant.plane.audit.mark()
    first.kill()
    pair_tenant.deploy("late")
    pair_tenant.wait_for("the other to lead", second.leads, timeout=LEASE["durationSeconds"] + RECOVERY)
    pair_tenant.wait_ready("late")
    touched = [
        w
        for w in operator_writes(pair_tenant.plane, mark, namespace=pair_tenant.namespace)
        if "late" not in w.name
    ]
    assert touched == []


@pytest.mark.parametrize("pair", [LONG_LEASE], indirect=True, ids=["long Lease"])
def test_a_leader_that_is_ended_hands_over_without_its_lease_running_out(
    pair: list[Operator], pair_tenant: Tenant
) -> None:
    first = leader(pair)
    (second,) = [one for one in pair if one is not first]
    code = first.stop()
    pair_tenant.wait_for("the other to lead", second.leads, timeout=RECOVERY)
    assert code == 0, first.log()


def newer_sources(directory: Path) -> Path:
    """Our sources with a renderer that writes visibly different pods."""
    copy = directory / "operator"
    shutil.copytree(ROOT / "operator", copy, ignore=shutil.ignore_patterns("__pycache__"))
    inputs, pod = copy / "aim_engine/render/inputs.py", copy / "aim_engine/render/pod.py"
    text, count = re.subn(
        r"^RENDERER_VERSION = \d+", "RENDERER_VERSION = 999", inputs.read_text(), flags=re.M
    )
    assert count == 1
    inputs.write_text(text)
    mark = '"enableServiceLinks": False,'
    assert mark in pod.read_text()
    pod.write_text(pod.read_text().replace(mark, mark + ' "hostname": "newer",'))
    return copy


def test_an_upgrade_of_the_renderer_rolls_no_engine_until_the_user_changes_something(
    stage: Stage, shaken_process: Operator, tmp_path: Path
) -> None:
    shaken_process.stop()
    for name in ("older", "newer"):
        assert not (stage.plane.workdir / "operators" / name).exists()
    with Operator.start(stage.plane, name="older", lease=LEASE) as older:
        steps = settle_in(stage, older)
        tenant = next(steps)
        tenant.corner()
        tenant.deploy()
        tenant.deploy("several", replicas=2, service={"annotations": {"example.com/a": "1"}})
        tenant.deploy("stopped", suspend=True)
        tenant.wait_ready()
        tenant.wait(
            "two replicas to answer", lambda obj: obj.get("status", {}).get("ready") == "2/2", "several"
        )
        tenant.wait_reason("Ready", "Suspended", "stopped")
        settle(tenant)
        before = {d["metadata"]["name"]: d["spec"] for d in tenant.all("Deployment")}
        sets = {s["metadata"]["uid"] for s in tenant.all("ReplicaSet")}
        mark = tenant.plane.audit.mark()
        older.stop()
    with Operator.start(
        stage.plane, name="newer", lease=LEASE, python_path=str(newer_sources(tmp_path))
    ) as newer:
        tenant.operator = newer
        time.sleep(5)
        writes = operator_writes(tenant.plane, mark, namespace=tenant.namespace, events=True)
        assert writes == []
        assert {s["metadata"]["uid"] for s in tenant.all("ReplicaSet")} == sets
        tenant.delete("Deployment", "app")
        tenant.wait_for("the Deployment to come back", lambda: tenant.exists("Deployment", "app"))
        tenant.wait_ready(timeout=RECOVERY)
        assert tenant.find("Deployment", "app")["spec"] == before["app"]
        tenant.update("several", replicas=3)
        tenant.wait("three replicas to answer", lambda obj: obj["status"]["ready"] == "3/3", "several")
        assert tenant.find("Deployment", "several")["spec"]["template"] == before["several"]["template"]
        tenant.update(overrides={"env": {"NCCL_DEBUG": "INFO"}})
        ready = tenant.wait(
            "the change to be served",
            lambda obj: is_true(obj, "Ready") and obj["status"]["readyReplicas"] == 1,
            timeout=RECOVERY,
        )
        assert tenant.find("Deployment", "app")["spec"]["template"]["spec"]["hostname"] == "newer"
        revision = tenant.find("ControllerRevision", ready["status"]["recipe"]["revision"])
        assert revision["data"]["renderer"] == 999
        assert reason(ready, "RecipeSelected") == "RecipeSelected"
        assert condition(tenant.get("several"), "Ready")["status"] == "True"
        next(steps, None)

"""What the operator may cost, counted by the API server itself. Renewals of the Lease are left out everywhere: they are
one write every few seconds by the clock, whatever happens. Events are counted on their own."""

from __future__ import annotations

import http.client
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.support import COLLECTION, PATIENCE, Tenant, is_true, operator_writes, settle
from testbed.audit import AuditRecord
from testbed.plane import ControlPlane
from testbed.product import GROUP, USER, Operator, install, path

AT_REST_SECONDS = 60
BURST = 200


@pytest.fixture(scope="module")
def own_plane() -> Iterator[ControlPlane]:
    """A plane that no other module writes on."""
    with ControlPlane.start() as running:
        install(running)
        yield running


@pytest.fixture(scope="module")
def own_operator(own_plane: ControlPlane) -> Iterator[Operator]:
    """The operator with its shipped settings."""
    with Operator.start(own_plane) as running:
        yield running


@pytest.fixture
def corner(own_plane: ControlPlane, own_operator: Operator) -> Iterator[Tenant]:
    """A tenant on the plane of this module."""
    name = f"budget-{uuid.uuid4().hex[:8]}"
    own_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    own_plane.wait_for(
        lambda: own_plane.request("GET", account), PATIENCE, f"the default ServiceAccount of {name}"
    )
    tenant = Tenant(own_plane, own_operator, name)
    yield tenant
    tenant.leave()
    # Nothing can be written into a namespace that is going: the operator has to know first that nothing is there.
    known = f'namespace="{name}"'

    def forgotten() -> bool:
        status, page = own_operator.get("/metrics")
        return status == http.client.OK and known not in page

    own_plane.wait_for(forgotten, PATIENCE, "the operator to forget all")
    own_plane.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def hasty_operator(own_plane: ControlPlane, own_operator: Operator, corner: Tenant) -> Iterator[Operator]:
    """In place of the shipped settings one that soon has written all recipe statuses, so that rest begins early."""
    own_operator.stop()
    try:
        with Operator.start(own_plane, name=f"hasty-{uuid.uuid4().hex[:4]}", recipeStatusSeconds=1) as hasty:
            corner.operator = hasty
            yield hasty
            hasty.stop()
    finally:
        corner.operator = own_operator
        own_operator.run()


def of_objects(writes: list[AuditRecord]) -> list[AuditRecord]:
    """Without recipe statuses, which have a budget of their own."""
    return [w for w in writes if not w.resource.startswith("aimrecipes")]


def told(writes: list[AuditRecord]) -> str:
    """Writes as a list for people."""
    return "\n".join(
        f"{w.at:%H:%M:%S.%f} {w.verb} {w.resource}/{w.subresource} {w.name} {w.code}" for w in writes
    )


def test_a_new_deployment_costs_four_writes_before_its_pods_and_two_until_it_is_ready(corner: Tenant) -> None:
    corner.corner()
    settle(corner, 1.0)
    mark = corner.plane.audit.mark()
    corner.deploy()
    corner.wait_ready()
    settle(corner, 1.5)
    records = corner.plane.audit.records(mark)
    started = next(
        r.at
        for r in records
        if (r.resource, r.verb) == ("pods", "create") and r.namespace == corner.namespace
    )
    writes = operator_writes(corner.plane, mark, namespace=corner.namespace, events=True)
    events = [w for w in writes if w.resource.startswith("events")]
    ours = [w for w in writes if w not in events]
    before = [w for w in ours if w.at <= started]
    after = [w for w in ours if w.at > started]
    # The three go out together; the pod may be there before the last of them has arrived.
    created = sorted(w.resource.partition(".")[0] for w in ours if w.verb == "create")
    assert created == ["controllerrevisions", "deployments", "services"]
    assert all(w.code < 400 for w in writes), told(writes)
    assert len(ours) <= 6, told(ours)
    assert len(before) <= 4, told(ours)
    assert all(
        w.resource.startswith("aimdeployments") and w.subresource == "status"
        for w in ours
        if w.verb != "create"
    )
    status = [w for w in after if w.resource.startswith("aimdeployments")]
    assert len(status) <= 3, told(ours)
    assert 1 <= len(events) <= 3, told(events)


def test_an_unchanged_apply_costs_nothing(corner: Tenant, hasty_operator: Operator) -> None:
    corner.corner()
    body = corner.body(overrides={"env": {"NCCL_DEBUG": "INFO"}}, service={"port": 9000})
    corner.plane.apply(body)
    corner.wait_ready()
    settle(corner)
    mark = corner.plane.audit.mark()
    for _ in range(3):
        corner.plane.apply(body)
    settle(corner, 3.0)
    writes = operator_writes(corner.plane, mark, events=True)
    assert writes == [], told(writes)


def many(tenant: Tenant, count: int) -> None:
    """Create deployments d0, d1, ... from eight clients."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: tenant.deploy(f"d{i}"), range(count)))


def all_ready(tenant: Tenant, count: int) -> bool:
    found = tenant.plane.request("GET", path(tenant.namespace))["items"]
    return sum(is_true(obj, "Ready") for obj in found) == count


def test_a_restart_of_the_operator_costs_no_write_and_rolls_no_engine(
    corner: Tenant, hasty_operator: Operator
) -> None:
    for _ in range(3):
        corner.add_node()
    recipe = corner.add_recipe()
    many(corner, 10)
    corner.deploy("several", replicas=2, cache={"sizeGiB": 10})
    corner.deploy("waiting", recipe={"precision": "fp16"})
    corner.wait_for("ten to be Ready", lambda: all_ready(corner, 10), timeout=COLLECTION)
    corner.wait("to be judged", lambda obj: obj.get("status"), "waiting")
    corner.change_recipe(recipe, engineArgs={"max-num-seqs": 77})
    corner.wait_reason("RecipeSelected", "RecipeDrifted", "d0")
    settle(corner)
    before = {d["metadata"]["name"]: d["metadata"]["resourceVersion"] for d in corner.all("Deployment")}
    sets = {s["metadata"]["uid"] for s in corner.all("ReplicaSet")}
    mark = corner.plane.audit.mark()
    code = hasty_operator.stop()
    hasty_operator.run()
    assert code == 0, hasty_operator.log()
    settle(corner, 5.0)
    writes = operator_writes(corner.plane, mark, events=True)
    assert writes == [], told(writes)
    assert {
        d["metadata"]["name"]: d["metadata"]["resourceVersion"] for d in corner.all("Deployment")
    } == before
    assert {s["metadata"]["uid"] for s in corner.all("ReplicaSet")} == sets


def test_what_was_added_while_no_operator_ran_is_recommended(
    corner: Tenant, hasty_operator: Operator
) -> None:
    chosen = corner.corner(maturity="general")
    corner.deploy()
    corner.wait_ready()
    hasty_operator.stop()
    better = corner.add_recipe("better", maturity="optimized", engineArgs={"max-num-seqs": 99})
    hasty_operator.run()
    told = corner.wait(
        "the recommendation",
        lambda obj: obj["status"].get("recommendation", {}).get("recipe") == better,
        timeout=COLLECTION,
    )
    assert told["status"]["recipe"]["name"] == chosen


def test_a_burst_of_200_costs_six_writes_each_and_no_recipe_more_than_two_a_minute(corner: Tenant) -> None:
    for _ in range(BURST // 8):
        corner.add_node()
    corner.add_recipe()
    mark = corner.plane.audit.mark()
    many(corner, BURST)
    corner.wait_for("all to be Ready", lambda: all_ready(corner, BURST), timeout=600)
    settle(corner)
    writes = operator_writes(corner.plane, mark)
    mine = [w for w in of_objects(writes) if w.namespace == corner.namespace]
    assert all(w.code < 400 for w in writes), told([w for w in writes if w.code >= 400])
    assert len(mine) / BURST <= 6, Counter((w.verb, w.resource, w.subresource) for w in mine)
    assert len(mine) / BURST >= 4
    statuses: dict[str, list[float]] = {}
    for write in writes:
        if write.resource.startswith("aimrecipes"):
            statuses.setdefault(write.name, []).append(write.at.timestamp())
    assert statuses
    for name, at in statuses.items():
        # A write may have been on its way for a moment longer than the one two later.
        busiest = max(sum(start <= other < start + 58 for other in at) for start in at)
        assert busiest <= 2, f"{name}: {busiest} status writes within a minute"


@pytest.mark.serial
def test_at_rest_fifty_deployments_cost_no_write_in_a_minute(
    corner: Tenant, hasty_operator: Operator
) -> None:
    for _ in range(7):
        corner.add_node()
    corner.add_recipe()
    many(corner, 50)
    corner.wait_for("all to be Ready", lambda: all_ready(corner, 50), timeout=COLLECTION)
    settle(corner, 4.0)
    mark = corner.plane.audit.mark()
    passes = hasty_operator.metric("aim_operator_reconcile_total")
    time.sleep(AT_REST_SECONDS)
    writes = operator_writes(corner.plane, mark, events=True)
    assert writes == [], told(writes)
    records = corner.plane.audit.records(mark)
    reads = [
        r for r in records if r.user == USER and r.verb in ("get", "list") and "leases" not in r.resource
    ]
    assert reads == [], told(reads)
    looked_at = hasty_operator.metric("aim_operator_reconcile_total") - passes
    assert looked_at < 50 / 2, "deployments are looked at by the clock"


def test_the_shipped_rights_were_enough_for_everything_in_this_module(corner: Tenant) -> None:
    corner.corner()
    corner.deploy(replicas=2, cache={"sizeGiB": 10, "retain": False})
    corner.wait_for("the budget", lambda: corner.exists("PodDisruptionBudget", "app"))
    corner.update(replicas=1, service={"annotations": {"example.com/a": "1"}})
    corner.wait_for("the budget to go", lambda: not corner.exists("PodDisruptionBudget", "app"))
    corner.change("Service", "app-service", {"spec": {"type": "NodePort"}})
    corner.wait_for(
        "the repair", lambda: corner.find("Service", "app-service")["spec"]["type"] == "ClusterIP"
    )
    for revision in corner.all("ControllerRevision", owner="app"):
        corner.delete("ControllerRevision", revision["metadata"]["name"])
    corner.wait_for("a revision to come back", lambda: corner.all("ControllerRevision", owner="app"))
    refused = corner.plane.audit.forbidden(user=USER)
    assert refused == [], told(refused)


def test_the_operator_may_not_do_what_it_need_not(corner: Tenant) -> None:
    corner.corner()
    namespace = corner.namespace

    def allowed(verb: str, resource: str, group: str = "") -> bool:
        attributes = {"verb": verb, "resource": resource, "group": group, "namespace": namespace}
        review = {"spec": {"user": USER, "resourceAttributes": attributes}}
        answer = corner.plane.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    assert allowed("create", "deployments", "apps")
    for verb, resource, group in (
        ("get", "secrets", ""), ("list", "secrets", ""), ("create", "pods", ""), ("delete", "pods", ""), ("get", "pods/log", ""),
        ("create", "pods/exec", ""), ("create", "rolebindings", "rbac.authorization.k8s.io"), ("patch", "nodes", ""),
        ("delete", "persistentvolumeclaims", ""), ("update", "aimdeployments", "aim.engine.amd.com"),
        ("impersonate", "users", ""), ("create", "serviceaccounts/token", ""), ("delete", "deployments", "apps"),
    ):  # fmt: skip
        assert not allowed(verb, resource, group), f"{verb} {resource}"


def test_recipes_are_written_by_nobody_but_their_status(corner: Tenant) -> None:
    corner.corner()
    name = corner.recipes[0]
    before = corner.recipe(name)["metadata"]["generation"]
    corner.deploy()
    corner.wait_ready()
    assert corner.recipe(name)["metadata"]["generation"] == before
    ours = corner.plane.audit.writes(user=USER, resource="aimrecipes")
    assert {w.subresource for w in ours} <= {"status"}
    assert corner.plane.request("GET", f"{GROUP}/aimrecipes")["items"]

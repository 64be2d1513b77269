"""Scrapes of a large cluster beside the Lease, and tokens at the door, on a real API server."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from aim_engine.kube.client import KubeClient
from aim_engine.kube.connection import connect
from aim_engine.reconcile.config import LeaseConfig
from aim_engine.reconcile.lease import Election
from aim_engine.reconcile.resources import LEASES
from aim_engine.telemetry.metrics import Metrics
from aim_engine.telemetry.server import Pages, serve
from aim_engine.telemetry.store import SeriesStore
from testbed.plane import ControlPlane
from testbed.product import NAMESPACE, USER, Operator, install
from unit.series_world import many, measured, series

DEPLOYMENTS, RECIPES = 5000, 200
RENEWALS = 8
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}


@dataclass
class Scraper:
    """A thread that scrapes without a pause, as no Prometheus would."""

    port: int
    pages: list[tuple[int, bool]] = field(default_factory=list)
    """(deployments shown, whether the page came to its end) of every scrape."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            connection.request("GET", "/metrics", headers=OPENMETRICS)
            body = connection.getresponse().read()
            self.pages.append((body.count(b"\naim_deployment_info{"), body.endswith(b"# EOF\n")))
            connection.close()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        assert self._thread
        await asyncio.to_thread(self._thread.join, 120)
        assert not self._thread.is_alive()


@asynccontextmanager
async def client_of(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> AsyncIterator[KubeClient]:
    """A client as the operator has it, which notes each write that was accepted."""

    def observe(verb: str, code: int, _: float) -> None:
        if verb in ("PUT", "POST") and code < http.client.BAD_REQUEST:
            counted.append(code)

    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    connection = await connect()
    try:
        yield KubeClient(connection, observe)
    finally:
        await connection.close()


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Return as soon as it holds; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  several things must come together
            await asyncio.sleep(0.05)


async def test_the_lease_is_renewed_throughout_scrapes_of_five_thousand_deployments(
    plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, tracker = many(DEPLOYMENTS, RECIPES)
    metrics = Metrics()
    shown = series(cache, tracker)
    metrics.objects = shown.store
    measured(shown.store, cache)
    renewals: list[int] = []
    async with client_of(plane, monkeypatch, renewals) as client:
        election = Election(
            client, namespace, LeaseConfig(name="scraped", duration_seconds=30, renew_seconds=1)
        )

        async def objects() -> SeriesStore | None:
            for key in list(cache.deployments)[
                :: DEPLOYMENTS // 100
            ]:  # something changes between any two scrapes
                stored = cache.deployments[key]
                cache.deployments[key] = replace(stored, generation=stored.generation + 1)
            return await shown.refresh()

        def well() -> None:
            return None

        runner = await serve("127.0.0.1:0", Pages(metrics.registry, well, well, objects))
        scraper = Scraper(runner.addresses[0][1])
        leading = asyncio.create_task(election.run(asyncio.Event().wait))  # type: ignore[arg-type]
        try:
            await until(lambda: election.leading, 60)
            scraper.start()
            began = len(renewals)
            await until(
                lambda: leading.done() or (len(renewals) >= began + RENEWALS and len(scraper.pages) > 2), 240
            )
            assert election.leading, "lost"
            lease = await client.get(LEASES, namespace, "scraped")
        finally:
            await scraper.stop()
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            await runner.cleanup()
    assert (lease["spec"]["holderIdentity"], lease["spec"].get("leaseTransitions", 0)) == (
        election.identity,
        0,
    )
    assert len(renewals) >= began + RENEWALS
    assert set(scraper.pages) == {(DEPLOYMENTS, True)}
    per_scrape = (shown.store.rendered - DEPLOYMENTS - RECIPES - DEPLOYMENTS) / len(scraper.pages)
    assert per_scrape <= 101, "a scrape writes anew what changed and nothing else"


def test_metrics_are_for_whom_the_cluster_lets_read_them(plane: ControlPlane) -> None:
    install(plane, recipes=())
    plane.apply(
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}
            for name in ("prometheus", "curious")
        ),
        role("aim-engine-operator-metrics-access", [
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
            {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
        ]),
        role("aim-engine-metrics-reader", [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]),
        binding("aim-engine-operator-metrics-access", "aim-engine-operator"),
        binding("aim-engine-metrics-reader", "prometheus"),
    )  # fmt: skip

    def status(operator: Operator, path: str, token: str | None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", operator.port, timeout=120)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status

    config: dict[str, Any] = {
        "lease": {"name": "guarded"},
        "leaderElection": False,
        "metrics": {"authenticate": True},
    }
    with Operator.start(plane, name="guarded", wait=False, **config) as operator:
        plane.wait_for(operator.ready, 240, f"the operator to be ready\n{operator.log()}")
        allowed = plane.service_account_token(NAMESPACE, "prometheus")
        plane.await_right(USER, "create", "tokenreviews", "authentication.k8s.io")
        plane.await_right(USER, "create", "subjectaccessreviews", "authorization.k8s.io")
        plane.wait_for(
            lambda: status(operator, "/metrics", allowed) == http.client.OK,
            60,
            "the reader's right to be in force",
        )
        assert (
            status(operator, "/metrics", plane.service_account_token(NAMESPACE, "curious"))
            == http.client.FORBIDDEN
        )
        assert status(operator, "/metrics", allowed[:-4] + "AAAA") == http.client.UNAUTHORIZED
        assert status(operator, "/metrics", None) == http.client.UNAUTHORIZED
        assert status(operator, "/readyz", None) == status(operator, "/healthz", None) == http.client.OK


def role(name: str, rules: list[dict[str, list[str]]]) -> dict[str, object]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}  # fmt: skip


def binding(name: str, account: str) -> dict[str, object]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }  # fmt: skip

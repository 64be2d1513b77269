"""The operator's port: three paths, two formats, TLS, and who may read /metrics."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile import access as access_module
from aim_engine.reconcile.access import MetricsAccess
from aim_engine.telemetry import server as server_module
from aim_engine.telemetry.metrics import KINDS, SELECTION_RESULTS, Metrics, Trouble
from aim_engine.telemetry.server import Pages, serve
from aim_engine.telemetry.store import SeriesStore
from aim_engine.telemetry.tls import Certificate
from testbed.certs import certificate_authority, server_certificate
from unit.series_world import many, measured, series

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@asynccontextmanager
async def served(
    metrics: Metrics | None = None, *, objects: bool = True, tls: ssl.SSLContext | None = None, **pages: Any
) -> AsyncIterator[str]:
    """Address of a server on a port of its own; objects are those of a small cluster."""
    found = metrics or Metrics()
    cache, tracker = many(30, recipes=5)
    shown = series(cache, tracker)
    found.objects = shown.store
    measured(shown.store, cache)

    async def store() -> SeriesStore | None:
        return await shown.refresh() if objects else None

    def well() -> None:
        return None

    told = {"healthy": well, "ready": well, "objects": store, **pages}
    runner = await serve("127.0.0.1:0", Pages(found.registry, **told), tls)
    try:
        port = runner.addresses[0][1]
        yield f"http{'s' if tls else ''}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def get(url: str, ssl_context: ssl.SSLContext | bool = True, **headers: str) -> tuple[int, str, str]:
    """(status, content type, body)."""
    async with aiohttp.ClientSession(trust_env=False) as session, session.get(url, headers=headers, ssl=ssl_context) as answer:  # fmt: skip
        return answer.status, answer.headers.get("Content-Type", ""), await answer.text()


def parsed(text: str, kind: str) -> list[Metric]:
    if kind.startswith("application/openmetrics-text"):
        return list(read_openmetrics(text))  # type: ignore[no-untyped-call]
    return list(read_text(text))


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", OPENMETRICS])
async def test_the_page_is_valid_in_the_format_that_was_asked_for_and_says_the_same(accept: str) -> None:
    async with served() as address:
        status, kind, text = await get(f"{address}/metrics", Accept=accept)
    assert status == http.client.OK
    assert kind.startswith("application/openmetrics-text" if accept == OPENMETRICS else "text/plain")
    assert text.endswith("# EOF\n") == (accept == OPENMETRICS)
    families = parsed(text, kind)
    names = [family.name for family in families]
    assert len(set(names)) == len(names), "every family in one piece"
    samples = [sample for family in families for sample in family.samples]
    assert len({(s.name, tuple(sorted(s.labels.items()))) for s in samples}) == len(samples)
    assert {"aim_deployment_info", "aim_operator_build_info", "aim_recipe_selection_total", "aim_performance_tokens_per_second"} <= {
        s.name for s in samples
    }  # fmt: skip
    assert not [s.name for s in samples if s.name.endswith("_created") and not s.name.startswith("process_")]


async def test_a_standby_shows_its_process_and_no_objects() -> None:
    async with served(objects=False) as address:
        _, kind, text = await get(f"{address}/metrics", Accept=OPENMETRICS)
    names = {family.name for family in parsed(text, kind)}
    assert "aim_operator_active" in names
    assert not {
        name for name in names if name.startswith(("aim_deployment_info", "aim_recipe_info", "aim_gpu"))
    }


async def test_health_and_readiness_answer_503_with_what_is_wrong() -> None:
    async with served(healthy=lambda: "ended: pod watch") as address:
        assert await get(f"{address}/healthz") == (503, "text/plain; charset=utf-8", "ended: pod watch")
        assert (await get(f"{address}/readyz"))[::2] == (200, "ok")
        assert (await get(f"{address}/nothing"))[0] == http.client.NOT_FOUND


async def test_others_get_their_turn_between_any_two_parts_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is sent family by family; whatever runs beside it runs at least so often."""
    turns = 0
    parts = 0
    original = server_module.exposition

    def counted(*args: Any) -> Any:
        kind, pieces = original(*args)

        def counting() -> Any:
            nonlocal parts, turns
            for piece in pieces:
                parts += 1
                before = turns
                yield piece
                assert turns > before

        return kind, counting()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(server_module, "exposition", counted)
    task = asyncio.create_task(other())
    async with served() as address:
        status, _, text = await get(f"{address}/metrics")
    task.cancel()
    assert status == http.client.OK
    assert text
    assert parts > 50


def labelled(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_everything_that_may_happen_is_shown_as_zero_from_the_start() -> None:
    metrics = Metrics()
    assert labelled(metrics, "aim_recipe_selection_total") == {(result,): 0 for result in SELECTION_RESULTS}
    assert labelled(metrics, "aim_operator_reconcile_total") == {
        (kind, result): 0 for kind in KINDS for result in ("success", "retry", "error")
    }
    assert labelled(metrics, "aim_operator_reconcile_errors_total") == {
        (kind, trouble.value): 0 for kind in KINDS for trouble in Trouble
    }


def test_a_pass_is_counted_by_what_came_of_it() -> None:
    metrics = Metrics()
    since = labelled(metrics, "aim_operator_last_successful_reconcile_timestamp_seconds")
    with metrics.reconciling("AIMDeployment") as told:
        assert labelled(metrics, "aim_operator_reconciles_in_progress")[("AIMDeployment",)] == 1
        told.failed(Trouble.API)
    with pytest.raises(RuntimeError), metrics.reconciling("AIMDeployment"):
        raise RuntimeError
    assert labelled(metrics, "aim_operator_last_successful_reconcile_timestamp_seconds") == since
    with metrics.reconciling("AIMDeployment"):
        pass
    counted = labelled(metrics, "aim_operator_reconcile_total")
    assert [counted["AIMDeployment", result] for result in ("success", "retry", "error")] == [1, 1, 1]
    errors = labelled(metrics, "aim_operator_reconcile_errors_total")
    assert {key: value for key, value in errors.items() if value} == {
        ("AIMDeployment", "api"): 1, ("AIMDeployment", "fault"): 1,
    }  # fmt: skip
    assert labelled(metrics, "aim_operator_reconciles_in_progress")[("AIMDeployment",)] == 0
    last = labelled(metrics, "aim_operator_last_successful_reconcile_timestamp_seconds")
    assert last[("AIMDeployment",)] > since[("AIMDeployment",)]
    assert last[("AIMRecipe",)] == since[("AIMRecipe",)]


def test_a_selection_that_raises_is_counted_as_an_error() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError), metrics.selecting():
        raise KeyError
    with metrics.selecting():
        pass
    metrics.refused()
    assert {k: v for k, v in labelled(metrics, "aim_recipe_selection_total").items() if v} == {
        ("error",): 1, ("invalid",): 1,
    }  # fmt: skip


async def test_the_port_speaks_tls_and_takes_up_a_renewed_certificate(tmp_path: Path) -> None:
    authority = certificate_authority("test")
    client = ssl.create_default_context(cadata=authority.certificate_pem.decode())

    def issue() -> bytes:
        pair = server_certificate(authority, ["127.0.0.1"])
        (tmp_path / "tls.crt").write_bytes(pair.certificate_pem)
        (tmp_path / "tls.key").write_bytes(pair.key_pem)
        return pair.certificate_pem

    def seen(address: str) -> bytes:
        host, _, port = address.rpartition("//")[2].partition(":")
        return ssl.get_server_certificate((host, int(port))).encode()

    first = issue()
    certificate = Certificate(tmp_path)
    async with served(tls=certificate.context) as address:
        assert (await get(f"{address}/readyz", client))[0] == http.client.OK
        assert await asyncio.to_thread(seen, address) == first
        second = issue()
        certificate.look()
        assert await asyncio.to_thread(seen, address) == second
        other = server_certificate(authority, ["127.0.0.1"])
        (tmp_path / "tls.crt").write_bytes(other.certificate_pem)
        certificate.look()
        assert await asyncio.to_thread(seen, address) == second, "whose key is not there yet"
        (tmp_path / "tls.crt").write_text("half written")
        certificate.look()
        assert await asyncio.to_thread(seen, address) == second, "the last good one stays"
        assert (await get(f"{address}/metrics", client))[0] == http.client.OK


class Reviews:
    """Stands for the API server's two reviews, which tests/e2e asks in earnest: counts questions and gives set answers."""

    def __init__(self, *, known: bool = True, allowed: bool = True, error: ApiError | None = None) -> None:
        self.known, self.allowed, self.error = known, allowed, error
        self.asked: list[str] = []

    async def create(self, resource: Any, _: None, body: Any) -> Any:
        if self.error:
            raise self.error
        self.asked.append(resource.kind)
        if resource.kind == "TokenReview":
            return {"status": {"authenticated": self.known, "user": {"username": "prometheus"}}}
        assert body["spec"]["user"] == "prometheus"
        return {"status": {"allowed": self.allowed}}


def access(reviews: Reviews) -> MetricsAccess:
    return MetricsAccess(cast(KubeClient, reviews))


@pytest.mark.parametrize(
    ("reviews", "token", "status"),
    [
        (Reviews(), "good", 200),
        (Reviews(allowed=False), "good", 403),
        (Reviews(known=False), "bad", 401),
        (Reviews(), None, 401),
        (Reviews(), "x" * 20000, 401),
        (Reviews(error=ApiError(500, "InternalError", "etcd is away")), "good", 503),
    ],
)
async def test_who_may_read_is_answered_by_status(reviews: Reviews, token: str | None, status: int) -> None:
    assert await access(reviews).authorize(token) == status


async def test_answers_are_remembered_within_bounds_and_faults_are_not(monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    reviews = Reviews()
    asking = access(reviews)
    for _ in range(5):
        assert await asking.authorize("good") == http.client.OK
    assert reviews.asked == ["TokenReview", "SubjectAccessReview"]
    monkeypatch.setattr(access_module, "_REMEMBERED", 3)
    for guess in range(20):
        await asking.authorize(f"guess-{guess}")
    assert len(asking._answers) == 3
    reviews.error = ApiError(503, "Unavailable", "away")
    assert await asking.authorize("new") == http.client.SERVICE_UNAVAILABLE
    reviews.error = None
    assert await asking.authorize("new") == http.client.OK


async def test_metrics_are_closed_and_probes_open_where_tokens_are_asked_for() -> None:
    authorize: Callable[[str | None], Awaitable[int]] = access(Reviews(allowed=False)).authorize
    async with served(authorize=authorize) as address:
        assert (await get(f"{address}/metrics"))[0] == http.client.UNAUTHORIZED
        assert (await get(f"{address}/metrics", Authorization="Basic eDp5"))[0] == http.client.UNAUTHORIZED
        assert (await get(f"{address}/metrics", Authorization="Bearer good"))[0] == http.client.FORBIDDEN
        assert (await get(f"{address}/healthz"))[0] == http.client.OK
    async with served(authorize=access(Reviews()).authorize) as address:
        assert (await get(f"{address}/metrics", Authorization="bearer  good "))[0] == http.client.OK


async def test_a_flood_of_guessed_tokens_takes_few_connections_to_the_api_server() -> None:
    """The Lease is renewed over the same ones."""

    class Slow(Reviews):
        at_once = most = 0

        async def create(self, resource: Any, _: None, body: Any) -> Any:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await asyncio.sleep(0)
            self.at_once -= 1
            return await super().create(resource, None, body)

    reviews = Slow(known=False)
    asked = access(reviews)
    answers = await asyncio.gather(*(asked.authorize(f"guess-{number}") for number in range(200)))
    assert set(answers) == {401}
    assert reviews.most <= 4

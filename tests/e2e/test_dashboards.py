"""The dashboards on a real Prometheus that watches the real operator and validator, simulated engines, and a stand-in of
AMD's exporter: every query answers, and every panel can be drawn."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.cli import main
from aim_engine.telemetry.dashboards import dashboards, queries
from aim_engine.telemetry.dashboards.promql import metric_names
from aim_engine.telemetry.preview.answers import ask, table_answer
from aim_engine.telemetry.preview.client import Client, PrometheusError, Series, Window
from aim_engine.telemetry.preview.variables import Scope, resolve
from testbed.busy_cluster import BusyCluster
from testbed.busy_scenario import TENANTS

Json = dict[str, Any]
BOARDS = dashboards()
PATIENCE = 240.0
RANGE = 60.0
CHOSEN = {"deployment.json": {"namespace": "team-b", "aimdeployment": "reasoner"}}
NO_BASELINE = (
    "a baseline takes two windows of five minutes; nothing is slower than it was before there is one"
)
SILENT = {
    (
        "deployment.json",
        "Finished requests",
        "B",
    ): "no SGLang engine runs here; its counterpart of vLLM is target A",
    ("deployment.json", "Generated tokens, expected and target", "C"): NO_BASELINE,
    **{("recommendations.json", "Slower than it was", target): NO_BASELINE for target in "ABC"},
}
"""Queries that answer nothing on this cluster within a test, with the reason."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusyCluster]:
    with BusyCluster.start(tmp_path_factory.mktemp("busy")) as running:
        yield running


def window() -> Window:
    now = time.time()
    return Window(now - RANGE, now, 2.0)


def targets() -> Iterator[tuple[str, Json, Json]]:
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            yield from ((name, panel, target) for target in panel.get("targets", ()))


def unanswered(client: Client) -> dict[tuple[str, str, str], str]:
    """(board, panel, target) of all queries that answer nothing or are refused, with what was asked or said."""
    now = window()
    scopes = {name: resolve(board, client, now, CHOSEN.get(name, {})) for name, board in BOARDS.items()}
    found = {}
    for name, panel, target in targets():
        try:
            answer: list[Series] = ask(target, client, scopes[name])
        except PrometheusError as error:
            pytest.fail(f"{name} '{panel['title']}' {target['refId']}: {error}")
        if not any(value == value for series in answer for value in series.values):
            found[name, panel["title"], target["refId"]] = scopes[name].fill(target["expr"])
    return found


def test_every_query_of_every_panel_answers(cluster: BusyCluster) -> None:
    client = Client(cluster.prometheus.url)
    deadline = time.monotonic() + PATIENCE
    while (found := unanswered(client)).keys() - SILENT.keys() and time.monotonic() < deadline:
        time.sleep(2)
    silent = {key: query for key, query in found.items() if key not in SILENT}
    assert not silent, "\n".join(f"{' / '.join(key)}: {query}" for key, query in silent.items())
    assert SILENT.keys() <= {(name, panel["title"], target["refId"]) for name, panel, target in targets()}
    all_read(cluster)


def all_read(cluster: BusyCluster) -> None:
    """Wait for a moment at which Prometheus has everything: who misses a scrape vanishes from its answers until the next."""
    cluster.prometheus.wait_for(
        lambda: not any(cluster.prometheus.targets().values()),
        PATIENCE,
        "the last scrape of every target to be good",
    )


def test_every_variable_has_values(cluster: BusyCluster) -> None:
    all_read(cluster)
    client, now = Client(cluster.prometheus.url), window()
    for name, board in BOARDS.items():
        scope = resolve(board, client, now, CHOSEN.get(name, {}))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                definition = scope.fill(variable["definition"])
                selector, label = definition.removeprefix("label_values(").removesuffix(")").rsplit(",", 1)
                assert client.label_values(selector, label.strip(), now), (name, variable["name"])


def test_prometheus_reads_the_same_names_from_the_queries_as_we_do(cluster: BusyCluster) -> None:
    scope = Scope(window(), {"exporter_prefix": ""} | dict.fromkeys(("namespace", "aimdeployment", "pod", "model", "gpu_type", "aimrecipe"), "x"))  # fmt: skip
    for name, board in BOARDS.items():
        for where, expression in queries(board):
            tree = cluster.prometheus.get("/api/v1/parse_query", query=scope.fill(expression))["data"]
            assert set(_selected(tree)) == metric_names(expression), (name, where)


def _selected(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            named = next((m["value"] for m in node["matchers"] if m["name"] == "__name__"), node["name"])
            yield from named.split("|")
        for value in node.values():
            yield from _selected(value)
    elif isinstance(node, list):
        for value in node:
            yield from _selected(value)


def test_tables_have_one_row_an_object_and_no_column_that_nobody_meant(cluster: BusyCluster) -> None:
    client, now = Client(cluster.prometheus.url), window()
    for name, board in BOARDS.items():
        scope = resolve(board, client, now, CHOSEN.get(name, {}))
        for panel in board["panels"]:
            if panel["type"] != "table":
                continue
            table = table_answer(panel, client, scope)
            titles = [column.title for column in table.columns]
            assert titles == list(panel["transformations"][-1]["options"]["renameByName"].values()), panel["title"]  # fmt: skip
            named = [at for at, title in enumerate(titles) if title in ("Alert", "Namespace", "Deployment")]
            keys = [tuple(row[at] for at in named) for row in table.rows] if named else []
            assert len(keys) == len(set(keys)), (panel["title"], keys)


def test_the_fleet_table_tells_what_is_chosen_and_delivered(cluster: BusyCluster) -> None:
    client = Client(cluster.prometheus.url)
    panel = next(p for p in BOARDS["fleet.json"]["panels"] if p["title"].startswith("Deployments, recipes"))

    def complete() -> dict[Any, dict[str, Any]] | None:
        table = table_answer(panel, client, resolve(BOARDS["fleet.json"], client, window(), {}))
        titles = [column.title for column in table.columns]
        rows = {row[titles.index("Deployment")]: dict(zip(titles, row, strict=True)) for row in table.rows}
        there = rows.keys() - {"trial"} == {tenant.name for tenant in TENANTS}
        return rows if there and isinstance(rows["chat"]["Ratio"], float) else None

    rows = cluster.prometheus.wait_for(complete, PATIENCE, "a row of every deployment, with what it delivers")
    chat = rows["chat"]
    assert (chat["Recipe"], chat["GPUs"], chat["Tier"], chat["Ready"]) == ("chat-32b-mi350x-1x-fp8", "1xMI350X", "Primary", "true")  # fmt: skip
    assert isinstance(chat["Expected"], float)
    assert isinstance(chat["Ratio"], float)
    assert chat["Expected"] == 4800
    assert 0.5 < chat["Ratio"] < 1.3
    assert (rows["giant"]["Reason"], rows["giant"]["Measured"]) == ("InsufficientCapacity", None)
    assert rows["unheard-of"]["Reason"] == "RecipeNotFound"


def test_the_gpu_table_tells_who_holds_them(cluster: BusyCluster) -> None:
    client = Client(cluster.prometheus.url)
    panel = next(p for p in BOARDS["fleet.json"]["panels"] if p["title"] == "GPUs by model")
    all_read(cluster)
    table = table_answer(panel, client, resolve(BOARDS["fleet.json"], client, window(), {}))
    assert [column.title for column in table.columns[:5]] == ["GPU", "Allocatable", "Used by AIM", "Used by others", "Free"]  # fmt: skip
    assert {row[0]: tuple(row[1:5]) for row in table.rows} == {
        "MI210": (4, 0, 0, 4), "MI300X": (8, 8, 0, 0), "MI325X": (8, 2, 0, 6), "MI350X": (8, 6, 0, 2), "MI355X": (8, 2, 0, 6),
    }  # fmt: skip


def test_all_dashboards_can_be_drawn(
    cluster: BusyCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "dashboards", "preview", "--prometheus", cluster.prometheus.url, "--output", str(tmp_path),
        "--since", "60s", "--scrape-interval", "2s",
    ]  # fmt: skip
    assert main(command) == 0
    pictures = capsys.readouterr().out.split()
    assert [Path(each).stem for each in pictures] == [name.removesuffix(".json") for name in BOARDS]
    for each in pictures:
        content = Path(each).read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert content.startswith(b"\x89PNG")
        assert (width, height > 800) == (1600, True)
        assert len(content) > 30_000

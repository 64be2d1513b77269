"""The dashboards as files: as generated, whole, laid out well, and of names that somebody serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from aim_engine.catalog.exposition import exposed_series
from aim_engine.telemetry import alerts
from aim_engine.telemetry import dashboards as module
from aim_engine.telemetry.dashboards import (
    UnknownMetricError,
    check,
    dashboards,
    files,
    label_values,
    queries,
)
from aim_engine.telemetry.dashboards.board import Board, Row, document
from aim_engine.telemetry.dashboards.panels import Panel, Target, stat
from aim_engine.telemetry.dashboards.promql import metric_names
from aim_engine.telemetry.dashboards.sources import known_series
from aim_engine.telemetry.preview.figure import DRAW

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "dashboards", ROOT / "deploy" / "helm" / "dashboards")
BOARDS = dashboards()
Json = dict[str, Any]
CONFIGMAP_LIMIT = 1024 * 1024

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for name, board in BOARDS.items():
        for where, expression in queries(board):
            yield f"{name} {where}", expression


# As generated

WRITE = [sys.executable, "-m", "aim_engine.telemetry.dashboards"]


@pytest.mark.parametrize("folder", FOLDERS, ids=["dashboards", "chart"])
def test_the_committed_files_are_as_generated(folder: Path) -> None:
    told = subprocess.run([*WRITE, "--check", str(folder)], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_the_check_tells_of_changed_missing_and_foreign_files(tmp_path: Path) -> None:
    subprocess.run([*WRITE, str(tmp_path)], check=True)
    assert subprocess.run([*WRITE, "--check", str(tmp_path)]).returncode == 0
    (tmp_path / "fleet.json").write_text("{}")
    (tmp_path / "recipes.json").unlink()
    (tmp_path / "old.json").write_text("{}")
    told = subprocess.run([*WRITE, "--check", str(tmp_path)], capture_output=True, text=True)
    assert told.returncode == 1
    assert re.findall(r"(\w+)\.json is out of date", told.stderr) == ["fleet", "old", "recipes"]
    subprocess.run([*WRITE, str(tmp_path)], check=True)
    assert subprocess.run([*WRITE, "--check", str(tmp_path)]).returncode == 0


def test_files_are_the_bare_object_and_fit_into_a_configmap() -> None:
    for name, text in files().items():
        assert len(text.encode()) < CONFIGMAP_LIMIT / 4, name
        assert {"uid", "title", "panels", "schemaVersion", "templating"} <= json.loads(text).keys()


# Of names that somebody serves


def test_a_query_of_an_unknown_metric_is_not_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        UID = "aim-broken"

        @staticmethod
        def board() -> Board:
            row = Row(
                title="", panels=[stat("Cache", "Old name.", Target(expr="avg(vllm:gpu_cache_usage_perc)"))]
            )
            return Board(uid="aim-broken", title="Broken", about="", rows=[row], variables=[])

    monkeypatch.setattr(module, "_BOARDS", (Broken,))
    with pytest.raises(
        UnknownMetricError, match=r"broken\.json, panel 'Cache' target A.*vllm:gpu_cache_usage_perc"
    ):
        dashboards()


def test_a_variable_of_an_unknown_metric_is_not_generated() -> None:
    board = {"panels": [], "templating": {"list": [{"type": "query", "name": "pod", "definition": "label_values(kube_pod_info, pod)"}]}}  # fmt: skip
    with pytest.raises(UnknownMetricError, match=r"variable 'pod'.*kube_pod_info"):
        check("x.json", board)


def test_the_names_of_vllm_are_those_of_a_real_scrape() -> None:
    capture = (
        Path(os.environ.get("AIM_SHARED_DATA", ROOT.parent / "shared" / "data")) / "vllm-0.32-metrics.txt"
    )
    if not capture.exists():
        pytest.skip(f"no scrape of a real vLLM at {capture}")
    text = capture.read_text()
    real = set(re.findall(r"^((?:vllm:|http_)\w+)", text, re.MULTILINE))
    ours = {name for name, server in exposed_series().items() if server.startswith("vllm")}
    assert ours == {name for name in real if not name.endswith("_created")}


def test_every_name_that_the_operator_serves_is_known() -> None:
    assert {
        "aim_performance_tokens_per_second", "aim_gpu_free", "aim_recipe_selection_total", "aim_webhook_reviews_total",
        "aim_operator_reconcile_duration_seconds_bucket",
    } <= known_series()  # fmt: skip
    assert "aim_recipe_selection" not in known_series()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", {"up"}),
        ("sum by (le, up) (rate(a_bucket{x=\"b{}\",le=~\"1|2\"}[5m]))", {"a_bucket"}),
        ("sum(a) by (b) / on (c, d) group_left (e) max by (f) (g)", {"a", "g"}),
        ('{__name__=~"vllm:x|sglang:x",pod="p"} or vector(0)', {"vllm:x", "sglang:x"}),
        ("${prefix:raw}gpu_health{pod=~\"$pod\"} == 1", {"gpu_health"}),
        ('label_replace(a, "b", "$1", "c", "(.*)") and on (d) (e > bool 1.5e3)', {"a", "e"}),
        ("topk(1, a offset 5m) unless b @ end()", {"a", "b"}),
        ("histogram_quantile(0.95, sum by (le) (rate(h_bucket[$__rate_interval]))) * 60", {"h_bucket"}),
        ("time() - max(a > 0) # b", {"a"}),
        ("count_values('v', a) + scalar(b)", {"a", "b"}),
    ],
)  # fmt: skip
def test_metric_names_are_read_from_promql(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


@pytest.mark.parametrize("expression", ['{pod="x"}', '{__name__!="a"}', "a ; b", 'sum(a{b="c"'])
def test_what_names_no_metric_or_is_no_promql_is_refused(expression: str) -> None:
    with pytest.raises(ValueError):
        metric_names(expression)


# Whole


@each_board
def test_grafanas_typed_sdk_reads_a_board_and_writes_all_of_it_again(board: Json) -> None:
    assert list(lost(board, through_sdk(board))) == []


def through_sdk(board: Json) -> Json:
    """The board as Grafana's types read it and write it again."""
    register_default_plugins()
    again: Json = json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(board))), cls=JSONEncoder))
    return again


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Paths whose value did not survive; the SDK may add defaults."""
    if isinstance(before, dict):
        for key, value in before.items():
            if not isinstance(after, dict) or key not in after:
                yield f"{where}.{key}: unknown to Grafana"
            else:
                yield from lost(value, after[key], f"{where}.{key}")
    elif isinstance(before, list):
        if len(before) != len(after):
            yield f"{where}: {len(before)} entries became {len(after)}"
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from lost(one, other, f"{where}[{index}]")
    elif before != after:
        yield f"{where}: {before!r} became {after!r}"


def test_a_field_that_grafana_does_not_know_is_found() -> None:
    board = json.loads(json.dumps(BOARDS["fleet.json"]))
    board["panels"][0]["options"]["colour"] = "red"
    assert list(lost(board, through_sdk(board))) == [".panels[0].options.colour: unknown to Grafana"]


@each_board
def test_every_panel_says_what_it_shows_in_which_unit(board: Json) -> None:
    for panel in panels(board):
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["type"] in DRAW
        for override in panel["fieldConfig"]["overrides"] if panel["type"] == "table" else ():
            assert "unit" in [each["id"] for each in override["properties"]], override


@each_board
def test_every_target_and_variable_asks_the_chosen_datasource(board: Json) -> None:
    first, *others = board["templating"]["list"]
    assert (first["type"], first["name"], first["query"]) == ("datasource", "datasource", "prometheus")
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asked = [each["datasource"] for each in others if each["type"] == "query"]
    asked += [part["datasource"] for panel in panels(board) for part in (panel, *panel["targets"])]
    assert all(each == chosen for each in asked)


@each_board
def test_panels_fill_the_grid_without_overlap(board: Json) -> None:
    places = {panel["id"]: panel["gridPos"] for panel in board["panels"]}
    for (one, a), (other, b) in combinations(places.items(), 2):
        apart = (
            a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        )  # fmt: skip
        assert apart, (one, other)
    lines: dict[int, int] = {}
    for place in places.values():
        lines[place["y"]] = lines.get(place["y"], 0) + place["w"]
    assert set(lines.values()) == {24}, lines


def test_ids_uids_titles_and_letters_are_unique() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len({b["title"] for b in BOARDS.values()}) == 5
    for board in BOARDS.values():
        for key in ("id", "title"):
            shown = board["panels"] if key == "id" else panels(board)
            twice = [value for value, n in Counter(panel[key] for panel in shown).items() if n > 1]
            assert twice == [], board["title"]
        for panel in panels(board):
            letters = [target["refId"] for target in panel["targets"]]
            assert len(letters) == len(set(letters))
        names = [variable["name"] for variable in board["templating"]["list"]]
        assert len(names) == len(set(names))


def test_a_line_of_panels_of_different_height_is_refused() -> None:
    def panel(height: int) -> Panel:
        return stat(f"S{height}", "A number.", Target(expr="up"), size=(4, height))

    with pytest.raises(ValueError, match="'S5' is 5 high in a line that is 4 high"):
        document(Board(uid="x", title="x", about="", rows=[Row(title="", panels=[panel(4), panel(5)])], variables=[]))  # fmt: skip


# Queries


def test_what_is_said_of_one_replica_is_shown_for_all_that_are_ready() -> None:
    """Beside the throughput of a whole deployment, the figure of one replica would read as a promise kept by far."""
    of_one = re.compile(r"(?:baseline|deployment_target)_tokens_per_second")
    found = [query for _, query in expressions() if of_one.search(query)]
    assert len(found) >= 3
    assert all("* max by" in query and "status_replicas_ready" in query for query in found), found


def test_a_share_of_the_expectation_is_of_the_replicas_that_were_measured() -> None:
    """Half of the tokens of two replicas, of which one could not be read, is no broken promise."""
    found = [
        query
        for _, query in expressions()
        if re.search(r"performance_tokens.* / .*deployment_expected", query)
    ]
    shares = [query for query in found if "group_left (aimrecipe)" not in query]
    assert len(shares) >= 3
    assert all("aim_performance_replicas" in query for query in shares), shares


def test_windows_of_rates_are_grafanas_own() -> None:
    for where, expression in expressions():
        for window in re.findall(r"\[([^\]]+)\]", expression):
            assert window in ("$__rate_interval", "$__range"), (where, expression)
        counters = re.findall(r"(\w+)\(\s*[\w:${}]+_(?:total|bucket|count|sum)\b(?!\w)", expression)
        assert set(counters) <= {"rate", "increase", "sum", "label_replace", "max"}, (where, expression)


def test_variables_in_queries_exist_on_their_board() -> None:
    built_in = {"__rate_interval", "__range", "datasource"}
    for name, board in BOARDS.items():
        there = {variable["name"] for variable in board["templating"]["list"]} | built_in
        for where, expression in queries(board):
            used = set(re.findall(r"\$\{?([a-zA-Z_]\w*)", expression))
            assert used <= there, (name, where, used - there)


def test_a_variable_depends_only_on_those_before_it() -> None:
    for board in BOARDS.values():
        seen: set[str] = set()
        for variable in board["templating"]["list"]:
            used = set(re.findall(r"\$(\w+)", variable.get("definition", "")))
            assert used <= seen, variable["name"]
            seen.add(variable["name"])


def test_label_values_are_taken_apart() -> None:
    assert label_values('label_values(a{b="c,d"}, e)') == ('a{b="c,d"}', "e")


# Links


def links(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("url"), str) and node["url"]:
            yield node["url"]
        for value in node.values():
            yield from links(value)
    elif isinstance(node, list):
        for value in node:
            yield from links(value)


def test_links_lead_to_boards_and_variables_that_exist() -> None:
    by_uid = {board["uid"]: board for board in BOARDS.values()}
    found = 0
    for board in BOARDS.values():
        for url in links(board):
            found += 1
            if url.startswith(alerts.source()["runbooks"]):
                continue
            uid = re.fullmatch(r"/d/([\w-]+)\?.*", url)
            assert uid, url
            there = {variable["name"] for variable in by_uid[uid[1]]["templating"]["list"]}
            assert set(re.findall(r"var-(\w+)=", url)) <= there, url
            columns = set(re.findall(r"__data\.fields\.(\w+)", url))
            assert columns <= {"Namespace", "Deployment", "Model"}
    assert found > 10
    assert all(board["links"][0]["tags"] == board["tags"] == ["aim-engine"] for board in BOARDS.values())


def test_a_link_from_a_row_names_columns_of_its_table() -> None:
    for board in BOARDS.values():
        for panel in panels(board):
            if panel["type"] != "table":
                continue
            titles = set(panel["transformations"][-1]["options"]["renameByName"].values())
            for url in links(panel["fieldConfig"]):
                assert set(re.findall(r"__data\.fields\.(\w+)", url)) <= titles, (panel["title"], url)


def test_overrides_match_by_expressions_that_compile() -> None:
    for board in BOARDS.values():
        for panel in panels(board):
            for override in panel["fieldConfig"]["overrides"]:
                if override["matcher"]["id"] == "byRegexp":
                    re.compile(override["matcher"]["options"])

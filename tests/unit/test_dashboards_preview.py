"""What the preview reads and writes without drawing: variables, numbers, tables; and the command's words."""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.cli import main
from aim_engine.telemetry.dashboards import dashboards
from aim_engine.telemetry.preview.answers import Cell, legend, merged, settings, shown, table_answer
from aim_engine.telemetry.preview.client import Client, PrometheusError, Series, Window
from aim_engine.telemetry.preview.units import written
from aim_engine.telemetry.preview.variables import Scope, resolve
from testbed.pages import Pages

Json = dict[str, Any]
WINDOW = Window(1000.0, 4600.0, 30.0)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0, "short", None, "0"), (1234, "short", None, "1.23 K"), (999, "short", None, "999"), (2.5e6, "short", None, "2.5 Mil"),
        (1234.5, "si:tok/s", 1, "1.2 ktok/s"), (0.5, "si:tok/s", None, "500 mtok/s"), (12, "si:tok/s", None, "12 tok/s"),
        (0.956, "percentunit", 0, "96%"), (0.956, "percentunit", None, "95.6%"), (42, "percent", None, "42%"),
        (0.0213, "s", None, "21.3 ms"), (90, "s", None, "1.5 mins"), (7200, "s", 0, "2 hours"), (0, "s", None, "0 s"),
        (3 * 1024**3, "bytes", None, "3 GiB"), (712, "watt", None, "712 W"), (1500, "watt", None, "1.5 kW"), (64, "celsius", None, "64 °C"),
        (3, "reqps", None, "3 req/s"), (0.25, "ops", None, "0.25 ops/s"), (7, "cpm", None, "7 cpm"), (8192, "none", None, "8192"),
        (math.nan, "s", None, "–"), (math.inf, "none", None, "∞"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_grafana_writes_them(
    value: float, unit: str, decimals: int | None, text: str
) -> None:
    assert written(value, unit, decimals) == text


def test_grafanas_variables_are_filled_in_and_groups_of_label_replace_stay() -> None:
    scope = Scope(WINDOW, {"namespace": "team-a|team-b", "exporter_prefix": "amd_"})
    text = 'label_replace(${exporter_prefix:raw}up{n=~"$namespace"}[$__rate_interval], "a", "$1", "b", "(.*)")[$__range]'
    assert (
        scope.fill(text) == 'label_replace(amd_up{n=~"team-a|team-b"}[120s], "a", "$1", "b", "(.*)")[3600s]'
    )
    with pytest.raises(KeyError):
        scope.fill("$nowhere")


def test_a_rate_covers_four_scrapes_and_more_where_the_range_is_long() -> None:
    assert Window(0, 3600, 30).rate_interval(240) == 120
    assert Window(0, 86400 * 7, 30).rate_interval(240) == 2550
    assert Window(0, 60, 1).step(240) == 1


class FixedClient(Client):
    """Answers from a table instead of a server."""

    def __init__(
        self, values: dict[str, list[str]] | None = None, series: dict[str, list[Series]] | None = None
    ) -> None:
        super().__init__("http://127.0.0.1:9")
        self.values, self.series, self.asked = values or {}, series or {}, list[str]()

    def label_values(self, selector: str, label: str, _window: Window) -> list[str]:
        self.asked.append(selector)
        return self.values.get(label, [])

    def instant(self, expression: str, _at: float) -> list[Series]:
        return self.series.get(expression, [])


def test_variables_take_all_or_the_first_or_what_was_chosen_and_depend_on_one_another() -> None:
    board = dashboards()["deployment.json"]
    client = FixedClient(
        {"namespace": ["a", "b"], "aimdeployment": ["chat"], "pod": ["chat-1.x", "chat-2.x"]}
    )
    scope = resolve(board, client, WINDOW, {})
    assert scope.filled == {"namespace": "a", "aimdeployment": "chat", "pod": r"chat-1\\.x|chat-2\\.x", "exporter_prefix": ""}  # fmt: skip
    assert client.asked[1] == 'aim_deployment_info{namespace="a"}'
    assert 'aimdeployment="chat"' in client.asked[2]
    assert resolve(board, client, WINDOW, {"namespace": "b"}).filled["namespace"] == "b"
    assert resolve(dashboards()["fleet.json"], client, WINDOW, {}).filled == {"namespace": ".*"}


def test_rows_of_several_answers_join_by_what_they_share() -> None:
    info: list[dict[str, Cell]] = [
        {"ns": "a", "name": "x", "model": "m"},
        {"ns": "a", "name": "y", "model": "n"},
    ]
    tokens: list[dict[str, Cell]] = [{"ns": "a", "name": "y", "Value #B": 2.0}]
    alone: list[dict[str, Cell]] = [{"ns": "b", "name": "z", "Value #C": 3.0}]
    assert merged([info, tokens, alone]) == [
        {"ns": "a", "name": "x", "model": "m"},
        {"ns": "a", "name": "y", "model": "n", "Value #B": 2.0},
        {"ns": "b", "name": "z", "Value #C": 3.0},
    ]


def test_a_table_is_named_ordered_and_sorted_and_hides_what_it_should() -> None:
    panel = next(p for p in dashboards()["fleet.json"]["panels"] if p["title"] == "GPUs by model")
    scope = Scope(WINDOW, {"namespace": ".*"})
    values = {"A": (8.0, 16.0), "B": (2.0, 16.0), "D": (6.0, 0.0)}
    series = {
        target["expr"]: [Series({"gpu_type": gpu}, (1.0,), (value,)) for gpu, value in zip(("MI355X", "MI300X"), values[target["refId"]], strict=True)]
        for target in panel["targets"] if target["refId"] in values
    }  # fmt: skip
    table = table_answer(panel, FixedClient(series=series), scope)
    assert [column.title for column in table.columns] == ["GPU", "Allocatable", "Used by AIM", "Used by others", "Free", "In use"]  # fmt: skip
    assert table.rows == [["MI300X", 16.0, 16.0, None, 0.0, None], ["MI355X", 8.0, 2.0, None, 6.0, None]]


def test_texts_and_colours_come_from_mappings_and_thresholds() -> None:
    panel = next(
        p for p in dashboards()["fleet.json"]["panels"] if p["title"].startswith("Deployments, recipes")
    )
    assert shown("true", settings(panel, "Ready")) == ("Yes", "green")
    assert shown(0.55, settings(panel, "Ratio")) == ("55%", "red")
    assert shown(0.85, settings(panel, "Ratio")) == ("85%", "green")
    assert shown(None, settings(panel, "Ratio"))[0] == "–"
    assert shown("x", settings(panel, "GPUs"))[0] == "–"


def test_legends_take_the_values_of_labels() -> None:
    assert legend("p95 {{a}}/{{ b }}", {"a": "x", "b": "y"}) == "p95 x/y"
    assert legend("__auto", {"b": "2", "a": "1"}) == "a=1, b=2"


# The command


def test_the_boards_are_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "export", str(tmp_path / "new")]) == 0
    assert {Path(line).name for line in capsys.readouterr().out.split()} == set(dashboards())
    assert json.loads((tmp_path / "new" / "fleet.json").read_text()) == dashboards()["fleet.json"]


@pytest.fixture
def useless() -> Iterator[str]:
    """A server that is no Prometheus."""
    with Pages({"/": lambda: "hello"}) as pages:
        yield f"http://127.0.0.1:{pages.port}"


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["nowhere"], "'nowhere' is no dashboard; there are fleet, recipes, deployment, recommendations, operator", 2),
        (["fleet", "--var", "namespace"], "--var namespace: write NAME=VALUE", 2),
        (["fleet", "--prometheus", "localhost:9090"], "'localhost:9090' is no address of Prometheus; write http://HOST:9090", 1),
        (["fleet", "--prometheus", "http://127.0.0.1:9"], "Prometheus at http://127.0.0.1:9 does not answer as it should", 1),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_told_in_a_line(
    words: list[str], told: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboards", "preview", *words, "--output", str(tmp_path)]) == code
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_no_prometheus_is_told_apart(useless: str) -> None:
    with pytest.raises(PrometheusError, match=r"answers 404 to /api/v1/query: is it Prometheus\?"):
        Client(useless).instant("up", 1.0)


@pytest.mark.parametrize("text", ["5", "-3m", "1w", "0s", "m"])
def test_a_time_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["dashboards", "preview", f"--since={text}"])
    assert "write for example 90s, 30m, 6h or 2d" in capsys.readouterr().err


def test_without_matplotlib_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("aim_engine.telemetry.preview.figure"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(["dashboards", "preview"]) == 1
    assert "pip install '.[preview]' in a clone" in capsys.readouterr().err

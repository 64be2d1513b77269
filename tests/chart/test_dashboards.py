"""The dashboards in the chart and for kustomize: ConfigMaps that the sidecar of Grafana's chart takes."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess

import pytest
import yaml

from aim_engine.telemetry.dashboards import dashboards
from chart.helm import Json, helm, template
from testbed import tools
from testbed.product import ROOT

BOARDS = dashboards()
HELM_RELEASE_LIMIT = 1024 * 1024
"""Of the Secret that helm keeps a release in."""


def config_maps(*words: str) -> dict[str, Json]:
    """The dashboards' ConfigMaps by name."""
    found = template("aim-engine", "./helm", "--namespace", "aim-engine", *words)
    return {
        obj["metadata"]["name"]: obj
        for obj in found
        if obj["kind"] == "ConfigMap" and "grafana_dashboard" in (obj["metadata"].get("labels") or {})
    }


def boards(maps: dict[str, Json]) -> dict[str, Json]:
    """File name of a board -> its content, as Grafana would read it."""
    files = {name: text for obj in maps.values() for name, text in obj["data"].items()}
    return {name.removeprefix("aim-engine-"): json.loads(text) for name, text in files.items()}


def test_every_dashboard_is_a_configmap_with_the_sidecars_label() -> None:
    maps = config_maps()
    assert set(maps) == {f"aim-engine-dashboard-{name.removesuffix('.json')}" for name in BOARDS}
    for obj in maps.values():
        assert obj["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert obj["metadata"]["annotations"] == {"grafana_folder": "AIM Engine"}
        assert obj["metadata"]["namespace"] == "aim-engine"
    assert boards(maps) == BOARDS


@pytest.mark.parametrize("title", ["Our models", 'Says "hello" & {{ .Values }}', "Flotte 'ü'"])
def test_the_fleet_dashboard_has_the_title_of_its_value_and_keeps_its_uid(title: str) -> None:
    named = ["--set-json", f"monitoring.grafana.dashboard.title={json.dumps(title)}"]
    found = boards(config_maps(*named))
    assert found.pop("fleet.json") == {**BOARDS["fleet.json"], "title": title}
    assert found == {name: board for name, board in BOARDS.items() if name != "fleet.json"}


def test_the_default_title_is_that_of_the_generated_board() -> None:
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "values.yaml").read_text())
    assert values["monitoring"]["grafana"]["dashboard"]["title"] == BOARDS["fleet.json"]["title"]


@pytest.mark.parametrize(
    "off",
    [
        "monitoring.enabled=false", "monitoring.grafana.enabled=false", "monitoring.grafana.dashboard.enabled=false",
        "operator.mode=never",
    ],
)  # fmt: skip
def test_dashboards_are_there_only_where_they_are_asked_for_and_once_a_cluster(off: str) -> None:
    assert config_maps("--set", off) == {}


def test_the_release_fits_into_the_secret_that_helm_keeps_it_in() -> None:
    rendered = helm("template", "aim-engine", "./helm").stdout.encode()
    chart = b"".join(path.read_bytes() for path in (ROOT / "deploy" / "helm").rglob("*") if path.is_file())
    stored = base64.b64encode(base64.b64encode(gzip.compress(rendered + base64.b64encode(chart))))
    assert len(stored) < HELM_RELEASE_LIMIT


def test_kustomize_makes_the_same_dashboards() -> None:
    command = [str(tools.tool("kubectl")), "kustomize", str(ROOT / "dashboards")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    maps = {obj["metadata"]["name"]: obj for obj in yaml.safe_load_all(done.stdout)}
    assert set(maps) == {f"aim-engine-dashboard-{name.removesuffix('.json')}" for name in BOARDS}
    assert all(obj["metadata"]["labels"]["grafana_dashboard"] == "1" for obj in maps.values())
    assert boards(maps) == BOARDS


def test_prometheus_takes_the_shipped_jobs_and_rules() -> None:
    config = ROOT / "deploy" / "prometheus" / "prometheus.yaml"
    done = subprocess.run([tools.tool("promtool"), "check", "config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_the_shipped_jobs_label_engines_as_the_podmonitor_does() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    job = next(each for each in config["scrape_configs"] if each["job_name"] == "aim-engine-engines")
    (monitor,) = (
        obj for obj in template("aim-engine", "./helm", api_versions=["monitoring.coreos.com/v1/PodMonitor"])
        if obj["kind"] == "PodMonitor" and obj["metadata"]["name"] == "aim-engine-engines"
    )  # fmt: skip
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    asked = {(tuple(each["sourceLabels"]), each["targetLabel"]) for each in endpoint["relabelings"]}
    ours = {(tuple(each["source_labels"]), each.get("target_label")) for each in job["relabel_configs"]}
    assert asked <= ours
    assert {label for _, label in ours if label} == {label for _, label in asked} | {"namespace", "pod"}

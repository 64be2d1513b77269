"""Monitors and alerts of the chart and of the manifests: present when asked for, the same rules everywhere, and the user's beside them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.telemetry import alerts
from chart.documented import MONITORING
from chart.helm import Json, helm, rendered
from testbed import tools
from testbed.fixtures import WITHOUT_CLUSTER
from testbed.product import ROOT

pytestmark = pytest.mark.skipif(os.environ.get(WITHOUT_CLUSTER) == "1", reason="needs helm and promtool")
KINDS = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
SLOW = {"name": "Slow", "condition": 'aim_performance_tokens_per_second{namespace="team-a"} < 100', "severity": "critical"}  # fmt: skip


def render(values: Json | None = None, *, versions: Iterable[str] = MONITORING, release: str = "aim-engine", check: bool = True) -> Any:  # fmt: skip
    """Monitoring objects by kind and name, or helm's complaint."""
    told = yaml.safe_dump({"operator": {"mode": "always"}, **(values or {})})
    words = [word for version in versions for word in ("--api-versions", version)]
    done = helm("template", release, "./helm", "-n", "aim-engine", "--values", "-", *words, stdin=told, check=check)  # fmt: skip
    if done.returncode:
        return done.stderr
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": obj
        for obj in rendered(done.stdout)
        if obj["kind"] in KINDS
    }


def with_rules(*rules: Json) -> Json:
    return {"monitoring": {"alerting": {"rules": list(rules)}}}


def groups(objects: Json, name: str = "aim-engine-alerts") -> list[Json]:
    found: list[Json] = objects[f"PrometheusRule/{name}"]["spec"]["groups"]
    return found


def promtool(path: Path, *rules: Json) -> subprocess.CompletedProcess[str]:
    path.write_text(yaml.safe_dump({"groups": list(rules)}))
    return subprocess.run(
        [str(tools.tool("promtool")), "check", "rules", "--lint=all", "--lint-fatal", str(path)], capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_the_release_with_the_operator_brings_its_monitors_and_all_alerts(tmp_path: Path) -> None:
    objects = render()
    assert set(objects) == {
        "ServiceMonitor/aim-engine-operator", "PodMonitor/aim-engine-recipe-validator", "PodMonitor/aim-engine-engines",
        "PrometheusRule/aim-engine-alerts",
    }  # fmt: skip
    assert groups(objects) == alerts.groups()
    checked = promtool(tmp_path / "rules.yaml", *groups(objects))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"monitoring": {"enabled": False}}, set()),
        ({"monitoring": {"prometheus": {"enabled": False}}}, {"PrometheusRule"}),
        ({"monitoring": {"alerting": {"enabled": False}}}, {"ServiceMonitor", "PodMonitor"}),
        ({"operator": {"mode": "never"}}, set()),
        ({"operator": {"mode": "never"}, **with_rules(SLOW)}, {"PrometheusRule"}),
    ],
)
def test_what_is_not_asked_for_is_not_there(values: Json, kinds: set[str]) -> None:
    assert {obj["kind"] for obj in render(values).values()} == kinds


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_object_whose_kind_the_cluster_lacks_is_left_out(kind: str) -> None:
    versions = [version for version in MONITORING if not version.endswith(f"/{kind}")]
    assert {obj["kind"] for obj in render(versions=versions).values()} == KINDS - {kind}


def test_two_releases_scrape_no_engine_twice_and_bring_no_alert_twice() -> None:
    second = render({"operator": {"mode": "never"}, **with_rules(SLOW)}, release="aim-engine-qwen")
    assert set(second) == {"PrometheusRule/aim-engine-qwen-user-alerts"}
    assert [group["name"] for group in groups(second, "aim-engine-qwen-user-alerts")] == [
        "aim-engine-qwen.user"
    ]


def test_values_reach_the_objects() -> None:
    prometheus = {"scrape_interval": "15s", "additionalLabels": {"release": "kube-prometheus-stack"}}
    alerting = {"runbookURL": "https://wiki.example.com/aim"}
    objects = render({"monitoring": {"prometheus": prometheus, "alerting": alerting}})
    for obj in objects.values():
        assert obj["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    (endpoint,) = objects["ServiceMonitor/aim-engine-operator"]["spec"]["endpoints"]
    assert (endpoint["interval"], endpoint["honorLabels"], endpoint.get("scheme")) == ("15s", True, None)
    (pods,) = objects["PodMonitor/aim-engine-engines"]["spec"]["podMetricsEndpoints"]
    assert pods["interval"] == "15s"
    assert groups(objects) == alerts.groups("https://wiki.example.com/aim")


def test_only_served_namespaces_are_scraped_where_some_are_named() -> None:
    served = {"watchNamespaces": ["aim-engine", "team-a"], "rbac": {"userRoles": False}}
    monitor = render(served)["PodMonitor/aim-engine-engines"]
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["aim-engine", "team-a"]}
    assert render()["PodMonitor/aim-engine-engines"]["spec"]["namespaceSelector"] == {"any": True}


def test_rules_of_the_user_are_added_with_the_labels_of_ours(tmp_path: Path) -> None:
    odd = {
        "name": "Odd", "condition": 'up{job=~"a|b"} == 0 and on () vector(1) > 0', "for": "90s", "summary": "{{ $labels.job }} \"is\" down: look",
        "description": "What {{ $value }} means.", "runbook_url": "https://wiki.example.com/odd",
    }  # fmt: skip
    objects = render(with_rules(SLOW, odd))
    assert groups(objects) == alerts.groups(), (
        "a condition of theirs that cannot be parsed takes none of ours away"
    )
    found = groups(objects, "aim-engine-user-alerts")
    assert found[-1] == {
        "name": "aim-engine.user",
        "rules": [
            {
                "alert": "Slow", "expr": SLOW["condition"], "for": "5m", "labels": {"severity": "critical", "component": "aim-engine"},
                "annotations": {
                    "summary": f"Slow: {SLOW['condition']}",
                    "description": f"Rule of release aim-engine/aim-engine: {SLOW['condition']}",
                },
            },
            {
                "alert": "Odd", "expr": odd["condition"], "for": "90s", "labels": {"severity": "warning", "component": "aim-engine"},
                "annotations": {
                    "summary": odd["summary"], "description": odd["description"], "runbook_url": odd["runbook_url"],
                },
            },
        ],
    }  # fmt: skip
    checked = promtool(tmp_path / "rules.yaml", *found)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_rule_of_the_user_fires(tmp_path: Path) -> None:
    rules, tests = tmp_path / "rules.yaml", tmp_path / "tests.yaml"
    rules.write_text(yaml.safe_dump({"groups": groups(render(with_rules(SLOW)), "aim-engine-user-alerts")}))
    labels = {
        "namespace": "team-a",
        "aimdeployment": "chat",
        "severity": "critical",
        "component": "aim-engine",
    }
    annotations = {
        "summary": f"Slow: {SLOW['condition']}",
        "description": f"Rule of release aim-engine/aim-engine: {SLOW['condition']}",
    }
    case = {
        "input_series": [{"series": 'aim_performance_tokens_per_second{namespace="team-a", aimdeployment="chat"}', "values": "500x10 50x20"}],
        "alert_rule_test": [
            {"eval_time": "10m", "alertname": "Slow", "exp_alerts": []},
            {"eval_time": "20m", "alertname": "Slow", "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}]},
        ],
    }  # fmt: skip
    tests.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [case]}))
    done = subprocess.run(
        [str(tools.tool("promtool")), "test", "rules", str(tests)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([{**SLOW, "name": "AIMEngineLowThroughput"}], "monitoring.alerting.rules[0].name: 'AIMEngineLowThroughput' is an alert of the chart; choose another name"),
        ([SLOW, {**SLOW, "condition": "up == 0"}], "monitoring.alerting.rules[1].name: 'Slow' is there twice; choose another name"),
        ([{**SLOW, "severity": "urgent"}], "value must be one of 'info', 'warning', 'critical'"),
        ([{**SLOW, "name": "no spaces"}], "'no spaces' does not match pattern"),
        ([{**SLOW, "condition": ""}], "minLength"),
        ([{"name": "Slow"}], "missing property 'condition'"),
        ([{**SLOW, "for": "soon"}], "'soon' does not match pattern"),
        ([{**SLOW, "runbook_url": "wiki"}], "'wiki' does not match pattern"),
        ([{**SLOW, "threshold": 5}], "additional properties 'threshold' not allowed"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused_with_what_is_wrong(rules: list[Json], told: str) -> None:
    assert told in render(with_rules(*rules), check=False)


def notes(*rules: Json) -> list[str]:
    told = yaml.safe_dump({"operator": {"mode": "always"}, **with_rules(*rules)})
    done = helm("install", "aim-engine", "./helm", "-n", "aim-engine", "--dry-run=client", "--values", "-", stdin=told)  # fmt: skip
    return [line for line in done.stdout.splitlines() if line.startswith("NOTE: rule ")]


def test_a_rule_that_likely_never_fires_or_never_ends_is_told_of() -> None:
    never = {"name": "Never", "condition": "aim_recipe_selection_failed_total > 0"}
    stays = {"name": "Stays", "condition": 'aim_recipe_selection_total{result="not_found"} > 0'}
    fine = {
        "name": "Fine",
        "condition": "histogram_quantile(0.9, sum by (le) (rate(aim_recipe_selection_duration_seconds_bucket[5m]))) > 1",
    }
    other = {"name": "Other", "condition": "increase(aim_recipe_selection_total[15m]) > 0"}
    assert notes(SLOW, fine, other) == []
    assert notes(never, stays) == [
        "NOTE: rule Never asks for aim_recipe_selection_failed_total, which nothing serves, so it never fires; docs/reference/metrics.md lists what there is.",
        "NOTE: rule Never compares a counter with a number. A counter never falls, so once the alert fires it stays; ask for "
        "increase(aim_recipe_selection_failed_total[15m]) > 0.",
        "NOTE: rule Stays compares a counter with a number. A counter never falls, so once the alert fires it stays; ask for "
        "increase(aim_recipe_selection_total[15m]) > 0.",
    ]  # fmt: skip


def test_engines_closed_to_prometheus_are_told_of() -> None:
    def told(*flags: str) -> bool:
        done = helm("install", "aim-engine", "./helm", "-n", "aim-engine", "--dry-run=client", "--set", "operator.mode=always", *flags)  # fmt: skip
        return "engineFromNamespaces closes the engine to Prometheus too" in done.stdout

    closed = ("--set", "networkPolicy.engineFromNamespaces={gateway}")
    assert told(*closed)
    assert not told()
    assert not told(*closed, "--set", "networkPolicy.fromNamespaces={monitoring}")


def test_the_manifests_hold_the_same_as_the_chart() -> None:
    directory = ROOT / "deploy" / "manifests" / "monitoring"
    listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in directory.glob("*.yaml")} == {"kustomization.yaml", *listed}
    plain = {
        f"{obj['kind']}/{obj['metadata']['name']}": obj["spec"]
        for name in listed
        for obj in yaml.safe_load_all((directory / name).read_text())
    }
    chart = {name: obj["spec"] for name, obj in render().items()}
    for spec in (*plain.values(), *chart.values()):
        labels = spec.get("selector", {}).get("matchLabels", {})
        labels.pop("app.kubernetes.io/instance", None)
    assert plain == chart


def test_protection_of_the_port_reaches_probes_configuration_rights_and_the_monitor() -> None:
    told = yaml.safe_dump({"operator": {"mode": "always", "metrics": {"tlsSecret": "operator-tls", "authentication": True}}})  # fmt: skip
    words = [word for version in MONITORING for word in ("--api-versions", version)]
    objects = {
        f"{obj['kind']}/{obj['metadata']['name']}": obj
        for obj in rendered(helm("template", "aim-engine", "./helm", "-n", "aim-engine", "--values", "-", *words, stdin=told).stdout)
    }  # fmt: skip
    pod = objects["Deployment/aim-engine-operator"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {container[probe]["httpGet"]["scheme"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {"HTTPS"}  # fmt: skip
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"name": "metrics-tls", "secret": {"secretName": "operator-tls"}} in pod["volumes"]
    config = yaml.safe_load(objects["ConfigMap/aim-engine-operator-config"]["data"]["config.yaml"])
    assert config["metrics"] == {"authenticate": True, "tlsDirectory": mounted["metrics-tls"]}
    (endpoint,) = objects["ServiceMonitor/aim-engine-operator"]["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]["serverName"]) == ("https", "aim-engine-metrics.aim-engine.svc")  # fmt: skip
    assert "bearerTokenFile" in endpoint
    rules = objects["ClusterRole/aim-engine-operator-metrics-access"]["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in rules] == [
        (["tokenreviews"], ["create"]), (["subjectaccessreviews"], ["create"]),
    ]  # fmt: skip
    assert objects["ClusterRole/aim-engine-metrics-reader"]["rules"] == [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    ]


def test_without_it_nothing_of_it_is_there() -> None:
    text = helm("template", "aim-engine", "./helm", "-n", "aim-engine", "--set", "operator.mode=always").stdout  # fmt: skip
    for word in ("tokenreviews", "metrics-tls", "metrics-reader", "HTTPS,", "tlsDirectory"):
        assert word not in text

"""Our monitors and alerts as the real Prometheus Operator reads them and the real Prometheus runs them, over the real operator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from aim_engine.telemetry import alerts
from chart.documented import MONITORING
from chart.helm import helm, rendered
from e2e.support import PATIENCE, is_true, recipe_object
from testbed.engines import EngineFleet
from testbed.fixtures import WITHOUT_CLUSTER
from testbed.plane import ControlPlane
from testbed.product import NAMESPACE, ROOT, Operator, deployment, install, path
from testbed.prometheus import Prometheus
from testbed.prometheus_operator import PrometheusOperator, runnable

MODEL = "example.com/measured"
RECIPE = "measured-mi300x-2x-bf16"
TENANT = "team-a"
SERVICE = "serviceMonitor/aim-engine/aim-engine-operator/0"
ENGINES = "podMonitor/aim-engine/aim-engine-engines/0"
VALIDATOR = "podMonitor/aim-engine/aim-engine-recipe-validator/0"
STANDS_FOR = "192.0.2.10"
"""Address of the operator's pod in its EndpointSlice, where loopback is not allowed; relabelled before anything is sent."""
OWN = {"namespace": TENANT, "aimdeployment": "chat", "aimrecipe": RECIPE, "gpu_type": "MI300X", "precision": "bf16"}  # fmt: skip


@dataclass
class Watched:
    """The whole: a plane, the product on it, both Prometheus programs."""

    plane: ControlPlane
    operator: Operator
    translator: PrometheusOperator
    prometheus: Prometheus
    jobs: dict[str, dict[str, Any]]

    def series(self, expression: str) -> list[dict[str, str]]:
        """Labels of the series of a query, as soon as there are any."""
        found = self.prometheus.wait_for(
            lambda: self.prometheus.query(expression),
            240,
            f"{expression}\n{self.prometheus.targets()}\n{self.operator.log()}",
        )
        return [each["metric"] for each in found]


def endpoint_slice() -> dict[str, Any]:
    """What the endpoint controller would make of the operator's Service, which has no pods on this plane."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "aim-engine-metrics-1",
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": "aim-engine-metrics", "app.kubernetes.io/name": "aim-engine",
                "app.kubernetes.io/component": "operator",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [STANDS_FOR], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }  # fmt: skip


def services() -> list[dict[str, Any]]:
    shipped = yaml.safe_load_all((ROOT / "deploy" / "manifests" / "operator.yaml").read_text())
    return [obj for obj in shipped if obj["kind"] == "Service"]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    if os.environ.get(WITHOUT_CLUSTER) == "1":
        pytest.skip(f"needs a control plane ({WITHOUT_CLUSTER}=1)")
    with ControlPlane.start() as plane:
        install(plane, recipes=())
        plane.add_nodes("mi300x-8")
        plane.apply(*services(), endpoint_slice())
        with (
            PrometheusOperator.start(plane) as translator,
            Operator.start(plane, recipeStatusSeconds=1) as operator,
            EngineFleet(plane) as fleet,
        ):
            plane.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy" / "manifests" / "monitoring"))
            figure = {
                "tokensPerSecond": 900,
                "provenance": {"kind": "declared", "source": "https://example.com"},
            }
            plane.apply(recipe_object(RECIPE, MODEL, gpus=2, performance=[figure]))
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": TENANT}})
            targets = {"maxTimeToFirstTokenMilliseconds": 200}
            plane.apply(deployment("chat", TENANT, MODEL, replicas=2, targets=targets))
            plane.wait_for(
                lambda: is_true(plane.request("GET", path(TENANT, "chat")), "Ready"), PATIENCE, operator.log()
            )
            plane.wait_for(lambda: len(fleet.serving()) == 2, PATIENCE, "both engines to listen")
            for namespace, pod in fleet.serving():
                fleet.set(namespace, pod, tokens_per_second=400, running=4)
            plane.wait_for(
                lambda: {SERVICE, ENGINES, VALIDATOR} <= translator.scrape_configs().keys(),
                240, f"the Prometheus Operator to read our monitors\n{translator.log()}",
            )  # fmt: skip
            jobs = translator.scrape_configs()
            rules = plane.wait_for(translator.rules, 240, f"and our rules\n{translator.log()}")
            directory = plane.workdir / "prometheus"
            directory.mkdir()
            files = []
            for name, text in rules.items():
                files.append(directory / name)
                files[-1].write_text(text)
            configs = [runnable(job, str(plane.kubeconfig), "1s") for job in jobs.values()]
            (service,) = (config for config in configs if config["job_name"] == SERVICE)
            service["relabel_configs"].append(
                {"target_label": "__address__", "replacement": f"127.0.0.1:{operator.port}"}
            )
            with Prometheus.start(directory, configs, rule_files=files) as prometheus:
                yield Watched(plane, operator, translator, prometheus, jobs)


def test_every_series_of_an_engine_names_its_deployment_recipe_gpu_and_precision(watched: Watched) -> None:
    pods = {
        pod["metadata"]["name"]
        for pod in watched.plane.request("GET", f"/api/v1/namespaces/{TENANT}/pods")["items"]
    }
    for expression in (
        "vllm:generation_tokens_total > 0",
        "vllm:num_requests_running",
        "up{aimdeployment!=''}",
    ):
        answer = watched.prometheus.wait_for(
            lambda: found if len(found := watched.prometheus.query(expression)) == 2 else None,  # noqa: B023
            240,
            f"{expression} of both replicas: {watched.prometheus.targets()}",
        )
        found = [each["metric"] for each in answer]
        assert {labels["pod"] for labels in found} == pods
        for labels in found:
            assert OWN.items() <= labels.items()
            assert not [name for name in labels if name.startswith("exported_")]
    strays = 'count({__name__=~"vllm:.+", aimdeployment=""}) or count({__name__=~"vllm:.+_created"})'
    assert watched.prometheus.query(strays) == []


def test_a_series_of_an_object_has_the_namespace_of_the_object(watched: Watched) -> None:
    (info,) = watched.series('aim_deployment_info{aimdeployment="chat"}')
    assert {**OWN, "gpu_count": "2", "model": MODEL, "tier": "Primary"}.items() <= info.items()
    assert "exported_namespace" not in info
    (active,) = watched.series("aim_operator_active == 1")
    assert active["namespace"] == NAMESPACE
    assert watched.series(
        'aim_deployment_expected_tokens_per_second{namespace="team-a", aimdeployment="chat"} == 1800'
    )


def test_engine_and_operator_join_on_their_labels(watched: Watched) -> None:
    (joined,) = watched.series(
        "sum by (namespace, aimdeployment, aimrecipe) (rate(vllm:generation_tokens_total[20s]))"
        " * on (namespace, aimdeployment) group_left (model, tier) aim_deployment_info"
    )
    assert joined == {"namespace": TENANT, "aimdeployment": "chat", "aimrecipe": RECIPE, "model": MODEL, "tier": "Primary"}  # fmt: skip


def test_the_interval_is_the_one_of_our_objects(watched: Watched) -> None:
    assert {job["scrape_interval"] for job in watched.jobs.values()} == {"30s"}
    assert watched.jobs[SERVICE]["honor_labels"] is True


def test_every_rule_is_evaluated_on_real_series_without_an_error(watched: Watched) -> None:
    expected = sum(len(group["rules"]) for group in alerts.groups())
    watched.series("vllm:time_to_first_token_seconds_count > 0")

    def evaluated() -> list[dict[str, Any]]:
        groups = watched.prometheus.get("/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = watched.prometheus.wait_for(evaluated, 240, "every rule to be evaluated")
    assert len(rules) == expected
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    (ratio,) = watched.series("aimdeployment:time_to_first_token_over_objective:ratio_rate5m")
    assert (ratio["namespace"], ratio["aimdeployment"]) == (TENANT, "chat")


def test_no_alert_is_pending_on_a_model_that_serves_well(watched: Watched) -> None:
    watched.series('aim_performance_tokens_per_second{aimdeployment="chat"} > 0 or vector(1)')

    def pending() -> set[str]:
        """Of one, the operator's first window takes a minute."""
        shown = {each["metric"]["alertname"] for each in watched.prometheus.query("ALERTS")}
        return shown - {"AIMEnginePerformanceSampleStale"}

    watched.prometheus.wait_for(lambda: not pending(), 240, f"no alert to be pending: {pending()}")


def chart(*words: str, **values: Any) -> list[dict[str, Any]]:
    """The chart's objects of the Prometheus Operator, for another release than the manifests'."""
    told = yaml.safe_dump({"operator": {"mode": "always"}, **values})
    versions = [word for version in MONITORING for word in ("--api-versions", version)]
    done = helm(
        "template", "second", "./helm", "-n", NAMESPACE, "--values", "-", *versions, *words, stdin=told
    )
    return [obj for obj in rendered(done.stdout) if obj["apiVersion"].startswith("monitoring.coreos.com/")]


def test_the_charts_objects_are_accepted_with_every_value_set(watched: Watched) -> None:
    rules = [
        {
            "name": "Mine",
            "condition": "up == 0",
            "severity": "info",
            "runbook_url": "https://wiki.example.com",
        }
    ]
    found = chart(
        operator={"mode": "always", "metrics": {"tlsSecret": "operator-tls", "authentication": True}},
        monitoring={"prometheus": {"scrape_interval": "90s", "additionalLabels": {"release": "x"}}, "alerting": {"rules": rules}},
    )  # fmt: skip
    assert sorted(obj["kind"] for obj in found) == [
        "PodMonitor", "PodMonitor", "PrometheusRule", "PrometheusRule", "ServiceMonitor",
    ]  # fmt: skip
    done = watched.plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(found)
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == len(found)
    assert "Warning" not in done.stderr


def test_a_condition_of_the_user_that_cannot_be_parsed_takes_none_of_our_alerts_away(
    watched: Watched,
) -> None:
    broken = {"name": "Broken", "condition": "sum by (up"}
    fine = {"name": "Fine", "condition": "vector(1) > 2"}
    plane = watched.plane
    for rule in (broken, fine):
        found = chart(monitoring={"alerting": {"rules": [rule]}, "prometheus": {"enabled": False}})
        user = next(obj for obj in found if obj["metadata"]["name"] == "second-user-alerts")
        plane.apply({**user, "metadata": {**user["metadata"], "name": rule["name"].lower()}})

    def read() -> bool:
        files = watched.translator.rules()
        text = "".join(files.values())
        return "Fine" in text and "AIMEngineOperatorDown" in text and "Broken" not in text

    plane.wait_for(read, 240, f"the good rules alone\n{watched.translator.log()}")

"""The pages docs/reference/metrics.md and alerts.md, written by docs/generate.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry

from aim_engine.telemetry import alerts, families
from aim_engine.telemetry.admission import AdmissionMetrics
from aim_engine.telemetry.metrics import Metrics
from aim_engine.telemetry.store import Family

Table = Callable[[Iterable[str], Iterable[Iterable[str]]], str]
_HEADER = ("Metric", "Type", "Labels", "Meaning")
_OBJECT_HEADER = ("Metric", "Labels", "Series of an object", "Meaning")
_SECTIONS: tuple[tuple[str, str, tuple[Family, ...]], ...] = (
    ("AIMDeployments", "Some 20 series each.", families.DEPLOYMENTS),
    (
        "Measured performance",
        "Read by the operator from the engines of an AIMDeployment, up to 16 series each. Without a fresh sample there is no series, "
        "never a 0 that nobody measured; only the time of the last sample stays.",
        families.PERFORMANCE,
    ),
    ("Recipes", "Up to 7 series each.", families.RECIPES),
    ("GPUs", "What the operator sees on the nodes.", families.GPUS),
)


def metrics(table: Table) -> str:
    """All metrics of the operator and of the validator."""
    parts = [
        "# Metrics\n\n"
        "The operator serves `/metrics`, `/healthz` and `/readyz` on one port (8080), as text or, where the client asks for it, as "
        "OpenMetrics. Series of an object vanish with it. Only the replica that leads shows objects; a standby shows what concerns "
        "its own process, so that a sum over replicas counts nothing twice. All values are gauges unless the table says otherwise, "
        "in base units (seconds, ratios from 0 to 1).\n\n"
        "A model id stands on `aim_deployment_info` and `aim_recipe_info` alone; join on `namespace, aimdeployment` or `aimrecipe`:\n\n"
        "    aim_performance_tokens_per_second\n"
        "      * on (namespace, aimdeployment) group_left (model, aimrecipe) aim_deployment_info\n\n"
        "Scrape with `honorLabels: true` as our ServiceMonitor does; otherwise the label `namespace` of an object arrives as "
        "`exported_namespace`. A cluster of 5,000 deployments and 200 recipes has some 180,000 series. They are kept as the bytes "
        "they are served as and written anew only when their object changes, so a scrape holds up no other work of the operator "
        "([figures](performance.md)).\n\n## The operator itself\n\nBeside the usual `process_*`.\n\n",
        table(_HEADER, sorted(_registered(_lived().registry))),
        "\n## The validator\n\nServed by the validator's pods on their port 8081.\n\n",
        table(_HEADER, sorted(_registered(_judged().registry))),
    ]
    for title, about, found in _SECTIONS:
        rows = [(f"`{each.name}`", _code(each.labels), each.per_object, each.help) for each in found]
        parts.append(f"\n## {title}\n\n{about}\n\n{table(_OBJECT_HEADER, rows)}")
    parts.append(
        "\n## Engines\n\n"
        "The engines serve metrics of their own from their pods: `vllm:*` and `sglang:*` ([names by meaning](engines.md)). Our PodMonitor "
        "gives every such series, and `up`, the labels `namespace`, `pod`, `aimdeployment`, `aimrecipe`, `gpu_type` and `precision`, so "
        "that a dashboard needs no join. `aimrecipe` is the recipe's name as a label value: characters that labels do not allow are dots, "
        "and a name of more than 63 characters is cut and ends in a hash.\n"
    )
    return "".join(parts)


def alert_rules(table: Table) -> str:
    """All alerts with their runbooks."""
    rows = [
        (
            f"[{rule['alert']}](../runbooks/{rule['alert']}.md)",
            rule["severity"],
            rule["for"],
            _plain(rule["summary"]),
        )
        for rule in alerts.alerts()
    ]
    return (
        "# Alerts\n\n"
        "`critical`: a service is lost as a whole. `warning`: somebody should look within the hour. `info`: worth knowing. Every alert has "
        "the label `component: aim-engine` and a runbook. The chart and `deploy/manifests/monitoring` bring them as a PrometheusRule; for "
        "a Prometheus without its operator there is `deploy/prometheus/aim-engine.rules.yaml`.\n\n"
        f"{table(('Alert', 'Severity', 'After', 'Says'), rows)}"
    )


def _plain(text: str) -> str:
    """A summary for readers: names of labels instead of templates."""
    return text.replace("{{ $labels.", "*").replace(" }}", "*")


def _lived() -> Metrics:
    """Metrics of an operator to which everything has happened once, so that every label shows."""
    lived = Metrics()
    lived.requested("GET", 200, 0.0)
    lived.hub_asked("found")
    with lived.reconciling("AIMDeployment"):
        lived.became_ready("MI300X", "vllm", 0.0)
    return lived


def _judged() -> AdmissionMetrics:
    judged = AdmissionMetrics(lambda: None)
    judged.reviews.labels("AIMDeployment", "allowed")
    judged.warnings.labels("AIMDeployment")
    judged.seconds.labels("AIMDeployment")
    return judged


def _registered(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    for family in registry.collect():
        if family.name.startswith("process_"):
            continue
        labels = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield f"`{name}`", family.type, _code(labels), family.documentation


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

"""Alerts: `alerts.yaml` turned into what Prometheus, the Prometheus Operator and the chart read. The chart also gets the names of
our metrics, to tell of rules of the user's that ask for others.

`python -m aim_engine.telemetry.alerts DIRECTORY` writes the files below the repository's `deploy`; `--check` compares.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from aim_engine.generated import keep
from aim_engine.telemetry import names

Group = dict[str, Any]
"""A rule group of Prometheus."""

_SOURCE = Path(__file__).with_name("alerts.yaml")
_RUNBOOKS = "RUNBOOKS"
"""Stands for the address of the runbooks in the chart's file."""
_NOTE = "# Generated from operator/aim_engine/telemetry/alerts.yaml by `make generate`; do not edit.\n"
_LABELS = {"app.kubernetes.io/name": "aim-engine", "app.kubernetes.io/component": "monitoring"}


@cache
def source() -> Mapping[str, Any]:
    """`alerts.yaml` as it is: `runbooks` (address of the pages), `labels` (of every alert) and `groups`."""
    content: Mapping[str, Any] = yaml.safe_load(_SOURCE.read_text(encoding="utf-8"))
    return content


def alerts() -> list[Mapping[str, Any]]:
    """The alerts in order, without recording rules: alert, expr, for, severity, summary, description."""
    return [rule for group in source()["groups"] for rule in group["rules"] if "alert" in rule]


def groups(runbooks: str | None = None) -> list[Group]:
    """Rule groups with every alert's labels and annotations; `runbooks` is the address of the pages, default the source's."""
    base = runbooks or source()["runbooks"]
    return [
        {"name": group["name"], "rules": [_rule(rule, base) for rule in group["rules"]]}
        for group in source()["groups"]
    ]


def _rule(rule: Mapping[str, Any], base: str) -> dict[str, Any]:
    if "record" in rule:
        return dict(rule)
    return {
        "alert": rule["alert"],
        "expr": rule["expr"],
        "for": rule["for"],
        "labels": {"severity": rule["severity"], **source()["labels"]},
        "annotations": {
            "summary": rule["summary"],
            "description": rule["description"],
            "runbook_url": f"{base}/{rule['alert']}.md",
        },
    }


def files() -> dict[str, str]:
    """Path below `deploy` -> content of everything that is generated."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "aim-engine-alerts", "namespace": "aim-engine", "labels": _LABELS},
        "spec": {"groups": groups()},
    }
    return {
        "prometheus/aim-engine.rules.yaml": _text({"groups": groups()}),
        "manifests/monitoring/prometheusrule.yaml": _text(rule),
        "helm/files/alerts.yaml": _text(groups(_RUNBOOKS)),
        "helm/files/metrics.txt": "".join(f"{name}\n" for name in names.served()),
    }


class _Dumper(yaml.SafeDumper):
    """Expressions stay readable: several lines as a block."""


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _as_block)


def _text(content: Any) -> str:
    return _NOTE + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def main(arguments: Sequence[str]) -> int:
    """Write below the named directory, or with `--check` compare; 1 where a file is stale."""
    directory = Path(next(each for each in arguments if each != "--check"))
    return keep(directory, files(), check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What each documented command renders: everything for the first, and for the others what differs from it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.documented import COMMANDS, MONITORING, NAMESPACE
from chart.helm import Json, helm, named, rendered, template
from testbed.product import ROOT

GOLDEN = ROOT / "tests" / "golden" / "chart"
FIRST = "auto-select"
FILE = 5000
"""Characters from which on a text in a ConfigMap is a file of its own."""
CASES: dict[str, tuple[str, ...]] = {
    **{case: tuple(shlex.split(command)[1:]) for case, command in COMMANDS.items()},
    "namespaced": ("install", "aim-engine", "./helm", "--set", "watchNamespaces={aim-engine,team-a,team-b}", "--set", "rbac.userRoles=false"),
    "cert-manager-and-policy": (
        "install", "aim-engine", "./helm", "--set", "admission_controller.certificates.source=certManager",
        "--set", "admission_controller.certificates.issuerRef.name=my-issuer", "--set", "admission_controller.policy.enabled=true",
        "--set", "admission_controller.policy.action=Deny", "--set", "admission_controller.policy.maxGPUs=16",
    ),
    "own-certificate": (
        "install", "aim-engine", "./helm", "--set", "admission_controller.certificates.source=secret",
        "--set", "admission_controller.certificates.secretName=my-certificate",
    ),
    "air-gapped": (
        "install", "aim-engine", "./helm", "--set", "global.imageRegistry=registry.example.com/mirror",
        "--set", "global.imagePullSecrets={pull-secret}", "--set", "engine.huggingFaceEndpoint=https://hub.example.com",
        "--set", "operator.config.hub.enabled=false",
    ),
    "without-operator": ("install", "model-b", "./helm", "--set", "operator.mode=never", "--set", "aim_engine.gpu_count=2"),
    "everything-off": (
        "install", "aim-engine", "./helm", "--set", "monitoring.enabled=false", "--set", "admission_controller.enabled=false",
        "--set", "selector.enabled=false", "--set", "networkPolicy.enabled=false", "--set", "crds.upgrade=false",
    ),
}  # fmt: skip
"""The documented commands, and one for each group of values that adds or takes away objects."""


def render(case: str, *, monitoring: bool = True) -> list[Json]:
    """Objects of a case, on a cluster with the Prometheus Operator."""
    verb, release, chart, *flags = CASES[case]
    upgrade = ["--is-upgrade"] if verb == "upgrade" else []
    objects = template(
        release,
        chart,
        "--namespace",
        NAMESPACE,
        *upgrade,
        *flags,
        api_versions=MONITORING if monitoring else (),
    )
    return [_without_board(obj) for obj in objects]


def _without_board(obj: Json) -> Json:
    """A dashboard is generated and has tests of its own; here only its ConfigMap counts."""
    if "grafana_dashboard" not in (obj["metadata"].get("labels") or {}):
        return obj
    titles = {name: json.loads(text)["title"] for name, text in obj["data"].items()}
    return {**obj, "data": titles}


def notes(case: str) -> str:
    """What a user is told after it."""
    _, release, chart, *flags = CASES[case]
    done = helm("install", release, chart, "--namespace", NAMESPACE, "--dry-run=client", *flags)
    return done.stdout.partition("\nNOTES:\n")[2]


def as_first(case: str, value: Any) -> Any:
    """A value with the name of the first case's release in place of this one's."""
    return json.loads(json.dumps(value).replace(CASES[case][1], CASES[FIRST][1]))


def shortened(obj: Json) -> Json:
    """An object without files in it that are generated and tested elsewhere, such as dashboards."""
    if obj["kind"] != "ConfigMap":
        return obj
    return {
        **obj,
        "data": {key: text if len(text) < FILE else "(a file)" for key, text in obj["data"].items()},
    }


class _Text(yaml.SafeDumper):
    """Texts of several lines stay readable."""


_Text.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def golden(case: str) -> str:
    """The text of a case's file."""
    objects = dict(named(render(case)))
    parts: list[Any] = [notes(case)]
    head = f"# helm {shlex.join(CASES[case])}\n"
    if case != FIRST:
        first = dict(named(render(FIRST)))
        alike = {as_first(case, name): (name, as_first(case, obj)) for name, obj in objects.items()}
        missing = sorted(set(first) - set(alike))
        head += f"# As {FIRST}.yaml but for names and what follows; not there: {', '.join(missing) or 'nothing'}\n"
        objects = {name: objects[name] for key, (name, obj) in alike.items() if first.get(key) != obj}
    parts += [shortened(objects[name]) for name in sorted(objects)]
    return head + yaml.dump_all(
        parts, Dumper=_Text, sort_keys=True, width=110, explicit_start=True, allow_unicode=True
    )


@pytest.mark.parametrize("case", CASES)
def test_a_command_renders_what_it_did(case: str) -> None:
    path = GOLDEN / f"{case}.yaml"
    text = golden(case)
    if os.environ.get("AIM_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "look at the difference; AIM_UPDATE_GOLDEN=1 accepts it"


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_helm_lint_finds_nothing(case: str) -> None:
    done = helm(
        "lint",
        "./helm",
        "--strict",
        "--namespace",
        NAMESPACE,
        *(word for word in CASES[case][3:] if word != "--is-upgrade"),
    )
    assert "0 chart(s) failed" in done.stdout
    assert "WARNING" not in done.stdout
    assert "ERROR" not in done.stdout


def test_two_renders_are_equal_byte_for_byte() -> None:
    words = ("template", "aim-engine", "./helm", "--namespace", NAMESPACE)
    assert helm(*words).stdout == helm(*words).stdout


def test_without_the_prometheus_operator_there_are_no_monitoring_objects() -> None:
    assert not [obj for obj in render(FIRST, monitoring=False) if "monitoring.coreos.com" in obj["apiVersion"]]  # fmt: skip
    assert [obj for obj in render(FIRST) if "monitoring.coreos.com" in obj["apiVersion"]]


def test_names_of_objects_begin_with_the_release_so_that_releases_do_not_meet() -> None:
    """Cluster-scoped names carry the release alone: one operator a cluster."""
    for case in CASES:
        release = CASES[case][1]
        for name, obj in named(render(case)):
            assert obj["metadata"]["name"].startswith(release), name


def test_what_is_packaged_is_the_chart_and_nothing_else(tmp_path: Path) -> None:
    helm("package", "./helm", "--destination", tmp_path)
    (archive,) = tmp_path.glob("*.tgz")
    size = archive.stat().st_size
    assert size < 300_000, "a release must fit into a Secret of 1 MiB"
    assert rendered(helm("template", "aim-engine", archive, "--namespace", NAMESPACE).stdout) == template(
        "aim-engine", "./helm", "--namespace", NAMESPACE
    )


def test_every_documented_command_stands_in_the_guide() -> None:
    guide = (ROOT / "docs" / "guides" / "helm.md").read_text()
    for command in COMMANDS.values():
        assert f"\n{command}" in guide

"""The alerts, by the real promtool: that they parse, when they fire and when not; and what every alert must have."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.api.enums import Backend
from aim_engine.engines import engine
from aim_engine.telemetry import alerts
from testbed import tools
from testbed.fixtures import WITHOUT_CLUSTER

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CASES = sorted((ROOT / "tests" / "alerts").glob("*.yaml"))
RULES = DEPLOY / "prometheus" / "aim-engine.rules.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
NAMES = [rule["alert"] for rule in alerts.alerts()]
DURATION = re.compile(r"\d+[smhd]")


@pytest.fixture(scope="module")
def promtool() -> Path:
    if os.environ.get(WITHOUT_CLUSTER) == "1":
        pytest.skip(f"needs promtool ({WITHOUT_CLUSTER}=1)")
    return tools.tool("promtool")


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in argv], capture_output=True, text=True, timeout=120)


def expectations() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(alert, what is expected) of every check in the case files."""
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for check in test.get("alert_rule_test", []):
                yield check["alertname"], check["exp_alerts"]


def completed(cases: Path) -> dict[str, Any]:
    """A case file as promtool wants it: with the rules, and with the labels and runbook that all alerts have."""
    content: dict[str, Any] = yaml.safe_load(cases.read_text())
    base = alerts.source()["runbooks"]
    for test in content["tests"]:
        for series in test["input_series"]:
            assert isinstance(series["values"], str), f"{series}: YAML reads 0x60 as a number; quote it"
        for check in test.get("alert_rule_test", []):
            check["exp_alerts"] = [
                {
                    "exp_labels": {**each["exp_labels"], **alerts.source()["labels"]},
                    "exp_annotations": {**each["exp_annotations"], "runbook_url": f"{base}/{check['alertname']}.md"},
                }
                for each in check["exp_alerts"]
            ]  # fmt: skip
    return {"rule_files": [str(RULES)], "evaluation_interval": "1m", **content}


def test_the_rules_parse(promtool: Path) -> None:
    checked = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should_and_only_then(promtool: Path, tmp_path: Path, cases: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump(completed(cases), sort_keys=False))
    tested = run(promtool, "test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_rule_that_never_fires_would_be_noticed(promtool: Path, tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(1) > 2"
    silent = tmp_path / "silent.yaml"
    silent.write_text(yaml.safe_dump(rules))
    for cases in CASES:
        file = tmp_path / cases.name
        file.write_text(yaml.safe_dump({**completed(cases), "rule_files": [str(silent)]}))
        assert run(promtool, "test", "rules", file).returncode == 1


@pytest.mark.parametrize("name", NAMES)
def test_another_number_in_an_alert_would_be_noticed(promtool: Path, tmp_path: Path, name: str) -> None:
    """`for`, thresholds and time ranges, of the alert and of the rules that it reads, each changed by a part of it."""
    files = []
    for number, (what, rules) in enumerate(mutants(name)):
        rule_file, case_file = tmp_path / f"{number}-rules.yaml", tmp_path / f"{number}.yaml"
        rule_file.write_text(yaml.safe_dump({"groups": [{"name": "changed", "rules": rules}]}))
        cases = {"rule_files": [str(rule_file)], "evaluation_interval": "1m", "tests": list(cases_of(name))}
        case_file.write_text(f"# {what}\n" + yaml.safe_dump(cases))
        files.append(case_file)
    tested = run(promtool, "test", "rules", *files)
    assert len(files) >= 2
    assert tested.stdout.count("SUCCESS") + tested.stderr.count("  FAILED:") == len(files), tested.stderr
    if "SUCCESS" in tested.stdout:
        unnoticed = [each for each in files if run(promtool, "test", "rules", each).returncode == 0]
        pytest.fail("\n".join(["no case tells:", *(each.read_text().splitlines()[0] for each in unnoticed)]))


def cases_of(name: str) -> Iterator[dict[str, Any]]:
    """The tests of the case files that speak of an alert, with what they say of others left out."""
    for path in CASES:
        for test in completed(path)["tests"]:
            checks = [check for check in test.get("alert_rule_test", []) if check["alertname"] == name]
            if checks:
                yield {**test, "alert_rule_test": checks}


def mutants(name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What is changed, and the alert with the recording rules it reads, one number of them changed."""
    known = [rule for group in alerts.groups() for rule in group["rules"]]
    (alert,) = (rule for rule in known if rule.get("alert") == name)
    rules = [rule for rule in known if rule.get("record", "none") in alert["expr"]] + [alert]
    for at, rule in enumerate(rules):
        for what, changed in changes(rule):
            yield f"{rule.get('record', name)}: {what}", [*rules[:at], changed, *rules[at + 1 :]]


def changes(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A rule with one number changed. Comparisons with 0 and 1 ask whether something is, and stay."""
    if "for" in rule:
        for factor in (0.5, 1.5):
            yield f"for {rule['for']} x {factor}", {**rule, "for": f"{seconds(rule['for']) * factor:.0f}s"}
    text = rule["expr"]
    for found in re.finditer(r"(?<=[<>=*] )\d+(?:\.\d+)?|\d+(?:\.\d+)?(?= \*)|(?<=\[)\d+[smhd](?=\])", text):
        number = found.group()
        if number in ("0", "1"):
            continue
        is_range = number[-1].isalpha()
        for factor in (0.5, 2) if is_range else (0.75, 1.3333):
            new = f"{seconds(number) * factor:.0f}s" if is_range else f"{float(number) * factor:g}"
            yield (
                f"{number} x {factor} at {found.start()}",
                {**rule, "expr": text[: found.start()] + new + text[found.end() :]},
            )


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {name for name, expected in expectations() if expected} == set(NAMES)
    assert {name for name, expected in expectations() if not expected} == set(NAMES)


@pytest.mark.parametrize("rule", alerts.alerts(), ids=NAMES)
def test_every_alert_says_what_a_person_needs(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"AIMEngine[A-Z][A-Za-z]+", rule["alert"])
    assert rule["severity"] in ("critical", "warning", "info")
    assert DURATION.fullmatch(rule["for"])
    assert rule["summary"].endswith(".")
    assert len(rule["summary"]) < 140
    assert rule["description"].endswith(".")
    assert "\n" not in rule["description"].strip()
    kept = set(re.findall(r"by \(([^)]*)\)", rule["expr"]))
    used = set(re.findall(r"\$labels\.(\w+)", rule["summary"] + rule["description"]))
    known = {label.strip() for labels in kept for label in labels.split(",")} | {"namespace", "aimdeployment"}
    assert used <= known, "a label that the expression drops would be empty in the text"


def test_only_the_loss_of_a_whole_service_is_critical() -> None:
    assert [rule["alert"] for rule in alerts.alerts() if rule["severity"] == "critical"] == [
        "AIMEngineDeploymentUnavailable", "AIMEngineOperatorDown", "AIMEngineOperatorNoActiveReplica",
    ]  # fmt: skip


def test_the_generated_files_are_up_to_date_and_drift_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert alerts.main([str(DEPLOY), "--check"]) == 0, "run `make generate`"
    assert alerts.main([str(tmp_path), "--check"]) == 1
    assert list(tmp_path.iterdir()) == [], "a check writes nothing"
    assert alerts.main([str(tmp_path)]) == 0
    (tmp_path / "helm" / "files" / "alerts.yaml").write_text("edited by hand")
    capsys.readouterr()
    assert alerts.main([str(tmp_path), "--check"]) == 1
    assert "helm/files/alerts.yaml" in capsys.readouterr().err


def test_the_three_forms_hold_the_same_rules() -> None:
    plain = yaml.safe_load(RULES.read_text())["groups"]
    assert (
        yaml.safe_load((DEPLOY / "manifests/monitoring/prometheusrule.yaml").read_text())["spec"]["groups"]
        == plain
    )
    chart = (DEPLOY / "helm/files/alerts.yaml").read_text().replace("RUNBOOKS", alerts.source()["runbooks"])
    assert yaml.safe_load(chart) == plain


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_tells_meaning_impact_diagnosis_with_commands_and_mitigation(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    diagnosis = page.partition("## Diagnosis")[2].partition("## Mitigation")[0]
    (commands, *_) = re.findall(r"```sh\n(.+?)```", diagnosis, re.DOTALL)
    assert all(re.match(r"(kubectl|aim-engine) ", line) for line in commands.splitlines())


def test_every_metric_that_a_rule_or_a_runbook_names_is_served_by_somebody() -> None:
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    served = set(re.findall(r"^\| `(aim_\w+)`", reference, re.MULTILINE))
    texts = [rule["expr"] for group in alerts.groups() for rule in group["rules"]]
    texts += [path.read_text() for path in RUNBOOKS.glob("*.md")]
    named = {name for text in texts for name in re.findall(r"\baim_(?!engine\b)[a-z_]+\b", text)}
    assert named - served == set()
    known = {name for backend in Backend for names in engine(backend).METRICS.values() for name in names}
    assert {"vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds"} <= known
    objectives = [rule for rule in texts if "time_to_first_token_seconds_bucket" in rule and "by (" in rule]
    assert all("(vllm|sglang):" in rule for rule in objectives)

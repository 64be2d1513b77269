"""The command line beside a running operator: it sees the same cluster and comes to the same decision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aim_engine.cli import main
from e2e.support import Json, Tenant
from testbed.product import deployment as manifest


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def verdicts(candidates: list[Json]) -> list[tuple[str | None, ...]]:
    keys = ("recipe", "reason", "message", "remedy", "needed", "has")
    return [tuple(each.get(key) for key in keys) for each in candidates]


def test_a_snapshot_of_the_cluster_explains_what_the_operator_decided(
    tenant: Tenant, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    tenant.corner(gpus=8)
    tenant.add_recipe("small", gpus=1)
    tenant.add_recipe("large", gpus=8, maturity="optimized")
    tenant.occupy(3)
    tenant.deploy("app")
    tenant.wait_ready("app")
    status = tenant.get("app")["status"]

    taken = tmp_path / "snapshot.yaml"
    code, _, told = run(capsys, "snapshot", "--file", taken)
    assert (code, "objects" in told) == (0, True)
    words = ("explain", "app", "-n", tenant.namespace, "-o", "json")
    code, offline, _ = run(capsys, *words, "--cluster", taken)
    assert code == 0
    assert json.loads(offline)["chosen"]["recipe"] == status["recipe"]["name"]
    assert verdicts(json.loads(offline)["candidates"])[:10] == verdicts(status["selection"]["candidates"])
    assert run(capsys, *words)[1] == offline, "without a snapshot the cluster itself is read"

    code, _, told = run(capsys, "diff", "app", "-n", tenant.namespace, "--cluster", taken)
    assert (code, f"{tenant.namespace}/app would not change" in told) == (0, True)
    app = tmp_path / "app.json"
    spec = {**tenant.get("app")["spec"], "workload": {"maxBatchSize": 7}}
    app.write_text(json.dumps({**manifest("app", tenant.namespace), "spec": spec}))
    code, changes, _ = run(capsys, "diff", "-f", app, "--cluster", taken)
    assert code == 0
    assert "--max-num-seqs" in changes
    code, table, _ = run(capsys, "status", "-n", tenant.namespace)
    assert (code, "app" in table, "Serving" in table) == (0, True, True)


def test_the_doctor_finds_what_is_broken(
    tenant: Tenant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    tenant.corner(gpus=8)
    tenant.add_recipe("small", gpus=1)
    code, out, _ = run(capsys, "doctor", "-o", "json")
    findings = {each["check"]: each["health"] for each in json.loads(out)}
    assert {findings[name] for name in ("CRDs", "RBAC", "operator", "webhook", "device plugin")} == {"ok"}
    assert code == 0
    code, out, _ = run(capsys, "doctor", "--service-account", "somebody-else")
    assert code == 1
    assert "the operator may not list nodes" in out

"""The command line beside a running operator: it sees the same cluster and comes to the same decision."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aim_engine.cli import COMMANDS, main
from e2e.support import Json, Tenant
from testbed.addresses import free_port
from testbed.product import ROOT
from testbed.product import deployment as manifest
from unit.cli_examples import examples, placed
from unit.test_importers_aim_build import PATH, PROFILE


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
    taken = tmp_path / "snapshot.yaml"
    code, _, told = run(capsys, "snapshot", "--file", taken)
    assert (code, "objects" in told) == (0, True)
    words = ("explain", "app", "-n", tenant.namespace, "-o", "json")
    code, offline, _ = run(capsys, *words, "--cluster", taken)
    assert code == 0
    told_here = verdicts(json.loads(offline)["candidates"])[:10]
    obj = tenant.wait(
        f"to be told {told_here}",
        lambda obj: verdicts(obj["status"]["selection"]["candidates"]) == told_here,
        "app",
    )
    assert json.loads(offline)["chosen"]["recipe"] == obj["status"]["recipe"]["name"]
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


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"operator", "webhook", "hook", "bench"}))
def test_every_example_of_the_help_runs_beside_a_cluster(
    tenant: Tenant,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    """As a user would type them, in a folder with the files they speak of."""
    monkeypatch.setenv("KUBECONFIG", str(tenant.plane.kubeconfig))
    monkeypatch.chdir(ROOT)
    tenant.corner(gpus=1)
    tenant.deploy("app")
    tenant.wait_ready("app")
    taken = tmp_path / "snapshot.yaml"
    assert run(capsys, "snapshot", "--file", taken)[0] == 0
    apps, source = tmp_path / "apps", tmp_path / "aim-build" / PATH.format("throughput")
    apps.mkdir()
    (apps / "app.yaml").write_text(yaml.safe_dump(manifest("app", tenant.namespace, tenant.model)))
    source.parent.mkdir(parents=True)
    source.write_text(PROFILE)
    stand_ins = {
        "snapshot.yaml": taken, "nodes.yaml": taken, "apps/": apps, "app.yaml": apps / "app.yaml", "qwen": "app", "team-a": tenant.namespace,
        "my-recipes/": ROOT / "recipes" / "qwen3", "my-recipes": tmp_path / "imported", "../aim-build": tmp_path / "aim-build",
        "/etc/bash_completion.d/aim-engine": tmp_path / "bash", "${fpath[1]}/_aim-engine": tmp_path / "zsh",
        "~/.config/fish/completions/aim-engine.fish": tmp_path / "fish",
    }  # fmt: skip
    shown = examples(command)
    assert shown
    for line in shown:
        example = placed(line, stand_ins)
        code, out, err = run(capsys, *example.words)
        if (
            "preview" in example.words
        ):  # there is no Prometheus beside this cluster; e2e/test_dashboards.py draws from one
            assert (code, "does not answer" in err) == (1, True), err
            continue
        assert code in (0, 3), f"{line}: {code}: {err}"
        assert out or "--file" in example.words or "--output" in example.words, line
        if example.target is not None:
            example.target.write_text(out)
    if command == "snapshot":
        assert run(capsys, "status", "--cluster", taken)[0] == 0


def test_the_example_of_the_operator_starts_it(tenant: Tenant, tmp_path: Path) -> None:
    """A further replica: it waits for the Lease, and ends when it is told to."""
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{port}", "hub": {"enabled": False}}))
    (line,) = examples("operator")
    words = placed(line, {"config.yaml": config}).words
    kubeconfig = f"KUBECONFIG={tenant.plane.kubeconfig}"
    with subprocess.Popen(
        ["/usr/bin/env", kubeconfig, sys.executable, "-m", "aim_engine", *words]
    ) as process:
        try:
            tenant.wait_for("the replica to be ready", lambda: ready(port))
            process.send_signal(signal.SIGTERM)
            assert process.wait(180) == 0
        finally:
            process.kill()


def ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

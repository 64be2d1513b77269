"""`aim-engine operator` and `aim-engine webhook` end on SIGTERM, also while they wait for an API server that is silent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from testbed.addresses import free_port
from testbed.product import ROOT

PATIENCE = 120.0


@pytest.mark.parametrize("command", ["operator", "webhook"])
def test_sigterm_ends_it_while_the_api_server_is_silent(command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kubeconfig = tmp_path / "kubeconfig"
        names = {"cluster": "c", "user": "u"}
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "clusters": [{"name": "c", "cluster": {"server": address}}],
                    "users": [{"name": "u", "user": {}}],
                    "contexts": [{"name": "x", "context": names}],
                    "current-context": "x",
                }
            )
        )
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{free_port()}", "hub": {"enabled": False}}))
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
        }
        with subprocess.Popen(
            [sys.executable, "-m", "aim_engine", command, "--config", str(config)], env=environment
        ) as process:
            connection, _ = silent.accept()
            try:
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
                connection.close()

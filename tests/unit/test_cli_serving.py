"""`aim-engine operator` and `aim-engine webhook` as processes beside an API server that is silent: how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.addresses import free_port
from testbed.product import ROOT

PATIENCE = 120.0


@contextmanager
def silent_server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server


def start(command: str, server: socket.socket, directory: Path, **config: Any) -> subprocess.Popen[str]:
    kubeconfig = {
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.getsockname()[1]}"}},
        ],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    files = {
        "kubeconfig": kubeconfig,
        "config.yaml": {"listen": f"127.0.0.1:{free_port()}", "hub": {"enabled": False}, **config},
    }
    for name, content in files.items():
        (directory / name).write_text(yaml.safe_dump(content))
    environment = {
        **os.environ,
        "KUBECONFIG": str(directory / "kubeconfig"),
        "PYTHONPATH": str(ROOT / "operator"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "aim_engine", command, "--config", str(directory / "config.yaml")],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", ["operator", "webhook"])
def test_sigterm_ends_it_before_it_knows_the_cluster(command: str, tmp_path: Path) -> None:
    with silent_server() as server, start(command, server, tmp_path) as process:
        asked, _ = server.accept()
        try:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
        finally:
            process.kill()
            asked.close()


@pytest.mark.parametrize("setting", ["listen", "metrics.tlsDirectory"])
def test_what_keeps_the_operator_from_serving_is_told(setting: str, tmp_path: Path) -> None:
    """A container that ends without a word is the hardest to mend."""
    with silent_server() as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        config: dict[str, dict[str, Any]] = {
            "listen": {"listen": taken},
            "metrics.tlsDirectory": {"metrics": {"tlsDirectory": str(tmp_path)}},
        }
        with start("operator", server, tmp_path, **config[setting]) as process:
            try:
                _, told = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert process.returncode == 1
        expected = {
            "listen": f"cannot listen on {taken}",
            "metrics.tlsDirectory": f"tlsDirectory ({tmp_path}) must hold",
        }
        assert expected[setting] in told
        assert "Traceback" not in told

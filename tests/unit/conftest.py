"""What several files of unit tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.cli_world import Terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """The command line, without a cluster to ask."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    return Terminal(capsys)

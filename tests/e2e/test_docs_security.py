"""Every YAML block of the pages about security: values render, manifests are accepted by the API server."""

from __future__ import annotations

import re

import pytest
import yaml

from testbed import chart
from testbed.plane import ControlPlane
from testbed.product import ROOT

BLOCKS = re.findall(
    r"```yaml\n(.*?)```", (ROOT / "docs" / "operations" / "security.md").read_text(), re.DOTALL
)


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("text", BLOCKS)
def test_the_block_works(plane: ControlPlane, text: str) -> None:
    content = yaml.safe_load(text)
    if "kind" not in content:
        assert chart.render(**content)
        return
    namespace = content["metadata"].get("namespace")
    if namespace:
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    plane.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)

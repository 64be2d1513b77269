"""`aim-engine hook crds`: the image's CRDs applied to the cluster, which helm itself does only once."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from aim_engine import __version__
from aim_engine.api.crd import definitions
from aim_engine.cli.live import with_client
from aim_engine.kube.client import KubeClient
from aim_engine.kube.resource import Resource

CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
FIELD_MANAGER = "helm"
"""Helm 4 applies the chart's CRDs at every installation and would meet a conflict with any other owner of the fields."""


def run(_: argparse.Namespace) -> int:
    """Apply both."""
    with_client(_apply)
    return 0


async def _apply(client: KubeClient) -> None:
    for crd in definitions().values():
        name: Any = crd["metadata"]["name"]
        before = await client.get(CRDS, None, name)
        done = await client.request(
            "PATCH", CRDS.path(None, name), crd, params={"fieldManager": FIELD_MANAGER, "force": "true"},
            content_type="application/apply-patch+yaml",
        )  # fmt: skip
        changed = done["metadata"]["generation"] != before["metadata"]["generation"]
        sys.stdout.write(f"{name}: {f'as of {__version__} now' if changed else 'unchanged'}\n")

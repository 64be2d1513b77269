"""`aim-engine hook uninstall`: refuses to take the operator away from under AIMDeployments of others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aim_engine.api.meta import GROUP
from aim_engine.cli.live import with_client
from aim_engine.cli.output import CommandError
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.resources import DEPLOYMENTS, DEPLOYMENTS_AIM

ALLOW = f"{GROUP}/allow-uninstall"
_SHOWN = 5


def run(arguments: argparse.Namespace) -> int:
    """0 where nobody else is served, or the operator's annotation allows it."""
    others, allowed = with_client(
        lambda client: _ask(client, arguments.operator, arguments.release, arguments.served)
    )
    if not others or allowed:
        sys.stdout.write(
            "no AIMDeployment of others is left behind\n" if not others else "allowed by annotation\n"
        )
        return 0
    namespace, name = arguments.operator
    told = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
    raise CommandError(
        f"the operator of this release still serves {told}: their engines would run on without an operator; uninstall "
        f"them first, or kubectl annotate deployment {name} -n {namespace} {ALLOW}=true"
    )


async def _ask(
    client: KubeClient, operator: tuple[str, str], release: tuple[str, str], served: Sequence[str]
) -> tuple[list[str], bool]:
    """AIMDeployments that are not the release's own, and whether the operator may go all the same."""
    places: Sequence[str | None] = served or [None]
    try:
        found = [
            (obj["metadata"]["namespace"], obj["metadata"]["name"])
            for namespace in places
            async for page, _ in client.pages(DEPLOYMENTS_AIM, namespace=namespace)
            for obj in page
        ]
        deployment = await client.get(DEPLOYMENTS, *operator)
    except ApiError as error:
        # Without the CRDs nobody has an AIMDeployment; without the Deployment there is no operator to keep.
        if error.code != 404:
            raise
        return [], True
    annotations = deployment["metadata"].get("annotations") or {}
    return [f"{ns}/{name}" for ns, name in sorted(found) if (ns, name) != release], annotations.get(
        ALLOW
    ) == "true"

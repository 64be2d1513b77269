"""`aim-engine hook recipes`: the image's catalogue applied to the cluster. What somebody edited is left as it is."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from typing import Any

from aim_engine import __version__
from aim_engine.api.meta import API_VERSION, GROUP
from aim_engine.cli.cluster import read_recipes, shipped_recipes
from aim_engine.cli.live import with_client
from aim_engine.cli.output import printable
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.resources import RECIPES

LABEL_CATALOGUE = f"{GROUP}/catalogue-version"
"""Of recipes that an image brought: its version."""
FIELD_MANAGER = "aim-engine-catalogue"
_AT_ONCE = 8


def run(_: argparse.Namespace) -> int:
    """Apply; recipes that others own in part are told and left alone."""
    wanted = [_labelled(found.obj) for found in read_recipes(shipped_recipes())]
    counts, kept, gone = with_client(lambda client: _apply_all(client, wanted))
    told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    sys.stdout.write(f"catalogue {__version__}: {len(wanted)} recipes: {told}\n")
    for name in kept:
        sys.stdout.write(f"  {printable(name)} was edited here and stays as it is\n")
    for name in gone:
        sys.stdout.write(
            f"  {printable(name)} is no longer shipped; kubectl delete aimrecipe {printable(name)}\n"
        )
    return 0


def _labelled(obj: Any) -> dict[str, Any]:
    metadata = obj["metadata"]
    labels = {**(metadata.get("labels") or {}), LABEL_CATALOGUE: __version__}
    return {**obj, "apiVersion": API_VERSION, "metadata": {**metadata, "labels": labels}}


async def _apply_all(
    client: KubeClient, wanted: list[dict[str, Any]]
) -> tuple[Counter[str], list[str], list[str]]:
    there = [obj async for page, _ in client.pages(RECIPES) for obj in page]
    counts: Counter[str] = Counter()
    kept: list[str] = []
    limit = asyncio.Semaphore(_AT_ONCE)
    versions = {obj["metadata"]["name"]: obj["metadata"].get("resourceVersion") for obj in there}

    async def apply(recipe: dict[str, Any]) -> None:
        name = recipe["metadata"]["name"]
        async with limit:
            try:
                done = await client.request(
                    "PATCH", RECIPES.path(None, name), recipe, params={"fieldManager": FIELD_MANAGER},
                    content_type="application/apply-patch+yaml",
                )  # fmt: skip
            except ApiError as error:
                if error.code != 409:
                    raise
                kept.append(name)
                counts["kept"] += 1
                return
        before = versions.get(name)
        unchanged = done["metadata"].get("resourceVersion") == before
        counts["new" if before is None else "unchanged" if unchanged else "changed"] += 1

    await asyncio.gather(*(apply(recipe) for recipe in wanted))
    shipped = {recipe["metadata"]["name"] for recipe in wanted}
    gone = [
        obj["metadata"]["name"]
        for obj in there
        if LABEL_CATALOGUE in (obj["metadata"].get("labels") or {}) and obj["metadata"]["name"] not in shipped
    ]
    return counts, sorted(kept), sorted(gone)

"""Facts that the catalogue lacks, asked of the Hub for a command that was told to (`--hub`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

import aiohttp

from aim_engine.cli.output import tell
from aim_engine.cli.snapshot_file import RecordedFacts
from aim_engine.hub.client import Answer, inquire
from aim_engine.hub.store import REVISION
from aim_engine.reconcile.config import HubConfig
from aim_engine.selection import CatalogueFacts


def ask_hub(model_ids: Iterable[str], config: HubConfig) -> RecordedFacts:
    """The catalogue, and the Hub's answers about models it does not know; what stays unknown is told."""
    unknown = [
        name for name in sorted(set(model_ids)) if "/" in name and CatalogueFacts().model(name) is None
    ]
    answers = asyncio.run(_ask(unknown, config))
    for name, answer in answers.items():
        if answer.described is None:
            tell(f"facts of {name} stay unknown: {answer.message}")
    found = {name: answer.described for name, answer in answers.items() if answer.described is not None}
    return RecordedFacts(
        {name: each.facts for name, each in found.items()},
        {name: each.checkpoint for name, each in found.items()},
    )


async def _ask(names: list[str], config: HubConfig) -> dict[str, Answer]:
    endpoint = config.endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    async with aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session:
        return {
            name: await inquire(session, endpoint, name, REVISION, config.timeout_seconds) for name in names
        }

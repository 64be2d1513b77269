"""Facts that the catalogue lacks, asked of the Hub for a command that was told to (`--hub`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aim_engine.cli.output import tell
from aim_engine.cli.snapshot_file import RecordedFacts
from aim_engine.hub.client import Answer, inquire
from aim_engine.hub.environment import endpoint, offline, session
from aim_engine.hub.records import MAIN
from aim_engine.reconcile.config import HubConfig
from aim_engine.selection import CatalogueFacts


def ask_hub(model_ids: Iterable[str], config: HubConfig) -> RecordedFacts:
    """The catalogue, and the Hub's answers about models it does not know; what stays unknown is told.

    Where the environment or the configuration forbids to ask, as in an air-gapped cluster, nobody is asked and that is told.
    """
    unknown = [
        name for name in sorted(set(model_ids)) if "/" in name and CatalogueFacts().model(name) is None
    ]
    forbidden = _forbidden(config)
    if forbidden and unknown:
        tell(f"the Hub is not asked about {', '.join(unknown)}: {forbidden}")
    answers = {} if forbidden else asyncio.run(_ask(unknown, config))
    for name, answer in answers.items():
        if answer.described is None:
            tell(f"facts of {name} stay unknown: {answer.message}")
    found = {name: answer.described for name, answer in answers.items() if answer.described is not None}
    return RecordedFacts(
        {name: each.facts for name, each in found.items()},
        {name: each.checkpoint for name, each in found.items()},
    )


def _forbidden(config: HubConfig) -> str | None:
    if offline():
        return "HF_HUB_OFFLINE is set; unset it to ask"
    return None if config.enabled else "hub.enabled is false in the operator's configuration"


async def _ask(names: list[str], config: HubConfig) -> dict[str, Answer]:
    where = endpoint(config.endpoint)
    async with session() as client:
        return {name: await inquire(client, where, name, MAIN, config.timeout_seconds) for name in names}

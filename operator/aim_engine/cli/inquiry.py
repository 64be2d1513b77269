"""The Hub asked by a command that was told to (`--hub`), by the operator's own code and in its words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from aim_engine.cli.output import progress, tell
from aim_engine.hub.store import HubFacts, HubSettings
from aim_engine.reconcile.config import HubConfig
from aim_engine.reconcile.facts import Place, RecordedFacts, collect
from aim_engine.reconcile.hub import hub_settings
from aim_engine.selection import CatalogueFacts


def ask(places: Iterable[Place], known: RecordedFacts, config: HubConfig) -> RecordedFacts:
    """What is known, and the Hub's answers about the others, asked as the operator asks; what stays unknown is told."""
    unknown = sorted(each for each in set(places) if _is_unknown(each, known))
    settings = hub_settings(config)
    if settings is None:
        tell("the Hub is not asked: hub.enabled of the configuration is false, or HF_HUB_OFFLINE is set")
        return known
    if not unknown:
        return known
    progress(f"asking the Hub about {len(unknown)} models")
    ours = replace(settings, cache_directory=None)  # the operator's path is nothing here
    learned = asyncio.run(_inquire(unknown, ours))
    for where, why in learned.reasons.items():
        tell(f"facts of {where.name} stay unknown: {why}")
    return learned.over(known)


def _is_unknown(where: Place, known: RecordedFacts) -> bool:
    if where != Place(where.name) and CatalogueFacts().model(where.name) is None:
        return where not in known.elsewhere
    return known.model(where.name) is None and known.checkpoint(where.name) is None


async def _inquire(places: list[Place], settings: HubSettings) -> RecordedFacts:
    """The operator's own store of facts, run until each repository was answered once."""
    waiting: dict[Place, str | None] = {}
    answered = asyncio.Event()

    def learned(_: str) -> None:
        if all(hub.unknown(*each) != before for each, before in waiting.items()):
            answered.set()

    hub = HubFacts(settings, learned)
    asked = (each for each in places if hub.model(*each) is None)
    waiting |= {each: told for each in asked if (told := hub.unknown(*each)) is not None}
    if waiting:
        asking, done = asyncio.ensure_future(hub.run()), asyncio.ensure_future(answered.wait())
        await asyncio.wait({asking, done}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    return collect(places, hub)

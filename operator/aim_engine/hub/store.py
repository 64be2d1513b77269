"""Model facts for the whole operator: the catalogue's first, then what the Hub said, asked for in the background.

Whoever asks gets an answer at once; "unknown" starts an inquiry, and whoever is told of its end asks again. What a branch said is
used on while it is asked for again, once a day.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint_row, model_row
from aim_engine.hub import records
from aim_engine.hub.client import LASTING, Answer, inquire
from aim_engine.hub.config_json import Described
from aim_engine.hub.environment import session
from aim_engine.hub.records import FRESH_SECONDS, MAIN, Learned, Repository
from aim_engine.selection import CatalogueFacts, Facts

log = logging.getLogger(__name__)

_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_BACKOFF_SECONDS = (5.0, 30.0, 120.0, 600.0)
_LASTING_SECONDS = 6 * 3600.0
"""A repository that was gated or missing may change, not within minutes."""
_MOST_UNKNOWN = 2000
"""Repositories that are remembered as unknown: tenants choose them, so their number is bounded."""
_REMEDY = "write a recipe for it, whose memory is then not checked"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How the Hub is asked."""

    endpoint: str
    timeout_seconds: float
    max_concurrent: int
    cache_directory: Path | None = None


@dataclass(slots=True)
class _Open:
    """A repository that the Hub is to be asked about, for the first time or again."""

    attempts: int = 0
    due: float = 0.0
    """When it may be asked for, on the monotonic clock."""
    asking: bool = False
    answer: Answer | None = None


@dataclass(slots=True)
class HubFacts:
    """Facts of the catalogue and of the Hub. `run` asks; without it everything but the catalogue stays unknown."""

    settings: HubSettings
    learned: Callable[[str], None]
    """Told the id of a model about which something new is known."""
    asked: Callable[[str], None] = lambda _: None
    """Told the result of every inquiry."""
    _catalogue: CatalogueFacts = field(default_factory=CatalogueFacts)
    _known: dict[Repository, Described] = field(default_factory=dict)
    _open: dict[Repository, _Open] = field(default_factory=dict)
    _renewed: dict[Repository, float] = field(default_factory=dict)
    """When a known branch is due again, on the monotonic clock."""
    _wanted: asyncio.Queue[Repository] = field(default_factory=asyncio.Queue)

    def model(self, model_id: str, revision: str = MAIN) -> ModelFacts | None:
        """Facts of a model or checkpoint; None while nothing is known. The catalogue's hold for every revision."""
        found = self._catalogue.model(model_id)
        if found is None:
            described = self._described(Repository(model_id, revision))
            found = described.facts if described else None
        return found

    def checkpoint(self, source_id: str, revision: str = MAIN) -> Checkpoint | None:
        """A checkpoint; None while nothing is known."""
        found = self._catalogue.checkpoint(source_id)
        if found is None:
            described = self._described(Repository(source_id, revision))
            found = described.checkpoint if described else None
        return found

    def unknown(self, model_id: str, revision: str = MAIN) -> str | None:
        """Why nothing is known of a model, and what helps."""
        repository = Repository(model_id, revision)
        waiting = self._open.get(repository)
        if waiting is None or repository in self._known:
            return None
        if waiting.answer is None:
            return "the Hub is being asked"
        return f"{waiting.answer.message}; {_REMEDY}"

    def at(self, revision: str | None, repository: str | None) -> Facts:
        """The facts with one repository at a revision, all others at their main branch."""
        return _Pinned(self, {}).at(revision, repository)

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(models, checkpoints) that the Hub told of, as rows."""
        found = [self._known[repository] for repository in sorted(self._known)]
        return [model_row(each.facts) for each in found], [checkpoint_row(each.checkpoint) for each in found]

    async def run(self) -> None:
        """Ask for what is wanted until cancelled. Proxies of the environment are used; cookies and tokens never."""
        async with session() as client, asyncio.TaskGroup() as group:
            for _ in range(self.settings.max_concurrent):
                group.create_task(self._work(client))

    def _described(self, repository: Repository) -> Described | None:
        known = self._known.get(repository)
        if known is None or time.monotonic() >= self._renewed.get(repository, float("inf")):
            self._want(repository)
        return known

    def _want(self, repository: Repository) -> None:
        if not (_MODEL_ID.fullmatch(repository.name) and _REVISION.fullmatch(repository.revision)):
            return
        waiting = self._open.get(repository)
        if waiting is None:
            if len(self._open) >= _MOST_UNKNOWN and not self._forget_one():
                return
            waiting = self._open[repository] = _Open()
        if not waiting.asking and time.monotonic() >= waiting.due:
            waiting.asking = True
            self._wanted.put_nowait(repository)

    def _forget_one(self) -> bool:
        """Make room by the oldest lasting answer, so that names nobody has do not keep the Hub from being asked for others."""
        found = next(
            (
                repository
                for repository, each in self._open.items()
                if not each.asking and each.answer and each.answer.result in LASTING
            ),
            None,
        )
        if found is None:
            return False
        del self._open[found]
        return True

    def _retry(self, repository: Repository) -> None:
        if repository in self._open:
            self._want(repository)

    async def _work(self, client: aiohttp.ClientSession) -> None:
        folder, seconds = self.settings.cache_directory, self.settings.timeout_seconds
        while True:
            repository = await self._wanted.get()
            if repository not in self._known:
                stored = await asyncio.to_thread(records.read, folder, repository)
                if stored is not None:
                    self._learn(repository, stored)
                    continue
            answer = await inquire(client, self.settings.endpoint, *repository, seconds)
            self.asked(answer.result.value)
            if answer.described is None:
                self._note(repository, answer)
                continue
            learned = Learned(answer.described, answer.commit, time.time())
            await asyncio.to_thread(records.write, folder, repository, learned)
            self._learn(repository, learned)

    def _learn(self, repository: Repository, learned: Learned) -> None:
        """Use what a repository said; whoever waits is told when it is new."""
        news = self._known.get(repository) != learned.described
        self._known[repository] = learned.described
        self._open.pop(repository, None)
        if not repository.is_fixed:
            self._renewed[repository] = time.monotonic() + max(0.0, FRESH_SECONDS - learned.age())
        if news:
            self.learned(repository.name)

    def _note(self, repository: Repository, answer: Answer) -> None:
        """Remember why there was no answer; it is asked for again when it is due. What was known before is used on."""
        waiting = self._open[repository]
        news = repository not in self._known and (
            waiting.answer is None or waiting.answer.message != answer.message
        )
        waiting.asking, waiting.answer = False, answer
        pause = _BACKOFF_SECONDS[min(waiting.attempts, len(_BACKOFF_SECONDS) - 1)]
        pause = _LASTING_SECONDS if answer.result in LASTING else max(pause, answer.retry_after or 0.0)
        waiting.attempts += 1
        waiting.due = time.monotonic() + pause * random.uniform(1.0, 1.2)  # noqa: S311
        log.info(
            "facts of %s at %s: %s; asked again in %.0f s at the earliest", *repository, answer.message, pause
        )
        if answer.result not in LASTING:
            delay = waiting.due - time.monotonic() + 0.01
            asyncio.get_running_loop().call_later(delay, self._retry, repository)
        if news:
            self.learned(repository.name)


@dataclass(frozen=True, slots=True)
class _Pinned:
    """Facts with some repositories at revisions of their own."""

    hub: HubFacts
    revisions: Mapping[str, str]

    def model(self, model_id: str) -> ModelFacts | None:
        return self.hub.model(model_id, self.revisions.get(model_id, MAIN))

    def checkpoint(self, source_id: str) -> Checkpoint | None:
        return self.hub.checkpoint(source_id, self.revisions.get(source_id, MAIN))

    def unknown(self, model_id: str) -> str | None:
        return self.hub.unknown(model_id, self.revisions.get(model_id, MAIN))

    def at(self, revision: str | None, repository: str | None) -> Facts:
        if revision is None or repository is None:
            return self
        return _Pinned(self.hub, {**self.revisions, repository: revision})

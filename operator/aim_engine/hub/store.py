"""Model facts for the whole operator: the catalogue's first, then what the Hub said, asked for in the background.

Whoever asks gets an answer at once; "unknown" starts an inquiry, and whoever is told of its end asks again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from aim_engine.catalog.models import (
    Checkpoint,
    ModelFacts,
    checkpoint_from_row,
    checkpoint_row,
    model_from_row,
    model_row,
)
from aim_engine.hub.client import LASTING, Answer, HubResult, inquire
from aim_engine.hub.config_json import Described
from aim_engine.selection import CatalogueFacts

log = logging.getLogger(__name__)

REVISION = "main"
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_BACKOFF_SECONDS = (5.0, 30.0, 120.0, 600.0)
_LASTING_SECONDS = 6 * 3600.0
"""A repository that was gated or missing may change, not within minutes."""
_MOST_UNKNOWN = 2000
"""Ids that are remembered as unknown: tenants choose them, so their number is bounded."""
_REMEDY = "write a recipe for it, whose memory is then not checked"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How the Hub is asked."""

    endpoint: str
    timeout_seconds: float
    max_concurrent: int
    cache_directory: Path | None = None


@dataclass(slots=True)
class _Unknown:
    """A model the Hub has not told about."""

    attempts: int = 0
    due: float = 0.0
    """When it may be asked for again, on the monotonic clock."""
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
    _known: dict[str, Described] = field(default_factory=dict)
    _unknown: dict[str, _Unknown] = field(default_factory=dict)
    _wanted: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def model(self, model_id: str) -> ModelFacts | None:
        """Facts of a model or checkpoint; None while nothing is known."""
        found = self._catalogue.model(model_id)
        if found is None:
            described = self._described(model_id)
            found = described.facts if described else None
        return found

    def checkpoint(self, source_id: str) -> Checkpoint | None:
        """A checkpoint; None while nothing is known."""
        found = self._catalogue.checkpoint(source_id)
        if found is None:
            described = self._described(source_id)
            found = described.checkpoint if described else None
        return found

    def unknown(self, model_id: str) -> str | None:
        """Why nothing is known of a model, and what helps."""
        waiting = self._unknown.get(model_id)
        if waiting is None or model_id in self._known:
            return None
        if waiting.answer is None:
            return "the Hub is being asked"
        return f"{waiting.answer.message}; {_REMEDY}"

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(models, checkpoints) that the Hub told of, as rows."""
        found = [self._known[name] for name in sorted(self._known)]
        return [model_row(each.facts) for each in found], [checkpoint_row(each.checkpoint) for each in found]

    async def run(self) -> None:
        """Ask for what is wanted until cancelled. Proxies of the environment are used; cookies and tokens never."""
        async with aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.DummyCookieJar()) as session:
            await asyncio.gather(*(self._work(session) for _ in range(self.settings.max_concurrent)))

    def _described(self, name: str) -> Described | None:
        known = self._known.get(name)
        if known is None and _MODEL_ID.fullmatch(name):
            self._want(name)
        return known

    def _want(self, name: str) -> None:
        if name in self._known:
            return
        waiting = self._unknown.get(name)
        if waiting is None:
            if len(self._unknown) >= _MOST_UNKNOWN:
                return
            waiting = self._unknown[name] = _Unknown()
        if not waiting.asking and time.monotonic() >= waiting.due:
            waiting.asking = True
            self._wanted.put_nowait(name)

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            name = await self._wanted.get()
            stored = await asyncio.to_thread(self._read, name)
            if stored is not None:
                self._take(name, Answer(HubResult.FOUND, stored.facts.source, stored))
                continue
            settings = self.settings
            answer = await inquire(session, settings.endpoint, name, REVISION, settings.timeout_seconds)
            self.asked(answer.result.value)
            if answer.described is not None:
                await asyncio.to_thread(self._write, name, answer.described)
            self._take(name, answer)

    def _take(self, name: str, answer: Answer) -> None:
        """Remember an answer. Whoever waits is told when it says something new; others may come back when it is due."""
        waiting = self._unknown[name]
        news = waiting.answer is None or waiting.answer.message != answer.message
        waiting.asking, waiting.answer = False, answer
        if answer.described is not None:
            self._known[name] = answer.described
            del self._unknown[name]
        else:
            pause = _BACKOFF_SECONDS[min(waiting.attempts, len(_BACKOFF_SECONDS) - 1)]
            pause = _LASTING_SECONDS if answer.result in LASTING else max(pause, answer.retry_after or 0.0)
            waiting.attempts += 1
            waiting.due = time.monotonic() + pause * random.uniform(1.0, 1.2)  # noqa: S311
            log.info("facts of %s: %s; asked again in %.0f s at the earliest", name, answer.message, pause)
            if answer.result not in LASTING:
                asyncio.get_running_loop().call_later(waiting.due - time.monotonic() + 0.01, self._want, name)
        if news:
            self.learned(name)

    def _file(self, name: str) -> Path | None:
        folder = self.settings.cache_directory
        return None if folder is None else folder / f"{quote(name, safe='')}.json"

    def _read(self, name: str) -> Described | None:
        """What an earlier process learned; a file that cannot be read counts as none."""
        path = self._file(name)
        if path is None:
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return Described(model_from_row(content["model"]), checkpoint_from_row(content["checkpoint"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("%s is not a record of model facts and is passed over: %s", path, error)
            return None

    def _write(self, name: str, described: Described) -> None:
        path = self._file(name)
        if path is None:
            return
        content = {"model": model_row(described.facts), "checkpoint": checkpoint_row(described.checkpoint)}
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(content), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            log.warning("model facts are not kept in %s: %s", path.parent, error)

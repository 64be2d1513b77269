"""Labels of the namespaces that are served, where only some are: each is read by its name, which a Role in it allows.

Neither listing nor watching namespaces can be granted for one of them, so they are read anew every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.resources import NAMESPACES

log = logging.getLogger(__name__)

PERIOD_SECONDS = 15.0
_GONE = (403, 404)
"""A namespace takes our Role in it along, so one that is gone answers 403 as well."""


@dataclass(slots=True)
class NamespaceReader:
    """Reads namespaces by name and hands them on."""

    client: KubeClient
    names: Sequence[str]
    upsert: Callable[[dict[str, Any]], None]
    remove: Callable[[dict[str, Any]], object]
    """Told `{"metadata": {"name": ...}}` of one that is gone."""
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once each was read, or is known to be gone."""
    _missing: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Read again and again until cancelled; what cannot be read for now stays as it was."""
        while True:
            try:
                for name in self.names:
                    await self._read(name)
                self.synced.set()
            except ApiError as error:
                log.warning("reading namespaces: %s; again in %.0f s", error, PERIOD_SECONDS)
            await asyncio.sleep(PERIOD_SECONDS if self.synced.is_set() else 1)

    async def _read(self, name: str) -> None:
        try:
            self.upsert(await self.client.get(NAMESPACES, None, name))
            self._missing.discard(name)
        except ApiError as error:
            if error.code not in _GONE:
                raise
            if name not in self._missing:
                log.warning(
                    "namespace %s is to be served and is not there (or may not be read): %s", name, error
                )
            self._missing.add(name)
            self.remove({"metadata": {"name": name}})

"""List and watch one kind, keeping a consumer exactly in step: a re-list replaces, so nothing deleted stays behind.

kopf keeps no record of what vanished while its watch was down; capacity must never be computed from ghosts.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_STEADY_SECONDS = 10.0
"""A watch that stood so long was in order, also where nothing happened meanwhile."""


class Reflector:
    """One kind, decoded by `decode` and given to the consumer's `replace`, `upsert` and `remove`."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        decode: Callable[[dict[str, Any]], Any],
        replace: Callable[[Iterable[Any]], None],
        upsert: Callable[[Any], None],
        remove: Callable[[dict[str, Any]], None],
        field_selector: str | None = None,
        label_selector: str | None = None,
        namespace: str | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._decode = decode
        self._replace = replace
        self._upsert = upsert
        self._remove = remove
        self._namespace = namespace
        self._selectors: Any = {
            "field_selector": field_selector, "label_selector": label_selector, "namespace": namespace,
        }  # fmt: skip
        self.synced = asyncio.Event()
        self.lists = 0
        self._failures = 0
        self._progressed = False

    async def run(self) -> None:
        """Never returns; ends by cancellation. Whatever fails without having brought anything is retried with backoff.

        A version that is too old is listed anew at once: until then nobody knows what happened.
        """
        version: str | None = None
        now = asyncio.get_running_loop().time
        while True:
            self._progressed = False
            listed = version is None
            started = now()
            try:
                if version is None:
                    version = await self._list()
                    started = now()
                version = await self._watch(version)
                if now() - started > _STEADY_SECONDS:
                    self._failures = 0
                elif not self._progressed and (version is not None or listed):
                    await self._pause("the watch ended without an event", None)
            except ApiError as error:
                too_old = error.code in (400, 410)
                if too_old:
                    version = None
                if error.code == 403 and self._namespace is not None:
                    self.synced.set()  # the namespace went, and our rights in it with it: nothing is to be waited for
                if not too_old or listed:
                    await self._pause(str(error), error.retry_after)

    async def _pause(self, why: str, at_least: float | None) -> None:
        pause = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311
        self._failures += 1
        pause = max(pause, at_least or 0)
        log.warning("watching %s: %s; again in %.1f s", self._resource.plural, why, pause)
        await asyncio.sleep(pause)

    async def _list(self) -> str:
        decoded: list[Any] = []
        version = ""
        async for items, page_version in self._client.pages(self._resource, **self._selectors):
            decoded.extend(found for item in items if (found := self._decoded(item)) is not None)
            version = page_version
        self._replace(decoded)
        self.lists += 1
        self.synced.set()
        return version

    def _take(self, kind: str, obj: dict[str, Any]) -> None:
        """Hand one event to the consumer. A fault over one object must not end the watch of all."""
        try:
            if kind == "DELETED":
                self._remove(obj)
            else:
                self._upsert(self._decode(obj))
        except Exception:
            log.exception("%s %s is passed over", self._resource.kind, obj.get("metadata", {}).get("name"))

    def _decoded(self, obj: dict[str, Any]) -> Any:
        try:
            return self._decode(obj)
        except Exception:
            log.exception("%s %s is passed over", self._resource.kind, obj.get("metadata", {}).get("name"))
            return None

    async def _watch(self, version: str) -> str | None:
        """Follow the stream; returns the version to go on from, None when a new list is needed."""
        try:
            async for event in self._client.watch(self._resource, version, **self._selectors):
                obj = event["object"]
                match event["type"]:
                    case "ADDED" | "MODIFIED" | "DELETED" as kind:
                        self._take(kind, obj)
                    case "ERROR" if obj.get("code") == 410:
                        return None
                    case "ERROR":
                        raise ApiError(obj.get("code", 500), obj.get("reason", ""), obj.get("message", ""))
                version = obj["metadata"]["resourceVersion"]
                self._progressed = True
                self._failures = 0
        except ApiError as error:
            if error.code != 0 or not self._progressed:
                raise
            log.info("%s; going on from %s", error.message, version)
        return version

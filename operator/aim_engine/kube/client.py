"""Requests to the API server: get, list, create, server-side apply, status, delete."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json

from aim_engine.api.meta import FIELD_MANAGER
from aim_engine.kube.connection import Connection
from aim_engine.kube.resource import Resource

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
PAGE = 500
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io, application/json"
_RETRYABLE = frozenset({429, 500, 502, 503, 504})
_ATTEMPTS = 4
_LONGEST_MESSAGE = 4096
_LONGEST_WAIT = 60.0
"""Seconds that a Retry-After is honoured."""

Observer = Callable[[str, int, float], None]
"""Called after each request with verb, HTTP status (0: no answer) and seconds."""


class ApiError(Exception):
    """The API server said no, or could not be reached (code 0)."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code} {reason}: {message}" if code else message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class KubeClient:
    """Requests over a shared connection; retries what is safe to retry, honours Retry-After.

    `standing`: requests go beside those of all others, so that slow answers to these do not hold them up.
    """

    def __init__(
        self, connection: Connection, observe: Observer | None = None, *, standing: bool = False
    ) -> None:
        self._connection = connection
        self._observe = observe or _unobserved
        self._standing = standing

    async def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        """One object; ApiError 404 when there is none."""
        return await self.request("GET", resource.path(namespace, name))

    async def create(self, resource: Resource, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        """POST; ApiError 409 AlreadyExists when the name is taken."""
        return await self.request(
            "POST", resource.path(namespace), body, params={"fieldManager": FIELD_MANAGER}
        )

    async def apply(
        self, resource: Resource, namespace: str | None, name: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Server-side apply that takes over conflicting fields; only for objects known to be ours."""
        return await self.request(
            "PATCH", resource.path(namespace, name), body,
            params={"fieldManager": FIELD_MANAGER, "force": "true"}, content_type="application/apply-patch+yaml",
        )  # fmt: skip

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        """Merge patch; with `metadata.resourceVersion` in it, ApiError 409 when the object has changed since."""
        return await self.request(
            "PATCH", resource.path(namespace, name), patch,
            params={"fieldManager": FIELD_MANAGER}, content_type="application/merge-patch+json",
        )  # fmt: skip

    async def merge_status(
        self, resource: Resource, namespace: str | None, name: str, status: dict[str, Any]
    ) -> dict[str, Any]:
        """Merge `status` into the object's status; a null removes a field."""
        return await self.request(
            "PATCH", resource.path(namespace, name, "status"), {"status": status},
            params={"fieldManager": FIELD_MANAGER}, content_type="application/merge-patch+json",
        )  # fmt: skip

    async def delete(self, resource: Resource, namespace: str | None, name: str, uid: str) -> None:
        """Delete the object if it still is the one of `uid`; already gone is fine."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self.request("DELETE", resource.path(namespace, name), body)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def pages(
        self, resource: Resource, *, namespace: str | None = None, label_selector: str | None = None,
        field_selector: str | None = None, metadata_only: bool = False,
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:  # fmt: skip
        """All objects of one namespace, or of all, in pages: (items, resourceVersion of the list)."""
        params = _selectors(label_selector, field_selector) | {"limit": str(PAGE)}
        headers = {"Accept": METADATA_ONLY} if metadata_only else None
        while True:
            page = await self.request("GET", resource.path(namespace), params=params, headers=headers)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], metadata.get("resourceVersion", "")
            token = metadata.get("continue")
            if not token:
                return
            params = params | {"continue": token}

    async def watch(
        self, resource: Resource, resource_version: str, *, namespace: str | None = None,
        label_selector: str | None = None, field_selector: str | None = None, timeout_seconds: int = 300,
        silence_seconds: float = 90,
    ) -> AsyncIterator[dict[str, Any]]:  # fmt: skip
        """Events after `resource_version` until the server ends the stream. A cut line ends it too, as ApiError 0."""
        params = _selectors(label_selector, field_selector) | {
            "watch": "true", "resourceVersion": resource_version, "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_seconds),
        }  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=silence_seconds)
        url = self._connection.server + resource.path(namespace)
        try:
            async with self._connection.standing.get(url, params=params, timeout=timeout) as response:
                if response.status != 200:
                    raise await _error(response)
                async for line in _lines(response):
                    yield from_json(line)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise ApiError(0, "Disconnected", f"watch of {resource.plural} broke: {error!r}") from error

    async def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, params: dict[str, str] | None = None,
        content_type: str = "application/json", headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """One request with retries on 429 and 5xx; a POST is not repeated after a lost answer."""
        data = to_json(body) if body is not None else None
        all_headers = {**(headers or {}), **({"Content-Type": content_type} if data else {})}
        for attempt in range(_ATTEMPTS):
            try:
                return await self._once(method, path, data, params, all_headers)
            except ApiError as error:
                retryable = error.code in _RETRYABLE or (error.code == 0 and method != "POST")
                if not retryable or attempt == _ATTEMPTS - 1:
                    raise
                pause = error.retry_after if error.retry_after is not None else 0.2 * 2**attempt
                await asyncio.sleep(min(pause, 10) * random.uniform(0.8, 1.2))  # noqa: S311
        raise AssertionError("the loop returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        data: bytes | None,
        params: dict[str, str] | None,
        headers: dict[str, str],
    ) -> dict[str, Any]:
        started = time.monotonic()
        code = 0
        session = self._connection.standing if self._standing else self._connection.session
        try:
            async with session.request(
                method,
                self._connection.server + path,
                data=data,
                params=params,
                headers=headers,
                timeout=REQUEST_TIMEOUT,
            ) as response:
                code = response.status
                if code >= 400:
                    raise await _error(response)
                content: dict[str, Any] = from_json(await response.read())
                return content
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            told = str(error) or type(error).__name__
            raise ApiError(0, "Unreachable", f"{method} {path}: {told}") from error
        finally:
            self._observe(method, code, time.monotonic() - started)


def _unobserved(_verb: str, _code: int, _seconds: float) -> None:
    return None


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in chosen.items() if value}


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length. StreamReader.readline refuses lines beyond its buffer; a large object must not end the watch."""
    pending = bytearray()
    async for chunk in response.content.iter_any():
        pending += chunk
        if b"\n" not in chunk:
            continue
        *whole, rest = bytes(pending).split(b"\n")
        pending = bytearray(rest)
        for line in whole:
            if line:
                yield line
    if pending:
        raise ValueError("the stream ended in the middle of a line")


async def _error(response: aiohttp.ClientResponse) -> ApiError:
    body = await response.read()
    text = body[:_LONGEST_MESSAGE].decode(errors="replace")
    retry_after = response.headers.get("Retry-After", "")
    wait = min(float(retry_after), _LONGEST_WAIT) if retry_after.isdigit() else None
    try:
        status = from_json(body)
        told = str(status.get("message", text))[:_LONGEST_MESSAGE]
        return ApiError(response.status, status.get("reason", ""), told, wait)
    except (ValueError, AttributeError):
        return ApiError(response.status, response.reason or "", text, wait)

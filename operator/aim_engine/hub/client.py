"""Two files of a repository from the Hugging Face Hub: `config.json`, and the index of its weights.

Not `huggingface_hub`: it brings a synchronous HTTP stack of its own beside the operator's, finds tokens in the environment
and the home directory by itself, and lays out a cache of whole repositories. Here two files are wanted, within hard limits
of size and time, and never a token: what the operator could read with a user's token, it should not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp

from aim_engine.hub.config_json import ConfigError, Described, describe

log = logging.getLogger(__name__)

MAX_CONFIG_BYTES = 4 * 2**20
MAX_INDEX_BYTES = 64 * 2**20
"""The index names every tensor: some ten megabytes for the largest models."""
MAX_REDIRECTS = 3
_CHUNK = 64 * 1024
_LONGEST_WAIT_SECONDS = 3600.0
_TOTAL_SIZE = re.compile(rb'"total_size"\s*:\s*([0-9]{1,16})(?:\.0)?\s*[,}]')
"""Of the index's metadata. Quotes within a name would be escaped, and tensors have names of files."""
_LONGEST_ENTRY = 256
COMMIT_HEADER = "X-Repo-Commit"


class HubResult(StrEnum):
    """How an inquiry ended."""

    FOUND = "found"
    GATED = "gated"
    NOT_FOUND = "not_found"
    UNSUITABLE = "unsuitable"
    """The repository is there and describes no model that can be sized."""
    LIMITED = "limited"
    """The Hub asks for patience."""
    UNREACHABLE = "unreachable"


LASTING = frozenset({HubResult.GATED, HubResult.NOT_FOUND, HubResult.UNSUITABLE})
"""Answers that asking again soon would not change."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Hub said of a model."""

    result: HubResult
    message: str
    described: Described | None = None
    commit: str | None = None
    """The commit that was described, where the Hub named it."""
    retry_after: float | None = None
    """Seconds the Hub asked to wait."""


class _HubError(Exception):
    """Ends an inquiry."""

    def __init__(self, result: HubResult, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.answer = Answer(result, message, retry_after=retry_after)


async def inquire(
    session: aiohttp.ClientSession, endpoint: str, model_id: str, revision: str, timeout_seconds: float
) -> Answer:
    """Facts of a repository at a revision. Never raises; the whole inquiry ends within the timeout."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _inquire(session, endpoint, model_id, revision)
    except _HubError as error:
        return error.answer
    except TimeoutError:
        return Answer(HubResult.UNREACHABLE, f"the Hub did not answer within {timeout_seconds:g} s")
    except RecursionError:
        return Answer(HubResult.UNSUITABLE, "its config.json is nested too deep")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(HubResult.UNREACHABLE, f"the Hub could not be asked: {_why(error)}"[:300])
    except Exception as error:
        log.exception("%s at %s: a fault of ours in reading its files", model_id, revision)
        return Answer(HubResult.UNSUITABLE, f"its files cannot be read: {type(error).__name__}")


def _why(error: Exception) -> str:
    """In words for people; what is not about the connection is told with its class, else it says little."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port} cannot be reached: {error.os_error.strerror or error.os_error}"
    return f"{type(error).__name__}: {error}"


async def _inquire(session: aiohttp.ClientSession, endpoint: str, model_id: str, revision: str) -> Answer:
    base = f"{endpoint.rstrip('/')}/{quote(model_id)}/resolve"
    config, commit = await _json(session, f"{base}/{_quoted(revision)}/config.json", MAX_CONFIG_BYTES)
    # The commit, so that a branch that moves meanwhile does not mix two states.
    size = await _weights_bytes(session, f"{base}/{_quoted(commit or revision)}/model.safetensors.index.json")
    source = f"config.json of {model_id} at {commit[:12] if commit else revision}"
    try:
        found = describe(model_id, config, size, source)
    except ConfigError as error:
        raise _HubError(HubResult.UNSUITABLE, f"its config.json cannot be used: {error}") from None
    return Answer(HubResult.FOUND, source, found, commit)


def _quoted(revision: str) -> str:
    return quote(revision, safe="")


async def _weights_bytes(session: aiohttp.ClientSession, url: str) -> int | None:
    """Bytes of all weight files by their index; None where it does not say, or there is none, as for models of one file.

    Looked for as it comes in: the files are chosen by tenants, and parsed as a whole one within the limit fills gigabytes.
    """
    seen, kept = 0, b""
    async with session.get(url, max_redirects=MAX_REDIRECTS) as response:
        try:
            _refuse(response)
        except _HubError as error:
            if error.answer.result in LASTING:
                return None
            raise
        async for chunk in response.content.iter_chunked(_CHUNK):
            found = _TOTAL_SIZE.search(kept + chunk)
            if found:
                size = int(found.group(1))
                return size if 0 < size < 2**50 else None
            seen, kept = seen + len(chunk), (kept + chunk)[-_LONGEST_ENTRY:]
            if seen > MAX_INDEX_BYTES:
                break
    return None


async def _json(session: aiohttp.ClientSession, url: str, limit: int) -> tuple[Any, str | None]:
    """(content, commit) of a JSON file."""
    async with session.get(url, max_redirects=MAX_REDIRECTS) as response:
        _refuse(response)
        body = await _bounded(response, limit)
        commit = next(
            (r.headers[COMMIT_HEADER] for r in (*response.history, response) if COMMIT_HEADER in r.headers),
            None,
        )
    name = url.rsplit("/", 1)[-1]
    try:
        return json.loads(body), commit
    except (ValueError, RecursionError):
        raise _HubError(HubResult.UNSUITABLE, f"its {name} is not JSON") from None


def _refuse(response: aiohttp.ClientResponse) -> None:
    match response.status:
        case HTTPStatus.OK:
            return
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            raise _HubError(
                HubResult.GATED,
                "the repository is gated, private or does not exist, and the operator uses no token",
            )
        case HTTPStatus.NOT_FOUND:
            raise _HubError(HubResult.NOT_FOUND, "the Hub has no such repository, revision or file")
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            raise _HubError(HubResult.LIMITED, f"the Hub answered {response.status}", _retry_after(response))
        case status:
            raise _HubError(HubResult.UNREACHABLE, f"the Hub answered {status}")


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds of the header; a date, which the Hub does not send, counts as none."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT_SECONDS) if text.isdigit() else None


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > limit:
            name = str(response.url.name)
            raise _HubError(HubResult.UNSUITABLE, f"its {name} is larger than {limit // 2**20} MiB")
    return bytes(body)

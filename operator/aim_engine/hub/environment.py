"""What the environment says of the Hub, in the words of huggingface_hub; the operator and the command line obey alike."""

from __future__ import annotations

import os

import aiohttp

_PUBLIC = "https://huggingface.co"
_TRUE = ("1", "ON", "YES", "TRUE")


def offline() -> bool:
    """HF_HUB_OFFLINE: nobody may be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def endpoint(configured: str | None) -> str:
    """Where to ask: what was configured, else HF_ENDPOINT, else the public Hub."""
    return configured or os.environ.get("HF_ENDPOINT") or _PUBLIC


def session() -> aiohttp.ClientSession:
    """A session that goes through HTTP_PROXY and HTTPS_PROXY, past them for NO_PROXY, and keeps neither cookies nor tokens."""
    return aiohttp.ClientSession(
        trust_env=True, cookie_jar=aiohttp.DummyCookieJar(), middlewares=(_without_credentials,)
    )


async def _without_credentials(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Reading the environment's proxies, aiohttp also reads passwords: those of ~/.netrc. They are not ours to use."""
    request.headers.pop("Authorization", None)
    return await handler(request)

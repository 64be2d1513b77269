"""Where the API server is and how to log in: the official client reads kubeconfig and ServiceAccount, aiohttp talks."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import aiohttp
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

POOL_LIMIT = 64
"""Connections for requests to the API server. Keeps a burst from opening thousands of sockets."""

_READ_BUFFER = 2**20
_TOKEN_SECONDS = 10.0
"""How long a token is used before the official client is asked for it again."""
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DEFAULT_NAMESPACE = "default"


class KubeconfigError(Exception):
    """There is no cluster to talk to, or its kubeconfig cannot be used."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Open sessions whose requests carry fresh credentials."""

    server: str
    session: aiohttp.ClientSession
    """For requests, at most `POOL_LIMIT` at a time."""
    standing: aiohttp.ClientSession
    """For what must not wait until others were answered: the renewal of the Lease, and watches, which stay open."""
    authorize: aiohttp.ClientMiddlewareType
    proxy: str | None
    tls: ssl.SSLContext | bool

    def guest(self) -> aiohttp.ClientSession:
        """A further session for watches, which whoever gets it closes."""
        return _session(0, self.authorize, self.proxy, self.tls)

    async def close(self) -> None:
        await self.session.close()
        await self.standing.close()


async def connect() -> Connection:
    """Log in by ServiceAccount when in a pod, else by `$KUBECONFIG`.

    Raises KubeconfigError when there is neither, or it cannot be used.
    """
    configuration = kubernetes_client.Configuration()
    try:
        await asyncio.to_thread(_load, configuration)
        tls = _tls(configuration) if configuration.host.startswith("https") else True
        proxy = _proxy(configuration)
    except kubernetes_config.ConfigException as error:
        raise KubeconfigError(f"no cluster is configured: {_one_line(error)}") from None
    except Exception as error:  # the official client checks little of what it reads
        path = os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise KubeconfigError(
            f"kubeconfig {path} cannot be used: {type(error).__name__}: {_one_line(error)}"
        ) from None

    header, read_at = "", float("-inf")

    async def authorize(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        nonlocal header, read_at
        if time.monotonic() - read_at > _TOKEN_SECONDS:
            # The official client re-reads rotated tokens and re-runs exec plugins when they are due.
            settings = configuration.auth_settings().values()
            header = next((s["value"] for s in settings if s["in"] == "header" and s["value"]), "")
            read_at = time.monotonic()
        if header:
            request.headers["Authorization"] = header
        return await handler(request)

    return Connection(
        configuration.host.rstrip("/"),
        _session(POOL_LIMIT, authorize, proxy, tls),
        _session(0, authorize, proxy, tls),
        authorize,
        proxy,
        tls,
    )


def _session(
    limit: int, authorize: aiohttp.ClientMiddlewareType, proxy: str | None, tls: ssl.SSLContext | bool
) -> aiohttp.ClientSession:
    """A session of at most so many connections; 0: of any number."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit, ssl=tls),
        middlewares=(authorize,),
        read_bufsize=_READ_BUFFER,
        proxy=proxy,
    )


def context_namespace() -> str:
    """The namespace that kubectl would take: of the pod we are in, else of the kubeconfig's current context.

    `default` where neither says one; a kubeconfig that cannot be used is `connect`'s to tell.
    """
    configuration = kubernetes_client.Configuration()
    try:
        kubernetes_config.load_incluster_config(client_configuration=configuration)
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip() or _DEFAULT_NAMESPACE
    except (kubernetes_config.ConfigException, OSError):
        pass
    try:
        _, active = kubernetes_config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
        return str(active["context"].get("namespace") or _DEFAULT_NAMESPACE)
    except Exception:  # the official client checks little of what it reads
        return _DEFAULT_NAMESPACE


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _load(configuration: kubernetes_client.Configuration) -> None:
    try:
        kubernetes_config.load_incluster_config(client_configuration=configuration)
    except kubernetes_config.ConfigException:
        # The official client reads $KUBECONFIG when it is imported; we want it as it is now.
        kubernetes_config.load_kube_config(
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )


def _proxy(configuration: kubernetes_client.Configuration) -> str | None:
    """Proxy to the API server. Asked once: aiohttp's `trust_env` would read environment and netrc for every request."""
    host = urlsplit(configuration.host).hostname or ""
    exempt = (
        proxy_bypass_environment(host, {"no": configuration.no_proxy}) if configuration.no_proxy else False
    )
    return None if exempt else configuration.proxy


def _tls(configuration: kubernetes_client.Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context

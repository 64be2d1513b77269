"""A small synchronous client of the API server, for tests that want to see exactly what is sent and answered."""

from __future__ import annotations

import http.client
import json
import re
import select
import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

DEFAULT_CONTENT_TYPES = {"PATCH": "application/merge-patch+json"}
REQUEST_TIMEOUT = 120.0
RETRY_SECONDS = 0.2


class ApiStatusError(RuntimeError):
    """The API server answered with an error; ``body`` is the parsed Status object, or text when it was not JSON."""

    def __init__(self, method: str, path: str, code: int, body: Any) -> None:
        message = body.get("message", body) if isinstance(body, dict) else body
        super().__init__(f"{method} {path}: {code} {message}")
        self.code = code
        self.body = body


@dataclass(frozen=True)
class Answered:
    """What the API server said: the body as parsed JSON, or text; and its warnings, as kubectl shows them."""

    code: int
    body: Any
    warnings: tuple[str, ...]

    @property
    def message(self) -> str:
        """Of a refusal."""
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else str(self.body)


class ApiClient:
    """Keeps one connection for each thread. Credentials are the context's client certificate, or a bearer token.

    Without a context the API is spoken to in the clear, as through ``kubectl proxy``.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None = None, token: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port
        self._context = context
        self._token = token
        self._local = threading.local()

    def request(self, method: str, path: str, body: Any = None, *, content_type: str | None = None) -> Any:
        """Send one request and return the parsed answer (text when it is not JSON).

        ``path`` may carry a query. Raises ApiStatusError for codes from 400 up, OSError when nobody answers.
        """
        answered = self.ask(method, path, body, content_type=content_type)
        if answered.code >= http.client.BAD_REQUEST:
            raise ApiStatusError(method, path, answered.code, answered.body)
        return answered.body

    def ask(self, method: str, path: str, body: Any = None, *, content_type: str | None = None) -> Answered:
        """Send one request and return whatever is answered. Raises OSError when nobody answers.

        "Too many requests" is asked again for a minute, as by every client of Kubernetes: the API server says so of a kind
        of which it has just begun to keep a cache, when its CRD is new or it has restarted itself.
        """
        end = time.monotonic() + REQUEST_TIMEOUT
        while True:
            answered = self._send(method, path, body, content_type)
            if answered.code != http.client.TOO_MANY_REQUESTS or time.monotonic() >= end:
                return answered
            time.sleep(RETRY_SECONDS)

    def _send(self, method: str, path: str, body: Any, content_type: str | None) -> Answered:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type or DEFAULT_CONTENT_TYPES.get(method, "application/json")
        connection = self._connection()
        kept = connection.sock is not None
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            raw = response.read()
        except BaseException as error:
            connection.close()
            # The server closed an idle connection at this very moment; reading changes nothing, so it is asked again.
            if kept and method == "GET" and isinstance(error, ConnectionResetError | BrokenPipeError):
                return self._send(method, path, body, content_type)
            if isinstance(error, http.client.HTTPException):
                raise ConnectionError(f"{method} {path}: {error!r}") from error
            raise
        told = tuple(value.partition(" - ")[2] for value in response.headers.get_all("Warning") or ())
        return Answered(response.status, parse(raw), tuple(map(_unquoted, told)))

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._new_connection()
            self._local.connection = connection
        # An idle connection with something to read was closed by the server; a request on it would be lost.
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            connection.close()
        return connection

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=REQUEST_TIMEOUT)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=REQUEST_TIMEOUT, context=self._context
        )


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text.strip().removeprefix('"').removesuffix('"'))


def parse(raw: bytes) -> Any:
    """JSON if it is JSON, else text."""
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")

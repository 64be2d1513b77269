"""What goes over the line: addresses, heads and bodies of HTTP/1.1, server-sent events, pieces of an answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any
from urllib.parse import urlsplit

LARGEST_HEAD = 65536
LARGEST_EVENT = 2**20
_LONGEST_SIZE_LINE = 1024
_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")
_SSE_FIELDS = (b"data", b":", b"event", b"id", b"retry")
_PORTS = {"http": 80, "https": 443}
_TEXTS = ("content", "reasoning_content", "reasoning")
"""Where engines put generated text; reasoning models begin elsewhere than others."""


class Fault(StrEnum):
    """Why a request was not answered."""

    REFUSED = "refused"
    TLS = "tls"
    DISCONNECTED = "disconnected"
    STALLED = "stalled"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    REJECTED = "rejected"
    SERVER_ERROR = "server_error"
    NOT_OPENAI = "not_openai"
    ENGINE_ERROR = "engine_error"
    EMPTY = "empty"


class RequestError(Exception):
    """A request that was not answered as it should be."""

    def __init__(self, fault: Fault, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.fault = fault
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an OpenAI-compatible server listens."""

    scheme: str
    host: str
    port: int
    base: str
    """Path before `/models` and `/chat/completions`, as a rule `/v1`."""

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `http://host:8000/v1`, with or without the path. Raises ValueError with the remedy."""
        told = f"'{text[:200]}' is no address of a server"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{told}: {error}; write it like http://host:8000/v1") from None
        if parts.scheme not in _PORTS or not parts.hostname or not text.isascii() or not text.isprintable():
            raise ValueError(f"{told}; write it like http://host:8000/v1")
        if parts.username or parts.password:
            raise ValueError("an address has no credentials in it; put the key into a file: --api-key-file")
        if parts.query or parts.fragment or " " in text:
            raise ValueError(f"{told}: it has a query, a fragment or a space; leave them out")
        base = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/models")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], base or "/v1")

    @property
    def authority(self) -> str:
        """Host and port as the Host header names them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.base}"


@dataclass(frozen=True, slots=True)
class Head:
    """The first part of an HTTP answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Read status line and headers. Raises RequestError."""
        first, *lines = raw.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise RequestError(
                Fault.NOT_OPENAI, f"the server does not speak HTTP/1.1: it says {first[:60]!r}"
            )
        pairs = (line.partition(":") for line in lines if line)
        return cls(int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs})

    @property
    def keeps(self) -> bool:
        """Whether the connection serves another request afterwards."""
        return self.headers.get("connection", "").lower() != "close" and (
            "content-length" in self.headers or self.is_chunked
        )

    @property
    def is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"


class _At(Enum):
    SIZE = auto()
    CONTENT = auto()
    BREAK = auto()
    TRAILER = auto()


@dataclass(slots=True)
class Body:
    """Takes the framing off a body, as it comes in."""

    chunked: bool
    left: int | None
    """Bytes that still come, of the body or of the present chunk; None: until the connection ends."""
    complete: bool = False
    _at: _At = _At.SIZE
    _pending: bytes = b""

    @classmethod
    def of(cls, head: Head) -> Body:
        """The framing that a head announces. Raises RequestError."""
        if head.is_chunked:
            return cls(True, 0)
        length = head.headers.get("content-length")
        if length is None:
            return cls(False, None)
        if not length.isdigit():
            raise RequestError(Fault.NOT_OPENAI, f"Content-Length '{length[:40]}' is no number")
        return cls(False, int(length), complete=int(length) == 0)

    def feed(self, data: bytes) -> bytes:
        """The content in the bytes that came in. Raises RequestError."""
        if self.chunked:
            return self._unchunk(data)
        if self.left is None:
            return data
        content = data[: self.left]
        self.left -= len(content)
        self.complete = self.left == 0
        return content

    def _unchunk(self, data: bytes) -> bytes:
        data, content = self._pending + data, []
        self._pending = b""
        while data and not self.complete:
            if self._at is _At.CONTENT:
                part = data[: self.left]
                content.append(part)
                data = data[len(part) :]
                self.left = (self.left or 0) - len(part)
                if self.left == 0:
                    self._at = _At.BREAK
                continue
            line, newline, rest = data.partition(b"\r\n")
            if not newline:
                if len(data) > _LONGEST_SIZE_LINE:
                    raise RequestError(Fault.NOT_OPENAI, "the answer's chunks have no sizes")
                self._pending = data
                break
            data = rest
            self._line(line)
        return b"".join(content)

    def _line(self, line: bytes) -> None:
        """A line between two chunks, or after the last."""
        if self._at is _At.SIZE:
            self.left = _size(line)
            self._at = _At.CONTENT if self.left else _At.TRAILER
        elif self._at is _At.TRAILER:
            self.complete = not line
        elif line:
            raise RequestError(Fault.NOT_OPENAI, "a chunk of the answer is longer than it says")
        else:
            self._at = _At.SIZE

    def ended(self) -> None:
        """The connection ended. Raises RequestError where more should have come."""
        if (self.chunked or self.left is not None) and not self.complete:
            raise RequestError(Fault.DISCONNECTED, "the server cut the answer off")
        self.complete = True


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or not set(digits) <= _HEXADECIMAL or len(digits) > 15:
        raise RequestError(Fault.NOT_OPENAI, f"{line[:40]!r} is no size of a chunk")
    return int(digits, 16)


@dataclass(slots=True)
class Events:
    """Server-sent events out of a body, as it comes in."""

    _pending: bytes = b""
    _data: list[bytes] = field(default_factory=list)

    def feed(self, content: bytes) -> list[bytes]:
        """The data of the events that are complete now. Raises RequestError for one without end."""
        *lines, self._pending = (self._pending + content).split(b"\n")
        found = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data = []
            elif line and not line.startswith(_SSE_FIELDS):
                raise RequestError(Fault.NOT_OPENAI, f"the answer is no event stream: {_excerpt(line)}")
        if len(self._pending) + sum(len(line) + 1 for line in self._data) > LARGEST_EVENT:
            raise RequestError(
                Fault.NOT_OPENAI, f"an event of the answer is longer than {LARGEST_EVENT} bytes"
            )
        return found

    def ended(self) -> None:
        """The body ended. Raises RequestError where what is left of it is no event stream."""
        if self._pending.strip() and not self._pending.startswith(_SSE_FIELDS):
            raise RequestError(Fault.NOT_OPENAI, f"the answer is no event stream: {_excerpt(self._pending)}")


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a streamed chat completion."""

    has_text: bool = False
    done: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


_DONE = Piece(done=True)
_NOTHING = Piece()
_TEXT = Piece(has_text=True)


def read_piece(data: bytes) -> Piece:
    """What an event says. Raises RequestError for an error of the engine, and for what is no chat completion."""
    if data == b"[DONE]":
        return _DONE
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise RequestError(Fault.NOT_OPENAI, f"an event of the answer is no JSON: {_excerpt(data)}") from None
    if not isinstance(event, dict):
        raise RequestError(
            Fault.NOT_OPENAI, f"an event of the answer is no chat completion: {_excerpt(data)}"
        )
    if event.get("error") is not None:
        raise RequestError(
            Fault.ENGINE_ERROR, f"the engine ended the answer: {_message(event) or _excerpt(data)}"
        )
    choices, usage = event.get("choices"), event.get("usage")
    if not isinstance(choices, list):
        raise RequestError(
            Fault.NOT_OPENAI, f"an event of the answer is no chat completion: {_excerpt(data)}"
        )
    delta = choices[0].get("delta") if choices and isinstance(choices[0], dict) else None
    has_text = isinstance(delta, dict) and any(delta.get(name) for name in _TEXTS)
    if not isinstance(usage, dict):
        return _TEXT if has_text else _NOTHING
    return Piece(has_text, False, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


_FAULTS = {401: Fault.UNAUTHORIZED, 403: Fault.UNAUTHORIZED, 404: Fault.NOT_FOUND, 429: Fault.RATE_LIMITED}


def refusal(head: Head, body: bytes) -> RequestError:
    """The error that an answer other than 200 is."""
    fault = _FAULTS.get(head.status)
    if fault is None:
        fault = Fault.SERVER_ERROR if head.status >= 500 else Fault.REJECTED
    told = f"HTTP {head.status}"
    if 300 <= head.status < 400:
        fault, told = (
            Fault.NOT_OPENAI,
            f"{told}, redirects to {head.headers.get('location', '')[:200]}, which is not followed",
        )
    try:
        message = _message(json.loads(body)) or _excerpt(body)
    except (ValueError, RecursionError):
        message = _excerpt(body)
    wait = head.headers.get("retry-after", "")
    return RequestError(
        fault, f"{told}: {message}" if message else told, float(wait) if wait.isdigit() else None
    )


def _message(answer: Any) -> str:
    """The message of an error, in the forms that engines and gateways give it."""
    if isinstance(answer, dict):
        error = answer.get("error", answer)
        told = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        if told:
            return _excerpt(str(told).encode())
    return ""


def _excerpt(data: bytes) -> str:
    return " ".join(data[:600].decode(errors="replace").split())[:300]

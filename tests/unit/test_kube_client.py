"""What the API server says no with."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from aiohttp import ClientResponse

from aim_engine.kube.client import _error


class Answer:
    """A refusal."""

    def __init__(self, status: int, body: bytes, **headers: str) -> None:
        self.status, self.reason, self.headers = status, "Some Reason", headers
        self._body = body

    async def read(self) -> bytes:
        return self._body


def status(message: str, **more: Any) -> bytes:
    return json.dumps({"kind": "Status", "reason": "Invalid", "message": message, **more}).encode()


@pytest.mark.parametrize(
    ("body", "reason", "told"),
    [
        (status("no"), "Invalid", "no"),
        (
            status("x" * 10_000),
            "Invalid",
            "x" * 4096,
        ),  # the API server repeats the whole value that it refuses
        (status("no", details={"causes": ["y" * 10_000]}), "Invalid", "no"),
        (b"<html>" + b"z" * 10_000, "Some Reason", "<html>" + "z" * 4090),
        (b"[]", "Some Reason", "[]"),
        (b"", "Some Reason", ""),
    ],
)
async def test_the_message_is_read_however_long_the_answer_is(body: bytes, reason: str, told: str) -> None:
    error = await _error(cast(ClientResponse, Answer(422, body)))
    assert (error.code, error.reason, error.message) == (422, reason, told)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("86400", 60.0), ("soon", None)])
async def test_nobody_is_sent_away_for_longer_than_a_minute(header: str, seconds: float | None) -> None:
    """A watch that pauses for a day computes capacity from yesterday's pods."""
    answer = Answer(429, status("later"), **{"Retry-After": header})
    assert (await _error(cast(ClientResponse, answer))).retry_after == seconds

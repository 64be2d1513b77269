"""One chat completion: what is asked, and what came when."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from aim_engine.benchmark.connection import Connection
from aim_engine.benchmark.wire import Events, Fault, RequestError, read_piece

PATH = "/chat/completions"
MOST_PIECES = 2_000_000
"""Pieces of text of one answer, far beyond what can be asked for."""
_TEXT = (
    "time year people way day man thing woman life child world school state family student group country problem hand part "
    "place case week company system program question work number night point home water room mother area money story fact month "
    "lot right study book eye job word business issue side kind head house service friend father power hour game line end member"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Ask:
    """What every request of a run has in common."""

    model: str
    output_tokens: int
    words: int
    """Length of a prompt, in common English words."""
    ignore_eos: bool = True
    """Ask for answers of full length; an extension of vLLM and SGLang."""
    include_usage: bool = True
    """Ask for the engine's own count of tokens."""

    def without(self, field: str) -> Ask:
        """The same, for a server that refuses a field of the request."""
        return replace(
            self,
            ignore_eos=self.ignore_eos and field != "ignore_eos",
            include_usage=self.include_usage and field != "stream_options",
        )

    def body(self, chance: random.Random) -> bytes:
        """A request whose prompt no other one shares, so that no prefix cache answers it."""
        content = " ".join(chance.choices(_WORDS, k=self.words))
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.output_tokens,
            "temperature": 0,
            "stream": True,
        }
        if self.include_usage:
            asked["stream_options"] = {"include_usage": True}
        if self.ignore_eos:
            asked["ignore_eos"] = True
        return json.dumps(asked).encode()


@dataclass(slots=True)
class Exchange:
    """What came of one request. Times are seconds of the clock it was measured with."""

    sent: float
    texts: array[float] = field(default_factory=lambda: array("d"))
    """When each piece of text came; an engine may send several tokens in one."""
    ended: float | None = None
    """When the answer was whole; None: it is not."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


async def chat(connection: Connection, body: bytes, clock: Callable[[], float], exchange: Exchange) -> None:
    """Send a request and note in `exchange` what comes, so that a caller who breaks off has what came until then.

    The connection is made before the clock of the request starts. Raises RequestError.
    """
    await connection.open()
    exchange.sent = clock()
    events, done = Events(), False
    async with aclosing(connection.stream("POST", PATH, body)) as stream:
        async for content in stream:
            now = clock()
            for event in events.feed(content):
                piece = read_piece(event)
                if piece.has_text:
                    exchange.texts.append(now)
                if piece.completion_tokens is not None:
                    exchange.completion_tokens = piece.completion_tokens
                    exchange.prompt_tokens = piece.prompt_tokens
                done = done or piece.done
            if len(exchange.texts) > MOST_PIECES:
                raise RequestError(Fault.NOT_OPENAI, f"the answer goes on after {MOST_PIECES} pieces of text")
    events.ended()
    if not exchange.texts:
        raise RequestError(Fault.EMPTY, "the answer has no text")
    if not done:
        raise RequestError(Fault.DISCONNECTED, "the stream ended before its end was told")
    exchange.ended = clock()

"""Questions before the load: is it an OpenAI-compatible server, does it serve the model, how long is a prompt."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from aim_engine.benchmark.chat import Ask, Exchange, chat
from aim_engine.benchmark.connection import Connection
from aim_engine.benchmark.wire import Fault, RequestError

_LARGEST_LIST = 2**20
_NEAR = 0.02
_TRIES = 3
_SILENCES = 5
"""The whole probe takes at most so many times the silence that a request is granted."""
_FEW = 4
OPTIONAL = ("ignore_eos", "stream_options")
"""Fields of a request that some servers refuse."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a run will ask."""

    ask: Ask
    notes: tuple[str, ...]
    """What the reader of the result should know."""


async def served_models(connection: Connection) -> list[str]:
    """Names of the models that a server offers. Raises RequestError."""
    found = bytearray()
    try:
        async with aclosing(connection.stream("GET", "/models")) as stream:
            async for content in stream:
                found += content
                if len(found) > _LARGEST_LIST:
                    raise RequestError(
                        Fault.NOT_OPENAI, f"its list of models is longer than {_LARGEST_LIST} bytes"
                    )
    except RequestError as error:
        if error.fault is not Fault.NOT_FOUND:
            raise
        raise RequestError(Fault.NOT_OPENAI, f"GET /models gives no list of models: {error}") from None
    try:
        listed = json.loads(found)["data"]
        return [str(each["id"]) for each in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        start = " ".join(bytes(found[:80]).decode(errors="replace").split())
        raise RequestError(Fault.NOT_OPENAI, f"GET /models gives no list of models: {start!r}") from None


async def probe(
    connection: Connection,
    models: Sequence[str],
    *,
    input_tokens: int,
    output_tokens: int,
    chance: random.Random,
) -> Probed:
    """Find out what the server serves and understands, and how many words are a prompt of so many tokens.

    `models`: names of the model that is meant, the preferred first; none: whatever is served. Raises RequestError.
    """
    limit = _SILENCES * connection.silence
    try:
        async with asyncio.timeout(limit):
            return await _probed(
                connection, models, input_tokens, Ask("", output_tokens, input_tokens), chance
            )
    except TimeoutError:
        raise RequestError(Fault.STALLED, f"a few tokens took more than {limit:g} s") from None


async def _probed(
    connection: Connection, models: Sequence[str], input_tokens: int, ask: Ask, chance: random.Random
) -> Probed:
    offered = await served_models(connection)
    model = next((name for name in models or offered if name in offered), None)
    if model is None:
        there = f"it serves {', '.join(sorted(offered)[:5])}" if offered else "it serves no model"
        raise RequestError(
            Fault.NOT_FOUND, f"the server does not serve '{models[0] if models else ''}'; {there}"
        )
    notes: list[str] = []
    ask = replace(ask, model=model)
    seen: list[tuple[int, int]] = []
    for _ in range(_TRIES):
        ask, counted = await _understood(connection, ask, chance, notes)
        if counted is None:
            notes.append(
                "the server does not count tokens: a word counts as one of the prompt, a piece of text as one of the answer"
            )
            break
        seen.append((ask.words, counted))
        if abs(counted - input_tokens) <= max(_NEAR * input_tokens, 2):
            break
        ask = replace(ask, words=next_words(seen, input_tokens))
    return Probed(ask, tuple(notes))


def next_words(seen: list[tuple[int, int]], wanted: int) -> int:
    """How many words to try next, from pairs of words and tokens: along the line through the last two."""
    words, tokens = seen[-1]
    if len(seen) == 1:
        return max(1, round(words * wanted / max(1, tokens)))
    before, fewer = seen[-2]
    if before == words or tokens == fewer:
        return words
    return max(1, round(words + (wanted - tokens) * (words - before) / (tokens - fewer)))


async def _understood(
    connection: Connection, ask: Ask, chance: random.Random, notes: list[str]
) -> tuple[Ask, int | None]:
    """Ask for a few tokens; leave out what the server does not understand. Tokens of the prompt by the server's count."""
    while True:
        exchange = Exchange(0.0)
        try:
            body = replace(ask, output_tokens=_FEW).body(chance)
            await chat(connection, body, time.perf_counter, exchange)
            return ask, exchange.prompt_tokens
        except RequestError as error:
            if error.fault is Fault.EMPTY:  # a few tokens may be no text yet
                return ask, exchange.prompt_tokens
            refused = next((name for name in OPTIONAL if name in str(error)), None)
            if error.fault is not Fault.REJECTED or refused is None or ask.without(refused) == ask:
                raise
            ask = ask.without(refused)
            notes.append(f"the server refuses {refused}: asked without it")

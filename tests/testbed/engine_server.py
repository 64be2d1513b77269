"""The HTTP side of a simulated vLLM engine: health, models, chat completions and metrics."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from testbed.vllm_metrics import EngineState, render

DEFAULT_PORT = 8000
DEFAULT_TOKENS = 16
MODEL_FLAGS = ("--model", "--model-path")
MODEL_VARIABLES = ("AIM_MODEL_ID", "MODEL_ID")


@dataclass
class Engine:
    """One simulated engine. Its metrics advance when they are looked at or its load changes."""

    models: list[str]
    """Served names; the first labels the metrics."""
    state: EngineState
    advanced: float = field(default_factory=time.monotonic)

    def advance(self) -> None:
        """Bring the counters up to the present."""
        now = time.monotonic()
        self.state.advance(now - self.advanced)
        self.advanced = now


def served_models(container: Mapping[str, Any]) -> list[str]:
    """Names under which a container's engine serves its model, from its command line, else its environment."""
    words = [*container.get("command", []), *container.get("args", [])]
    names = flag_values(words, "--served-model-name")
    if names:
        return names
    for flag in MODEL_FLAGS:
        if values := flag_values(words, flag):
            return values[:1]
    if "serve" in words:
        words = words[words.index("serve") + 1 :]
    if words and not words[0].startswith("-") and "/" not in words[0][:1]:
        return [words[0]]
    variables = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
    return [variables[name] for name in MODEL_VARIABLES if variables.get(name)][:1] or ["model"]


def flag_values(words: Sequence[str], flag: str) -> list[str]:
    """Values of ``--flag a b`` or ``--flag=a``, [] without the flag."""
    for index, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return [word.partition("=")[2]]
        if word == flag:
            rest = list(words[index + 1 :])
            end = next((at for at, value in enumerate(rest) if value.startswith("-")), len(rest))
            return rest[:end]
    return []


def engine_application(engines: Mapping[tuple[str, int], Engine]) -> web.Application:
    """One application for all engines; the local address of a connection tells which of them is meant."""
    application = web.Application()
    application[ENGINES] = engines
    application.router.add_get("/health", _health)
    application.router.add_get("/v1/models", _models)
    application.router.add_get("/metrics", _metrics)
    application.router.add_post("/v1/chat/completions", _chat)
    return application


ENGINES: web.AppKey[Mapping[tuple[str, int], Engine]] = web.AppKey("engines", Mapping)


def _engine(request: web.Request) -> Engine:
    local = request.transport.get_extra_info("sockname") if request.transport else None
    engine = request.app[ENGINES].get(tuple(local[:2])) if local else None
    if engine is None:
        raise web.HTTPServiceUnavailable
    return engine


async def _health(request: web.Request) -> web.Response:
    return web.Response(status=200 if _engine(request).state.load.healthy else 503)


async def _models(request: web.Request) -> web.Response:
    engine = _engine(request)
    data: list[dict[str, Any]] = [
        {
            "id": name,
            "object": "model",
            "created": int(engine.state.created),
            "owned_by": "vllm",
            "root": engine.models[0],
            "parent": None,
            "max_model_len": 32768,
            "permission": [],
        }
        for name in engine.models
    ]
    return web.json_response({"object": "list", "data": data})


async def _metrics(request: web.Request) -> web.Response:
    engine = _engine(request)
    engine.advance()
    return web.Response(
        body=render(engine.state, engine.models[0]).encode(),
        headers={"Content-Type": "text/plain; version=1.0.0; charset=utf-8"},
    )


def _error(code: int, kind: str, message: str, param: str | None = None) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": kind, "param": param, "code": code}}, status=code
    )


def prompt_length(messages: Sequence[Mapping[str, Any]]) -> int:
    """Rough number of tokens of a conversation: four characters make one."""
    characters = sum(len(str(message.get("content", ""))) for message in messages)
    return max(1, characters // 4 + 4 * len(messages))


async def _chat(request: web.Request) -> web.StreamResponse:
    engine = _engine(request)
    try:
        body = await request.json()
        messages = body["messages"]
    except (ValueError, KeyError, TypeError):
        return _error(400, "BadRequestError", "the body must be JSON with messages")
    model = body.get("model") or engine.models[0]
    if model not in engine.models:
        return _error(404, "NotFoundError", f"The model `{model}` does not exist.", "model")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    generated = int(limit or DEFAULT_TOKENS)
    reason = "length" if limit else "stop"
    prompt = prompt_length(messages)
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if body.get("stream"):
        return await _stream(request, engine, head, usage, reason, body.get("stream_options") or {})
    load = engine.state.load
    await asyncio.sleep(load.ttft + load.inter_token_latency * (generated - 1))
    engine.state.count_request(prompt, generated, reason)
    message = {"role": "assistant", "content": "token " * generated}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _stream(
    request: web.Request,
    engine: Engine,
    head: Mapping[str, Any],
    usage: Mapping[str, int],
    reason: str,
    options: Mapping[str, Any],
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)

    async def send(choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())

    load, generated, sent = engine.state.load, usage["completion_tokens"], 0
    try:
        await send([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for number in range(generated):
            await asyncio.sleep(load.inter_token_latency if number else load.ttft)
            last = reason if number == generated - 1 else None
            await send([{"index": 0, "delta": {"content": "token "}, "finish_reason": last}])
            sent += 1
        if options.get("include_usage"):
            await send([], usage=usage)
        await response.write(b"data: [DONE]\n\n")
    except ConnectionError:  # the client went away
        reason = "abort"
    engine.state.count_request(usage["prompt_tokens"], sent, reason)
    return response

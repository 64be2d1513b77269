"""The load generator against real servers on loopback, good ones and bad ones."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from aim_engine.benchmark import (
    Connection,
    Ending,
    Endpoint,
    Fault,
    Load,
    Probed,
    RequestError,
    Run,
    drive,
    probe,
)
from aim_engine.benchmark.chat import Ask
from unit.openai_world import (
    END,
    MODEL,
    STREAM,
    Answer,
    Asked,
    chunk,
    event,
    good,
    head,
    models,
    running,
    serving,
    text,
    usage,
    whole,
    words_of,
)

ROOT = Path(__file__).parents[2]
LONG = 600.0
"""Seconds that no test waits for: what ends earlier was ended by something else."""
JSON = "application/json"


def probing(url: str, *, silence: float = 20, **more: Any) -> Probed:
    asked = {"models": [], "input_tokens": 100, "output_tokens": 8, **more}

    async def work() -> Probed:
        connection = Connection(Endpoint.parse(url), {}, silence)
        try:
            return await probe(connection, chance=random.Random(1), **asked)
        finally:
            connection.close()

    return asyncio.run(work())


def driving(
    url: str, headers: Mapping[str, str] | None = None, *, ask: Ask | None = None, **load: Any
) -> Run:
    wanted = Load(**{"concurrency": 2, "duration": LONG, "requests": 10, "warm_up": 0, "silence": 20, **load})

    async def work() -> Run:
        return await drive(
            Endpoint.parse(url), headers or {}, ask or Ask(MODEL, 8, words=20), wanted,
            chance=random.Random(1), interrupted=asyncio.Event(),
        )  # fmt: skip

    return asyncio.run(work())


def answering(*parts: bytes) -> Answer:
    """Every question is answered with the same bytes."""

    async def answer(_: Asked) -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return answer


def chatting(*parts: bytes, after: int = 0) -> Answer:
    """A good server whose answers are these bytes, from the one after so many good ones."""
    chats = count()

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        if asked.method == "GET" or next(chats) < after:
            async for part in good(asked):
                yield part
        else:
            for part in parts:
                yield part

    return answer


def refused(status: str, **headers: object) -> bytes:
    return whole(
        json.dumps({"error": {"message": "says why"}}).encode(), status, content_type=JSON, **headers
    )


SILENT = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "fault", "told"),
    [
        pytest.param(answering(refused("401 Unauthorized")), Fault.UNAUTHORIZED, "HTTP 401: says why", id="no key"),
        pytest.param(answering(refused("404 Not Found")), Fault.NOT_OPENAI, "HTTP 404: says why", id="another server"),
        pytest.param(answering(refused("429 Too Many Requests")), Fault.RATE_LIMITED, "HTTP 429", id="limited"),
        pytest.param(answering(refused("500 Oops")), Fault.SERVER_ERROR, "HTTP 500: says why", id="broken"),
        pytest.param(answering(whole(b"<html>hello</html>")), Fault.NOT_OPENAI, "<html>hello", id="html"),
        pytest.param(answering(whole(b'{"data": [1]}')), Fault.NOT_OPENAI, "no list of models", id="other json"),
        pytest.param(answering(whole(b"[" * 100_000)), Fault.NOT_OPENAI, "no list of models", id="deep json"),
        pytest.param(answering(models("a", "b")), Fault.NOT_FOUND, "does not serve 'example/model'; it serves a, b", id="model"),
        pytest.param(answering(whole(b'{"data": []}')), Fault.NOT_FOUND, "it serves no model", id="no model"),
        pytest.param(answering(head("302 Found", location="http://127.0.0.2/v1", content_length=0)), Fault.NOT_OPENAI, "redirects to http://127.0.0.2/v1", id="redirect"),
        pytest.param(answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Fault.NOT_OPENAI, "SSH-2.0", id="ssh"),
        pytest.param(answering(b"220 mail.example.com ESMTP\r\n", b""), Fault.NOT_OPENAI, "220 mail", id="smtp"),
        pytest.param(answering(b"x" * 100_000), Fault.NOT_OPENAI, "does not speak HTTP/1.1", id="endless head"),
        pytest.param(answering(SILENT), Fault.STALLED, "nothing came for 0.5 s", id="half a head"),
        pytest.param(answering(head(content_length=50) + b"{"), Fault.STALLED, "nothing came for 0.5 s", id="half a body"),
        pytest.param(answering(b""), Fault.DISCONNECTED, "", id="closed at once"),
        pytest.param(answering(head(content_length=50) + b"{", b""), Fault.DISCONNECTED, "", id="closed in the middle"),
        pytest.param(answering(head(content_length="many")), Fault.NOT_OPENAI, "Content-Length 'many'", id="no length"),
        pytest.param(answering(head(content_encoding="gzip", content_length=3) + b"abc"), Fault.NOT_OPENAI, "compressed", id="gzip"),
        pytest.param(answering(head() + b"[" * 2_000_000), Fault.NOT_OPENAI, "longer than", id="endless list"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_measured_is_told(answer: Answer, fault: Fault, told: str) -> None:
    with serving(answer) as server, pytest.raises(RequestError) as error:
        probing(server.url, silence=0.5 if fault is Fault.STALLED else 20, models=[MODEL])
    assert (error.value.fault, told in str(error.value)) == (fault, True), error.value


@pytest.mark.parametrize(
    ("answer", "fault", "told"),
    [
        pytest.param(chatting(refused("404 Not Found")), Fault.NOT_FOUND, "says why", id="404"),
        pytest.param(chatting(refused("400 Bad Request")), Fault.REJECTED, "says why", id="400"),
        pytest.param(chatting(whole(b"<html>welcome</html>")), Fault.NOT_OPENAI, "no event stream: <html>", id="html"),
        pytest.param(chatting(whole(b'{"choices": []}')), Fault.NOT_OPENAI, "no event stream", id="not streamed"),
        pytest.param(chatting(STREAM, event({"error": {"message": "out of memory"}}), END), Fault.ENGINE_ERROR, "out of memory", id="error in the stream"),
        pytest.param(chatting(STREAM, chunk(b"data: {broken\n\n")), Fault.NOT_OPENAI, "no JSON", id="no json"),
        pytest.param(chatting(STREAM, text(), b""), Fault.DISCONNECTED, "cut", id="cut stream"),
        pytest.param(chatting(STREAM, text(), chunk(b"")), Fault.DISCONNECTED, "before its end", id="no [DONE]"),
        pytest.param(chatting(STREAM, text(), b"nonsense\r\n"), Fault.NOT_OPENAI, "no size", id="no chunks"),
        pytest.param(chatting(STREAM, text()), Fault.STALLED, "nothing came", id="stalled"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_chat_is_told(answer: Answer, fault: Fault, told: str) -> None:
    with serving(answer) as server, pytest.raises(RequestError) as error:
        probing(server.url, silence=0.5 if fault is Fault.STALLED else 20)
    assert (error.value.fault, told in str(error.value)) == (fault, True), error.value


def test_nobody_listens() -> None:
    with running(lambda *_: asyncio.sleep(0)) as port:
        pass
    with pytest.raises(RequestError, match="Connection refused") as error:
        probing(f"http://127.0.0.1:{port}")
    assert error.value.fault is Fault.REFUSED


def test_a_name_that_does_not_exist_is_refused_too() -> None:
    with pytest.raises(RequestError) as error:
        probing("http://app-service.team-a.svc.invalid:8000/v1")
    assert error.value.fault is Fault.REFUSED
    assert "app-service.team-a.svc.invalid:8000: " in str(error.value)


def test_https_to_a_server_that_speaks_http_is_a_fault_of_tls() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(refused("400 Bad Request"))
        await writer.drain()
        writer.close()

    with running(serve) as port, pytest.raises(RequestError) as error:
        probing(f"https://127.0.0.1:{port}")
    assert error.value.fault is Fault.TLS


def test_the_probe_finds_model_and_length_of_the_prompt() -> None:
    with serving(good) as server:
        probed = probing(server.url, input_tokens=300)
    assert (probed.ask.model, probed.ask.output_tokens, probed.notes) == (MODEL, 8, ())
    assert probed.ask.words == pytest.approx(290, abs=3), "the template of the server adds ten"
    prompts = [each.body["messages"][0]["content"] for each in server.asked if each.method == "POST"]
    assert len(set(prompts)) == len(prompts), "no prompt is asked twice, so that no prefix cache answers"
    assert server.connections == 1


def test_the_preferred_name_that_is_served_is_asked_for() -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        if asked.method == "GET":
            yield models("lora", "base")
            return
        async for part in good(asked):
            yield part

    with serving(answer) as server:
        assert probing(server.url, models=["alias", "base"]).ask.model == "base"
        assert probing(server.url).ask.model == "lora"


@pytest.mark.parametrize("picky", [("ignore_eos",), ("stream_options",), ("ignore_eos", "stream_options")])
def test_fields_that_a_server_refuses_are_left_out_and_told(picky: tuple[str, ...]) -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        unknown = next((name for name in picky if name in asked.body), None)
        if unknown:
            error = {"error": {"message": f"Unrecognized request argument supplied: {unknown}"}}
            yield whole(json.dumps(error).encode(), "400 Bad Request")
            return
        async for part in good(asked):
            yield part

    with serving(answer) as server:
        probed = probing(server.url)
        run = driving(server.url, ask=probed.ask)
    assert {name for name in picky if any(name in note for note in probed.notes)} == set(picky)
    assert (run.answered, run.failed) == (10, 0)


def test_a_server_that_counts_nothing_is_measured_by_pieces() -> None:
    with serving(chatting(STREAM, *[text()] * 8, END)) as server:
        probed = probing(server.url)
        run = driving(server.url, ask=probed.ask)
    assert "does not count" in probed.notes[0]
    assert (run.counted, run.answer_tokens, run.prompt_tokens) == (False, 80, 0)


def test_a_thinking_model_that_has_said_nothing_yet_is_no_fault() -> None:
    with serving(chatting(STREAM, usage(100, 4) + END)) as server:
        assert probing(server.url).ask.words == 100


def test_numbers_are_those_of_the_server() -> None:
    with serving(good) as server:
        run = driving(server.url, requests=20, concurrency=4, ask=Ask(MODEL, 16, words=50))
        chats = [each for each in server.asked if each.method == "POST"]
    assert (run.answered, run.failed, run.ending) == (20, 0, Ending.REQUESTS)
    assert (run.answer_tokens, run.prompt_tokens, run.counted) == (320, 20 * 60, True)
    assert run.output_tokens >= 320
    assert run.latency.count == 20
    assert run.first_token.count >= 20
    assert server.connections == 4, "each worker keeps its connection"
    assert {words_of(each) for each in chats} == {50}
    assert {each.body["max_tokens"] for each in chats} == {16}


def test_several_tokens_in_a_piece_are_counted_by_the_server() -> None:
    with serving(chatting(STREAM, text("a b c d "), text("e f g h "), usage(30, 8) + END)) as server:
        run = driving(server.url)
    assert run.answer_tokens == 80
    assert run.output_tokens >= 80


def test_first_token_and_pauses_are_measured_as_they_are() -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        yield STREAM + text("", "role")
        await asyncio.sleep(0.2)
        yield text(field="reasoning_content")
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield text()
        yield usage(10, 4) + END

    with serving(answer) as server:
        run = driving(server.url, requests=4, concurrency=2)
    assert (run.first_token.percentile(0.01) or 0) >= 0.19
    assert (run.latency.percentile(0.01) or 0) >= 0.49
    # A piece that a busy machine reads late is nearer to the next one, and farther from the one before.
    assert (run.inter_token.percentile(0.9) or 0) >= 0.09


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_every_framing_of_http_is_read(framing: str) -> None:
    body = b"".join(f"data: {json.dumps(each)}\r\n\r\n".encode() for each in (
        {"choices": [{"delta": {"content": "hi"}}]}, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
    )) + b"data: [DONE]\n\n"  # fmt: skip
    answers = {
        "chunked": [STREAM, chunk(body[:7]) + chunk(body[7:]), b"0\r\n", b"\r\n"],
        "length": [whole(body)],
        "close": [head(connection="close") + body, b"close"],
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readuntil(b"}")
            for part in answers[framing]:
                if part == b"close":
                    return writer.close()
                writer.write(part)
        return None

    with running(serve) as port:
        run = driving(f"http://127.0.0.1:{port}", requests=5)
    assert (run.answered, run.failed) == (5, 0), run.failures


def test_a_connection_that_was_closed_between_two_requests_is_no_failure() -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        async for part in good(asked):
            yield part
        yield b""

    with serving(answer) as server:
        run = driving(server.url)
    assert (run.answered, run.failed) == (10, 0)


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ((refused("429 Too Many Requests", retry_after=0),), Fault.RATE_LIMITED),
        ((refused("500 Internal Server Error"),), Fault.SERVER_ERROR),
        ((whole(b"<html>\n"),), Fault.NOT_OPENAI),
        ((STREAM, text(), b""), Fault.DISCONNECTED),
        ((STREAM, event({"error": {"message": "boom"}}), b""), Fault.ENGINE_ERROR),
        ((STREAM, usage(4, 0) + END), Fault.EMPTY),
        ((refused("401 Unauthorized"),), Fault.UNAUTHORIZED),
    ],
)
def test_a_server_that_fails_under_load_is_given_up_and_not_hammered(
    parts: tuple[bytes, ...], fault: Fault
) -> None:
    with serving(chatting(*parts)) as server:
        run = driving(server.url, concurrency=4)
    assert (run.ending, run.answered) == (Ending.GAVE_UP, 0)
    assert set(run.failures) == {fault}
    assert run.failed == 12
    assert len(server.asked) <= 12 + 4
    assert run.output_tokens == 0, "what came of a request that failed was not delivered"


def test_failures_between_answers_are_counted_by_kind() -> None:
    chats = count(1)

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        number = next(chats)
        if number % 7 == 0:
            yield refused("503 Service Unavailable")
        elif number % 11 == 0:
            yield STREAM + text()
            yield b""
        else:
            async for part in good(asked):
                yield part

    with serving(answer) as server:
        run = driving(server.url, requests=40, concurrency=1)
    assert run.answered == 40
    assert {fault: each.count for fault, each in run.failures.items()} == {
        Fault.SERVER_ERROR: 7, Fault.DISCONNECTED: 4,
    }  # fmt: skip
    assert "says why" in run.failures[Fault.SERVER_ERROR].example


def test_a_stalled_stream_is_a_failure_after_the_silence() -> None:
    with serving(chatting(STREAM, text(), after=2)) as server:
        run = driving(server.url, concurrency=1, silence=3)
    assert run.answered == 2
    assert set(run.failures) == {Fault.STALLED}


async def endless(_: Asked) -> AsyncIterator[bytes]:
    yield STREAM
    while True:
        yield text()
        await asyncio.sleep(0.01)


def test_the_duration_bounds_a_run_whatever_the_server_does() -> None:
    with serving(endless) as server:
        run = driving(server.url, duration=2, warm_up=4)
    assert (run.ending, run.answered, run.cut, run.failed) == (Ending.DURATION, 0, 2, 0)
    assert 2 <= run.seconds < LONG
    assert run.output_tokens > 10, "what came until the end counts"
    assert run.first_token.count == 0, "it came during the warm-up"


def test_a_server_that_goes_on_and_on_is_given_up_before_the_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long before its silence would be: that is measured in real time, and this machine may be silent, too."""
    monkeypatch.setattr(importlib.import_module("aim_engine.benchmark.probe"), "_SILENCES", 0.1)

    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        async for part in good(asked) if asked.method == "GET" else endless(asked):
            yield part

    with serving(answer) as server, pytest.raises(RequestError, match="a few tokens took more than 2 s"):
        probing(server.url, silence=20)


def test_requests_of_the_warm_up_are_not_counted_as_answers() -> None:
    with serving(good) as server:
        run = driving(server.url, requests=5, warm_up=2, concurrency=1)
    chats = sum(each.method == "POST" for each in server.asked)
    assert run.answered == 5
    assert chats > 5


def test_the_key_goes_with_every_request_and_nowhere_else() -> None:
    headers = {"Authorization": "Bearer s3cret"}
    with serving(good) as other:
        moved = answering(head("307 Temporary Redirect", location=f"{other.url}/models", content_length=0))
        with serving(moved) as server:
            run = driving(server.url, headers, concurrency=1)
    assert run.answered == 0
    assert {each.headers["authorization"] for each in server.asked} == {"bearer s3cret"}
    assert other.asked == []


def heed_interrupts() -> None:
    """As a terminal starts it: a shell starts what runs in the background deaf to SIGINT, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt(url: str, *words: str, ready: Callable[[], bool]) -> tuple[int, str, str]:
    """Run the command line as a user does, and press Ctrl-C when something holds."""
    command = [sys.executable, "-m", "aim_engine", "bench", "--url", url, *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    ) as process:
        try:
            until(ready)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=180)
        finally:
            process.kill()
    return process.returncode, out, err


def until(holds: Callable[[], bool], patience: float = 180) -> None:
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, "the command asks nothing"
        time.sleep(0.05)


def test_ctrl_c_ends_with_what_was_measured() -> None:
    with serving(good) as server:
        code, out, _ = interrupt(
            server.url, "--warmup", "0", "--duration", "600", "-o", "json", ready=lambda: len(server.asked) > 40
        )  # fmt: skip
    result = json.loads(out)
    assert code == 130
    assert result["ended"] == "interrupted"
    assert result["requests"]["answered"] > 0
    assert result["outputTokensPerSecond"] > 0


def test_ctrl_c_while_the_server_is_asked_ends_at_once() -> None:
    with serving(answering(SILENT)) as server:
        code, out, err = interrupt(server.url, ready=lambda: bool(server.asked))
    assert (code, out) == (130, "")
    assert "Traceback" not in err

"""The load generator's reading of the line, of events and of times, without a line."""

from __future__ import annotations

import json
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.benchmark.book import Run
from aim_engine.benchmark.chat import Exchange
from aim_engine.benchmark.probe import next_words
from aim_engine.benchmark.samples import Samples
from aim_engine.benchmark.summary import summarize
from aim_engine.benchmark.wire import Body, Endpoint, Events, Fault, Head, RequestError, read_piece, refusal

CHUNKED = Head(200, {"transfer-encoding": "chunked"})


def parts(data: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places."""
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


def unchunk(data: bytes) -> bytes:
    body = Body.of(CHUNKED)
    found = body.feed(data)
    body.ended()
    return found


def read_events(*parts: bytes) -> list[bytes]:
    events = Events()
    found = [one for part in parts for one in events.feed(part)]
    events.ended()
    return found


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 500), max_size=8))
def test_a_chunked_body_is_the_same_however_it_comes_in(pieces: list[bytes], cuts: list[int]) -> None:
    framed = b"".join(f"{len(each):X};ext=1\r\n".encode() + each + b"\r\n" for each in pieces)
    body = Body.of(CHUNKED)
    found = b"".join(body.feed(part) for part in parts(framed + b"0\r\nX-Trailer: 1\r\n\r\n", cuts))
    assert (found, body.complete) == (b"".join(pieces), True)


@given(st.binary(min_size=1, max_size=60), st.lists(st.integers(0, 100), max_size=4))
def test_a_body_of_known_length_ends_there(data: bytes, cuts: list[int]) -> None:
    body = Body.of(Head(200, {"content-length": str(len(data))}))
    assert b"".join(body.feed(part) for part in parts(data + b"HTTP/1.1 200", cuts)) == data
    assert body.complete


@pytest.mark.parametrize(
    ("framed", "fault"),
    [
        (b"5\r\nhel", Fault.DISCONNECTED),
        (b"5\r\nhello\r\n", Fault.DISCONNECTED),
        (b"0\r\n", Fault.DISCONNECTED),
        (b"zz\r\n", Fault.NOT_OPENAI),
        (b"-5\r\n", Fault.NOT_OPENAI),
        (b"\r\n", Fault.NOT_OPENAI),
        (b"ffffffffffffffffff\r\n", Fault.NOT_OPENAI),
        (b"2\r\nhello\r\n", Fault.NOT_OPENAI),
        (b"x" * 2000, Fault.NOT_OPENAI),
    ],
)
def test_a_broken_chunked_body_is_told(framed: bytes, fault: Fault) -> None:
    with pytest.raises(RequestError) as told:
        unchunk(framed)
    assert told.value.fault is fault


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=20), max_size=6
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 500), max_size=8),
)
def test_events_are_the_same_however_they_come_in(texts: list[str], newline: str, cuts: list[int]) -> None:
    sent = "".join(f": ping{newline}id: 7{newline}data: {each}{newline}{newline}" for each in texts)
    events = Events()
    found = [one for part in parts(sent.encode(), cuts) for one in events.feed(part)]
    assert [one.decode() for one in found] == texts


@pytest.mark.parametrize(
    "body", [b"<html>\n<body>", b"<html>", b'{"object": "chat.completion"}', b"\x00\x01\n"]
)
def test_what_is_no_event_stream_is_told(body: bytes) -> None:
    with pytest.raises(RequestError, match="no event stream"):
        read_events(body)


@pytest.mark.parametrize("part", [b"data: " + b"x" * 65536, b"data: x\n" * 8192])
def test_an_event_without_end_is_not_kept_for_ever(part: bytes) -> None:
    with pytest.raises(RequestError, match="longer than"):
        read_events(*[part] * 200)


@pytest.mark.parametrize(
    ("event", "has_text"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"content": "hi"}}]}, True),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, True),
        ({"choices": [{"delta": {"reasoning": "hm", "content": None}}]}, True),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, False),
        ({"choices": []}, False),
        ({"choices": ["x"], "usage": "y"}, False),
    ],
)
def test_only_text_is_a_token(event: object, has_text: bool) -> None:
    assert read_piece(json.dumps(event).encode()).has_text is has_text


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (b"<html>", Fault.NOT_OPENAI),
        (b"[]", Fault.NOT_OPENAI),
        (b"[" * 100_000, Fault.NOT_OPENAI),
        (b'{"id": 1}', Fault.NOT_OPENAI),
        (b'{"error": {"message": "out of memory", "code": 500}}', Fault.ENGINE_ERROR),
        (b'{"error": "out of memory"}', Fault.ENGINE_ERROR),
    ],
)
def test_an_event_that_is_no_piece_is_told(event: bytes, fault: Fault) -> None:
    with pytest.raises(RequestError) as told:
        read_piece(event)
    assert told.value.fault is fault
    assert fault is Fault.NOT_OPENAI or "out of memory" in str(told.value)


@pytest.mark.parametrize(
    ("status", "body", "fault", "told"),
    [
        (401, b'{"error": "Unauthorized"}', Fault.UNAUTHORIZED, "HTTP 401: Unauthorized"),
        (403, b"", Fault.UNAUTHORIZED, "HTTP 403"),
        (404, b'{"error": {"message": "no such model"}}', Fault.NOT_FOUND, "no such model"),
        (400, b'{"object": "error", "message": "context is 4096"}', Fault.REJECTED, "context is 4096"),
        (422, b'{"detail": [1]}', Fault.REJECTED, "[1]"),
        (500, b"<h1>\x1b[31mboom</h1>", Fault.SERVER_ERROR, "boom"),
        (503, b"[" * 4000, Fault.SERVER_ERROR, "HTTP 503"),
        (429, b"slow down", Fault.RATE_LIMITED, "slow down"),
    ],
)
def test_refusals_tell_kind_and_message(status: int, body: bytes, fault: Fault, told: str) -> None:
    error = refusal(Head(status, {"retry-after": "7"}), body)
    assert error.fault is fault
    assert told in str(error)
    assert error.retry_after == 7
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("http://h:8000/v1", "http://h:8000/v1"),
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h/v1/", "http://h:80/v1"),
        ("https://h/team/v1/chat/completions", "https://h:443/team/v1"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1"),
    ],
)
def test_addresses_are_read_with_and_without_path(text: str, read: str) -> None:
    assert str(Endpoint.parse(text)) == read


@pytest.mark.parametrize(
    "text",
    ["", "h:8000", "ftp://h/v1", "http://", "http://h:x/v1", "http://h:70000", "http://u:p@h/v1", "http://h/v1?x=1", "http://h/a b", "http://hé/v1", "http://h/v1\r\nX: y"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r"http://host:8000/v1|--api-key-file|leave them out"):
        Endpoint.parse(text)


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_percentiles_err_by_less_than_a_percent(times: list[float], share: float) -> None:
    samples = Samples()
    for each in times:
        samples.add(each)
    exact = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    assert samples.percentile(share) == pytest.approx(exact, rel=0.01)
    assert samples.mean == pytest.approx(sum(times) / len(times))


def exchange(sent: float, *texts: float, tokens: int | None = None, prompt: int | None = 100) -> Exchange:
    return Exchange(sent, array("d", texts), texts[-1] if texts else None, prompt, tokens)


def test_what_came_before_the_measurement_does_not_count() -> None:
    run = Run(began=10.0)
    run.answer(exchange(8.0, 9.0, 9.5, 10.5, 11.0, tokens=4))
    assert run.first_token.count == 0, "the first token came during the warm-up"
    assert (run.output_tokens, run.inter_token.count) == (2, 2)
    assert run.latency.largest == 3.0


def test_several_tokens_in_a_piece_share_its_time() -> None:
    run = Run(began=0.0)
    run.answer(exchange(0.0, 1.0, 1.4, 1.8, tokens=12))
    assert run.output_tokens == pytest.approx(12)
    assert run.inter_token.mean == pytest.approx(0.1)
    assert run.first_token.mean == 1.0


def test_a_request_that_was_cut_counts_with_what_came() -> None:
    run = Run(began=0.0)
    run.answer(exchange(0.0, 1.0, 2.0, tokens=4))
    run.break_off(exchange(0.5, 1.5, 2.5, 3.5))
    run.break_off(exchange(3.0))
    run.seconds = 4.0
    told = summarize(run)
    assert told["requests"] == {"answered": 1, "failed": 0, "cutAtTheEnd": 2}
    assert told["outputTokensPerSecond"] == 2.5, "two tokens in each of five pieces, in four seconds"
    assert told["timeToFirstTokenMilliseconds"]["max"] == 1000.0
    assert told["requestLatencyMilliseconds"]["max"] == 2000.0


def test_without_counts_of_the_server_pieces_are_counted_and_that_is_said() -> None:
    run = Run(began=0.0, seconds=2.0)
    run.answer(exchange(0.0, 1.0, 2.0, tokens=None, prompt=None))
    told = summarize(run)
    assert told["tokens"] == {"countedBy": "pieces", "meanInput": None, "meanOutput": 2.0}
    assert (told["outputTokensPerSecond"], told["inputTokensPerSecond"]) == (1.0, None)


def test_a_run_without_an_answer_has_no_numbers() -> None:
    told = summarize(Run(began=0.0))
    assert told["outputTokensPerSecond"] is None
    assert told["timeToFirstTokenMilliseconds"] is None
    assert told["tokens"]["meanOutput"] is None


@pytest.mark.parametrize(
    "tokens_of", [lambda n: n + 10, lambda n: 2 * n, lambda n: round(1.3 * n) + 50, lambda n: n]
)
def test_the_prompt_is_as_long_as_asked_after_two_tries(tokens_of: object) -> None:
    count = tokens_of
    assert callable(count)
    words, seen = 1000, []
    for _ in range(2):
        seen.append((words, count(words)))
        words = next_words(seen, 1000)
    assert count(words) == pytest.approx(1000, abs=2)


def test_a_prompt_shorter_than_the_template_is_one_word() -> None:
    assert next_words([(5, 500)], 5) == 1
    assert next_words([(5, 500), (1, 496)], 5) == 1

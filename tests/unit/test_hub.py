"""The Hub client and the store of facts against a Hub on 127.0.0.1 with answers of real shape."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aim_engine.cli import main
from aim_engine.cli.hub_facts import ask_hub
from aim_engine.cli.snapshot_file import read_snapshot, write_snapshot
from aim_engine.hub import client
from aim_engine.hub.client import Answer, HubResult, inquire
from aim_engine.hub.config_json import Described, describe
from aim_engine.hub.store import HubFacts, HubSettings
from aim_engine.reconcile.config import HubConfig, OperatorConfig
from aim_engine.reconcile.facts import Place
from testbed.hub import COMMIT, LocalHub, drip, endless_redirects, slow, status
from unit.cli_world import TAKEN
from unit.hub_world import CONFIG, INDEX, MODEL, known, store, until
from unit.model_configs import decoder


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        yield running


async def ask(hub: LocalHub, model: str = MODEL, seconds: float = 60.0, revision: str = "main") -> Answer:
    async with aiohttp.ClientSession() as session:
        return await inquire(session, hub.url, model, revision, seconds)


async def test_a_repository_is_described_with_size_and_commit(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG, INDEX)
    answer = await ask(hub)
    assert answer.result is HubResult.FOUND
    assert answer.described
    assert (answer.described.facts.layers, answer.described.checkpoint.bytes) == (2, 123_456)
    assert answer.described.facts.source == f"config.json of {MODEL} at {COMMIT[:12]}"


async def test_a_model_of_one_file_has_no_index_and_an_unknown_size(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG)
    answer = await ask(hub)
    assert answer.described
    assert answer.described.checkpoint.bytes is None


async def test_the_revision_asked_for_is_the_one_read(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG)
    await ask(hub, revision="refs/pr/1")
    assert hub.requests[0] == f"/{MODEL}/resolve/refs/pr/1/config.json"


@pytest.mark.parametrize(
    "index",
    ["text", [1], {"metadata": 7}, {"metadata": {"total_size": -1}}, {"metadata": {"total_size": "x"}}],
)
async def test_an_index_that_says_nothing_leaves_the_size_unknown(hub: LocalHub, index: object) -> None:
    hub.serve(MODEL, CONFIG, index)
    answer = await ask(hub)
    assert answer.described
    assert answer.described.checkpoint.bytes is None


@pytest.mark.parametrize(
    ("behaviour", "result", "told"),
    [
        (
            status(401, "Access to model acme/small is restricted"),
            HubResult.GATED,
            "gated, private or does not exist",
        ),
        (status(403), HubResult.GATED, "the operator uses no token"),
        (status(404), HubResult.NOT_FOUND, "no such repository"),
        (status(429, Retry_After="7"), HubResult.LIMITED, "answered 429"),
        (status(503), HubResult.LIMITED, "answered 503"),
        (status(500), HubResult.UNREACHABLE, "answered 500"),
        (status(200, "<html>"), HubResult.UNSUITABLE, "config.json is not JSON"),
        (status(200, "[" * 100_000), HubResult.UNSUITABLE, "config.json is not JSON"),
        (status(200, "[]"), HubResult.UNSUITABLE, "config.json cannot be used: config.json is []"),
        (status(200, "{}"), HubResult.UNSUITABLE, "model_type is None"),
        (slow(60), HubResult.UNREACHABLE, "did not answer within 0.5 s"),
        (drip(b"x" * 2**20, 64), HubResult.UNSUITABLE, "larger than 4 MiB"),
        (endless_redirects(f"/{MODEL}/resolve/main/config.json"), HubResult.UNREACHABLE, "TooManyRedirects"),
        (status(302, Location="ftp://127.0.0.1/x"), HubResult.UNREACHABLE, "could not be asked"),
        (status(200, "{}", Content_Encoding="gzip"), HubResult.UNREACHABLE, "could not be asked"),
    ],
)
async def test_what_the_hub_may_answer(
    hub: LocalHub, behaviour: Callable[..., object], result: HubResult, told: str
) -> None:
    hub.behave(MODEL, behaviour)  # type: ignore[arg-type]
    answer = await ask(hub, seconds=0.5 if "0.5" in told else 60.0)
    assert (answer.result, told in answer.message) == (result, True), answer


async def test_the_pause_that_the_hub_asks_for_is_told(hub: LocalHub) -> None:
    hub.behave(MODEL, status(429, Retry_After="7"))
    assert (await ask(hub)).retry_after == 7
    hub.behave(MODEL, status(429, Retry_After="99999999"))
    assert (await ask(hub)).retry_after == 3600
    hub.behave(MODEL, status(429, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"))
    assert (await ask(hub)).retry_after is None


async def test_nobody_there_is_no_crash() -> None:
    async with aiohttp.ClientSession() as session:
        answer = await inquire(session, "http://127.0.0.1:1", MODEL, "main", 5)
    assert answer.result is HubResult.UNREACHABLE


async def test_no_token_is_ever_sent(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password hf_secret\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.serve(MODEL, CONFIG)
    async with store(hub) as facts:
        await known(facts)
    assert hub.headers
    assert not any({"Authorization", "Cookie"} & set(sent) for sent in hub.headers)


async def test_an_unknown_model_is_asked_for_once_and_known_afterwards(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG, INDEX)
    async with store(hub) as running:
        assert running.facts.model(MODEL) is None
        assert running.facts.unknown(MODEL) == "the Hub is being asked"
        for _ in range(20):
            running.facts.model(MODEL)
            running.facts.checkpoint(MODEL)
        await known(running)
        found, stored = running.facts.model(MODEL), running.facts.checkpoint(MODEL)
        assert found
        assert stored
        assert (found.layers, stored.bytes) == (2, 123_456)
        assert running.facts.unknown(MODEL) is None
    assert hub.asked_for(MODEL) == 2, "config.json and the index, once each"
    assert running.results == ["found"]


async def test_the_catalogue_is_believed_first_and_costs_no_request(hub: LocalHub) -> None:
    async with store(hub) as running:
        found = running.facts.model("Qwen/Qwen3-32B")
        assert found
        assert found.layers == 64
        await asyncio.sleep(0.05)
    assert hub.requests == []


async def test_a_gated_model_stays_unknown_says_so_and_is_not_asked_for_again(hub: LocalHub) -> None:
    hub.behave(MODEL, status(401))
    async with store(hub) as running:
        await known(running)
        for _ in range(20):
            assert running.facts.model(MODEL) is None
            await asyncio.sleep(0.005)
        told = str(running.facts.unknown(MODEL))
    assert "gated, private or does not exist, and the operator uses no token; write a recipe for it" in told
    assert hub.asked_for(MODEL) == 1


async def test_a_hub_that_asks_for_patience_gets_it_and_is_asked_again_by_itself(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aim_engine.hub.store._BACKOFF_SECONDS", (0.05,))
    hub.behave(MODEL, status(429, Retry_After="0"))
    async with store(hub) as running:
        await known(running)
        assert running.facts.model(MODEL) is None
        hub.serve(MODEL, CONFIG)
        await until(lambda: running.facts.model(MODEL), "the model to be known")
    assert running.results[-1] == "found"
    assert set(running.results[:-1]) == {"limited"}, "as often as it was asked before there was an answer"


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "a b/c", "no-slash", "a/b/c", "", "a/..", "x" * 300, "a\n/b"]
)
async def test_what_is_no_model_id_never_becomes_an_address(hub: LocalHub, name: str) -> None:
    async with store(hub) as running:
        assert running.facts.model(name) is None
        await asyncio.sleep(0.02)
    assert hub.requests == []


async def test_what_was_learned_outlives_the_process(hub: LocalHub, tmp_path: Path) -> None:
    hub.serve(MODEL, CONFIG, INDEX)
    async with store(hub, tmp_path) as running:
        await known(running)
    asked = len(hub.requests)
    async with store(hub, tmp_path) as running:
        await known(running)
        found = running.facts.model(MODEL)
        assert found
        assert found.layers == 2
    assert len(hub.requests) == asked


@pytest.mark.parametrize("content", ["", "{}", "[]", "{", '{"model": {"id": 1}, "checkpoint": {}}', "\x00"])
async def test_a_broken_record_is_passed_over(hub: LocalHub, tmp_path: Path, content: str) -> None:
    (tmp_path / "acme%2Fsmall@main.json").write_text(content)
    hub.serve(MODEL, CONFIG)
    async with store(hub, tmp_path) as running:
        await known(running)
        assert running.facts.model(MODEL) is not None
    assert json.loads((tmp_path / "acme%2Fsmall@main.json").read_text())["model"]["layers"] == 2


async def test_a_folder_that_cannot_be_written_is_no_failure(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hub.serve(MODEL, CONFIG)
    async with store(hub, tmp_path / "file" / "cache") as running:
        await known(running)
        assert running.facts.model(MODEL) is not None


@pytest.mark.parametrize("key", ["text_config", "model_type"])
async def test_a_config_that_is_nested_deeper_than_python_walks_is_refused(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """From CPython 3.12 on json reads thousands of levels."""
    deep: object = 1
    for _ in range(5000):
        deep = {key: deep}
    hub.serve(MODEL, CONFIG)
    monkeypatch.setattr(client, "describe", lambda model_id, _, *rest: describe(model_id, deep, *rest))
    answer = await ask(hub)
    assert answer.result is HubResult.UNSUITABLE
    assert "config.json" in answer.message


async def test_a_fault_of_ours_with_one_repository_ends_no_inquiry_of_others(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.serve("acme/odd", CONFIG)
    hub.serve("acme/odder", CONFIG)
    hub.serve(MODEL, CONFIG)

    def odd(model_id: str, *rest: Any) -> Described:
        if model_id.startswith("acme/odd"):
            raise ZeroDivisionError("odd")
        return describe(model_id, *rest)

    monkeypatch.setattr(client, "describe", odd)
    async with store(hub) as running:
        running.facts.model("acme/odd")
        running.facts.model("acme/odder")
        await known(running)
        assert "its files cannot be read: ZeroDivisionError" in (running.facts.unknown("acme/odd") or "")
    assert "acme/odd at main: a fault of ours" in caplog.text


async def test_the_number_of_models_remembered_as_unknown_is_bounded(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aim_engine.hub.store._MOST_UNKNOWN", 3)
    facts = HubFacts(HubSettings(hub.url, 1.0, 1), lambda _: None)
    for i in range(50):
        assert facts.model(f"acme/m{i}") is None
    assert len(facts._open) == 3


async def test_names_that_nobody_has_do_not_keep_the_hub_from_being_asked_for_others(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aim_engine.hub.store._MOST_UNKNOWN", 3)
    hub.serve(MODEL, CONFIG)
    async with store(hub) as running:
        for number in range(3):
            running.facts.model(f"acme/none-{number}")
        await until(lambda: len(running.results) == 3, "three answers")
        await known(running)
        assert len(running.facts._open) <= 3


@pytest.mark.parametrize("before", [0, 65_000, 65_500, 65_530, 200_000])
async def test_the_size_is_found_wherever_it_stands_in_the_index(hub: LocalHub, before: int) -> None:
    hub.serve(
        MODEL, CONFIG, {"weight_map": {"a" * before: "b"}, "metadata": {"x": 1, "total_size": 123_456.0}}
    )
    answer = await ask(hub)
    assert answer.described
    assert answer.described.checkpoint.bytes == 123_456


async def test_a_large_index_fills_no_memory(hub: LocalHub) -> None:
    """Parsed as a whole it took thirty times its size: enough for a tenant to end the operator again and again."""
    hub.serve(MODEL, CONFIG, {"weight_map": [{}] * 2**20, "metadata": {"total_size": 123_456}})
    tracemalloc.start()
    try:
        answer = await ask(hub)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.described
    assert answer.described.checkpoint.bytes == 123_456
    assert peak < 16 * 2**20


def test_limits_leave_room_for_the_largest_models() -> None:
    assert client.MAX_INDEX_BYTES >= 32 * 2**20
    assert client.MAX_CONFIG_BYTES >= 2**20


def test_fit_asks_the_hub_when_told_to(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.serve("acme/eight", decoder(32, 4096, 32, 8, 14336, 128256, 131072))
    assert main(["fit", "--model", "acme/eight", "--gpu", "MI300X"]) == 0
    assert re.search(r"verdict +Unknown.*ask the Hub with --hub", capsys.readouterr().out, re.DOTALL)
    assert hub.requests == []
    assert main(["fit", "--model", "acme/eight", "--gpu", "MI300X", "--hub"]) == 0
    assert "config.json of acme/eight" in capsys.readouterr().out
    hub.behave("acme/gated", status(401))
    assert main(["fit", "--model", "acme/gated", "--gpu", "MI300X", "--hub"]) == 0
    told = capsys.readouterr()
    assert "facts of acme/gated stay unknown: the repository is gated" in told.err
    assert "the Hub does not tell either" in told.out


def test_a_snapshot_may_hold_what_the_hub_says(hub: LocalHub, tmp_path: Path) -> None:
    hub.serve(MODEL, CONFIG, INDEX)
    facts = ask_hub([MODEL, "Qwen/Qwen3-32B", "None"], HubConfig(endpoint=hub.url))
    path = tmp_path / "s.yaml"
    path.write_text("".join(write_snapshot([], OperatorConfig(), facts, [Place(MODEL)], TAKEN, "0")))
    known = read_snapshot(path, 0.0).facts.model(MODEL)
    assert known
    assert known.layers == 2
    assert hub.asked_for("Qwen/Qwen3-32B") == 0

"""The Hub is asked as the environment says: through its proxies, past them where it names exceptions, and not at all offline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from aim_engine.cli import main
from aim_engine.cli.hub_facts import ask_hub
from aim_engine.hub.client import HubResult, inquire
from aim_engine.hub.environment import endpoint, session
from aim_engine.reconcile.config import HubConfig
from aim_engine.reconcile.hub import hub_settings
from testbed.hub import LocalHub
from unit.hub_world import CONFIG, INDEX, MODEL, known, store
from unit.model_configs import decoder

ELSEWHERE = "http://hub.example.invalid"
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        running.serve(MODEL, CONFIG, INDEX)
        running.serve("acme/eight", decoder(32, 4096, 32, 8, 14336, 128256, 131072))
        yield running


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
async def test_the_store_asks_through_the_proxy(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The local Hub plays the proxy: it is asked for another host's files."""
    monkeypatch.setenv(name, hub.url)
    async with store(hub, endpoint=ELSEWHERE) as running:
        await known(running)
        assert running.facts.model(MODEL) is not None
    assert "hub.example.invalid" in hub.headers[0]["Host"]


def test_the_command_line_asks_through_the_proxy(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setenv("HF_ENDPOINT", ELSEWHERE)
    assert main(["fit", "--model", "acme/eight", "--gpu", "MI300X", "--hub"]) == 0
    assert hub.asked_for("acme/eight") == 2


@pytest.mark.parametrize(
    ("exceptions", "result"), [("127.0.0.1", HubResult.FOUND), ("", HubResult.UNREACHABLE)]
)
async def test_hosts_of_no_proxy_are_asked_directly(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, exceptions: str, result: HubResult
) -> None:
    monkeypatch.setenv("http_proxy", NOBODY)
    monkeypatch.setenv("no_proxy", exceptions)
    async with session() as client:
        assert (await inquire(client, hub.url, MODEL, "main", 60)).result is result


async def test_https_goes_through_a_tunnel_of_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readline()).decode().strip())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with session() as client:
            answer = await inquire(client, "https://hub.example.invalid", MODEL, "main", 60)
    assert answer.result is HubResult.UNREACHABLE
    assert lines == ["CONNECT hub.example.invalid:443 HTTP/1.1"]


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_nobody_asks(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert main(["fit", "--model", "acme/eight", "--gpu", "MI300X", "--hub"]) == 0
    told = capsys.readouterr()
    assert "the Hub is not asked about acme/eight: HF_HUB_OFFLINE is set; unset it to ask" in told.err
    assert "Unknown" in told.out
    assert hub_settings(HubConfig(endpoint=hub.url)) is None
    assert hub.requests == []


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_a_value_that_is_not_true_is_not_offline(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert ask_hub([MODEL], HubConfig(endpoint=hub.url)).model(MODEL) is not None
    assert hub_settings(HubConfig()) is not None


def test_an_air_gapped_configuration_holds_for_the_command_line_too(
    hub: LocalHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask_hub([MODEL], HubConfig(enabled=False, endpoint=hub.url)).model(MODEL) is None
    assert "hub.enabled is false in the operator's configuration" in capsys.readouterr().err
    assert hub.requests == []


def test_the_configured_endpoint_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint(None) == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", ELSEWHERE)
    assert endpoint(None) == ELSEWHERE
    assert endpoint(NOBODY) == NOBODY

"""A running operator learns of a model from a Hub on 127.0.0.1, and serves it without a recipe; with the Hub off it asks nobody."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from aim_engine.cli import main
from e2e.support import Json, Tenant, message
from testbed.hub import LocalHub, status
from testbed.plane import ControlPlane
from testbed.product import Operator, install
from unit.model_configs import decoder

MODEL = "acme/small-8b"
CONFIG = decoder(32, 4096, 32, 8, 14336, 128256, 131072)
GATED = "acme/gated"


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        running.serve(MODEL, CONFIG, {"metadata": {"total_size": 16_060_000_000}})
        running.behave(GATED, status(401))
        yield running


@pytest.fixture(scope="module")
def own_plane() -> Iterator[ControlPlane]:
    with ControlPlane.start() as running:
        install(running)
        yield running


def settle_in(plane: ControlPlane, operator: Operator) -> Tenant:
    name = f"hub-{uuid.uuid4().hex[:8]}"
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return Tenant(plane, operator, name)


def explained(
    plane: ControlPlane,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    namespace: str,
) -> tuple[int, Json]:
    """What the command line says of a deployment of the live cluster, asking no Hub."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    capsys.readouterr()
    code = main(["explain", name, "-n", namespace, "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_an_unknown_model_is_asked_for_and_served_by_a_generated_configuration(
    own_plane: ControlPlane,
    hub: LocalHub,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Operator.start(
        own_plane, name="asking", hub={"enabled": True, "endpoint": hub.url, "timeoutSeconds": 60}
    ) as operator:
        tenant = settle_in(own_plane, operator)
        tenant.corner(gpus=8)
        tenant.deploy("app", model=MODEL)
        obj = tenant.wait(
            "to be given a recipe", lambda obj: bool(obj.get("status", {}).get("recipe")), "app"
        )
        assert obj["status"]["recipe"]["name"] == "generated/small-8b-mi300x-1x-bf16"
        assert obj["status"]["recipe"]["tier"] == "Default"
        assert "room for" in message(obj, "RecipeSelected"), "its memory was computed"

        tenant.deploy("gated", model=GATED)
        told = tenant.wait(
            "to be told why", lambda obj: "gated, private" in message(obj, "RecipeSelected"), "gated"
        )
        assert "write a recipe for it" in message(told, "RecipeSelected")
        code, told = explained(own_plane, capsys, monkeypatch, "app", tenant.namespace)
        assert (code, told["chosen"]["recipe"]) == (0, "generated/small-8b-mi300x-1x-bf16")
        assert told["chosen"]["kvCacheTokens"], "the record of the decision holds the facts it was made on"
        assert hub.asked_for(MODEL) == 2
        assert hub.asked_for(GATED) == 1
        assert operator.metric('aim_hub_requests_total{result="found"}') == 1
        assert operator.metric('aim_hub_requests_total{result="gated"}') == 1
        tenant.leave()
        operator.stop()


def test_with_the_hub_off_nobody_is_asked(own_plane: ControlPlane, hub: LocalHub) -> None:
    before = len(hub.requests)
    with Operator.start(own_plane, name="offline", hub={"enabled": False, "endpoint": hub.url}) as operator:
        tenant = settle_in(own_plane, operator)
        tenant.corner(gpus=8)
        tenant.deploy("app", model=MODEL)
        obj = tenant.wait(
            "to be judged", lambda obj: "its size is unknown" in message(obj, "RecipeSelected"), "app"
        )
        assert not obj["status"].get("recipe")
        assert len(hub.requests) == before
        tenant.leave()
        operator.stop()

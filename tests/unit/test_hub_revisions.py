"""Facts belong to a revision: a commit for ever, a branch for a day, each kept and asked for by itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.api.recipe import AIMRecipe
from aim_engine.hub.records import Repository
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.world import build_world
from aim_engine.selection import Source, candidate, recipe_fit
from testbed.hub import COMMIT, LocalHub, status
from unit.cli_world import deployment, node, recipe
from unit.hub_world import CONFIG, INDEX, MODEL, Running, known, store, until
from unit.model_configs import decoder
from unit.test_catalogue_rules import recipe as recipe_file

TALL = decoder(9, 64, 4, 2, 128, 1000, 2048)
NEXT = "f" * 40


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        yield running


def layers(running: Running, revision: str = "main") -> int | None:
    found = running.facts.model(MODEL, revision)
    return found.layers if found else None


async def grown(running: Running, wanted: int, revision: str = "main") -> None:
    """Wait until the facts have so many layers, bounded."""
    await until(lambda: layers(running, revision) == wanted, f"{wanted} layers of {MODEL} at {revision}")


async def test_each_revision_is_asked_for_and_known_by_itself(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG, INDEX)
    hub.serve(MODEL, TALL, revision="v2", commit=NEXT)
    async with store(hub) as running:
        await known(running)
        assert layers(running) == 2
        assert layers(running, "v2") is None
        assert running.facts.unknown(MODEL, "v2") == "the Hub is being asked"
        await grown(running, 9, "v2")
        assert layers(running) == 2
        pinned = running.facts.at("v2", MODEL)
        found = pinned.model(MODEL)
        assert found
        assert (found.layers, found.source) == (9, f"config.json of {MODEL} at {NEXT[:12]}")
    assert f"/{MODEL}/resolve/v2/config.json" in hub.requests


async def test_only_the_repository_that_is_named_is_pinned(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG)
    hub.serve("acme/other", TALL)
    async with store(hub) as running:
        pinned = running.facts.at("v2", "acme/other")
        pinned.model(MODEL)
        pinned.model("acme/other")
        await known(running)
        await known(running, "acme/other", "v2")
        assert pinned.at(None, MODEL) is pinned
    assert f"/{MODEL}/resolve/main/config.json" in hub.requests
    assert "/acme/other/resolve/v2/config.json" in hub.requests


async def test_the_index_is_that_of_the_commit_whose_configuration_was_read(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG, INDEX, revision="main", commit=NEXT)
    async with store(hub) as running:
        await known(running)
    assert hub.requests == [
        f"/{MODEL}/resolve/main/config.json",
        f"/{MODEL}/resolve/{NEXT}/model.safetensors.index.json",
    ]


async def test_a_branch_is_asked_for_again_when_its_answer_is_old_and_what_changed_is_told(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aim_engine.hub.store.FRESH_SECONDS", 0.05)
    hub.serve(MODEL, CONFIG)
    async with store(hub) as running:
        await known(running)
        hub.serve(MODEL, TALL)
        assert layers(running) == 2, "what is known is used until the answer is there"
        await grown(running, 9)
        assert running.learned == [MODEL, MODEL]


async def test_a_branch_that_says_the_same_again_is_no_news(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aim_engine.hub.store.FRESH_SECONDS", 0.02)
    hub.serve(MODEL, CONFIG)
    async with store(hub) as running:
        await known(running)
        await until(lambda: layers(running) and len(running.results) > 2, "it to be asked again and again")
        assert running.learned == [MODEL]


async def test_a_commit_is_never_asked_for_again(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.hub.store.FRESH_SECONDS", 0.0)
    hub.serve(MODEL, CONFIG)
    async with store(hub) as running:
        await known(running, revision=COMMIT)
        for _ in range(20):
            assert layers(running, COMMIT) == 2
            await asyncio.sleep(0.005)
        assert running.results == ["found"]
    assert Repository(MODEL, COMMIT).is_fixed
    assert not Repository(MODEL).is_fixed


async def test_a_hub_that_fails_later_takes_nothing_away(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aim_engine.hub.store.FRESH_SECONDS", 0.0)
    hub.serve(MODEL, CONFIG)
    async with store(hub) as running:
        await known(running)
        hub.behave(MODEL, status(401))
        await until(lambda: layers(running) == 2 and "gated" in running.results, "it to be asked again")
        for _ in range(20):
            assert layers(running) == 2
            await asyncio.sleep(0.005)
        assert running.results == ["found", "gated"]
        assert running.facts.unknown(MODEL) is None
        assert running.learned == [MODEL]


async def test_commit_revision_and_time_are_kept_in_the_record(hub: LocalHub, tmp_path: Path) -> None:
    hub.serve(MODEL, CONFIG, revision="refs/pr/1", commit=NEXT)
    async with store(hub, tmp_path) as running:
        await known(running, revision="refs/pr/1")
    content = json.loads((tmp_path / "acme%2Fsmall@refs%2Fpr%2F1.json").read_text())
    assert (content["revision"], content["commit"]) == ("refs/pr/1", NEXT)
    assert abs(content["askedAt"] - time.time()) < 60


def age(folder: Path, seconds: float) -> None:
    """Make the record older."""
    (path,) = folder.glob("*.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "askedAt": content["askedAt"] - seconds}))


@pytest.mark.parametrize(("old", "asked"), [(3600.0, False), (90_000.0, True)])
async def test_an_old_record_is_used_at_once_and_asked_for_again(
    hub: LocalHub, tmp_path: Path, old: float, asked: bool
) -> None:
    hub.serve(MODEL, CONFIG)
    async with store(hub, tmp_path) as running:
        await known(running)
    age(tmp_path, old)
    hub.serve(MODEL, TALL)
    requests = len(hub.requests)
    async with store(hub, tmp_path) as running:
        await known(running)
        assert running.learned == [MODEL]
        if asked:
            await grown(running, 9)
        else:
            assert layers(running) == 2
            await asyncio.sleep(0.05)
            assert len(hub.requests) == requests


@pytest.mark.parametrize(("name", "value"), [("__version__", "999.0.0"), ("_RULES", 999)])
async def test_a_record_of_another_version_of_the_operator_or_by_other_rules_is_asked_for_anew(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    hub.serve(MODEL, CONFIG)
    async with store(hub, tmp_path) as running:
        await known(running)
    monkeypatch.setattr(f"aim_engine.hub.records.{name}", value)
    hub.serve(MODEL, TALL)
    async with store(hub, tmp_path) as running:
        await grown(running, 9)


@pytest.mark.parametrize("revision", ["../../etc", "", "-x", "a b", "x" * 300, "a\nb"])
async def test_what_is_no_revision_never_becomes_an_address(hub: LocalHub, revision: str) -> None:
    async with store(hub) as running:
        assert running.facts.model(MODEL, revision) is None
        await asyncio.sleep(0.02)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("of_recipe", "of_deployment", "asked"),
    [
        (None, None, {"main"}),
        ("v1", None, {"v1", "main"}),
        (None, "v2", {"v2"}),
        ("v1", "v2", {"v2"}),
    ],
)
async def test_a_decision_asks_for_the_revision_that_will_be_loaded(
    hub: LocalHub, of_recipe: str | None, of_deployment: str | None, asked: set[str]
) -> None:
    """The deployment's, else the recipe's, else the main branch, as a generated configuration would load."""
    hub.serve(MODEL, CONFIG)
    spec: dict[str, Any] = {"revision": of_recipe} if of_recipe else {}
    model = {"id": MODEL} | ({"revision": of_deployment} if of_deployment else {})
    objects = [node("gpu-1"), recipe("small", model=MODEL, **spec), deployment("chat", model=model)]
    async with store(hub) as running:
        world = build_world(
            ({**obj, "kind": kind} for kind, obj in objects), OperatorConfig(), running.facts, 0.0
        )
        world.explain(("team-a", "chat"))
        await known(running, revision=sorted(asked)[-1], times=len(asked))
        document, _ = world.explain(("team-a", "chat"))
        assert document["chosen"] is not None
    assert {path.split("/")[4] for path in hub.requests if path.endswith("config.json")} == asked


async def test_a_recipe_is_judged_by_its_own_revision(hub: LocalHub) -> None:
    hub.serve(MODEL, CONFIG)
    made = AIMRecipe.strict_load(recipe_file(("spec.modelID", MODEL), ("spec.revision", "v3")))
    async with store(hub) as running:
        recipe_fit(candidate("r", Source.CATALOGUE, made.spec), running.facts)
        await known(running, revision="v3")
    assert {path.split("/")[4] for path in hub.requests if path.endswith("config.json")} == {"v3"}

"""What the operator learned from the Hub is known to the command line too: from the records of decisions, or asked with --hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.catalog.models import ModelFacts
from aim_engine.cli.facts import facts_of_records, places_of_all, places_of_models
from aim_engine.cli.files import Found
from aim_engine.cli.inquiry import ask
from aim_engine.cli.snapshot_file import read_snapshot, write_snapshot
from aim_engine.reconcile.config import HubConfig, OperatorConfig
from aim_engine.reconcile.facts import (
    NO_FACTS,
    Place,
    RecordedFacts,
    beyond_catalogue,
    collect,
    read_facts,
    reasons_of,
    rows_of,
)
from aim_engine.reconcile.revision import read_record, revision_name
from aim_engine.selection import CatalogueFacts
from testbed.hub import LocalHub, status
from unit.cli_world import TAKEN, Json, Terminal, config_map, deployment, node, recipe, snapshot
from unit.model_configs import decoder
from unit.operator_world import KEY, Objects, OperatorPlanner, serving
from unit.selection_world import QWEN, UNHURRIED

MODEL, QUANTISED, GATED = "acme/small-8b", "acme/small-8b-fp8", "acme/gated"
CONFIG = decoder(32, 4096, 32, 8, 14336, 128256, 131072)
FP8 = {**CONFIG, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
INDEX = {"metadata": {"total_size": 16_060_000_000}}
NODE = node("gpu-1")
FOR_FP8 = recipe("quantised", model=MODEL, source=QUANTISED, precision="fp8", gpus=8)
"""Takes the whole node: what is generated serves while somebody else has a GPU."""


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as running:
        running.serve(MODEL, CONFIG, INDEX)
        running.serve(QUANTISED, FP8, {"metadata": {"total_size": 9_000_000_000}})
        running.behave(GATED, status(401))
        yield running


@pytest.fixture
def run(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return run


def learned(hub: LocalHub, *objects: tuple[str, Json], key: tuple[str, str] = KEY) -> OperatorPlanner:
    """An operator that looked at a deployment and got the Hub's answers, and looked again as long as there were news."""

    async def look() -> OperatorPlanner:
        operator = OperatorPlanner(objects, hub=HubConfig(endpoint=hub.url))
        for _ in range(3):
            operator.document(key)
            await operator.learn()
        return operator

    return asyncio.run(look())


def asking(id_: str = MODEL, name: str = "chat", **spec: Any) -> tuple[str, Json]:
    return deployment(name, **{"model": {"id": id_}, **spec})


def test_a_record_holds_the_facts_that_the_catalogue_does_not_have(hub: LocalHub) -> None:
    operator = learned(hub, NODE, FOR_FP8, asking())
    revision = operator.plan().revision
    assert revision is not None
    facts = read_facts(revision.data()["facts"])
    assert {MODEL, QUANTISED} == set(facts.checkpoints)
    assert facts.models[MODEL] == operator.planner.facts.model(MODEL)
    without = replace(revision, facts={})
    assert revision_name("chat", "u", revision) == revision_name("chat", "u", without), (
        "names, and so pods, stay"
    )
    assert revision.manifests == without.manifests
    known = OperatorPlanner((NODE, recipe("small"), asking(QWEN))).plan().revision
    assert known is not None
    assert "facts" not in known.data()


def test_records_of_former_operators_have_no_facts_and_are_read(hub: LocalHub) -> None:
    operator = learned(hub, NODE, asking())
    _, (_, record), *_ = serving(operator.plan(), asking())
    del record["data"]["facts"]
    assert read_record(record, "u").revision().facts == {}


@pytest.mark.parametrize("policy", ["Pinned", "Automatic"])
def test_of_a_model_that_only_the_hub_knows_both_say_the_same(
    hub: LocalHub, tmp_path: Path, run: Terminal, policy: str
) -> None:
    chat = asking(recipe={"updatePolicy": policy})
    first = learned(hub, NODE, chat)
    objects: Objects = (NODE, FOR_FP8, *serving(first.plan(), chat), asking(name="next"))
    places = places_of_all([{"kind": kind, **obj} for kind, obj in objects])
    facts = ask(places, NO_FACTS, HubConfig(endpoint=hub.url))
    path = tmp_path / "snapshot.yaml"
    path.write_text("".join(write_snapshot(objects, OperatorConfig(), facts, places, TAKEN, "0")))
    for name in ("chat", "next"):
        told = run("explain", name, "-n", "team-a", "--cluster", path, "-o", "json")
        assert told.out == learned(hub, *objects, key=("team-a", name)).document(("team-a", name))
        assert told.json["outcome"] == "Selected"
        assert told.json["chosen"]["kvCacheTokens"] is not None


def test_the_record_alone_is_enough_for_the_model_that_runs(
    hub: LocalHub, tmp_path: Path, run: Terminal
) -> None:
    chat = asking()
    operator = learned(hub, NODE, FOR_FP8, chat)
    objects: Objects = (NODE, FOR_FP8, *serving(operator.plan(), chat))
    again = learned(hub, *objects)
    before = len(hub.requests)
    ended = run("explain", "chat", "-n", "team-a", "--cluster", snapshot(tmp_path, *objects), "-o", "json")
    assert ended.out == again.document()
    assert len(hub.requests) == before, "the command line asked nobody"


def test_a_snapshot_says_why_nothing_is_known_in_the_operators_words(
    hub: LocalHub, tmp_path: Path, run: Terminal
) -> None:
    objects = (NODE, asking(GATED))
    operator = learned(hub, *objects)
    items = [{"kind": kind, **obj} for kind, obj in objects]
    facts = ask(places_of_all(items), NO_FACTS, HubConfig(endpoint=hub.url))
    path = tmp_path / "s.yaml"
    path.write_text(
        "".join(write_snapshot(objects, OperatorConfig(), facts, places_of_all(items), TAKEN, "0"))
    )
    capture = run("explain", "chat", "-n", "team-a", "--cluster", path, "-o", "json")
    assert capture.out == operator.document()
    assert "gated, private" in capture.json["message"]


@pytest.mark.parametrize(
    "words", [("select", MODEL), ("explain", "-f", "FILE"), ("render", "-f", "FILE"), ("diff", "-f", "FILE")]
)
def test_the_hub_is_asked_only_when_told_to(
    hub: LocalHub, tmp_path: Path, run: Terminal, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    app = tmp_path / "app.yaml"
    app.write_text(yaml.safe_dump(asking()[1]))
    cluster = snapshot(tmp_path, NODE, recipe("small"))
    typed = [str(app) if word == "FILE" else word for word in words]
    ended = run(*typed, "--cluster", cluster)
    assert (ended.code, hub.requests) == (3, [])
    assert f"nothing is known of {MODEL} here; --hub asks the Hub" in ended.err
    ended = run(*typed, "--cluster", cluster, "--hub")
    assert ended.code == 0, ended.err
    assert "small-8b" in ended.out
    assert hub.asked_for(MODEL) == 2
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = run(*typed, "--cluster", cluster, "--hub")
    assert (ended.code, "the Hub is not asked" in ended.err) == (3, True)


def test_what_stays_unknown_is_told_with_the_reason(
    hub: LocalHub, tmp_path: Path, run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    ended = run("select", GATED, "--cluster", snapshot(tmp_path, NODE), "--hub")
    assert ended.code == 3
    assert f"facts of {GATED} stay unknown: the repository is gated" in ended.err
    assert "its size is unknown: the repository is gated" in ended.out
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    ended = run("select", MODEL, "--cluster", snapshot(tmp_path, NODE), "--hub")
    assert (ended.code, "could not be asked: 127.0.0.1:9 cannot be reached: " in ended.err) == (3, True)
    assert ("Error" in ended.err, "ssl:" in ended.err) == (False, False)


def test_models_of_recipes_and_configmaps_are_named_with_their_weights_and_revisions() -> None:
    text = "recipe_id: mine\nhuggingface_id: acme/own\nhardware: MI300X\ngpu_count: 1\nprecision: bf16\n"
    objects = [
        {"kind": kind, **obj}
        for kind, obj in (
            asking(MODEL), asking(MODEL, "pinned", model={"id": MODEL, "revision": "v2"}), recipe("q", model=MODEL, source=QUANTISED, revision="v1"),
            asking("x", "by-name", model={}, recipe={"name": "other"}), recipe("other", model="acme/other"),
            asking("x", "by-map", model={}, recipe={"configMap": "mine"}), config_map("mine", text), recipe("idle", model="acme/idle"),
            recipe("broken", precision="fp5"), config_map("bad", "["),
        )
    ]  # fmt: skip
    wanted = {
        Place(MODEL), Place(MODEL, "v2"), Place(QUANTISED, "v1"), Place(QUANTISED, "v2"), Place("acme/other"), Place("acme/own"),
    }  # fmt: skip
    assert places_of_models(objects) == wanted
    assert places_of_models(objects, "acme/idle") == {Place("acme/idle")}
    assert places_of_all(objects) == {*wanted, Place("acme/idle")}


_names = st.sampled_from(["a/b", "a/c", QWEN])
_revisions = st.sampled_from(["main", "v1", "v2"])
_places = st.builds(Place, _names, _revisions)
_base: Any = CatalogueFacts().model(QWEN)
_models = st.builds(lambda name, layers: replace(_base, id=name, layers=layers), _names, st.integers(1, 99))


class Told:
    """Facts of a Hub that says something else of each revision."""

    def __init__(self, models: dict[Place, ModelFacts], revisions: dict[str, str] | None = None) -> None:
        self.models, self.revisions = models, revisions or {}

    def model(self, model_id: str) -> ModelFacts | None:
        return self.models.get(Place(model_id, self.revisions.get(model_id, "main")))

    def checkpoint(self, source_id: str) -> None:  # noqa: ARG002
        return None

    def unknown(self, model_id: str) -> str | None:
        return None if self.model(model_id) else f"no {model_id} at {self.revisions.get(model_id, 'main')}"

    def at(self, revision: str | None, repository: str | None) -> Told:
        return Told(self.models, {**self.revisions, str(repository): str(revision)}) if revision else self


@settings(UNHURRIED)
@given(st.dictionaries(_places, _models, max_size=4), st.sets(_places, min_size=1))
def test_what_is_written_down_reads_back_and_answers_for_each_revision(
    models: dict[Place, ModelFacts], places: set[Place]
) -> None:
    hub = Told({where: replace(facts, id=where.name) for where, facts in models.items()})
    facts = collect(places, hub)
    rows = json.loads(json.dumps({**rows_of(facts), "unknownFacts": reasons_of(facts)}))
    assert read_facts(rows) == facts
    for where in places:
        mine = facts.at(None if where.revision == "main" else where.revision, where.name)
        theirs = hub.at(where.revision, where.name)
        if theirs.model(where.name) is not None:
            assert mine.model(where.name) == theirs.model(where.name)
        elif Place(where.name) not in places and where.name != QWEN:
            assert mine.unknown(where.name) == theirs.unknown(where.name)
    assert QWEN not in beyond_catalogue(facts).models


def test_what_the_snapshot_says_goes_before_the_catalogue_and_the_catalogue_before_records(
    tmp_path: Path,
) -> None:
    wrong = replace(_base, layers=1)
    record = {
        "kind": "ControllerRevision",
        "metadata": {"name": "r"},
        "data": {"facts": rows_of(RecordedFacts({QWEN: wrong}, {}))},
    }
    assert facts_of_records([Found(record, "r")]) == NO_FACTS
    path = tmp_path / "s.yaml"
    path.write_text(
        "".join(
            write_snapshot([], OperatorConfig(), RecordedFacts({QWEN: wrong}, {}), [Place(QWEN)], TAKEN, "0")
        )
    )
    assert read_snapshot(path, 0.0).facts.model(QWEN) == wrong

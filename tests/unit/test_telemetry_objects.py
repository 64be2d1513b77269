"""Series of objects as the operator shows them: what each object has, when it vanishes, and what a scrape costs in counts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aim_engine.inventory import Tracker
from aim_engine.inventory.totals import GPUTotals
from aim_engine.reconcile import series as module
from aim_engine.reconcile import turns
from aim_engine.reconcile.cache import Cache, read_deployment, read_stored_recipe
from aim_engine.reconcile.revision import Record
from aim_engine.reconcile.series import ObjectSeries, objective_bound, record_facts
from aim_engine.reconcile.status import time_to_ready
from aim_engine.selection import Source
from aim_engine.telemetry import families
from aim_engine.telemetry.families import FAMILIES
from aim_engine.telemetry.store import number
from testbed.vllm_metrics import TTFT_BOUNDS
from unit.selection_world import node_object, pod, recipe
from unit.series_world import Json, aim_deployment, many, measured, record_of, series

KEY = ("team-a", "chat")


def page(shown: ObjectSeries) -> str:
    store = asyncio.run(shown.refresh())
    return b"".join(store.parts()).decode()


def samples(shown: ObjectSeries) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Labels beside those of the object, and value, by metric."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page(shown)):
        for sample in family.samples:
            rest = {
                key: value
                for key, value in sample.labels.items()
                if (key, value) not in (("namespace", "team-a"), ("aimdeployment", "chat"))
            }
            found.setdefault(sample.name, []).append((rest, sample.value))
    return found


def world(obj: Json | None = None, record: Record | None = None) -> ObjectSeries:
    """A cache with one deployment and the record of its decision."""
    stored = read_deployment(obj or aim_deployment("chat"))
    cache = Cache()
    cache.deployments[stored.namespace, stored.name] = stored
    found = record or record_of(stored.uid)
    cache.revisions[stored.uid][found.name] = found
    return series(cache, Tracker())


def test_a_deployment_that_serves_shows_all_that_is_known_of_it() -> None:
    assert samples(world()) == {
        "aim_deployment_info": [
            (
                {
                    "model": "Qwen/Qwen3-32B", "aimrecipe": "qwen3-32b-mi300x-1x-fp8", "gpu_type": "MI300X", "gpu_count": "1",
                    "precision": "fp8", "backend": "vllm", "tier": "Primary",
                },
                1,
            )
        ],
        "aim_deployment_status_condition": [
            ({"condition": kind, "status": "true", "reason": "Serving"}, 1)
            for kind in ("Ready", "RecipeSelected", "PrerequisitesMet", "Available", "PerformanceOnTarget")
        ],
        "aim_deployment_spec_replicas": [({}, 2)],
        "aim_deployment_status_replicas_ready": [({}, 2)],
        "aim_deployment_gpus_requested": [({"gpu_type": "MI300X"}, 2)],
        "aim_deployment_metadata_generation": [({}, 3)],
        "aim_deployment_status_observed_generation": [({}, 3)],
        "aim_deployment_created_timestamp_seconds": [({}, 1772366400)],
        "aim_deployment_ready_timestamp_seconds": [({}, 1772366700)],
        "aim_deployment_recipe_outdated": [({}, 0)],
        "aim_deployment_expected_tokens_per_second": [({}, 3000)],
        "aim_deployment_target_tokens_per_second": [({}, 500)],
        "aim_deployment_target_time_to_first_token_seconds": [({}, 0.4)],
        "aim_deployment_ttft_objective_info": [({"threshold": "0.5"}, 1)],
        "aim_deployment_max_model_len": [({}, 16384)],
        "aim_deployment_recommendation_info": [({"aimrecipe": "qwen3-32b-mi300x-2x-fp8", "gain_kind": ""}, 1)],
    }  # fmt: skip


def with_status(**status: Any) -> Json:
    obj = aim_deployment("chat")
    return {**obj, "status": {**obj["status"], **status}}


def conditions(**told: tuple[str, str]) -> list[Json]:
    return [
        {"type": kind, "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-03-01T12:05:00Z"}
        for kind, (status, reason) in told.items()
    ]  # fmt: skip


def test_only_the_present_status_of_a_condition_has_a_series() -> None:
    found = samples(world(with_status(conditions=conditions(Ready=("False", "Starting"), RecipeSelected=("Unknown", "Reconciling")))))  # fmt: skip
    assert found["aim_deployment_status_condition"] == [
        ({"condition": "Ready", "status": "false", "reason": "Starting"}, 1),
        ({"condition": "RecipeSelected", "status": "unknown", "reason": "Reconciling"}, 1),
    ]
    assert "aim_deployment_ready_timestamp_seconds" not in found
    assert "aim_deployment_recipe_outdated" not in found


def test_a_recipe_that_was_edited_is_outdated() -> None:
    found = samples(world(with_status(conditions=conditions(RecipeSelected=("True", "RecipeDrifted")))))
    assert found["aim_deployment_recipe_outdated"] == [({}, 1)]


def test_a_deployment_without_a_recipe_shows_what_it_asks_for_and_expects_nothing() -> None:
    obj = with_status(recipe=None, recommendation=None, readyReplicas=0)
    found = samples(world(obj))
    ((info, _),) = found["aim_deployment_info"]
    assert info == {
        "model": "Qwen/Qwen3-32B", "aimrecipe": "", "gpu_type": "", "gpu_count": "", "precision": "", "backend": "", "tier": "",
    }  # fmt: skip
    assert not {
        name for name in found if re.search("gpus|expected|max_model_len|objective|recommendation", name)
    }
    assert found["aim_deployment_spec_replicas"] == [({}, 2)]


@pytest.mark.parametrize("status", [{}, {"conditions": None, "recipe": {}}])
def test_a_new_object_without_a_status_is_shown(status: Mapping[str, Any]) -> None:
    found = samples(world({**aim_deployment("chat"), "status": status}))
    assert found["aim_deployment_status_observed_generation"] == [({}, 0)]
    assert found["aim_deployment_metadata_generation"] == [({}, 3)]


def test_a_suspended_deployment_wants_no_replicas_and_expects_what_its_ready_ones_give() -> None:
    found = samples(world({**aim_deployment("chat", suspend=True), "status": with_status(readyReplicas=1)["status"]}))  # fmt: skip
    assert found["aim_deployment_spec_replicas"] == [({}, 0)]
    assert found["aim_deployment_gpus_requested"] == [({"gpu_type": "MI300X"}, 0)]
    assert found["aim_deployment_expected_tokens_per_second"] == [({}, 1500)]


def test_an_object_that_cannot_be_read_is_still_shown() -> None:
    found = samples(world({**aim_deployment("chat"), "spec": {"replicas": "many"}}))
    assert found["aim_deployment_status_replicas_ready"] == [({}, 2)]


@pytest.mark.parametrize("percent", [25, 300])
def test_a_recommendation_tells_its_gain(percent: int) -> None:
    recommended = {
        "recipe": "r",
        "hash": "h",
        "message": "m",
        "gainKind": "Throughput",
        "gainPercent": percent,
    }
    found = samples(world(with_status(recommendation=recommended)))
    assert found["aim_deployment_recommendation_info"] == [({"aimrecipe": "r", "gain_kind": "Throughput"}, 1)]
    assert found["aim_deployment_recommendation_gain_ratio"] == [({}, 1 + percent / 100)]


@pytest.mark.parametrize(
    ("seconds", "backend", "bound"),
    [(0.4, "vllm", 0.5), (0.5, "vllm", 0.5), (0.0001, "vllm", 0.001), (1, "vllm", 1.0), (0.5, "sglang", 0.6), (0.3, "aim", 0.5),
     (3600, "vllm", None), (0.5, "unknown", None), (0.5, None, None)],
)  # fmt: skip
def test_an_objective_is_the_next_bucket_bound_of_the_engine(seconds: float, backend: str | None, bound: float | None) -> None:  # fmt: skip
    assert objective_bound(seconds, backend) == bound


def test_the_bounds_are_those_the_engine_serves_written_as_it_writes_them() -> None:
    from aim_engine.engines.backends import vllm

    assert vllm.FIRST_TOKEN_BOUNDS == TTFT_BOUNDS
    assert [number(bound) for bound in (0.25, 1.0, 10.0)] == ["0.25", "1.0", "10.0"]


def test_a_record_that_cannot_be_read_promises_nothing() -> None:
    good = record_of("uid")
    for body in (b"", b"{}", b"[]", b'{"recipe":{"spec":{}},"manifests":[]}', good.body[:-5]):
        assert record_facts(replace(good, body=body)) == module.RecordFacts()


@pytest.mark.parametrize(
    ("figures", "promised"),
    [
        ([(3816, "0.11.1"), (900, "0.32.0"), (1200, "0.32.1")], 1200),
        ([(3816, "0.11.1")], None),
    ],
)
def test_a_figure_of_another_engine_line_is_no_expectation(
    figures: list[tuple[int, str]], promised: int | None
) -> None:
    """Else AIMEngineLowThroughput would fire where PerformanceOnTarget says that there is nothing to compare with."""
    entries = [
        {"tokensPerSecond": rate, "provenance": {"kind": "vendor", "source": "https://a.b/c", "engineVersion": version}}
        for rate, version in figures
    ]  # fmt: skip
    assert record_facts(record_of("uid", *entries)).tokens_per_second == promised


def test_amds_containers_take_their_context_from_the_environment() -> None:
    manifests = [
        {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [
            {"env": [{"name": "A"}, {"name": "AIM_ENGINE_ARGS", "value": '{"max-model-len": 4096}'}]}]}}}},
    ]  # fmt: skip
    assert module._context(manifests) == 4096


def test_recipes_of_the_catalogue_and_of_config_maps_are_shown() -> None:
    shown = world()
    obj = {
        "metadata": {"name": "q", "generation": 1},
        "spec": recipe("q", tokens=900, first_token=250).spec.wire(),
        "status": {"fits": 3, "usedBy": 1, "conditions": conditions(Valid=("True", "Valid"))},
    }
    shown.cache.recipes["q"] = read_stored_recipe(obj)
    shown.cache.recipes["broken"] = read_stored_recipe(
        {"metadata": {"name": "broken"}, "spec": {"hardware": 1}}
    )
    shown.cache.config_recipes[("team-a", "own")] = (recipe("configmap/own", origin=Source.CUSTOM, count=2),)
    found = samples(shown)
    identity = {
        "model": "Qwen/Qwen3-32B",
        "gpu_type": "MI300X",
        "precision": "bf16",
        "backend": "vllm",
        "maturity": "optimized",
    }
    told = {labels["aimrecipe"]: labels for labels, _ in found["aim_recipe_info"]}
    assert set(told) == {"q", "configmap/own"}
    assert {**identity, "maturity": told["q"]["maturity"]}.items() <= told["q"].items()
    assert (told["q"]["namespace"], told["q"]["source"]) == ("", "catalogue")
    assert ("namespace" in told["configmap/own"], told["configmap/own"]["source"]) == (False, "custom"), (
        "team-a"
    )
    assert found["aim_recipe_expected_tokens_per_second"] == [
        ({"namespace": "", "aimrecipe": "q", "gpu_count": "1"}, 900)
    ]
    assert found["aim_recipe_expected_time_to_first_token_seconds"][0][1] == 0.25
    assert found["aim_recipe_fits"] == [({"aimrecipe": "q"}, 3)]
    assert found["aim_recipe_used_by"] == [({"aimrecipe": "q"}, 1)]
    assert found["aim_recipe_status_condition"] == [({"aimrecipe": "q", "condition": "Valid", "status": "true"}, 1)]  # fmt: skip


def test_gpus_are_counted_by_who_holds_them() -> None:
    shown = world()
    tracker = shown.tracker
    cordoned = node_object("n3", gpus=8)
    cordoned["spec"] = {**cordoned.get("spec", {}), "unschedulable": True}
    tracker.replace_nodes([node_object("n1", gpus=8), node_object("n2", gpus=8), cordoned])
    tracker.replace_pods([pod("ours", 2, "n1", KEY), pod("theirs", 4, "n1"), pod("theirs-too", 1, "n3")])
    assert tracker.totals() == {"MI300X": GPUTotals(allocatable=24, ours=2, others=5, free=10)}
    found = samples(shown)
    assert found["aim_gpu_allocatable"] == [({"gpu_type": "MI300X"}, 24)]
    assert found["aim_gpu_used"] == [({"gpu_type": "MI300X", "by": "aim"}, 2), ({"gpu_type": "MI300X", "by": "other"}, 5)]  # fmt: skip
    assert found["aim_gpu_free"] == [({"gpu_type": "MI300X"}, 10)]
    tracker.replace_nodes([])
    assert "aim_gpu_allocatable" not in samples(shown)


def test_series_of_a_deleted_object_vanish_and_those_of_a_changed_one_change() -> None:
    cache, tracker = many(20, recipes=3)
    shown = series(cache, tracker)
    assert page(shown).count("aim_deployment_info{") == 20
    gone = next(iter(cache.deployments))
    del cache.deployments[gone]
    changed = next(iter(cache.deployments))
    cache.deployments[changed] = replace(
        cache.deployments[changed], status={**cache.deployments[changed].status, "readyReplicas": 1}
    )
    before = shown.store.rendered
    text = page(shown)
    assert shown.store.rendered - before == 1, "only what changed is written anew"
    assert gone[1] not in text
    assert (
        f'aim_deployment_status_replicas_ready{{namespace="{changed[0]}",aimdeployment="{changed[1]}"}} 1\n'
        in text
    )
    cache.recipes.clear()
    assert "aim_recipe_info{" not in page(shown)


def test_a_scrape_of_what_did_not_change_writes_nothing_anew_and_decodes_no_record() -> None:
    cache, tracker = many(200, recipes=50)
    shown = series(cache, tracker)
    first = page(shown)
    before = shown.store.rendered
    assert [page(shown) for _ in range(3)] == [first] * 3
    assert shown.store.rendered == before == 200 + 50 + 1


def test_a_changed_status_does_not_decode_the_record_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = world()
    page(shown)
    decoded: list[Record] = []
    monkeypatch.setattr(module, "record_facts", decoded.append)
    stored = shown.cache.deployments[KEY]
    shown.cache.deployments[KEY] = replace(stored, status={**stored.status, "readyReplicas": 1})
    assert "aim_deployment_expected_tokens_per_second" in page(shown)
    assert decoded == []


async def test_others_get_their_turn_while_many_objects_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, tracker = many(300, recipes=0)
    shown = series(cache, tracker)
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    count = 0

    async def other() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await shown.refresh()
    task.cancel()
    assert count >= 300


async def test_objects_may_come_and_go_while_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, tracker = many(300, recipes=0)
    shown = series(cache, tracker)
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)

    async def churn() -> None:
        for key in list(cache.deployments)[::3]:
            del cache.deployments[key]
            await asyncio.sleep(0)
        late = read_deployment(aim_deployment("late"))
        cache.deployments[late.namespace, late.name] = late

    task = asyncio.create_task(churn())
    await asyncio.gather(shown.refresh(), shown.refresh())
    await task
    await shown.refresh()
    assert set(shown.store.keys("deployments")) == set(cache.deployments)


def test_the_documented_number_of_series_holds() -> None:
    cache, tracker = many(100, recipes=20)
    shown = series(cache, tracker)
    measured(shown.store, cache)
    lines = [line for line in page(shown).splitlines() if not line.startswith("#")]
    deployments = [line for line in lines if "aimdeployment=" in line]
    assert len(deployments) == 100 * 37
    assert len(lines) - len(deployments) <= 20 * 7
    families_shown = {line.partition("{")[0] for line in lines}
    assert families_shown >= {f.name for f in families.PERFORMANCE}
    assert families_shown <= {f.name for f in FAMILIES}


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        (("False", "2026-03-01T12:00:00Z"), ("True", "2026-03-01T12:07:30Z"), 450.0),
        (("Unknown", "2026-03-01T12:00:00Z"), ("True", "2026-03-01T12:07:30Z"), None),
        (("True", "2026-03-01T12:00:00Z"), ("True", "2026-03-01T12:00:00Z"), None),
        (("True", "2026-03-01T12:00:00Z"), ("False", "2026-03-01T12:07:30Z"), None),
        (("False", "2026-03-01T12:00:00Z"), ("True", "2026-03-01T11:00:00Z"), 0.0),
        (None, ("True", "2026-03-01T12:00:00Z"), None),
    ],
)
def test_a_start_is_measured_from_no_available_replica_to_the_first(
    before: tuple[str, str] | None, after: tuple[str, str], seconds: float | None
) -> None:
    def told(each: tuple[str, str] | None) -> Json | None:
        return {"status": each[0], "lastTransitionTime": each[1]} if each else None

    assert time_to_ready(told(before), told(after)) == seconds

"""What a pass will do: keep, render anew, choose again or follow, and how many replicas it grants."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.api.conditions import ConditionReason
from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.deployment_status import Recommendation
from aim_engine.api.enums import GainKind, Outcome, RolloutStrategy, Tier
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.inventory import NodeState, PoolKey, withhold
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.plan import as_candidate, make_plan
from aim_engine.reconcile.revision import inputs_of, read_record, revision_name, to_object
from aim_engine.selection import Source, Want, candidate
from unit.reconcile_world import around, deployment, plan, revision_of
from unit.selection_world import QWEN, UNHURRIED, choose, cluster, node, recipe

ALL_FREE, FOUR_FREE, FULL = cluster(node()), cluster(node(used=4)), cluster(node(used=8))
BIG, SMALL = recipe("big", count=8, maturity="optimized"), recipe("small", count=1)
FAMILY = (BIG, SMALL)
FIRST = deployment()
ON_BIG = revision_of(FIRST, FAMILY, ALL_FREE)
ON_SMALL = revision_of(FIRST, FAMILY, FOUR_FREE)
MI300X = PoolKey("MI300X")


# The first pass


def test_a_first_pass_chooses_and_renders() -> None:
    made = plan(FIRST, None, FAMILY, ALL_FREE)
    assert made.is_new
    assert made.revision
    assert (made.revision.recipe, made.revision.number, made.revision.tier) == ("big", 1, Tier.PRIMARY)
    assert made.selected.reason is ConditionReason.RECIPE_SELECTED
    assert made.granted == 1
    assert made.wants == ()
    assert [manifest["kind"] for manifest in made.revision.manifests] == [
        "Service",
        "Deployment",
        "PodDisruptionBudget",
    ]
    assert made.revision.strategy_reason == "first rollout, nothing to replace"


def test_a_fallback_is_told_and_its_better_is_wanted() -> None:
    made = plan(FIRST, None, FAMILY, FOUR_FREE)
    assert made.revision
    assert made.revision.recipe == "small"
    assert made.selected.reason is ConditionReason.FALLBACK_USED
    assert "the best one, big" in made.selected.message
    assert made.hopes == (Want(MI300X, 8),)
    assert made.wants == ()


def test_waiting_makes_no_revision_and_says_what_for() -> None:
    made = plan(FIRST, None, FAMILY, FULL)
    assert made.revision is None
    assert not made.is_new
    assert made.selected.reason is ConditionReason.INSUFFICIENT_CAPACITY
    assert made.granted == 0
    assert made.wants == (Want(MI300X, 8), Want(MI300X, 1))
    assert made.selection
    assert made.selection.outcome is Outcome.WAITING


def test_create_pending_runs_all_replicas_although_nothing_is_free() -> None:
    asked = deployment(replicas=3, recipe={"whenNoCapacity": "CreatePending"})
    made = plan(asked, None, FAMILY, FULL)
    assert made.revision
    assert made.granted == 3
    assert made.short_of is None


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"overrides": {"image": "evil.example.com/vllm:1"}}, ("spec.overrides.image 'evil.example.com/vllm:1'", "use one of vllm/")),
        ({"overrides": {"image": "vllm/vllm-openai-rocm-evil:1"}}, ("spec.overrides.image",)),
        ({"overrides": {"engineArgs": {"max-modle-len": 1}}}, ("spec.overrides.engineArgs.max-modle-len", "did you mean max-model-len?")),
        ({"overrides": {"engineArgs": {"port": 1}}}, ("spec.overrides.engineArgs.port",)),
        ({"overrides": {"engineArgs": {"trust-remote-code": True}}}, ("spec.overrides.engineArgs.trust-remote-code",)),
        ({"overrides": {"env": {"LD_PRELOAD": "/opt/x.so"}}}, ("spec.overrides.env",)),
        (
            {"overrides": {"engineArgs": {"max-model-len": 100}}, "workload": {"maxInputTokens": 100, "maxOutputTokens": 1}},
            ("max-model-len '100': is below", "(101)", "raise it to 101"),
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_by_field_and_chooses_nothing(
    spec: dict[str, Any], told: tuple[str, ...]
) -> None:
    made = plan(deployment(**spec), None, FAMILY, ALL_FREE)
    assert made.revision is None
    assert made.selected.reason is ConditionReason.INVALID_SPEC
    for text in told:
        assert text in made.selected.message


@pytest.mark.parametrize("image", ["vllm/vllm-openai-rocm:v0.32.0", "vllm/vllm-openai-rocm@sha256:0a", "docker.io/rocm/vllm:x", "rocm/vllm"])  # fmt: skip
def test_images_of_allowed_repositories_are_taken(image: str) -> None:
    made = plan(deployment(overrides={"image": image}), None, FAMILY, ALL_FREE)
    assert made.revision
    assert image in json.dumps(made.revision.manifests)


@pytest.mark.parametrize(
    ("image", "allowed", "fine"),
    [
        ("registry.local:5000/team/vllm:1", ["registry.local:5000/team/"], True),
        ("registry.local:5000/team/sub/vllm", ["registry.local:5000/team/"], True),
        ("registry.local:5000/teams/vllm", ["registry.local:5000/team/"], False),
        ("registry.local:5000/team", ["registry.local:5000/team/"], False),
        ("registry.local:5000/team/vllm:1", ["registry.local:5000/team"], False),
        ("registry.local:5000/vllm:1", ["registry.local:5000/vllm"], True),
        ("vllm", [], False),
    ],
)
def test_the_allow_list_is_of_repositories_and_of_folders(image: str, allowed: list[str], fine: bool) -> None:
    made = plan(deployment(overrides={"image": image}), None, FAMILY, ALL_FREE, allowed_images=allowed)
    assert (made.revision is not None) is fine


# Later passes


def test_an_unchanged_spec_keeps_the_revision() -> None:
    made = plan(FIRST, ON_BIG, FAMILY, ALL_FREE, live=1)
    assert made.revision is ON_BIG
    assert not made.is_new
    assert made.decision is None, "not even a selection is run"
    assert made.selected.message == ON_BIG.message


def test_a_running_model_is_kept_when_its_gpus_and_recipes_are_gone() -> None:
    for free, candidates in ((FULL, FAMILY), (cluster(), FAMILY), (ALL_FREE, ())):
        made = plan(FIRST, ON_BIG, candidates, free, live=1)
        assert made.revision is ON_BIG
        assert not made.is_new
        assert made.granted == 1


def test_an_edited_recipe_shows_as_drift_and_as_a_recommendation() -> None:
    edited = recipe("big", count=8, maturity="optimized", env={"VLLM_LOGGING_LEVEL": "DEBUG"})
    made = plan(FIRST, ON_BIG, (edited, SMALL), ALL_FREE, live=1, changed=True)
    assert made.revision is ON_BIG
    assert made.selected.reason is ConditionReason.RECIPE_DRIFTED
    assert ON_BIG.recipe_hash in made.selected.message
    assert edited.hash in made.selected.message
    assert "updatePolicy: Automatic" in made.selected.message
    assert made.recommendation
    assert (made.recommendation.recipe, made.recommendation.hash) == ("big", edited.hash)


@pytest.mark.parametrize(
    ("overrides", "recommended"),
    [({}, True), ({"engineArgs": {"max-num-seqs": 32}}, False)],
    ids=["other arguments", "the same arguments"],
)
def test_a_configuration_that_is_made_anew_is_recommended_only_where_its_arguments_differ(
    overrides: dict[str, Any], recommended: bool
) -> None:
    """As after an upgrade of the operator that makes it by other rules."""
    asked = deployment(overrides=overrides)
    made = revision_of(asked, (), ALL_FREE)
    assert made.source == Source.GENERATED
    former = {**made.recipe_spec, "engineArgs": {**made.recipe_spec["engineArgs"], "max-num-seqs": 64}}
    current = replace(made, recipe_spec=former, recipe_hash="of another version")
    told = plan(asked, current, (), ALL_FREE, live=1, changed=True).recommendation
    assert (told is not None) is recommended


def test_a_deleted_recipe_shows_as_drift() -> None:
    made = plan(FIRST, ON_BIG, (SMALL,), ALL_FREE, live=1)
    assert made.selected.reason is ConditionReason.RECIPE_DRIFTED
    assert "was deleted" in made.selected.message
    assert made.revision is ON_BIG


def test_a_new_better_recipe_is_recommended_only() -> None:
    better = recipe("better", gpu="MI300X", count=8, maturity="optimized", tokens=90_000)
    made = plan(FIRST, ON_BIG, (*FAMILY, better), ALL_FREE, live=1, changed=True)
    assert made.revision is ON_BIG
    assert made.recommendation
    assert made.recommendation.recipe == "better"
    assert "updatePolicy: Automatic" in made.recommendation.message


def test_a_recommendation_stays_until_something_changes() -> None:
    told = Recommendation(recipe="better", hash="h", message="m")
    assert plan(FIRST, ON_BIG, FAMILY, ALL_FREE, live=1, recommendation=told).recommendation == told
    assert (
        plan(FIRST, ON_BIG, FAMILY, ALL_FREE, live=1, recommendation=told, changed=True).recommendation
        is None
    )


def test_a_fallback_is_recommended_to_go_back_when_gpus_come_free() -> None:
    made = plan(FIRST, ON_SMALL, FAMILY, ALL_FREE, live=1, changed=True)
    assert made.revision is ON_SMALL
    assert made.recommendation
    assert made.recommendation.recipe == "big"


def test_a_fallback_goes_on_wanting_the_better_one() -> None:
    made = plan(FIRST, ON_SMALL, FAMILY, FOUR_FREE, live=1, changed=True)
    assert made.recommendation is None
    assert made.hopes == (Want(MI300X, 8),)


def test_without_news_nothing_is_selected_again_and_the_hopes_stand() -> None:
    hopes = (Want(MI300X, 8),)
    made = plan(FIRST, ON_SMALL, FAMILY, ALL_FREE, live=1, hopes=hopes)
    assert made.decision is None
    assert made.hopes == hopes


def test_automatic_follows_the_better_recipe() -> None:
    asked = deployment(recipe={"updatePolicy": "Automatic"})
    current = revision_of(asked, FAMILY, FOUR_FREE)
    made = plan(asked, current, FAMILY, ALL_FREE, live=1, changed=True)
    assert made.is_new
    assert made.revision
    assert (made.revision.recipe, made.revision.number) == ("big", 2)


def test_a_recommendation_names_its_gain_and_its_cost() -> None:
    made = plan(FIRST, ON_SMALL, FAMILY, ALL_FREE, live=1, changed=True)
    assert made.recommendation
    assert made.recommendation.gain
    assert "the best recipe for the wishes instead of a Tertiary one" in made.recommendation.gain
    assert "maturity optimized instead of general" in made.recommendation.gain
    assert made.recommendation.cost
    assert "a restart of 1 replica, each loading for up to" in made.recommendation.cost
    assert "7 more GPUs per replica" in made.recommendation.cost
    assert made.recommended_need
    assert (made.recommended_need.gpu_model, made.recommended_need.gpus) == ("MI300X", 8)


def test_the_gain_tells_numbers_with_their_kind() -> None:
    slow, fast = recipe("slow", tokens=1000), recipe("fast", tokens=2000)
    current = revision_of(FIRST, [slow], ALL_FREE)
    made = plan(FIRST, current, [slow, fast], ALL_FREE, live=1, changed=True)
    assert made.recommendation
    assert made.recommendation.gain == "2000 tok/s per GPU (published) against 1000 (published)"
    assert (made.recommendation.gain_kind, made.recommendation.gain_percent) == (GainKind.THROUGHPUT, 100)


def test_the_gain_in_latency_is_the_old_time_over_the_new() -> None:
    asked = deployment(recipe={"objective": "latency"})
    slow, fast = recipe("slow", inter_token=30), recipe("fast", inter_token=20)
    made = plan(asked, revision_of(asked, [slow], ALL_FREE), [slow, fast], ALL_FREE, live=1, changed=True)
    assert made.recommendation
    assert (made.recommendation.gain_kind, made.recommendation.gain_percent) == (GainKind.LATENCY, 50)


def test_a_gain_without_numbers_has_a_kind_alone() -> None:
    back = plan(FIRST, ON_SMALL, FAMILY, ALL_FREE, live=1, changed=True).recommendation
    edited = recipe("big", count=8, maturity="optimized", env={"VLLM_LOGGING_LEVEL": "DEBUG"})
    again = plan(FIRST, ON_BIG, (edited, SMALL), ALL_FREE, live=1, changed=True).recommendation
    assert back
    assert again
    assert (back.gain_kind, back.gain_percent) == (GainKind.TIER, None)
    assert (again.gain_kind, again.gain_percent) == (GainKind.OTHER, None)


def test_the_cost_says_whether_the_model_keeps_answering() -> None:
    better = recipe("better", maturity="optimized")
    for free, told in ((ALL_FREE, "keeps answering"), (cluster(node(used=7)), "does not answer meanwhile")):
        made = plan(FIRST, ON_SMALL, (SMALL, better), cluster(node(used=7)), now=free if "keeps" in told else FULL, live=1, changed=True)  # fmt: skip
        assert made.recommendation
        assert made.recommendation.cost
        assert told in made.recommendation.cost


def test_a_recommendation_is_withdrawn_when_its_gpus_are_gone_again() -> None:
    told = plan(FIRST, ON_SMALL, FAMILY, ALL_FREE, live=1, changed=True).recommendation
    made = plan(FIRST, ON_SMALL, FAMILY, FOUR_FREE, live=1, recommendation=told, changed=True)
    assert made.recommendation is None
    assert made.hopes == (Want(MI300X, 8),)


AUTOMATIC = deployment(recipe={"updatePolicy": "Automatic"})


def test_automatic_moves_once_and_then_waits_for_the_cool_down() -> None:
    moved = plan(AUTOMATIC, revision_of(AUTOMATIC, FAMILY, FOUR_FREE), FAMILY, ALL_FREE, live=1, changed=True)
    assert moved.revision
    assert moved.revision.moved_at == 1_800_000_000
    newer = (*FAMILY, recipe("newer", count=8, maturity="optimized", tokens=90_000))
    early = plan(AUTOMATIC, moved.revision, newer, ALL_FREE, live=1, changed=True, clock=1_800_003_599)
    assert not early.is_new
    assert early.recommendation
    assert early.recommendation.recipe == "newer"
    assert "followed at 2027-01-15T09:00:00Z" in early.recommendation.message
    assert early.look_again_at == 1_800_003_600
    meanwhile = plan(
        AUTOMATIC, moved.revision, newer, ALL_FREE, live=1, recommendation=early.recommendation, clock=1_800_003_599
    )  # fmt: skip
    assert meanwhile.recommendation == early.recommendation
    assert (
        meanwhile.look_again_at == 1_800_003_600
    )  # every pass takes the place of one that was asked for later
    late = plan(
        AUTOMATIC, moved.revision, newer, ALL_FREE, live=1, recommendation=early.recommendation, clock=1_800_003_600
    )  # fmt: skip
    assert late.is_new
    assert late.revision
    assert (late.revision.recipe, late.revision.moved_at) == ("newer", 1_800_003_600)


def test_a_change_of_the_spec_does_not_shorten_the_cool_down() -> None:
    moved = plan(AUTOMATIC, revision_of(AUTOMATIC, FAMILY, FOUR_FREE), FAMILY, ALL_FREE, live=1, changed=True)
    changed = deployment(recipe={"updatePolicy": "Automatic"}, service={"port": 9000})
    again = plan(changed, moved.revision, FAMILY, ALL_FREE, live=1)
    assert again.is_new
    assert again.revision
    assert again.revision.moved_at == 1_800_000_000


def test_when_it_moved_survives_a_restart() -> None:
    moved = plan(AUTOMATIC, revision_of(AUTOMATIC, FAMILY, FOUR_FREE), FAMILY, ALL_FREE, live=1, changed=True)
    assert moved.revision
    stored = json.loads(json.dumps(to_object("chat", "team-a", "u-1", moved.revision)))
    assert read_record(stored, "u-1").revision().moved_at == 1_800_000_000


STATES = [ALL_FREE, FOUR_FREE, FULL]
CATALOGUES = [
    FAMILY,
    (*FAMILY, recipe("newer", count=8, maturity="optimized", tokens=90_000)),
    (SMALL,),
    (recipe("big", count=8, maturity="preview"), recipe("small", maturity="optimized")),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 2000), st.sampled_from(STATES), st.sampled_from(CATALOGUES)),
        min_size=1,
        max_size=25,
    )
)
def test_however_the_cluster_alternates_there_is_one_move_per_cool_down(
    weather: list[tuple[int, Any, Any]],
) -> None:
    clock, current, moves, told = 1_800_000_000.0, revision_of(AUTOMATIC, FAMILY, FOUR_FREE), [], None
    for pause, free, catalogue in weather:
        clock += pause
        made = plan(
            AUTOMATIC, current, catalogue, free, live=1, recommendation=told, changed=True, clock=clock
        )
        assert made.revision
        if made.is_new:
            moves.append(clock)
        current, told = made.revision, made.recommendation
    assert all(later - earlier >= 3600 for earlier, later in pairwise(moves))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(CATALOGUES)), min_size=1, max_size=15))
def test_a_pinned_deployment_is_never_moved_by_catalogue_or_cluster(weather: list[tuple[Any, Any]]) -> None:
    for free, catalogue in weather:
        made = plan(FIRST, ON_SMALL, catalogue, free, live=1, changed=True)
        assert made.revision is ON_SMALL


OTHER = recipe("on-mi210", gpu="MI210", count=4, maturity="preview")
BOTH_KINDS = cluster(node(), node("old", "MI210", 4))
WITHOUT_BIG = [
    ("its node is cordoned", (BIG, OTHER), cluster(node(unschedulable=True), node("old", "MI210", 4))),
    ("its node is gone", (BIG, OTHER), cluster(node("old", "MI210", 4))),
    ("its recipe was deleted", (OTHER,), BOTH_KINDS),
]


@pytest.mark.parametrize("policy", ["Pinned", "Automatic"])
@pytest.mark.parametrize(
    ("catalogue", "free"), [row[1:] for row in WITHOUT_BIG], ids=[row[0] for row in WITHOUT_BIG]
)
def test_a_worse_recipe_is_neither_recommended_nor_followed(policy: str, catalogue: Any, free: Any) -> None:
    asked = deployment(recipe={"updatePolicy": policy})
    current = revision_of(asked, (BIG, OTHER), BOTH_KINDS)
    made = plan(asked, current, catalogue, free, live=1, changed=True)
    assert made.revision is current
    assert made.recommendation is None
    assert made.hopes == ()


WORLDS = st.tuples(
    st.sampled_from([*STATES, BOTH_KINDS, WITHOUT_BIG[0][2]]),
    st.sampled_from([*CATALOGUES, (BIG, OTHER), (*FAMILY, OTHER)]),
)


@settings(max_examples=80, deadline=None)
@given(WORLDS, WORLDS)
def test_what_is_recommended_goes_before_what_runs(first: Any, later: Any) -> None:
    began = plan(FIRST, None, first[1], first[0]).revision
    if began is None:
        return
    made = plan(FIRST, began, later[1], later[0], live=1, changed=True)
    if made.recommendation is None or made.recommendation.recipe == began.recipe:
        return
    running = as_candidate(began)
    better = next((each for each in later[1] if each.name == made.recommendation.recipe), None)
    if better is None:
        assert running.source is Source.GENERATED, "a generated one goes before nothing written"
        return
    emptied = cluster(node("x"), node("y"), node("z", "MI210", 4))
    assert choose([running, better], emptied).best == better.name


def test_the_default_tier_hopes_for_the_written_recipe_and_is_told_when_it_is_free() -> None:
    current = revision_of(FIRST, (BIG,), FOUR_FREE)
    assert current.tier is Tier.DEFAULT
    assert plan(FIRST, None, (BIG,), FOUR_FREE).hopes == (Want(MI300X, 8),)
    assert plan(FIRST, current, (BIG,), FOUR_FREE, live=1, changed=True).hopes == (Want(MI300X, 8),)
    freed = plan(FIRST, current, (BIG,), ALL_FREE, live=1, changed=True)
    assert freed.recommendation
    assert freed.recommendation.recipe == "big"


def test_pods_are_created_pending_only_where_nothing_could_serve_now() -> None:
    asked = deployment(recipe={"whenNoCapacity": "CreatePending"})
    here = plan(asked, None, (BIG,), cluster(node(used=8), node("old", "MI210", 4))).revision
    assert here
    assert (here.recipe, here.tier) == ("generated/qwen3-32b-mi210-2x-bf16", Tier.DEFAULT)
    pending = plan(asked, None, (BIG,), FULL)
    assert pending.revision
    assert (pending.revision.recipe, pending.granted) == ("big", 1)


@pytest.mark.parametrize(
    ("nodes", "told", "remedy"),
    [
        ([node("gpu-1", used=2)], "6 more free on gpu-1 are kept for team-b/giant, which waits longer",
         "wait until team-b/giant has started (to free more GPUs does not help before), or add a MI300X node"),
        ([node("gpu-1", used=7)], "1 more free on gpu-1 is kept for team-b/giant", "wait until team-b/giant has started"),
        ([node("gpu-1", used=8)], "what comes free on gpu-1 is kept for team-b/giant", "wait until team-b/giant has started"),
        ([node("gpu-1", used=2), node("gpu-2", used=8)], "6 more free on gpu-1 are kept for team-b/giant", "on a node that is not kept, or add"),
        ([node("gpu-1", used=2), node("gpu-2", used=7)], "6 more free on gpu-1 are kept for team-b/giant", "on gpu-2, or add a MI300X node"),
    ],
)  # fmt: skip
def test_gpus_kept_for_another_are_told_to_who_waits(nodes: list[NodeState], told: str, remedy: str) -> None:
    free = withhold(cluster(*nodes), {"gpu-1": ("team-b", "giant")})
    made = plan(deployment(recipe={"name": "big"}), None, (BIG,), free)
    assert made.selection
    for text in (made.selected.message, made.selection.candidates[0].message):
        assert told in text
    assert remedy in made.selected.message
    assert remedy in (made.selection.candidates[0].remedy or "")


def test_a_fallback_and_replicas_that_wait_name_who_the_gpus_are_kept_for() -> None:
    kept = {"gpu-1": ("team-b", "giant")}
    made = plan(FIRST, None, (BIG,), withhold(cluster(node("gpu-1"), node("old", "MI210", 4)), kept))
    assert made.selected.reason is ConditionReason.FALLBACK_USED
    assert "8 more free on gpu-1 are kept for team-b/giant" in made.selected.message
    assert made.selection
    assert any("team-b/giant" in each.message for each in made.selection.candidates)
    two = plan(deployment(replicas=2), None, (BIG,), withhold(cluster(node("gpu-1"), node("gpu-2")), kept))
    assert two.granted == 1
    assert "8 more free on gpu-1 are kept for team-b/giant" in (two.short_of or "")


def test_automatic_stays_when_nothing_is_better() -> None:
    asked = deployment(recipe={"updatePolicy": "Automatic"})
    current = revision_of(asked, FAMILY, ALL_FREE)
    made = plan(asked, current, FAMILY, ALL_FREE, live=1)
    assert made.revision is current
    assert not made.is_new


def test_switching_the_policy_alone_makes_no_new_selection() -> None:
    asked = deployment(recipe={"updatePolicy": "Automatic", "whenNoCapacity": "CreatePending"})
    assert inputs_of(asked.spec) == inputs_of(FIRST.spec)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ({"recipe": {"gpuCount": 1}}, "wishes"),
        ({"recipe": {"fallback": {"enabled": False}}}, "wishes"),
        ({"targets": {"minTokensPerSecond": 1}}, "wishes"),
        ({"model": {"id": "Qwen/Qwen3-8B"}}, "wishes"),
        ({"model": {"id": QWEN, "revision": "v2"}}, "shape"),
        ({"model": {"id": QWEN, "tokenSecret": {"name": "hf", "key": "token"}}}, "rendering"),
        ({"overrides": {"env": {"A": "b"}}}, "shape"),
        ({"workload": {"maxBatchSize": 4}}, "shape"),
        ({"scheduling": {"nodeSelector": {"a": "b"}}}, "shape"),
        ({"service": {"port": 9000}}, "rendering"),
        ({"cache": {"sizeGiB": 100}}, "rendering"),
        ({"replicas": 5}, None),
        ({"suspend": True}, None),
        ({"rollout": {"strategy": "Surge"}}, None),
        ({"recipe": {"updatePolicy": "Automatic"}}, None),
    ],
)
def test_what_a_change_of_the_spec_may_cause(spec: dict[str, Any], part: str | None) -> None:
    before, after = inputs_of(FIRST.spec), inputs_of(deployment(**spec).spec)
    changed = [
        name for name in ("wishes", "shape", "rendering") if getattr(before, name) != getattr(after, name)
    ]
    assert changed == ([part] if part else [])


def test_new_wishes_choose_again() -> None:
    made = plan(deployment(recipe={"gpuCount": 1}), ON_BIG, FAMILY, ALL_FREE, live=1)
    assert made.is_new
    assert made.revision
    assert (made.revision.recipe, made.revision.number) == ("small", 2)


def test_wishes_that_nothing_meets_leave_the_running_model_alone_and_tell() -> None:
    asked = deployment(recipe={"gpuModel": "MI355X", "fallback": {"enabled": False}})
    made = plan(asked, ON_BIG, FAMILY, ALL_FREE, live=1)
    assert made.revision is ON_BIG
    assert not made.is_new
    assert made.granted == 1
    assert made.selected.status == "False"
    assert made.selected.reason is ConditionReason.NO_ELIGIBLE_RECIPE
    assert made.selection
    assert made.selection.outcome is Outcome.NO_RECIPE


def test_an_invalid_edit_leaves_the_running_model_alone_and_tells() -> None:
    made = plan(deployment(overrides={"engineArgs": {"port": 1}}), ON_BIG, FAMILY, ALL_FREE, live=1)
    assert made.revision is ON_BIG
    assert made.selected.reason is ConditionReason.INVALID_SPEC
    assert made.granted == 1


def test_new_overrides_keep_the_recipe_that_still_can() -> None:
    asked = deployment(overrides={"engineArgs": {"max-num-seqs": 4}})
    better = recipe("better", count=8, maturity="optimized", tokens=90_000)
    made = plan(asked, ON_BIG, (*FAMILY, better), ALL_FREE, live=1)
    assert made.is_new
    assert made.revision
    assert (made.revision.recipe, made.revision.tier) == ("big", Tier.PRIMARY)
    assert made.revision.selection == ON_BIG.selection
    assert "--max-num-seqs" in json.dumps(made.revision.manifests)


def test_new_overrides_render_the_recipe_as_it_was_resolved_although_it_was_edited_since() -> None:
    edited = recipe("big", count=8, maturity="optimized", engineArgs={"max-model-len": 4096})
    made = plan(deployment(overrides={"env": {"A": "b"}}), ON_BIG, (edited, SMALL), ALL_FREE, live=1)
    assert made.revision
    assert made.revision.recipe_hash == ON_BIG.recipe_hash
    assert "8192" in json.dumps(made.revision.manifests)


def test_new_overrides_choose_again_when_the_recipe_no_longer_can() -> None:
    asked = deployment(overrides={"resources": {"cpu": "80"}})
    inventory = cluster(node("gpu-1", used_cpu=50), node("gpu-2", "MI355X"))
    made = plan(asked, ON_BIG, (*FAMILY, recipe("elsewhere", gpu="MI355X")), inventory, live=1)
    assert made.revision
    assert made.revision.recipe == "elsewhere"


def test_a_new_service_renders_the_same_decision_again() -> None:
    made = plan(deployment(service={"port": 9000}), ON_SMALL, FAMILY, ALL_FREE, live=1)
    assert made.is_new
    assert made.revision
    assert (made.revision.recipe, made.revision.tier, made.revision.message) == (
        "small",
        ON_SMALL.tier,
        ON_SMALL.message,
    )
    assert made.revision.number == ON_SMALL.number + 1


def test_going_back_to_an_earlier_spec_gives_the_earlier_manifests() -> None:
    there = plan(deployment(service={"port": 9000}), ON_BIG, FAMILY, ALL_FREE, live=1).revision
    back = plan(FIRST, there, FAMILY, ALL_FREE, live=1).revision
    assert back
    deployments = [m for m in back.manifests if m["kind"] == "Service"]
    assert deployments == [m for m in ON_BIG.manifests if m["kind"] == "Service"]


# Grants


@pytest.mark.parametrize(
    ("replicas", "live", "used", "granted", "short"),
    [
        (1, None, 0, 1, False),
        (8, None, 0, 8, False),
        (9, None, 0, 8, True),
        (5, None, 5, 3, True),
        (3, 3, 8, 3, False),  # already running: never taken away for want of room
        (5, 3, 8, 3, True),  # room for none: keeps the three
        (5, 3, 4, 4, True),  # room for four, own three included
        (5, 3, 3, 5, False),
        (2, 5, 8, 2, False),  # scaling down needs no room
        (0, 5, 8, 0, False),
        (0, None, 0, 0, False),
        (1, 0, 8, 0, True),  # scaled to zero and back: waits
        (1, 0, 7, 1, False),
    ],
)
def test_how_many_replicas_may_run(
    replicas: int, live: int | None, used: int, granted: int, short: bool
) -> None:
    """`used` counts the GPUs of others: the inventory is as if the deployment had no pods."""
    asked = deployment(replicas=replicas)
    current = revision_of(deployment(), (SMALL,), ALL_FREE)
    now = cluster(node(used=min(8, used + (live or 0))))
    made = plan(asked, current, (SMALL,), cluster(node(used=used)), now=now, live=live)
    assert made.granted == granted
    assert (made.short_of is not None) is short
    assert (Want(MI300X, 1) in made.wants) is short


def test_a_suspended_deployment_is_granted_nothing() -> None:
    made = plan(deployment(replicas=4, suspend=True), ON_SMALL, FAMILY, ALL_FREE, live=4)
    assert made.granted == 0
    assert made.short_of is None


def test_create_pending_grants_what_is_asked() -> None:
    asked = deployment(replicas=20, recipe={"whenNoCapacity": "CreatePending"})
    assert plan(asked, ON_SMALL, FAMILY, FULL, live=1).granted == 20


@settings(UNHURRIED, max_examples=50)
@given(st.integers(0, 12), st.one_of(st.none(), st.integers(0, 12)), st.integers(0, 8))
def test_grants_keep_what_runs_and_never_exceed_what_is_asked_or_free(
    replicas: int, live: int | None, used: int
) -> None:
    current = revision_of(deployment(), (SMALL,), ALL_FREE)
    now = cluster(node(used=min(8, used + (live or 0))))
    made = plan(
        deployment(replicas=replicas), current, (SMALL,), cluster(node(used=used)), now=now, live=live
    )
    assert min(live or 0, replicas) <= made.granted <= replicas
    assert made.granted <= max(8 - used, live or 0)
    assert (made.granted < replicas) is bool(made.short_of)


# Rollouts


@pytest.mark.parametrize(
    ("asked", "free_now", "strategy", "why"),
    [
        ("Auto", 8, RolloutStrategy.SURGE, "8 MI300X GPUs are free for a replica beside"),
        ("Auto", 7, RolloutStrategy.RECREATE, "no node has 8 free MI300X GPUs"),
        ("Surge", 0, RolloutStrategy.SURGE, "asked by spec.rollout.strategy"),
        ("Recreate", 8, RolloutStrategy.RECREATE, "asked by spec.rollout.strategy"),
    ],
)
def test_pods_are_replaced_beside_the_old_ones_only_when_there_is_room(
    asked: str, free_now: int, strategy: RolloutStrategy, why: str
) -> None:
    changed = deployment(rollout={"strategy": asked}, service={"port": 9000})
    now = cluster(node(used=8 - free_now))
    made = plan(changed, ON_BIG, FAMILY, ALL_FREE, now=now, live=1)
    assert made.revision
    assert made.revision.strategy is strategy
    assert why in made.revision.strategy_reason


# Records


def test_a_record_gives_back_the_revision() -> None:
    for revision in (ON_BIG, ON_SMALL):
        obj = to_object("chat", "team-a", "u-1", revision)
        assert read_record(json.loads(json.dumps(obj)), "u-1").revision() == revision.__class__(
            **{**{name: getattr(revision, name) for name in revision.__dataclass_fields__},
               "manifests": tuple(json.loads(json.dumps(list(revision.manifests))))}
        )  # fmt: skip


def test_a_record_belongs_to_its_deployment_and_is_named_by_its_content() -> None:
    obj = to_object("chat", "team-a", "u-1", ON_BIG)
    name = revision_name("chat", "u-1", ON_BIG)
    assert obj["metadata"]["name"] == name
    assert name != revision_name("chat", "u-1", ON_SMALL)
    assert name != revision_name("chat", "u-2", ON_BIG)
    assert name == revision_name("chat", "u-1", revision_of(FIRST, FAMILY, ALL_FREE))
    (owner,) = obj["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("u-1", True)
    assert len(obj["metadata"]["name"]) <= 253


def test_a_record_that_was_lost_is_stored_again_with_the_same_name() -> None:
    record = read_record(
        {
            **to_object("chat", "team-a", "u-1", ON_BIG),
            "metadata": {"name": "n", "namespace": "team-a", "uid": "x"},
        },
        "u-1",
    )
    assert record.uid == "x"
    assert record.lost().uid == ""
    assert record.lost().revision() == record.revision()


def test_the_recipe_in_a_record_is_the_candidate_that_was_chosen() -> None:
    assert as_candidate(ON_BIG) == BIG
    assert as_candidate(ON_SMALL) == SMALL


def test_a_generated_configuration_never_drifts() -> None:
    generated = revision_of(FIRST, (), ALL_FREE)
    assert generated.source == Source.GENERATED
    made = plan(FIRST, generated, (), ALL_FREE, live=1)
    assert made.selected.reason is ConditionReason.FALLBACK_USED
    assert made.revision is generated


def test_a_plan_depends_on_its_input_only() -> None:
    first, second = (make_plan(FIRST, None, around(FIRST, FAMILY, ALL_FREE)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("lease", [{"durationSeconds": 15, "renewSeconds": 60}, {"durationSeconds": 3}])
def test_a_lease_that_ends_before_it_is_renewed_is_refused(lease: dict[str, int]) -> None:
    """Another replica would lead before the first one knew that it does no more."""
    with pytest.raises(ValueError, match=r"set it <= \d+"):
        OperatorConfig.model_validate({"lease": lease})


def test_configuration_with_a_gpu_model_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="MI999 is not in the GPU catalogue"):
        OperatorConfig.strict_load({"engine": {"gpuLabels": {"a=b": "MI999"}}})


@pytest.mark.parametrize("fallback", [True, False])
def test_a_new_service_is_rendered_although_the_recipe_has_no_room_for_itself_now(fallback: bool) -> None:
    """It runs already: a cordoned node is no reason to swap the recipe or to ignore the change."""
    wishes = {"fallback": {"enabled": fallback}}
    current = revision_of(deployment(recipe=wishes), FAMILY, ALL_FREE)
    elsewhere = cluster(node(unschedulable=True), node("gpu-2", "MI355X"))
    made = plan(deployment(recipe=wishes, service={"port": 9000}), current, FAMILY, elsewhere, live=1)
    assert made.is_new
    assert made.revision
    assert (made.revision.recipe, made.revision.recipe_hash) == ("big", current.recipe_hash)
    assert "9000" in json.dumps(made.revision.manifests)


def test_what_replicas_wait_for_is_what_is_short() -> None:
    hungry = recipe("hungry", cpu="60")
    current = revision_of(deployment(), (hungry,), ALL_FREE)
    made = plan(
        deployment(replicas=2),
        current,
        (hungry,),
        cluster(node()),
        now=cluster(node(used=1, used_cpu=60)),
        live=1,
    )
    assert made.granted == 1
    assert made.short_of
    assert "1 of 2 replicas fit now" in made.short_of or "CPU" in made.short_of
    none = plan(deployment(replicas=2), current, (hungry,), cluster(node(used_cpu=90)), live=1)
    assert none.short_of
    assert "needs 60 CPUs" in none.short_of
    cordoned = plan(deployment(replicas=2), current, (hungry,), cluster(node(unschedulable=True)), live=1)
    assert cordoned.short_of
    assert "is cordoned" in cordoned.short_of


class _NextRelease(AIMDeploymentSpec):
    """The spec as a later release may have it."""

    turbo: bool = False


class _NextRecipe(AIMRecipeSpec):
    """The recipe as a later release may have it."""

    turbo: bool = False


def test_a_field_that_a_later_release_adds_changes_no_hash_while_it_has_its_default() -> None:
    wire = deployment(recipe={"gpuCount": 8}, overrides={"env": {"A": "b"}}).spec.wire()
    assert inputs_of(_NextRelease.model_validate(wire)) == inputs_of(AIMDeploymentSpec.model_validate(wire))
    later = candidate("big", BIG.source, _NextRecipe.model_validate(BIG.spec.wire()))
    assert later.hash == BIG.hash


def test_writing_a_default_out_changes_no_hash() -> None:
    explicit = deployment(recipe={"objective": "throughput", "autoSelect": True, "fallback": {"enabled": True}}, service={"port": 8000})  # fmt: skip
    assert inputs_of(explicit.spec) == inputs_of(FIRST.spec)


@pytest.mark.parametrize("policy", ["Pinned", "Automatic"])
def test_what_has_no_room_for_the_replicas_that_run_is_not_better(policy: str) -> None:
    """Two replicas of 4 GPUs serve on the only node; as edited, the recipe takes 8, so only one would."""
    asked = deployment(replicas=2, recipe={"updatePolicy": policy})
    running = revision_of(asked, [recipe("r", count=4)], ALL_FREE)
    edited = [recipe("r", count=8, maturity="optimized")]
    made = plan(asked, running, edited, ALL_FREE, now=FULL, live=2, changed=True)
    assert not made.is_new
    assert made.granted == 2
    assert made.recommendation is None
    assert made.hopes == (Want(MI300X, 8),)
    two = cluster(node(), node("gpu-2"))
    better = plan(asked, running, edited, two, now=cluster(node(used=8), node("gpu-2")), live=2, changed=True)
    assert better.is_new is (policy == "Automatic")
    assert (better.recommendation is None) is (policy == "Automatic")


def test_replicas_are_added_although_no_node_of_the_running_ones_takes_pods() -> None:
    """Their node is cordoned, as for maintenance, and another one is free."""
    asked = deployment(replicas=2)
    running = revision_of(asked, [SMALL], ALL_FREE)
    more = deployment(replicas=3, generation=2)
    free = cluster(node(unschedulable=True), node("gpu-2", used=7))
    now = cluster(node(used=2, unschedulable=True), node("gpu-2", used=7))
    made = plan(more, running, [SMALL], free, now=now, live=2)
    assert made.granted == 3
    full = cluster(node(unschedulable=True), node("gpu-2", used=8))
    assert plan(more, running, [SMALL], full, now=full, live=2).granted == 2


CACHE = {"sizeGiB": 100}
"""A claim that can be attached to one node only, as it is without another word."""


def test_replicas_with_a_cache_for_one_node_are_granted_where_that_node_has_room() -> None:
    """Their pods must share a node: a second one on another would be Pending for ever, its GPUs promised for nothing."""
    asked = deployment(replicas=2, cache=CACHE)
    two = cluster(node(), node("gpu-2"))
    made = plan(asked, None, (BIG,), two)
    assert made.granted == 1
    assert made.short_of
    assert "share one node" in made.short_of
    assert "set spec.cache.accessMode to ReadWriteMany" in made.short_of
    many = deployment(replicas=2, cache={"sizeGiB": 100, "accessMode": "ReadWriteMany"})
    assert plan(many, None, (BIG,), two).granted == 2
    assert plan(deployment(replicas=2, cache=CACHE), None, (SMALL,), two).granted == 2


def test_replicas_with_a_cache_for_one_node_are_added_on_that_node_only() -> None:
    one, more = deployment(cache=CACHE), deployment(replicas=3, generation=2, cache=CACHE)
    running = revision_of(one, [SMALL], ALL_FREE)
    free, now = cluster(node(used=6), node("gpu-2")), cluster(node(used=7), node("gpu-2"))
    made = plan(more, running, [SMALL], free, now=now, live=1, nodes=frozenset({"gpu-1"}))
    assert made.granted == 2


def test_replicas_that_grow_are_no_more_than_have_room_once_the_old_ones_are_gone() -> None:
    """A third pod would wait for the GPUs of the old one, and the old one for the third to be ready: for ever."""
    four, eight = recipe("four", count=4), recipe("eight", count=8)
    small = deployment(replicas=2, recipe={"gpuCount": 4})
    large = deployment(replicas=2, generation=2, recipe={"gpuCount": 8})
    running = revision_of(small, (four, eight), ALL_FREE)
    made = plan(large, running, (four, eight), ALL_FREE, now=FULL, live=2)
    assert made.is_new
    assert made.granted == 1
    assert made.short_of


def test_replicas_that_grow_surge_only_where_all_of_them_fit_beside_the_old_ones() -> None:
    four, eight = recipe("four", count=4), recipe("eight", count=8)
    small = deployment(replicas=2, recipe={"gpuCount": 4})
    large = deployment(replicas=2, generation=2, recipe={"gpuCount": 8})
    running = revision_of(small, (four, eight), ALL_FREE)
    for further, strategy in ((1, RolloutStrategy.RECREATE), (2, RolloutStrategy.SURGE)):
        others = [node(f"other-{index}") for index in range(further)]
        free, now = cluster(node(), *others), cluster(node(used=8), *others)
        made = plan(large, running, (four, eight), free, now=now, live=2)
        assert made.granted == 2
        assert made.revision
        assert made.revision.strategy is strategy

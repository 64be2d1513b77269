"""Conditions for each situation a deployment can be in, and patches that say no more than what changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.conditions import CONDITION_REASONS, ConditionReason, ConditionType
from aim_engine.api.configmap_yaml import Faults, ReadError
from aim_engine.api.deployment_status import AIMDeploymentStatus, CandidateStatus
from aim_engine.api.enums import Outcome, Reason
from aim_engine.reconcile.pods import PodHealth
from aim_engine.reconcile.recorder import transitions
from aim_engine.reconcile.revision import Revision
from aim_engine.reconcile.status import (
    PREREQUISITES_MET,
    Judgement,
    Report,
    Workload,
    build,
    candidate_status,
    is_transition,
    merge_patch,
    selection_status,
    with_config_error,
    workload_of,
)
from aim_engine.selection import Decision, Verdict
from unit.reconcile_world import BEFORE, NOW, deployment, plan, revision_of
from unit.selection_world import UNHURRIED, cluster, node, recipe

SMALL = recipe("small")
FREE = cluster(node())
REVISION = revision_of(deployment(), (SMALL,), FREE)
SELECTED = Judgement("True", ConditionReason.RECIPE_SELECTED, "small is best")
WAITING = Judgement("False", ConditionReason.INSUFFICIENT_CAPACITY, "waiting for small: needs 1")
NO_RECIPE = Judgement("False", ConditionReason.RECIPE_NOT_FOUND, "no recipe exists")
UNREADABLE = Faults((ReadError("gpu_count", "x", "is no number", "write one", 3),))
INVALID = Judgement("False", ConditionReason.INVALID_SPEC, "spec.overrides.engineArgs.port")
CONFLICT = Judgement("False", ConditionReason.NAME_CONFLICT, "Service chat-service exists and is not ours")


def pod(name: str = "chat-0", **health: Any) -> PodHealth:
    return PodHealth(
        **{"name": name, "uid": name, "ready": False, "terminating": False, "bound": True, **health}
    )


def report(spec: Mapping[str, Any] | None = None, **fields: Any) -> Report:
    asked = deployment(**(spec or {}))
    base: dict[str, Any] = {
        "generation": 7, "namespace": "team-a", "name": "chat", "spec": asked.spec, "selected": SELECTED,
        "prerequisites": PREREQUISITES_MET, "revision": REVISION, "revision_name": "chat-1", "selection": None,
        "recommendation": None, "workload": Workload(), "pods": (), "granted": asked.spec.replicas,
    }  # fmt: skip
    return Report(**{**base, **fields})


@dataclass(frozen=True)
class Situation:
    """The conditions (status, reason) expected in one situation."""

    id: str
    given: Report
    ready: tuple[str, ConditionReason]
    available: tuple[str, ConditionReason]
    texts: tuple[str, ...] = field(default=())
    """What Ready's message holds."""


C = ConditionReason
RUNNING = Workload(exists=True, replicas=1, ready=1)
LOADING = Workload(exists=True, replicas=1, ready=0)
OOM = "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB."

SITUATIONS = [
    Situation("serving", report(workload=RUNNING), ("True", C.SERVING), ("True", C.MINIMUM_REPLICAS_AVAILABLE), ("chat-service:8000",)),
    Situation("more answer than asked while scaling down", report(workload=Workload(True, 3, 3)), ("True", C.SERVING), ("True", C.MINIMUM_REPLICAS_AVAILABLE)),
    Situation("no recipe", report(selected=NO_RECIPE, revision=None, revision_name=None, granted=0), ("False", C.RECIPE_NOT_FOUND), ("Unknown", C.RECONCILING), ("no recipe exists",)),
    Situation("waiting for GPUs", report(selected=WAITING, revision=None, revision_name=None, granted=0), ("False", C.INSUFFICIENT_CAPACITY), ("Unknown", C.RECONCILING)),
    Situation("invalid spec of a running model", report(selected=INVALID, workload=RUNNING), ("False", C.INVALID_SPEC), ("True", C.MINIMUM_REPLICAS_AVAILABLE)),
    Situation("name conflict", report(prerequisites=CONFLICT), ("False", C.NAME_CONFLICT), ("Unknown", C.RECONCILING), ("not ours",)),
    Situation("Deployment just made", report(), ("Unknown", C.RECONCILING), ("Unknown", C.RECONCILING)),
    Situation("loading", report(workload=LOADING, pods=(pod(),)), ("False", C.STARTING), ("False", C.STARTING), ("0 of 1 replicas answer",)),
    Situation("suspended", report({"suspend": True}, workload=Workload(True, 0, 0), granted=0), ("False", C.SUSPENDED), ("True", C.MINIMUM_REPLICAS_AVAILABLE), ("set it to false",)),
    Situation("suspended without a recipe", report({"suspend": True}, selected=WAITING, revision=None, granted=0), ("False", C.SUSPENDED), ("Unknown", C.RECONCILING)),
    Situation("scaled to zero", report({"replicas": 0}, workload=Workload(True, 0, 0)), ("False", C.SCALED_TO_ZERO), ("True", C.MINIMUM_REPLICAS_AVAILABLE), ("kubectl scale aimd chat --replicas=1",)),
    Situation("some replicas answer", report({"replicas": 3}, workload=Workload(True, 3, 1)), ("True", C.SERVING), ("True", C.ROLLING_OUT)),
    Situation("all answer but some are of the old template", report(workload=Workload(True, 2, 1, updated=False)), ("True", C.SERVING), ("True", C.ROLLING_OUT)),
    Situation("one of two granted", report({"replicas": 2}, workload=RUNNING, granted=1, short_of="each replica needs 1"), ("True", C.SERVING), ("True", C.INSUFFICIENT_CAPACITY)),
    Situation("none granted", report({"replicas": 2}, workload=Workload(True, 0, 0), granted=0, short_of="each replica needs 1"), ("False", C.INSUFFICIENT_CAPACITY), ("False", C.INSUFFICIENT_CAPACITY), ("no replica runs; the others wait: each replica needs 1",)),
    Situation("pods refused by quota", report(workload=Workload(True, 0, 0, refused="exceeded quota: gpus")), ("False", C.POD_CREATION_REFUSED), ("False", C.POD_CREATION_REFUSED), ("exceeded quota: gpus",)),
    Situation("too long", report(workload=replace(LOADING, late=True), pods=(pod(),)), ("False", C.LOAD_TIMEOUT), ("False", C.LOAD_TIMEOUT), ("startup budget",)),
    Situation("too long because it crashes: the crash is told", report(workload=replace(LOADING, late=True), pods=(pod(exit_code=1, exit_message=OOM),)), ("False", C.OUT_OF_GPU_MEMORY), ("False", C.OUT_OF_GPU_MEMORY), ("2.00 GiB",)),
    Situation("unschedulable", report(workload=LOADING, pods=(pod(bound=False, unschedulable="0/3 nodes: Insufficient amd.com/gpu"),)), ("False", C.PODS_UNSCHEDULABLE), ("False", C.PODS_UNSCHEDULABLE), ("Insufficient amd.com/gpu",)),
    Situation("image", report(workload=LOADING, pods=(pod(waiting_reason="ImagePullBackOff", waiting_message="not found"),)), ("False", C.IMAGE_PULL_FAILED), ("False", C.IMAGE_PULL_FAILED)),
    Situation("one answers, another crashes: told, but ready", report({"replicas": 2}, workload=Workload(True, 2, 1), pods=(pod(exit_code=1, exit_message=OOM),)), ("True", C.SERVING), ("True", C.ROLLING_OUT)),
    Situation("an old pod that ends is no trouble", report(workload=LOADING, pods=(pod(terminating=True, exit_code=137), pod("chat-1"))), ("False", C.STARTING), ("False", C.STARTING)),
]  # fmt: skip


def conditions(status: AIMDeploymentStatus) -> dict[str, Any]:
    return {condition.type: condition for condition in status.conditions}


@pytest.mark.parametrize("case", SITUATIONS, ids=lambda case: case.id)
def test_the_conditions_of_a_situation(case: Situation) -> None:
    found = conditions(build(case.given, {}, NOW))
    assert list(found) == ["Ready", "RecipeSelected", "PrerequisitesMet", "Available", "PerformanceOnTarget"]
    assert (found["Ready"].status, found["Ready"].reason) == case.ready
    assert (found["Available"].status, found["Available"].reason) == case.available
    for text in case.texts:
        assert text in found["Ready"].message
    assert all(condition.observed_generation == 7 for condition in found.values())
    assert all(condition.last_transition_time == NOW for condition in found.values())
    assert all(condition.message for condition in found.values())


@pytest.mark.parametrize("case", SITUATIONS, ids=lambda case: case.id)
def test_every_reason_shown_is_documented_for_its_status(case: Situation) -> None:
    """Ready repeats the reason of the condition it follows."""
    for condition in build(case.given, {}, NOW).conditions:
        doc = CONDITION_REASONS[ConditionReason(condition.reason)]
        if condition.type == ConditionType.READY:
            continue
        if condition.reason not in (C.RECONCILING, C.INSUFFICIENT_CAPACITY):
            assert (doc.condition, doc.status) == (condition.type, condition.status)


def test_every_reason_is_documented() -> None:
    assert set(CONDITION_REASONS) == set(ConditionReason)


def test_numbers_url_and_selector() -> None:
    status = build(report({"replicas": 3, "service": {"port": 9000}}, workload=Workload(True, 3, 2)), {}, NOW)
    assert (status.replicas, status.ready_replicas, status.ready) == (3, 2, "2/3")
    assert status.url == "http://chat-service.team-a.svc:9000/v1"
    assert status.selector == "aim.engine.amd.com/deployment=chat"
    assert status.observed_generation == 7
    assert status.recipe
    assert (status.recipe.name, status.recipe.gpus, status.recipe.precision) == ("small", "1xMI300X", "bf16")
    assert (status.recipe.revision, status.recipe.hash) == ("chat-1", SMALL.hash)
    assert status.rollout
    assert status.rollout.reason == "first rollout, nothing to replace"


def test_without_a_recipe_there_is_no_url_and_no_recipe_but_a_selector() -> None:
    status = build(report(selected=WAITING, revision=None, revision_name=None, granted=0), {}, NOW)
    assert (status.url, status.recipe, status.rollout) == (None, None, None)
    assert status.selector
    assert status.ready == "0/1"


def test_the_model_shown_is_the_one_served_and_else_the_one_asked_for() -> None:
    named = {"model": {}, "recipe": {"name": "small"}}
    assert build(report(spec=named), {}, NOW).model_id == REVISION.model_id
    assert build(report(revision=None), {}, NOW).model_id == deployment().spec.model.id
    assert build(report(spec=named, revision=None), {}, NOW).model_id is None


def test_a_suspended_deployment_wants_none() -> None:
    assert build(report({"suspend": True, "replicas": 3}), {}, NOW).ready == "0/0"


def test_transition_times_are_kept_while_the_status_is_the_same() -> None:
    first = build(report(workload=LOADING), {}, BEFORE).wire()
    later = conditions(build(report(workload=replace(LOADING, late=True)), first, NOW))
    assert later["Available"].reason == C.LOAD_TIMEOUT
    assert later["Available"].last_transition_time == BEFORE, "False stayed False"
    served = conditions(build(report(workload=RUNNING), first, NOW))
    assert served["Available"].last_transition_time == NOW
    assert served["RecipeSelected"].last_transition_time == BEFORE


def test_a_status_built_again_is_the_same_so_that_nothing_is_written() -> None:
    first = build(report(workload=RUNNING), {}, BEFORE).wire()
    assert build(report(workload=RUNNING), first, NOW).wire() == first
    assert merge_patch(first, build(report(workload=RUNNING), first, NOW).wire()) == {}


def test_previous_conditions_that_nobody_understands_are_dropped() -> None:
    odd = {"conditions": [{"type": "Alien", "status": "True"}, {}]}
    assert len(build(report(workload=RUNNING), odd, NOW).conditions) == 5


def test_the_status_shows_the_ten_nearest_verdicts_and_counts_all() -> None:
    verdicts = tuple(
        Verdict(f"r{n}", Reason.OUTRANKED, "m" * 2000, "r" * 2000, "n" * 200, "h" * 200) for n in range(25)
    )
    shown = selection_status(Decision(Outcome.WAITING, verdicts, "m"), 25)
    assert shown.evaluated == 25
    assert [each.recipe for each in shown.candidates] == [f"r{n}" for n in range(10)]
    for each in shown.candidates:
        assert CandidateStatus.strict_load(each.wire()) == each, "cut to what the CRD admits"


def test_a_verdict_without_numbers_shows_none() -> None:
    assert candidate_status(Verdict("r", Reason.CHOSEN, "m")).wire() == {
        "recipe": "r",
        "reason": "Chosen",
        "message": "m",
    }


# The live Deployment


def live(status: Mapping[str, Any] | None, replicas: int = 2, generation: int = 3) -> dict[str, Any]:
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": replicas},
        **({"status": status} if status else {}),
    }


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (None, Workload()),
        (live(None), Workload(True, 0, 0, updated=False)),
        (live({"observedGeneration": 3, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}), Workload(True, 2, 2)),
        (live({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}), Workload(True, 2, 2, updated=False)),
        (live({"observedGeneration": 3, "replicas": 3, "readyReplicas": 2, "updatedReplicas": 1}), Workload(True, 3, 2, updated=False)),
        (live({"observedGeneration": 3}, replicas=0), Workload(True, 0, 0)),
        (
            live({"observedGeneration": 3, "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "quota"}]}, 0),
            Workload(True, 0, 0, refused="quota"),
        ),
        (
            live({"observedGeneration": 3, "conditions": [{"type": "ReplicaFailure", "status": "False", "message": "quota"}]}, 0),
            Workload(True, 0, 0),
        ),
        (
            live({"observedGeneration": 3, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}, 0),
            Workload(True, 0, 0, late=True),
        ),
    ],
)  # fmt: skip
def test_what_a_live_deployment_shows(obj: dict[str, Any] | None, expected: Workload) -> None:
    assert workload_of(obj) == expected


# Patches

JSON = st.recursive(
    st.one_of(st.text("ab", max_size=2), st.integers(0, 3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("abc", max_size=2), JSON, max_size=4)


def apply(target: Any, patch: Any) -> Any:
    """RFC 7386, written from its pseudo code."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


@UNHURRIED
@given(OBJECTS, OBJECTS)
def test_a_patch_brings_the_old_to_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = copy.deepcopy((old, new))
    assert apply(old, merge_patch(old, new)) == new
    assert (old, new) == before


@UNHURRIED
@given(OBJECTS)
def test_nothing_changed_means_an_empty_patch(value: dict[str, Any]) -> None:
    assert merge_patch(value, copy.deepcopy(value)) == {}


@UNHURRIED
@given(OBJECTS, OBJECTS)
def test_a_patch_names_only_what_differs(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key in merge_patch(old, new):
        assert old.get(key) != new.get(key)


# Events and urgency


def _status(*conditions: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    told = [
        {"type": kind, "status": status, "reason": reason, "message": f"m {reason}"}
        for kind, status, reason in conditions
    ]
    return {"conditions": told, **more}


WAIT = ("RecipeSelected", "False", "InsufficientCapacity")
HAVE = ("RecipeSelected", "True", "RecipeSelected")
CRASH = ("Available", "False", "OutOfGPUMemory")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (_status(), _status(WAIT), [("Warning", "InsufficientCapacity")]),
        (_status(WAIT), _status(WAIT), []),
        (_status(WAIT), _status(HAVE), [("Normal", "RecipeSelected")]),
        (_status(HAVE), _status(("RecipeSelected", "True", "RecipeDrifted")), [("Normal", "RecipeDrifted")]),
        (_status(), _status(("Ready", "False", "InsufficientCapacity"), WAIT), [("Warning", "InsufficientCapacity")]),
        (_status(), _status(("Ready", "True", "Serving")), [("Normal", "Serving")]),
        (_status(("Ready", "True", "Serving")), _status(("Ready", "False", "OutOfGPUMemory"), CRASH), [("Warning", "OutOfGPUMemory")]),
        (_status(), _status(("Available", "False", "Starting")), []),
        (_status(CRASH), _status(("Available", "True", "MinimumReplicasAvailable")), []),
        (_status(CRASH), _status(("Available", "False", "ImagePullFailed")), [("Warning", "ImagePullFailed")]),
        (_status(), _status(("PrerequisitesMet", "True", "PrerequisitesMet")), []),
        (_status(), _status(("PrerequisitesMet", "False", "NameConflict")), [("Warning", "NameConflict")]),
        (_status(), _status(("Available", "Unknown", "Reconciling")), []),
        ({}, {}, []),
        (_status(WAIT), {}, []),
    ],
)  # fmt: skip
def test_events_are_told_on_transitions_only(old: Any, new: Any, told: list[tuple[str, str]]) -> None:
    assert [(kind, reason) for kind, reason, _ in transitions(old, new)] == told
    assert all(message == f"m {reason}" for _, reason, message in transitions(old, new))


@pytest.mark.parametrize("case", SITUATIONS, ids=lambda case: case.id)
def test_no_situation_tells_an_event_twice_for_one_cause(case: Situation) -> None:
    status = build(case.given, {}, NOW).wire()
    told = [reason for _, reason, _ in transitions({}, status)]
    assert len(told) == len(set(told))
    assert transitions(status, status) == []


@pytest.mark.parametrize(
    ("change", "urgent"),
    [
        ({}, False),
        ({"replicas": 3}, False),
        ({"readyReplicas": 1, "ready": "1/1"}, False),
        ({"selection": {"outcome": "Selected"}}, False),
        ({"observedGeneration": 2}, True),
        ({"recipe": {"name": "other"}}, True),
        ({"conditions": _status(HAVE)["conditions"]}, True),
    ],
)
def test_counts_may_wait_and_transitions_may_not(change: dict[str, Any], urgent: bool) -> None:
    old = _status(WAIT, observedGeneration=1, recipe={"name": "small"})
    assert is_transition(old, {**old, **change}) is urgent


def test_a_new_message_alone_is_no_transition() -> None:
    old, new = _status(WAIT), _status(WAIT)
    new["conditions"][0]["message"] = "other numbers"
    assert not is_transition(old, new)


def test_a_plan_and_its_status_agree(  # the seam between plan.py and status.py
) -> None:
    made = plan(deployment(), None, (SMALL,), FREE)
    revision: Revision | None = made.revision
    status = build(report(revision=revision, selected=made.selected, selection=made.selection), {}, NOW)
    assert status.selection
    assert status.recipe
    assert status.selection.chosen == status.recipe.name == "small"
    assert AIMDeploymentStatus.strict_load(status.wire()) == status


@pytest.mark.parametrize(
    ("judgement", "faults", "reason", "text"),
    [
        (NO_RECIPE, None, C.RECIPE_NOT_FOUND, "no recipe exists"),
        (NO_RECIPE, UNREADABLE, C.RECIPE_INVALID, "ConfigMap 'mine' cannot be read: line 3"),
        (WAITING, UNREADABLE, C.INSUFFICIENT_CAPACITY, WAITING.message),
    ],
)
def test_a_config_map_that_is_there_and_cannot_be_read_is_not_told_as_missing(
    judgement: Judgement, faults: Faults | None, reason: ConditionReason, text: str
) -> None:
    told = with_config_error(judgement, "mine", faults)
    assert told.reason is reason
    assert text in told.message


@pytest.mark.parametrize(
    ("given", "available", "on_target"),
    [
        ({"selected": NO_RECIPE, "revision": None}, "no recipe is in use, so nothing runs", "no engine runs"),
        ({"prerequisites": CONFLICT}, "nothing runs before PrerequisitesMet is True", "no engine runs"),
        ({}, "the Deployment is not there yet", "no engine runs"),
        ({"workload": RUNNING}, "1 of 1 replicas answer", "the engines have not been measured yet"),
    ],
)
def test_where_nothing_runs_that_is_said(given: dict[str, Any], available: str, on_target: str) -> None:
    told = {each.type: each.message for each in build(report(**given), {}, NOW).conditions}
    assert told[ConditionType.AVAILABLE] == available
    assert on_target in told[ConditionType.PERFORMANCE_ON_TARGET]


@pytest.mark.parametrize(
    ("workload", "told"),
    [
        (Workload(True, 1, 1, refused="exceeded quota: gpus"), "PodCreationRefused: exceeded quota: gpus"),
        (Workload(True, 2, 1, late=True), "LoadTimeout: the model did not load within its startup budget"),
        (Workload(True, 2, 1), "1 of 2 replicas answer"),
    ],
)
def test_while_some_replicas_answer_it_is_told_what_the_others_lack(workload: Workload, told: str) -> None:
    found = conditions(build(report({"replicas": 2}, workload=workload), {}, NOW))["Available"]
    assert (found.status, found.reason) == ("True", C.ROLLING_OUT)
    assert told in found.message

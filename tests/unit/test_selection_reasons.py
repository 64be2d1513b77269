"""Every reason code on a case of its own: the code, the numbers in the message, and what would help."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from aim_engine.api.enums import Outcome, Reason
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.engines import Problem
from aim_engine.inventory import Inventory, NodeState
from aim_engine.selection import Candidate, Request, Source, describe
from unit.selection_world import (
    GPT_OSS,
    LLAMA_405B,
    QWEN,
    UNKNOWN,
    NoFacts,
    choose,
    cluster,
    node,
    reasons,
    recipe,
    request,
    verdict_on,
    wishing,
)

EMPTY_8 = cluster(node())


@dataclass(frozen=True)
class Case:
    """The verdict expected on `recipe` r."""

    id: str
    reason: Reason
    recipe: Candidate
    message: tuple[str, ...]
    """Texts the message must hold."""
    remedy: str | None
    inventory: Inventory = field(default_factory=lambda: EMPTY_8)
    asked: Request = field(default_factory=request)
    others: tuple[Candidate, ...] = ()
    outcome: Outcome = Outcome.NO_RECIPE
    needed: str | None = None
    has: str | None = None
    ends: bool = False
    """The message ends with the last of its texts."""


def labelled(state: NodeState, **labels: str) -> NodeState:
    """The node with further labels."""
    facts = replace(state.facts, labels={**state.facts.labels, **labels})
    return replace(state, facts=facts)


def r(**fields: Any) -> Candidate:
    return recipe("r", **fields)


TENANT_ARGS: dict[str, Any] = {"max-model-len": 8192, "trust-remote-code": True}
TEAM_B = {"key": "team", "value": "b", "effect": "NoSchedule"}
NO_FALLBACK: dict[str, Any] = {"fallback": {"enabled": False}}

CASES = [
    Case(
        "chosen", Reason.CHOSEN, r(), ("best under the wishes", "tok/s per GPU", "tokens of KV cache"), None,
        outcome=Outcome.SELECTED,
    ),
    Case(
        "outranked by maturity", Reason.OUTRANKED, r(), ("fits", "best ranks higher", "maturity optimized over general"),
        "set spec.recipe.name: r", others=(recipe("best", maturity="optimized"),), outcome=Outcome.SELECTED,
    ),
    Case(
        "outranked by speed, with both numbers", Reason.OUTRANKED, r(tokens=9000), ("90000 (published) against 9000 (published) tok/s per GPU",),
        "set spec.recipe.name: r", others=(recipe("best", tokens=90000),), outcome=Outcome.SELECTED,
    ),
    Case(
        "outranked by a custom recipe", Reason.OUTRANKED, r(), ("custom recipes go before catalogue ones",),
        "set spec.recipe.name: r", others=(recipe("configmap/best", origin=Source.CUSTOM),), outcome=Outcome.SELECTED,
    ),
    Case(
        "outranked custom recipe is not told as an AIMRecipe name", Reason.OUTRANKED,
        recipe("configmap/r", origin=Source.CUSTOM), ("maturity",), None,
        others=(recipe("configmap/best", origin=Source.CUSTOM, maturity="optimized"),), outcome=Outcome.SELECTED,
    ),
    Case(
        "unknown flag", Reason.RECIPE_INVALID, r(engineArgs={"max-modle-len": 8192}),
        ("engineArgs.max-modle-len", "'8192'"), "did you mean max-model-len?",
    ),
    Case(
        "flag of the operator", Reason.RECIPE_INVALID, r(engineArgs={"port": 9000}), ("engineArgs.port", "9000"), "port",
    ),
    Case(
        "value of a wrong type", Reason.RECIPE_INVALID, r(engineArgs={"max-num-seqs": "many"}),
        ("engineArgs.max-num-seqs", "many"), "",
    ),
    Case(
        "contradicting arguments", Reason.RECIPE_INVALID, r(engineArgs={"max-num-batched-tokens": 128, "max-num-seqs": 256}),
        ("128", "256"), "set max-num-batched-tokens >= 256",
    ),
    Case(
        "GPU nobody knows", Reason.RECIPE_INVALID, r(gpu="MI999X"), ("hardware.gpuModel 'MI999X'", "not in the GPU catalogue"),
        "use one of MI210",
    ),
    Case(
        "partition the GPU lacks", Reason.RECIPE_INVALID, r(gpu="MI210", partition="cpx_nps4"),
        ("hardware.partition 'cpx_nps4'", "MI210"), "use one of spx",
    ),
    Case(
        "remote code from a tenant", Reason.RECIPE_INVALID,
        recipe("r", origin=Source.CUSTOM, engineArgs=TENANT_ARGS), ("trust-remote-code",), "",
    ),
    Case(
        "overrides that contradict", Reason.RECIPE_INVALID, r(),
        ("with spec.overrides", "max-num-batched-tokens 4 is less than max-num-seqs 64"), "set max-num-batched-tokens >= 64",
        asked=request(overrides={"engineArgs": {"max-num-batched-tokens": 4, "max-num-seqs": 64}}),
    ),
    Case(
        "namespace", Reason.NAMESPACE_NOT_ALLOWED, r(allowedNamespaces={"matchLabels": {"tier": "gold"}}),
        ("not open to namespace team-a",), "label the namespace", asked=request(labels={"tier": "silver"}),
    ),
    Case(
        "namespace by expression", Reason.NAMESPACE_NOT_ALLOWED,
        r(allowedNamespaces={"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}]}),
        ("not open to namespace team-a",), "label the namespace",
    ),
    Case(
        "GPU model wish", Reason.GPU_MODEL_MISMATCH, r(), ("spec.recipe.gpuModel asks for MI355X", "for MI300X"),
        "set spec.recipe.gpuModel to MI300X", asked=wishing(gpuModel="MI355X", **NO_FALLBACK), needed="MI355X", has="MI300X",
    ),
    Case(
        "GPU count wish", Reason.GPU_COUNT_MISMATCH, r(), ("spec.recipe.gpuCount asks for 4", "for 1"),
        "set spec.recipe.gpuCount to 1", asked=wishing(gpuCount=4, **NO_FALLBACK), needed="4", has="1",
    ),
    Case(
        "precision wish", Reason.PRECISION_MISMATCH, r(), ("spec.recipe.precision asks for fp8", "for bf16"),
        "set spec.recipe.precision to bf16", asked=wishing(precision="fp8", **NO_FALLBACK), needed="fp8", has="bf16",
    ),
    Case(
        "maturity wish", Reason.MATURITY_TOO_LOW, r(maturity="preview"), ("asks for general", "is preview"),
        "allow maturity preview", asked=wishing(minimumMaturity="general", **NO_FALLBACK), needed="general", has="preview",
    ),
    Case(
        "no FP8 on CDNA2", Reason.PRECISION_UNSUPPORTED, r(gpu="MI210", precision="fp8", source="Qwen/Qwen3-32B-FP8"),
        ("MI210 (gfx90a) cannot compute fp8, only bf16, fp16, int4, int8, mxfp4",),
        "use Qwen/Qwen3-32B (bf16) and use 2 x MI210", inventory=cluster(node(gpu="MI210", gpus=4)), asked=wishing(**NO_FALLBACK), needed="fp8",
        has="bf16, fp16, int4, int8, mxfp4",
    ),
    Case(
        "no FP8 on CDNA2, of a model nobody knows", Reason.PRECISION_UNSUPPORTED, r(gpu="MI210", precision="fp8", model=UNKNOWN),
        ("MI210 (gfx90a) cannot compute fp8",), "use a recipe for a GPU model that runs fp8", asked=request(UNKNOWN, recipe=NO_FALLBACK),
    ),
    Case(
        "more GPUs than a node has, of a model nobody knows", Reason.PARALLELISM_INVALID, r(count=16, model=UNKNOWN),
        ("a node has at most 8 MI300X",), "use 8 x MI300X", asked=request(UNKNOWN, recipe=NO_FALLBACK),
    ),
    Case(
        "FP8 KV cache on CDNA2", Reason.PRECISION_UNSUPPORTED,
        r(gpu="MI210", count=2, engineArgs={"max-model-len": 8192, "kv-cache-dtype": "fp8"}),
        ("MI210 (gfx90a) cannot read a KV cache in fp8",), "remove kv-cache-dtype",
        inventory=cluster(node(gpu="MI210", gpus=4)), asked=wishing(**NO_FALLBACK), needed="fp8 KV cache",
    ),
    Case(
        "weights in another format than the recipe says", Reason.RECIPE_INVALID, r(source="Qwen/Qwen3-32B-FP8"),
        ("precision 'bf16': the weights of Qwen/Qwen3-32B-FP8 are fp8",), "set source to Qwen/Qwen3-32B, or set precision to fp8",
        asked=wishing(**NO_FALLBACK),
    ),
    Case(
        "weights of another model", Reason.RECIPE_INVALID, r(source="amd/Llama-3.1-405B-Instruct-FP8-KV", precision="fp8"),
        ("source 'amd/Llama-3.1-405B-Instruct-FP8-KV': holds weights of meta-llama/Llama-3.1-405B-Instruct, and modelID is Qwen/Qwen3-32B",),
        "set modelID to meta-llama/Llama-3.1-405B-Instruct, or use one of Qwen/Qwen3-32B, Qwen/Qwen3-32B-FP8",
        asked=wishing(**NO_FALLBACK),
    ),
    Case(
        "engine without an image for the GPU", Reason.RECIPE_INVALID, r(gpu="MI210", count=2, backend="sglang", engineArgs={}),
        ("hardware.gpuModel 'MI210': SGLang has no image for gfx90a",), "use backend vllm", asked=wishing(**NO_FALLBACK),
    ),
    Case(
        "more GPUs than a node has", Reason.PARALLELISM_INVALID, r(count=16),
        ("16 GPUs of one replica; a node has at most 8 MI300X",), "use 8 x MI300X", asked=wishing(**NO_FALLBACK),
    ),
    Case(
        "nothing helps", Reason.MEMORY_INSUFFICIENT, r(gpu="MI210", model=LLAMA_405B, count=4),
        ("weights need", "no context, GPU count or known format of the weights makes it fit MI210 of one node"), None,
        inventory=cluster(node(gpu="MI210", gpus=4)), asked=request(LLAMA_405B, recipe=NO_FALLBACK), needed="GiB", has="GiB",
    ),
    Case(
        "heads that three GPUs cannot share", Reason.PARALLELISM_INVALID, r(count=3),
        ("64 attention heads cannot be divided over 3 GPUs",), "use 2 x MI300X",
        asked=wishing(**NO_FALLBACK),
    ),
    Case(
        "stages that do not divide the GPUs", Reason.PARALLELISM_INVALID,
        r(count=4, engineArgs={"pipeline-parallel-size": 3}), ("pipeline 3 x data 1 do not divide 4 GPUs",),
        "choose sizes whose product divides 4", asked=wishing(**NO_FALLBACK),
    ),
    Case(
        "GPU model not here", Reason.GPU_MODEL_NOT_IN_CLUSTER, r(gpu="MI355X"), ("no node has MI355X", "the cluster has MI300X"),
        "add a MI355X node", asked=wishing(**NO_FALLBACK), needed="MI355X", has="MI300X",
    ),
    Case(
        "cluster without GPUs", Reason.GPU_MODEL_NOT_IN_CLUSTER, r(), ("the cluster has none",), "check the node labels",
        inventory=cluster(), needed="MI300X", has="none",
    ),
    Case(
        "whole GPUs asked, partitions here", Reason.PARTITION_MISMATCH, r(), ("for whole GPUs", "in cpx_nps4"),
        "use a recipe for cpx_nps4", inventory=cluster(node(gpus=64, partition="cpx_nps4")), needed="whole GPUs", has="cpx_nps4",
    ),
    Case(
        "partitions asked, whole GPUs here", Reason.PARTITION_MISMATCH, r(partition="cpx_nps4", count=8),
        ("for cpx_nps4", "in whole GPUs"), "use a recipe for whole GPUs", asked=wishing(**NO_FALLBACK), needed="cpx_nps4",
        has="whole GPUs",
    ),
    Case(
        "weights too large", Reason.MEMORY_INSUFFICIENT, r(model=LLAMA_405B, count=2), ("weights need", "GiB", "per GPU"),
        "use 8 x MI300X", asked=request(LLAMA_405B, recipe=NO_FALLBACK), needed="GiB", has="GiB",
    ),
    Case(
        "requests longer than the model allows", Reason.CONTEXT_TOO_LONG, r(),
        ("spec.workload.maxInputTokens + maxOutputTokens asks for 60000", "60,000 exceeds the 40,960 tokens the model supports"),
        "set spec.workload.maxInputTokens + maxOutputTokens <= 40960",
        asked=request(recipe=NO_FALLBACK, workload={"maxInputTokens": 50000, "maxOutputTokens": 10000}),
        needed="60000 tokens", has="40960 tokens",
    ),
    Case(
        "context longer than the KV cache", Reason.CONTEXT_TOO_LONG,
        r(gpu="MI210", count=2, engineArgs={"max-model-len": 40960, "gpu-memory-utilization": 0.62}),
        ("a context of 40,960 tokens needs", "GiB of KV cache"), "use 4 x MI210",
        inventory=cluster(node(gpu="MI210", gpus=4)), asked=wishing(**NO_FALLBACK), needed="40960 tokens", has="tokens",
    ),
    Case(
        "target above the hardware", Reason.TARGET_NOT_REACHABLE, r(),
        ("spec.targets.minTokensPerSecond asks for 99999999", "the hardware cannot exceed"), "set spec.targets.minTokensPerSecond <=",
        asked=request(recipe=NO_FALLBACK, targets={"minTokensPerSecond": 99_999_999}), needed="99999999", has="",
    ),
    Case(
        "cordoned node", Reason.NODE_NOT_USABLE, r(count=4), ("needs 4 free MI300X GPUs on one node", "gpu-1 is cordoned"),
        "uncordon gpu-1, or add a MI300X node", inventory=cluster(node(unschedulable=True)), outcome=Outcome.WAITING,
        needed="4 free MI300X GPUs on one node", has="0 usable nodes",
    ),
    Case(
        "node not ready", Reason.NODE_NOT_USABLE, r(), ("gpu-1 is not Ready",), "wait until gpu-1 is Ready, or add a MI300X node",
        inventory=cluster(node(ready=False)), outcome=Outcome.WAITING,
    ),
    Case(
        "taint not tolerated", Reason.NODE_NOT_USABLE, r(), ("gpu-1 has taint team=b:NoSchedule that is not tolerated",),
        "tolerate team=b:NoSchedule in spec.scheduling.tolerations, or add a MI300X node", inventory=cluster(node(taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}])),
        outcome=Outcome.WAITING,
    ),
    Case(
        "node selector that matches nothing", Reason.NODE_NOT_USABLE, r(), ("gpu-1 lacks the label zone=b of the node selector",),
        "correct spec.scheduling.nodeSelector",
        asked=request(scheduling={"nodeSelector": {"zone": "b"}}), outcome=Outcome.WAITING,
    ),
    Case(
        "unhealthy GPUs, too few left", Reason.NODE_NOT_USABLE, r(count=4), ("gpu-1 has 5 unhealthy GPUs of 8",),
        "repair the GPUs of gpu-1", inventory=cluster(node(unhealthy=5)), asked=wishing(**NO_FALLBACK), outcome=Outcome.WAITING,
    ),
    Case(
        "no healthy GPU", Reason.NODE_NOT_USABLE, r(), ("needs 1 free MI300X GPU on one node; gpu-1 has 8 unhealthy GPUs of 8",),
        "repair the GPUs of gpu-1", inventory=cluster(node(unhealthy=8)), outcome=Outcome.WAITING,
    ),
    Case(
        "several causes at once are all told", Reason.NODE_NOT_USABLE, r(),
        ("gpu-1 is not Ready and is cordoned and has taint team=b:NoSchedule that is not tolerated",),
        "wait until gpu-1 is Ready and uncordon gpu-1 and tolerate team=b:NoSchedule in spec.scheduling.tolerations",
        inventory=cluster(node(ready=False, unschedulable=True, taints=[TEAM_B])), outcome=Outcome.WAITING,
    ),
    Case(
        "the taint that a cordon brings is not told twice", Reason.NODE_NOT_USABLE, r(), ("; gpu-1 is cordoned",),
        "uncordon gpu-1, or add", inventory=cluster(node(
            unschedulable=True, taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])), outcome=Outcome.WAITING,
    ),
    Case(
        "the node with the fewest causes is the remedy's first", Reason.NODE_NOT_USABLE, r(),
        ("a is not Ready and is cordoned; b is cordoned",), "uncordon b, or wait until a is Ready and uncordon a, or add",
        inventory=cluster(node("a", ready=False, unschedulable=True), node("b", unschedulable=True)), outcome=Outcome.WAITING,
    ),
    Case(
        "a node that is too small is not named, for opening it would not help", Reason.NODE_NOT_USABLE, r(count=8),
        ("on one node; big has taint",), "tolerate team=b:NoSchedule", asked=wishing(**NO_FALLBACK),
        inventory=cluster(node("a-small", gpus=4, unschedulable=True), node("big", taints=[TEAM_B])), outcome=Outcome.WAITING,
    ),
    Case(
        "a full node and a closed one", Reason.CAPACITY_INSUFFICIENT, r(),
        ("at most 0 on one node, 0 in all; besides, b is cordoned",), "free 1 GPU, or uncordon b, or add a MI300X node", inventory=cluster(
            node("a", used=8), node("b", unschedulable=True)), outcome=Outcome.WAITING,
    ),
    Case(
        "a full node and others that were not selected", Reason.CAPACITY_INSUFFICIENT, r(),
        ("at most 0 on one node, 0 in all",), "free 1 GPU, or add a MI300X node", inventory=cluster(
            labelled(node("b", used=8), zone="a"), node("a"), node("c", unschedulable=True)),
        asked=request(scheduling={"nodeSelector": {"zone": "a"}}), outcome=Outcome.WAITING,
        has="at most 0 on one node, 0 in all", ends=True,
    ),
    Case(
        "the selected node is named before the others", Reason.NODE_NOT_USABLE, r(),
        ("on one node; z is cordoned; a lacks the label zone=a of the node selector",), "uncordon z, or", inventory=cluster(
            node("a"), labelled(node("z", unschedulable=True), zone="a")),
        asked=request(scheduling={"nodeSelector": {"zone": "a"}}), outcome=Outcome.WAITING,
    ),
    Case(
        "GPUs are to be freed where there are enough of them", Reason.CAPACITY_INSUFFICIENT, r(count=8),
        ("at most 2 on one node (big), 6 in all",), "free 6 GPUs on big, or add a MI300X node",
        inventory=cluster(node("a-small", gpus=4), node("big", used=6)), asked=wishing(**NO_FALLBACK), outcome=Outcome.WAITING,
    ),
    Case(
        "partitions are told as partitions", Reason.CAPACITY_INSUFFICIENT, r(count=8, partition="cpx_nps4"),
        ("needs 8 free MI300X cpx_nps4 partitions on one node", "at most 4 on one node (gpu-1)"),
        "free 4 cpx_nps4 partitions on gpu-1, or add a MI300X node in cpx_nps4",
        inventory=cluster(node(gpus=64, used=60, partition="cpx_nps4")), asked=wishing(**NO_FALLBACK), outcome=Outcome.WAITING,
    ),
    Case(
        "too few partitions", Reason.CAPACITY_INSUFFICIENT, r(count=8, partition="cpx_nps4"),
        ("needs 8 MI300X cpx_nps4 partitions on one node; the largest node has 4",), "use a recipe with fewer GPUs",
        inventory=cluster(node(gpus=4, partition="cpx_nps4")), asked=wishing(**NO_FALLBACK), needed="8 cpx_nps4 partitions on one node",
    ),
    Case(
        "no pod slot", Reason.NODE_RESOURCES_INSUFFICIENT, r(), ("needs a free pod slot beside 1 free MI300X GPU",),
        "remove a pod from a node, or raise maxPods", inventory=cluster(node(used=1, pods=1)), outcome=Outcome.WAITING,
    ),
    Case(
        "CPU taken", Reason.NODE_RESOURCES_INSUFFICIENT, r(cpu="32"), ("needs 32 CPUs beside 1 free MI300X GPU on one node",),
        "free cpu on a node", inventory=cluster(node(used=1, used_cpu=90)), outcome=Outcome.WAITING, needed="32 CPUs", has="at most 6 CPUs",
    ),
    Case(
        "host memory taken", Reason.NODE_RESOURCES_INSUFFICIENT, r(memory="512Gi"), ("needs 512.0 GiB of memory beside",),
        "free memory on a node", inventory=cluster(node(used=1, used_memory_gib=900)), asked=wishing(**NO_FALLBACK), outcome=Outcome.WAITING,
        needed="512.0 GiB of memory", has="at most 124.0 GiB",
    ),
    Case(
        "more CPU than any node has", Reason.NODE_RESOURCES_INSUFFICIENT, r(cpu="200"),
        ("needs 200 CPUs and 64.0 GiB of memory", "1 MI300X GPU has as much even when empty"), "lower spec.overrides.resources",
        asked=wishing(**NO_FALLBACK), needed="200 CPUs",
    ),
    Case(
        "GPUs taken", Reason.CAPACITY_INSUFFICIENT, r(count=4),
        ("needs 4 free MI300X GPUs on one node", "at most 2 on one node (gpu-1), 2 in all"),
        "free 2 GPUs on gpu-1, or add a MI300X node", inventory=cluster(node(used=6)), asked=wishing(**NO_FALLBACK),
        outcome=Outcome.WAITING,
        needed="4 free MI300X GPUs on one node", has="at most 2 on one node (gpu-1), 2 in all",
    ),
    Case(
        "four and four on two nodes are not eight", Reason.CAPACITY_INSUFFICIENT, r(count=8),
        ("at most 4 on one node (gpu-1), 8 in all",), "free 4 GPUs on gpu-1",
        inventory=cluster(node("gpu-1", used=4), node("gpu-2", used=4)), asked=wishing(**NO_FALLBACK), outcome=Outcome.WAITING,
    ),
    Case(
        "no node is that large", Reason.CAPACITY_INSUFFICIENT, r(count=8), ("needs 8 MI300X GPUs on one node", "has 4"),
        "use a recipe with fewer GPUs", inventory=cluster(node(gpus=4)), asked=wishing(**NO_FALLBACK),
        needed="8 GPUs on one node", has="4",
    ),
    Case(
        "better one is full", Reason.CAPACITY_INSUFFICIENT, r(count=4, maturity="optimized"), ("at most 2 on one node",),
        "free 2 GPUs", inventory=cluster(node(used=6)), others=(recipe("small"),), outcome=Outcome.SELECTED,
    ),
    Case(
        "lesser one is full too", Reason.CAPACITY_INSUFFICIENT, r(count=4), ("at most 2 on one node",), "free 2 GPUs",
        inventory=cluster(node(used=6)), others=(recipe("small", maturity="optimized"),), outcome=Outcome.SELECTED,
    ),
    Case(
        "room for some of the replicas", Reason.CAPACITY_INSUFFICIENT, r(count=4, maturity="optimized"),
        ("1 of 3 replicas fit now",), "free or add 8 GPUs", inventory=cluster(node(used=4)), asked=request(replicas=3),
        others=(recipe("small"),), outcome=Outcome.SELECTED, needed="3 replicas", has="1",
    ),
]  # fmt: skip

WITHOUT_NUMBERS = {
    Reason.RECIPE_INVALID, Reason.NAMESPACE_NOT_ALLOWED, Reason.OUTRANKED, Reason.PRECISION_MISMATCH,
    Reason.MATURITY_TOO_LOW, Reason.PARTITION_MISMATCH,
}  # fmt: skip
"""Reasons that speak of names, not amounts."""
WITHOUT_NEED = {Reason.CHOSEN, Reason.OUTRANKED, Reason.RECIPE_INVALID, Reason.NAMESPACE_NOT_ALLOWED}


def _run(case: Case) -> Any:
    return choose([case.recipe, *case.others], case.inventory, case.asked)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_reason_is_told_with_its_numbers_and_remedy(case: Case) -> None:
    decision = _run(case)
    verdict = verdict_on(decision, case.recipe.name)
    assert verdict.reason is case.reason, verdict
    for text in case.message:
        assert text in verdict.message
    assert verdict.message.endswith(case.message[-1]) or not case.ends
    if case.remedy is None:
        assert verdict.remedy is None
    else:
        assert verdict.remedy
        assert case.remedy in verdict.remedy
    if case.needed is not None:
        assert verdict.needed
        assert case.needed in verdict.needed
    if case.has is not None:
        assert verdict.has is not None
        assert case.has in verdict.has
    if case.reason not in WITHOUT_NUMBERS:
        assert re.search(r"\d", verdict.message)
    if case.reason is not Reason.CHOSEN and case.outcome is not Outcome.SELECTED:
        assert decision.choice is None or decision.choice.assessment.candidate.source is Source.GENERATED


@pytest.mark.parametrize("case", [c for c in CASES if c.asked.fallback is False or c.outcome is not Outcome.NO_RECIPE], ids=lambda case: case.id)  # fmt: skip
def test_the_outcome_follows_from_the_verdicts(case: Case) -> None:
    assert _run(case).outcome is case.outcome


def test_a_wish_for_another_backend_is_told() -> None:
    asked = wishing(backend="sglang", **NO_FALLBACK)
    verdict = verdict_on(choose([r()], EMPTY_8, asked), "r")
    assert verdict.reason is Reason.BACKEND_MISMATCH
    assert (verdict.needed, verdict.has) == ("sglang", "vllm")
    assert verdict.remedy == "set spec.recipe.backend to vllm or leave it out"


def test_every_reason_has_a_case() -> None:
    assert {case.reason for case in CASES} | {Reason.BACKEND_MISMATCH} == set(Reason)


def test_rejections_tell_what_was_needed_and_what_there_is() -> None:
    for case in CASES:
        verdict = verdict_on(_run(case), case.recipe.name)
        if verdict.reason not in WITHOUT_NEED | {Reason.PARALLELISM_INVALID, Reason.PRECISION_UNSUPPORTED}:
            assert verdict.needed, (case.id, verdict)
            assert verdict.has, (case.id, verdict)
        hopeless = "no context, GPU count or known format of the weights" in verdict.message
        if verdict.reason is not Reason.CHOSEN and "/" not in verdict.recipe:
            assert bool(verdict.remedy) is not hopeless, (case.id, verdict)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_verdicts_fit_into_the_status_without_being_cut(case: Case) -> None:
    for verdict in _run(case).verdicts:
        assert len(verdict.message) <= 1024
        assert len(verdict.remedy or "") <= 1024
        assert len(verdict.needed or "") <= 100
        assert len(verdict.has or "") <= 100


def test_the_first_stage_that_fails_is_the_one_told() -> None:
    """Each recipe fails every later stage too."""
    asked = request(
        LLAMA_405B,
        recipe={
            "gpuModel": "MI300X",
            "gpuCount": 1,
            "precision": "bf16",
            "minimumMaturity": "general",
            **NO_FALLBACK,
        },
    )
    worst: dict[str, Any] = {
        "model": LLAMA_405B, "source": "acme/heard-of-by-nobody", "gpu": "MI210", "count": 3, "precision": "fp8", "maturity": "preview",
        "allowedNamespaces": {"matchLabels": {"tier": "gold"}}, "engineArgs": {"no-such-flag": 1},
    }  # fmt: skip
    mended: dict[str, Any] = {}
    told = []
    steps: list[dict[str, Any]] = [
        {}, {"engineArgs": {}}, {"allowedNamespaces": {}}, {"gpu": "MI300X"}, {"count": 1}, {"precision": "bf16"},
        {"maturity": "general"},
    ]  # fmt: skip
    for step in steps:
        mended |= step
        inventory = cluster(node(gpu="MI210", gpus=4))
        told.append(reasons(choose([r(**{**worst, **mended})], inventory, asked))["r"])
    assert told == [
        Reason.RECIPE_INVALID, Reason.NAMESPACE_NOT_ALLOWED, Reason.GPU_MODEL_MISMATCH, Reason.GPU_COUNT_MISMATCH,
        Reason.PRECISION_MISMATCH, Reason.MATURITY_TOO_LOW, Reason.GPU_MODEL_NOT_IN_CLUSTER,
    ]  # fmt: skip


def test_memory_is_unknown_but_never_refused_for_a_model_without_facts() -> None:
    decision = choose([r(model="acme/unheard-of")], EMPTY_8, request("acme/unheard-of"), NoFacts())
    assert reasons(decision) == {"r": Reason.CHOSEN}


def test_a_wish_is_compared_without_regard_to_case() -> None:
    assert reasons(choose([r()], EMPTY_8, wishing(gpuModel="mi300x")))["r"] is Reason.CHOSEN


def test_an_open_namespace_selector_lets_everybody_in() -> None:
    absent = {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}
    selectors: list[dict[str, Any]] = [{}, {"matchLabels": {}}, absent]
    for selector in selectors:
        assert reasons(choose([r(allowedNamespaces=selector)], EMPTY_8))["r"] is Reason.CHOSEN


@pytest.mark.parametrize(
    ("expression", "labels", "open_"),
    [
        ({"operator": "In", "values": ["a", "b"]}, {"k": "a"}, True),
        ({"operator": "In", "values": ["a", "b"]}, {"k": "c"}, False),
        ({"operator": "In", "values": ["a"]}, {}, False),
        ({"operator": "NotIn", "values": ["a"]}, {"k": "b"}, True),
        ({"operator": "NotIn", "values": ["a"]}, {"k": "a"}, False),
        ({"operator": "NotIn", "values": ["a"]}, {}, True),
        ({"operator": "Exists"}, {"k": ""}, True),
        ({"operator": "Exists"}, {}, False),
        ({"operator": "DoesNotExist"}, {}, True),
        ({"operator": "DoesNotExist"}, {"k": "a"}, False),
    ],
)
def test_namespace_expressions_mean_what_kubernetes_means(
    expression: dict[str, Any], labels: dict[str, str], open_: bool
) -> None:
    only = r(allowedNamespaces={"matchExpressions": [{"key": "k", **expression}]})
    found = reasons(choose([only], EMPTY_8, request(labels=labels)))["r"]
    assert found is (Reason.CHOSEN if open_ else Reason.NAMESPACE_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("asked", "recipes", "message", "remedy"),
    [
        (request("acme/unheard-of"), [], "no recipe exists for model 'acme/unheard-of'", "add an AIMRecipe"),
        (wishing(None, name="gone"), [], "AIMRecipe 'gone' does not exist", "create AIMRecipe gone"),
        (wishing(None, configMap="gone"), [], "ConfigMap 'gone' does not exist", "create ConfigMap gone"),
        (wishing(GPT_OSS, name="r"), [r()], f"AIMRecipe 'r' is for model Qwen/Qwen3-32B, not {GPT_OSS}", "correct"),
    ],
)  # fmt: skip
def test_nothing_to_choose_from_is_told_by_name(
    asked: Request, recipes: list[Candidate], message: str, remedy: str
) -> None:
    decision = choose(recipes, EMPTY_8, asked)
    assert decision.outcome is Outcome.NO_RECIPE
    assert message in decision.message
    assert remedy in (decision.remedy or "")
    assert decision.verdicts == ()


def test_the_nearest_rejection_leads_the_message() -> None:
    far, near = recipe("far", engineArgs={"no-such-flag": 1}), recipe("near", gpu="MI355X")
    decision = choose([far, near], EMPTY_8, wishing(**NO_FALLBACK))
    assert decision.outcome is Outcome.NO_RECIPE
    assert [verdict.recipe for verdict in decision.verdicts] == ["near", "far"]
    assert "nearest is near" in decision.message
    others = choose([far, near, recipe("a", gpu="MI210")], EMPTY_8, wishing(**NO_FALLBACK))
    assert "the nearest are for MI210, MI355X, and the cluster has MI300X" in others.message
    assert decision.remedy == decision.verdicts[0].remedy


def test_recipe_specs_of_the_tests_are_what_users_write() -> None:
    assert AIMRecipeSpec.strict_load(r().spec.wire()) == r().spec


def test_values_of_the_environment_are_never_repeated() -> None:
    problem = Problem(
        "env.HF_TOKEN", "hf_secret", "HF_TOKEN is set by the operator", "use spec.model.tokenSecret"
    )
    assert "hf_secret" not in describe(problem)
    assert "'5'" in describe(Problem("engineArgs.x", 5, "x is not a flag", "remove it"))


@pytest.mark.parametrize(
    ("nodes", "count", "nearest", "remedy"),
    [
        ([node("old", "MI210", 8), node("gpu-1", "MI300X", 8)], 3, "generated/qwen3-32b-mi300x-3x-bf16", "set spec.recipe.gpuCount to 2 or 4"),
        ([node("old", "MI210", 8), node("gpu-1", "MI300X", 8)], 7, "generated/qwen3-32b-mi300x-7x-bf16", "set spec.recipe.gpuCount to 4 or 8"),
        ([node("old", "MI210", 8)], 3, "generated/qwen3-32b-mi210-3x-bf16", "set spec.recipe.gpuCount to 2 or 4"),
    ],
)  # fmt: skip
def test_the_nearest_is_for_the_best_gpu_there_and_names_counts_that_fit(
    nodes: list[NodeState], count: int, nearest: str, remedy: str
) -> None:
    decision = choose([], cluster(*nodes), request(QWEN, recipe={"gpuCount": count}))
    assert f"nearest is {nearest}" in decision.message
    assert decision.remedy == remedy
    for each in re.findall(r"\d+", remedy):
        assert choose([], cluster(*nodes), request(QWEN, recipe={"gpuCount": int(each)})).choice


def test_a_recipe_for_gpus_that_are_there_is_nearer_than_one_for_better_gpus_that_are_not() -> None:
    here, better = recipe("here", count=2), recipe("a-better", gpu="MI355X", count=2)
    asked = request(QWEN, recipe={"gpuCount": 4, "fallback": {"enabled": False}})
    decision = choose([better, here], cluster(node("gpu-1", "MI300X", 8)), asked)
    assert "nearest is here" in decision.message


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(None, r"\(it is estimated to reach \d{4}\)"), (3000, r"\(it is published to reach 3000\)")],
)
def test_a_target_beyond_the_hardware_is_told_with_what_is_known_or_estimated(
    tokens: int | None, expected: str
) -> None:
    known = recipe("r", tokens=tokens, concurrency=4 if tokens else None)
    decision = choose([known], EMPTY_8, request(recipe=NO_FALLBACK, targets={"minTokensPerSecond": 900_000}))
    assert re.search(expected, decision.remedy or "")

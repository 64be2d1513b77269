"""Laws of the gate, searched for counterexamples: it always answers, and refuses nothing that the operator would run."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.corpus import QWEN, ROOT, TENANT, Json, cases, judge
from admission.mutants import PLAIN, mutants, texts
from aim_engine.admission.answer import Answer
from aim_engine.api.enums import Backend
from aim_engine.api.recipe import AIMRecipe
from aim_engine.catalog.flags import flag_table
from aim_engine.catalog.models import checkpoint_catalog, model_catalog
from aim_engine.engines import engine
from aim_engine.selection import Source, candidate
from unit.operator_world import OperatorPlanner
from unit.selection_world import DEVICE_IDS, UNHURRIED, choose, cluster, node, node_object, request

RECIPE = {"apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMRecipe", "metadata": {"name": "case"}}


def flags(backend: str) -> list[str]:
    """Names of an engine's flags."""
    table = flag_table(Backend(backend), engine(Backend(backend)).DEFAULT_VERSION)
    assert table is not None
    return sorted(table.flags)


_TREES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_PARTS = ("spec", "metadata", "data", "apiVersion", "kind")
_KINDS = ("AIMDeployment", "AIMRecipe", "ConfigMap")


def assert_plain(answer: Answer) -> None:
    for line in (*answer.refusals, *answer.warnings):
        assert line.isprintable() or "\n" not in line
        assert len(line) < 2000
    assert all("; " in line for line in answer.refusals)


@settings(UNHURRIED, max_examples=300)
@given(st.sampled_from(_KINDS), st.dictionaries(st.sampled_from(_PARTS), _TREES, max_size=5))
def test_any_json_gets_an_answer(kind: str, tree: Json) -> None:
    """As if a client of its own spoke to the validator: the API server lets hardly any of this through."""
    obj = {**tree, "kind": kind}
    assert_plain(judge(obj))
    if kind != "ConfigMap":  # the label is what makes it ours
        assert judge(obj, obj).refusals == ()


@settings(UNHURRIED, max_examples=300)
@given(mutants() | texts())
def test_any_damaged_object_gets_an_answer(obj: Json) -> None:
    assert_plain(judge(obj))
    assert judge(obj, obj).refusals == ()


EVERYTHING = cluster(*(node(f"n-{name}", name, 8) for name in DEVICE_IDS))
OPERATOR = OperatorPlanner(
    (
        *(("Node", {"apiVersion": "v1", **node_object(f"n-{name}", name, 8)}) for name in DEVICE_IDS),
        *(
            ("AIMRecipe", yaml.safe_load(file.read_text()))
            for file in sorted((ROOT / "recipes" / "qwen3").rglob("*.yaml"))[:20]
        ),
    )
)
"""An operator of a cluster that has every GPU, free."""
_versions = iter(range(1, 10**9))


def planned(obj: Json) -> Any:
    """What the operator does about a deployment that was stored although the gate refuses it."""
    version = str(next(_versions))
    metadata = {
        "name": "case",
        "namespace": TENANT,
        "uid": version,
        "resourceVersion": version,
        "generation": 1,
    }
    OPERATOR.feed("AIMDeployment", {**obj, "metadata": metadata})
    return OPERATOR.plan((TENANT, "case"))


def assert_not_run(obj: Json) -> None:
    if obj["kind"] == "AIMDeployment":
        plan = planned(obj)
        assert plan.revision is None
        assert plan.selected.status == "False"
        return
    spec = AIMRecipe.model_validate(obj).spec
    made = candidate("case", Source.CATALOGUE, spec)
    asked = request(spec.model_id, recipe={"name": "case"})
    assert choose([made], EVERYTHING, asked).choice is None


_FLAGS = st.sampled_from(
    [*flags("vllm"), "frobnicate", "max-modle-len", "max_num_seqs", "--seed", "no-enable-prefix-caching"]
)
_SETTINGS = st.sampled_from(
    [
        True,
        False,
        None,
        0,
        1,
        7,
        8192,
        -1,
        0.5,
        1.5,
        "auto",
        "fp8",
        "many",
        "8k",
        "a\nb",
        [],
        ["a"],
        [1, 2],
        {"a": 1},
        "{}",
    ]
)
_VARIABLES = st.sampled_from(
    [
        "VLLM_ROCM_USE_AITER",
        "LD_PRELOAD",
        "HF_TOKEN",
        "MY_OWN",
        "TZ",
        "PYTHONPATH",
        "VLLM_X",
        "HTTPS_PROXY",
        "A=B",
    ]
)
_WORDS = st.sampled_from(["a", "a b", "a/b", "a/b/c", "", "x" * 63, "-a", "b-"])
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from([{"id": each} for each in (*sorted(model_catalog())[:40], "acme/unheard-of")]),
        "recipe": st.fixed_dictionaries(
            {},
            optional={
                "gpuModel": st.sampled_from([*DEVICE_IDS, "H100", "mi300x", "MI300XX"]),
                "gpuCount": st.sampled_from([1, 2, 3, 4, 7, 8, 16, 64]),
                "precision": st.sampled_from(["bf16", "fp16", "fp8", "int8", "int4", "mxfp4"]),
                "backend": st.sampled_from(["vllm", "sglang", "aim"]),
            },
        ),
        "overrides": st.fixed_dictionaries(
            {},
            optional={
                "engineArgs": st.dictionaries(_FLAGS, _SETTINGS, max_size=3),
                "env": st.dictionaries(_VARIABLES, st.sampled_from(["", "1", "x\0y"]), max_size=2),
                "resources": st.sampled_from([{"cpu": "1m"}, {"cpu": "4"}, {"memory": "64"}, {"memory": "64Gi"}]),
                "image": st.sampled_from(["vllm/vllm-openai-rocm:v0.32.0", "evil.example/x"]),
            },
        ),
        "workload": st.fixed_dictionaries({}, optional={"maxBatchSize": st.integers(1, 65536), "maxInputTokens": st.integers(1, 10**6)}),
        "targets": st.fixed_dictionaries({}, optional={"minTokensPerSecond": st.integers(1, 10**8), "maxTimeToFirstTokenMilliseconds": st.integers(1, 5000)}),
        "service": st.fixed_dictionaries({"annotations": st.dictionaries(_WORDS, st.just("x"), max_size=2)}),
        "scheduling": st.fixed_dictionaries({"nodeSelector": st.dictionaries(_WORDS, _WORDS, max_size=2)}),
    },
)  # fmt: skip
"""What the schema takes, right or wrong."""


@settings(UNHURRIED, max_examples=300)
@given(SPECS)
def test_a_deployment_that_is_refused_would_not_run(spec: Json) -> None:
    obj = {**PLAIN[0], "spec": {"model": {"id": QWEN}, **spec}}
    if judge(obj).refusals:
        assert_not_run(obj)


RECIPES = st.fixed_dictionaries(
    {
        "hardware": st.fixed_dictionaries(
            {"gpuModel": st.sampled_from([*DEVICE_IDS, "H100"]), "gpuCount": st.sampled_from([1, 2, 3, 4, 8, 16])},
            optional={"partition": st.sampled_from(["spx_nps1", "cpx_nps4"])},
        ),
        "precision": st.sampled_from(["bf16", "fp16", "fp8", "int4", "mxfp4"]),
    },
    optional={
        "modelID": st.sampled_from([*sorted(model_catalog())[:40], "acme/unheard-of"]),
        "source": st.sampled_from(sorted(checkpoint_catalog())[:40]),
        "backend": st.sampled_from(["vllm", "sglang", "aim"]),
        "engineArgs": st.dictionaries(_FLAGS, _SETTINGS, max_size=3),
        "env": st.dictionaries(_VARIABLES, st.just("1"), max_size=2),
        "allowedNamespaces": st.fixed_dictionaries(
            {"matchExpressions": st.lists(
                st.fixed_dictionaries(
                    {"key": _WORDS.filter(bool), "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
                    optional={"values": st.lists(_WORDS, max_size=2, unique=True)},
                ),
                max_size=2,
            )}
        ),
    },
)  # fmt: skip


@settings(UNHURRIED, max_examples=300)
@given(RECIPES)
def test_a_recipe_that_is_refused_would_not_run(spec: Json) -> None:
    obj = {**RECIPE, "spec": {"modelID": QWEN, **spec}}
    if judge(obj).refusals:
        assert_not_run(obj)


def test_what_the_corpus_refuses_the_operator_would_not_run() -> None:
    refused = [
        case.object
        for case in cases("bad")
        if case.by == "gate" and case.kind != "ConfigMap" and "levels" not in case.name
    ]
    assert len(refused) > 100
    for obj in refused:
        assert_not_run(obj)

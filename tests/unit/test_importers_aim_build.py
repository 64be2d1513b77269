"""AIM profiles become recipes for the pinned engine, or are refused with file, field, value and remedy."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Maturity, Objective, Precision
from aim_engine.api.meta import ANNOTATION_LICENCE, ANNOTATION_NOTES, ANNOTATION_ORIGIN
from aim_engine.api.recipe import AIMRecipe, AIMRecipeSpec
from aim_engine.catalog.imports import origins
from aim_engine.importers.aim_build import import_profiles
from aim_engine.importers.results import Imported, Rejected
from unit.importer_files import source_file

ORIGIN = origins()["aim-build"]
PATH = "profiles/Qwen/Qwen3-32B/vllm-mi300x-fp16-tp1-{}.yaml"
PROFILE = """\
aim_id: Qwen/Qwen3-32B
model_id: Qwen/Qwen3-32B
metadata:
  engine: vllm
  gpu: MI300X
  gpu_count: 1
  manual_selection_only: false
  metric: METRIC
  precision: fp16
  type: optimized
engine_args:
  async-scheduling: null
  disable-uvicorn-access-log: null
  distributed_executor_backend: mp
  dtype: float16
  gpu-memory-utilization: 0.9
  max-model-len: 32768
  max-num-batched-tokens: 1024
  max-num-seqs: 512
  max-seq-len-to-capture: 32768
  no-enable-log-requests: null
  no-enable-prefix-caching: null
  no-trust-remote-code: null
  reasoning-parser: qwen3
  swap-space: 64
  tensor-parallel-size: 1
env_vars:
  GPU_ARCHS: gfx942
  VLLM_ROCM_USE_AITER: '1'
  VLLM_USE_AITER_TRITON_ROPE: '1'
"""


def profile(metric: str = "throughput", **changes: str) -> str:
    """The profile with some of its lines replaced."""
    text = PROFILE.replace("METRIC", metric)
    for field, line in changes.items():
        key = field.replace("_", "-") if field.replace("_", "-") + ":" in text else field
        text = "\n".join(
            f"{row[: len(row) - len(row.lstrip())]}{line}" if row.strip().startswith(f"{key}:") else row
            for row in text.splitlines()
        )
    return text


def one(text: str, path: str = PATH.format("throughput")) -> Imported | Rejected:
    """The only result of one profile."""
    (result,) = import_profiles([source_file(path, text)], ORIGIN)
    return result


def recipe(text: str) -> AIMRecipe:
    """The recipe of a profile that must have one."""
    result = one(text)
    assert isinstance(result, Imported), result
    return result.recipe


def spec(text: str) -> AIMRecipeSpec:
    return recipe(text).spec


def notes(text: str) -> str:
    return recipe(text).metadata.annotations[ANNOTATION_NOTES]


def test_a_profile_becomes_a_recipe_for_the_pinned_engine() -> None:
    made = recipe(profile())
    assert made.metadata.name == "qwen3-32b-mi300x-1x-fp16"
    assert made.spec.engine_args == {
        "async-scheduling": True,
        "disable-uvicorn-access-log": True,
        "distributed-executor-backend": "mp",
        "dtype": "float16",
        "enable-prefix-caching": False,
        "gpu-memory-utilization": 0.9,
        "max-model-len": 32768,
        "max-num-batched-tokens": 1024,
        "max-num-seqs": 512,
        "reasoning-parser": "qwen3",
    }
    assert made.spec.env == {
        "GPU_ARCHS": "gfx942",
        "VLLM_ROCM_USE_AITER": "1",
        "VLLM_ROCM_USE_AITER_TRITON_ROPE": "1",
    }
    assert (made.spec.maturity, made.spec.objective) == (Maturity.OPTIMIZED, Objective.THROUGHPUT)
    assert made.spec.performance == []


def test_file_commit_and_licence_are_recorded() -> None:
    said = recipe(profile()).metadata.annotations
    assert said[ANNOTATION_ORIGIN] == (
        "https://github.com/amd-enterprise-ai/aim-build/blob/2be2cf8/profiles/Qwen/Qwen3-32B/"
        "vllm-mi300x-fp16-tp1-throughput.yaml"
    )
    assert said[ANNOTATION_LICENCE] == "MIT"


@pytest.mark.parametrize(
    "said",
    [
        "swap-space was dropped: the V1 engine does not swap its KV cache",
        "max-seq-len-to-capture was dropped: CUDA graphs are captured by batch size",
        "left at the engine's defaults: enable-log-requests, trust-remote-code",
        "VLLM_USE_AITER_TRITON_ROPE is VLLM_ROCM_USE_AITER_TRITON_ROPE in vLLM 0.32.0",
    ],
)
def test_every_change_is_noted(said: str) -> None:
    assert said in notes(profile())


def test_profiles_that_differ_in_the_metric_alone_are_one_recipe_with_both_sources() -> None:
    files = [
        source_file(PATH.format(metric), profile(metric, type=f"type: {kind}"))
        for metric, kind in (("latency", "preview"), ("throughput", "optimized"))
    ]
    (result,) = import_profiles(files, ORIGIN)
    assert isinstance(result, Imported)
    assert result.sources == (PATH.format("throughput"), PATH.format("latency"))
    assert (result.recipe.spec.objective, result.recipe.spec.maturity) == (
        Objective.THROUGHPUT,
        Maturity.OPTIMIZED,
    )
    said = result.recipe.metadata.annotations[ANNOTATION_NOTES]
    assert "the latency profile has the same settings, as preview" in said


def test_profiles_with_different_flags_are_two_recipes() -> None:
    files = [
        source_file(PATH.format("latency"), profile("latency", async_scheduling="no-async-scheduling: null")),
        source_file(PATH.format("throughput"), profile("throughput")),
    ]
    names = {
        each.recipe.metadata.name for each in import_profiles(files, ORIGIN) if isinstance(each, Imported)
    }
    assert names == {"qwen3-32b-mi300x-1x-fp16", "qwen3-32b-mi300x-1x-fp16-latency"}


@pytest.mark.parametrize(
    ("label", "dtype", "model", "real"),
    [
        ("fp16", "float16", "Qwen/Qwen3-32B", Precision.FP16),
        ("fp16", "auto", "Qwen/Qwen3-32B", Precision.BF16),
        ("bf16", "bfloat16", "Qwen/Qwen3-32B", Precision.BF16),
        ("fp16", "float16", "Qwen/Qwen3-32B-FP8", Precision.FP8),
        ("fp4", "auto", "openai/gpt-oss-20b", Precision.MXFP4),
    ],
)
def test_the_precision_is_what_checkpoint_and_dtype_make_it(
    label: str, dtype: str, model: str, real: Precision
) -> None:
    aim_id = model.removesuffix("-FP8")
    text = profile(precision=f"precision: {label}", dtype=f"dtype: {dtype}", model_id=f"model_id: {model}")
    assert spec(text.replace("aim_id: Qwen/Qwen3-32B", f"aim_id: {aim_id}")).precision is real


def test_a_profile_for_the_engine_that_is_gone_is_no_longer_optimized() -> None:
    text = profile() + "  VLLM_USE_V1: '0'\n"
    assert spec(text).maturity is Maturity.GENERAL
    assert "general instead of optimized: tuned on the V0 engine, which is gone" in notes(text)
    assert "VLLM_USE_V1" not in spec(text).env


def test_a_nested_flag_stays_an_object() -> None:
    text = profile(swap_space="compilation-config: {cudagraph_mode: FULL_AND_PIECEWISE}")
    assert spec(text).engine_args["compilation-config"] == {"cudagraph_mode": "FULL_AND_PIECEWISE"}


def test_published_numbers_come_with_exactly_their_configuration() -> None:
    text = profile(
        aim_id="aim_id: meta-llama/Llama-3.1-405B-Instruct",
        model_id="model_id: amd/Llama-3.1-405B-Instruct-FP8-KV",
        gpu_count="gpu_count: 8",
        precision="precision: fp8",
        tensor_parallel_size="tensor-parallel-size: 8",
    )
    rates = [entry.tokens_per_second for entry in spec(text).performance if entry.tokens_per_second]
    assert rates == [3816, 3099, 3026, 2196, 4065, 3171, 2985, 1999]
    fewer = text.replace("gpu_count: 8", "gpu_count: 4").replace("size: 8", "size: 4")
    assert spec(fewer).performance == []


BAD = {
    "no model": ("", "model_id", "names no model"),
    "an unknown flag": (profile(swap_space="swap-spice: 4"), "engineArgs.swap-spice", "is not a flag of"),
    "a flag of the wrong type": (profile(max_num_seqs="max-num-seqs: many"), "engineArgs.max-num-seqs", "whole number"),
    "a flag nobody may set": (profile(swap_space="middleware: [a.b]"), "engineArgs.middleware", "denied"),
    "no room": (
        profile(
            aim_id="aim_id: meta-llama/Llama-3.1-405B-Instruct",
            model_id="model_id: meta-llama/Llama-3.1-405B-Instruct",
        ),
        "hardware '1xMI300X'",
        "GiB",
    ),
    "an engine we do not have": (profile(engine="engine: tensorrt"), "metadata.engine 'tensorrt'", "use one of them"),
    "a GPU we do not know": (profile(gpu="gpu: H100"), "hardware.gpuModel 'H100'", "MI300X"),
    "a GPU count that is none": (profile(gpu_count="gpu_count: eight", tensor_parallel_size="seed: 1"), "metadata.gpu_count 'eight'", "whole number"),
    "contradicting counts": (profile(tensor_parallel_size="tensor-parallel-size: 2"), "tensor-parallel-size", "has 1"),
    "a Cyrillic letter": (profile(aim_id="aim_id: Qwеn/Qwen3-32B"), "aim_id 'Qwеn/Qwen3-32B'", "does not match"),
    "an id with a space": (profile(aim_id="aim_id: Qwen /Qwen3-32B"), "aim_id 'Qwen /Qwen3-32B'", "does not match"),
    "an id with ..": (profile(aim_id="aim_id: ../Qwen3-32B"), "aim_id '../Qwen3-32B'", "does not match"),
    "an id in another case": (profile(aim_id="aim_id: qwen/qwen3-32b"), "spec.modelID 'qwen/qwen3-32b'", "Qwen/Qwen3-32B"),
    "a list": ("[1, 2]", "document", "not a YAML mapping"),
    "engine_args as text": (profile().split("engine_args")[0] + "engine_args: none\n", "engine_args 'none'", "not a mapping"),
    "an alias bomb": ("a: &a [1]\nb: [*a, *a]\n", "*a", "aliases are not allowed"),
    "a cycle": ("a: &a {b: *a}\n", "*a", "aliases are not allowed"),
    "1 MB of flags": (profile() + "x: " + "y" * 2**20, "document", "larger than 256 KiB"),
    "broken YAML": ("a: [", "line", "not YAML"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "field", "reason"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_refused_with_file_field_value_and_remedy(
    text: str, field: str, reason: str
) -> None:
    result = one(text or "metadata: {engine: vllm}")
    assert isinstance(result, Rejected)
    told = str(result)
    assert told.startswith(PATH.format("throughput"))
    assert field in told
    assert reason in told
    assert result.error.remedy


_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_like_profiles = st.fixed_dictionaries(
    {"model_id": _trees | st.just("Qwen/Qwen3-32B")},
    optional={
        "aim_id": _trees | st.just("Qwen/Qwen3-32B"),
        "engine_args": _trees | st.dictionaries(st.sampled_from(["dtype", "swap-space", "max_num_seqs"]), _trees),
        "env_vars": _trees | st.dictionaries(st.sampled_from(["VLLM_USE_V1", "A", ""]), _trees),
        "metadata": _trees
        | st.fixed_dictionaries(
            {},
            optional={
                "gpu": _trees | st.just("MI300X"),
                "gpu_count": _trees | st.just(1),
                "precision": _trees | st.just("fp16"),
                "metric": _trees | st.just("latency"),
                "type": _trees,
                "engine": _trees | st.just("vllm"),
                "manual_selection_only": _trees,
            },
        ),
    },
)  # fmt: skip


@given(tree=_trees | _like_profiles)
def test_any_tree_is_imported_or_refused(tree: object) -> None:
    result = one(yaml.safe_dump(tree, allow_unicode=True))
    assert isinstance(result, Imported | Rejected)
    assert str(result)

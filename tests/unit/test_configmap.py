"""Recipes in ConfigMaps: every form that is read, and what bad ones are told."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.api.configmap import RecipeDocument, RecipeForm, read_recipe
from aim_engine.api.configmap_yaml import Faults, ReadError
from aim_engine.api.enums import Backend, Maturity, Objective, Precision, ProvenanceKind
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.selection import CatalogueFacts, Source, candidate, validity_problems

OWN = """
modelID: Qwen/Qwen3-32B
hardware: {gpuModel: MI300X, gpuCount: 2}
precision: bf16
engineArgs: {max-model-len: 32768}
"""

FLAT = """
recipe_id: qwen3-custom
huggingface_id: Qwen/Qwen3-32B
hardware: mi300x
gpu_count: 2
precision: bfloat16
backend: vllm
config:
  args:
    --model: Qwen/Qwen3-32B
    --tensor-parallel-size: "2"
    --max-model-len: 32768
    --enable-prefix-caching: "true"
    --async-scheduling: "false"
performance:
  expected_tokens_per_second: 1850.4
  expected_latency_ms: 320
resources:
  requests: {cpu: 8, memory: 64Gi, amd.com/gpu: 2}
  limits: {cpu: 16, memory: 128Gi, amd.com/gpu: 2}
"""

SERVE = """
recipe_id: llama
model_id: llama-3-1-405b
huggingface_id: amd/Llama-3.1-405B-Instruct-FP8-KV
hardware: MI300X
precision: fp8
vllm_serve:
  1_gpu: {enabled: false, args: {}}
  8_gpu: {enabled: true, args: {--tensor-parallel-size: '8', --kv-cache-dtype: fp8}}
  4_gpu: {enabled: "true", args: {--tensor-parallel-size: '4'}}
sglang_serve:
  2_gpu: {enabled: false, args: {}}
  8_gpu: {enabled: true, args: {--tp-size: 8, --mem-fraction-static: 0.8}}
"""

PROFILE = """
aim_id: meta-llama/Llama-3.1-405B-Instruct
model_id: amd/Llama-3.1-405B-Instruct-FP8-KV
metadata:
  engine: vllm
  gpu: MI300X
  gpu_count: 8
  precision: fp8
  metric: latency
  type: optimized
  manual_selection_only: false
engine_args:
  kv-cache-dtype: fp8
  async-scheduling: null
  no-enable-prefix-caching: null
  compilation-config: {cudagraph_mode: FULL}
env_vars:
  VLLM_ROCM_USE_AITER: 1
  VLLM_LOGGING_LEVEL: INFO
"""


def read(text: str) -> RecipeDocument:
    result = read_recipe(textwrap.dedent(text), name="custom", namespace="team-a")
    assert isinstance(result, RecipeDocument), result
    return result


def one(text: str) -> AIMRecipeSpec:
    (recipe,) = read(text).recipes
    assert recipe.name == "custom"
    return recipe.spec


def faults(text: str) -> tuple[ReadError, ...]:
    result = read_recipe(textwrap.dedent(text), name="custom", namespace="team-a")
    assert isinstance(result, Faults), result
    return result.errors


def refused(text: str, field: str | None = None) -> ReadError:
    """The only fault, or the one of a field."""
    found = [error for error in faults(text) if field is None or error.field == field]
    assert len(found) == 1, found
    return found[0]


def test_our_own_form_is_the_spec_with_or_without_its_wrapper() -> None:
    wrapped = yaml.safe_dump(
        {"apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMRecipe", "spec": yaml.safe_load(OWN)}
    )
    assert one(OWN) == one(wrapped)
    assert one(OWN).hardware.gpu_count == 2


def test_the_flat_form_becomes_a_recipe_with_declared_performance() -> None:
    spec = one(FLAT)
    assert (spec.model_id, spec.hardware.gpu_model, spec.hardware.gpu_count) == (
        "Qwen/Qwen3-32B",
        "MI300X",
        2,
    )
    assert (spec.precision, spec.backend) == (Precision.BF16, Backend.VLLM)
    assert spec.engine_args == {
        "max-model-len": 32768,
        "enable-prefix-caching": True,
        "async-scheduling": False,
    }
    (entry,) = spec.performance
    assert (entry.tokens_per_second, entry.request_latency_milliseconds) == (1850, 320)
    assert (entry.provenance.kind, entry.provenance.source) == (
        ProvenanceKind.DECLARED,
        "configmap/team-a/custom",
    )
    assert (spec.resources.cpu, spec.resources.memory) == ("16", "128Gi")


def test_every_form_in_the_guide_is_read_and_can_be_served() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/custom-recipes.md").read_text()
    documents = [read(block) for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)]
    assert [document.form for document in documents] == list(RecipeForm)
    for found in (recipe for document in documents for recipe in document.recipes):
        assert validity_problems(candidate(found.name, Source.CUSTOM, found.spec), CatalogueFacts()) == ()


def test_hardware_may_be_a_mapping() -> None:
    text = "huggingface_id: a/b\nprecision: fp16\nhardware: {gpu_model: 'AMD Instinct MI325X', gpu_count: 4, partition: cpx_nps4}"
    hardware = one(text).hardware
    assert (hardware.gpu_model, hardware.gpu_count, hardware.partition) == ("MI325X", 4, "cpx_nps4")


def test_every_enabled_gpu_count_of_the_serve_form_is_a_recipe_of_its_engine() -> None:
    document = read(SERVE)
    assert document.form is RecipeForm.SERVE
    found = [
        (recipe.name, recipe.spec.hardware.gpu_count, recipe.spec.backend) for recipe in document.recipes
    ]
    assert found == [
        ("custom-4gpu", 4, Backend.VLLM),
        ("custom-8gpu", 8, Backend.VLLM),
        ("custom-8gpu-sglang", 8, Backend("sglang")),
    ]
    assert document.recipes[1].spec.engine_args == {"kv-cache-dtype": "fp8"}
    assert document.recipes[2].spec.engine_args == {"mem-fraction-static": 0.8}


def test_the_flat_form_serves_sglang_in_its_own_spelling() -> None:
    text = """
    huggingface_id: Qwen/Qwen3-32B
    hardware: MI300X
    gpu_count: 2
    precision: bf16
    backend: sglang
    config: {args: {--model-path: Qwen/Qwen3-32B, --tp-size: 2, --dp-size: 2, --enable-dp-attention: null}}
    """
    spec = one(text)
    assert spec.backend is Backend("sglang")
    assert spec.engine_args == {"dp-size": 2, "enable-dp-attention": True}
    assert "the flag model-path was dropped: the operator sets it" in read(text).notes
    assert "need 4 GPUs" in refused(text.replace(", --enable-dp-attention: null", "")).message


def test_an_aim_profile_keeps_checkpoint_bare_flags_and_nested_arguments() -> None:
    spec = one(PROFILE)
    assert (spec.model_id, spec.source) == (
        "meta-llama/Llama-3.1-405B-Instruct",
        "amd/Llama-3.1-405B-Instruct-FP8-KV",
    )
    assert (spec.objective, spec.maturity) == (Objective.LATENCY, Maturity.OPTIMIZED)
    assert spec.engine_args == {
        "kv-cache-dtype": "fp8",
        "async-scheduling": True,
        "enable-prefix-caching": False,
        "compilation-config": {"cudagraph_mode": "FULL"},
    }
    assert spec.env == {"VLLM_ROCM_USE_AITER": "1", "VLLM_LOGGING_LEVEL": "INFO"}


def test_newer_aim_profiles_name_accelerators() -> None:
    text = """
    aim_id: openai/gpt-oss-120b
    model_id: openai/gpt-oss-120b
    metadata: {engine: vllm, accelerator_model: mi300x, accelerator_count: 1, precision: fp4, type: preview}
    engine_args: {}
    """
    spec = one(text)
    assert (spec.hardware.gpu_model, spec.hardware.gpu_count, spec.precision, spec.source) == (
        "MI300X",
        1,
        Precision.MXFP4,
        None,
    )


@pytest.mark.parametrize(
    ("text", "field", "line", "words"),
    [
        ("", "", 1, "not a YAML mapping"),
        ("just text", "", 1, "not a YAML mapping"),
        ("a: [1,\nb: 2", "", None, "not YAML"),
        ("foo: bar", "", 1, "no recipe of a known form"),
        ("modelID: a/b\nmodelID: a/c", "modelID", 2, "twice"),
        ("modelID: &x a/b\nsource: *x", "", 2, "aliases"),
        ("modelID: !!python/object/apply:os.system [ls]", "modelID", 1, "tag"),
        ("modelID: !!binary aGk=", "modelID", 1, "tag"),
        ("a: 1\n---\nb: 2", "", 2, "more than one"),
        ("kind: AIMDeployment\nspec: {}", "kind", 1, "not AIMRecipe"),
        (OWN + "bogus: 1\n", "bogus", 6, "no such field"),
        (OWN.replace("bf16", "fp7"), "precision", 4, "none of bf16"),
        (OWN.replace("gpuCount: 2", "gpuCount: 0"), "hardware.gpuCount", 3, "below 1"),
        (FLAT.replace("gpu_count: 2\n", "", 1), "gpu_count", None, "missing"),
        (FLAT.replace("backend: vllm", "backend: tgi"), "backend", 7, "vllm"),
        (FLAT.replace('"2"', '"4"', 1), "config.args.--tensor-parallel-size", 11, "4 GPUs"),
        (FLAT.replace("--model: Qwen/Qwen3-32B", "--model: a/b"), "config.args.--model", 10, "another model"),
        (FLAT.replace("1850.4", "fast"), "performance.expected_tokens_per_second", 16, "number between"),
        (FLAT.replace("amd.com/gpu: 2}", "amd.com/gpu: 4}", 1), "resources.requests.amd.com/gpu", 19, "2 GPUs"),
        (FLAT.replace("config:", "confg:"), "confg", 8, "no such field"),
        (FLAT.replace("128Gi", "lots"), "resources.limits.memory", 20, "quantity"),
        (SERVE.replace("8_gpu: {enabled: true, args: {--t", "8_gpus_: {enabled: true, args: {--t"), "vllm_serve.8_gpus_", 9, "GPU count"),
        (SERVE.replace("8_gpu: {enabled: true, args: {--tp-", "8gpu: {enabled: true, args: {--tp-"), "sglang_serve.8gpu", 13, "GPU count"),
        ("huggingface_id: a/b\nhardware: MI300X\nprecision: fp8\nsglang_serve: {}", "sglang_serve", 4, "enabled"),
        # What was meant to be off must not become a recipe.
        (SERVE.replace("{enabled: false", "{enabled: 'no'", 1), "vllm_serve.1_gpu.enabled", 8, "neither true nor false"),
        (SERVE.replace("{enabled: false", "{enabled: 0", 1), "vllm_serve.1_gpu.enabled", 8, "neither true nor false"),
        (OWN.replace("gpuCount: 2", "gpuCount: true"), "hardware.gpuCount", 3, "whole number"),
        (FLAT.replace("hardware: mi300x", "hardware: MI300X or MI325X"), "hardware", 4, "does not match"),
        (FLAT.replace("/Qwen3-32B", "/Qwen3\u201032B"), "huggingface_id", 3, "does not match"),
        (FLAT.replace("Qwen/", "\u0421wen/"), "huggingface_id", 3, "does not match"),
        (OWN.replace("bf16", "bf\uff11\uff16"), "precision", 4, "none of bf16"),
        (OWN.replace("gpuCount: 2", "gpuCount: \u0662"), "hardware.gpuCount", 3, "whole number"),
        (OWN.replace("precision", "prec\u0456sion"), "precision", None, "missing"),
        (FLAT.replace("hardware: mi300x", "hardware: \u041cI300X"), "hardware", 4, "does not match"),
        (FLAT.replace('"2"', "'\u0662'", 1), "config.args.--tensor-parallel-size", 11, "number of GPUs|GPUs, the"),
        (OWN + "env: {A: [1]}\n", "env.A", 6, "not text"),
        (FLAT.replace("config:", "config: [1]\nversion:", 1), "config", 8, "not a mapping"),
        ("modelID: " + "x" * 1_048_576, "", None, "larger than"),
        (PROFILE.replace("precision: fp8", "precision: fp32"), "metadata.precision", 8, "bf16"),
        ("modelID: " + "x" * 300_000, "", None, "larger than"),
        ("modelID: " + "[" * 40 + "]" * 40, "", 1, "levels"),
        ("modelID: .inf", "modelID", 1, "cannot be stored"),
        ("modelID: 0x" + "f" * 6000, "modelID", 1, "cannot be stored"),
    ],
)  # fmt: skip
def test_bad_documents_are_told_by_field_line_and_remedy(
    text: str, field: str, line: int | None, words: str
) -> None:
    error = refused(text, field)
    if line is not None:
        assert error.line == line
    assert any(word in error.message for word in words.split("|")), error
    assert error.remedy
    assert len(str(error)) < 800


def test_all_faults_are_told_at_once_in_the_order_of_the_lines() -> None:
    text = """
    huggingface_id: "a b"
    hardware: {gpu: MI300X, gpu_count: 0, gpu_cout: 2}
    precision: fp7
    precision: fp8
    config: {args: {--tp: two, seed: 1, --seed: 2, --model: x}, env: {A: [1]}, imagee: x}
    performance: {expected_latency_ms: never}
    resources: {limits: {cpu: -1, memory: !!binary aGk=}}
    typo: 1
    """
    told = [(error.line, error.field) for error in faults(text)]
    assert told == [
        (2, "huggingface_id"), (3, "hardware.gpu_count"), (3, "hardware.gpu_cout"), (5, "precision"),
        (6, "config.args.--tp"), (6, "config.args.--seed"), (6, "config.args.--model"), (6, "config.env.A"), (6, "config.imagee"),
        (7, "performance.expected_latency_ms"), (8, "resources.limits.cpu"), (8, "resources.limits.memory"), (9, "typo"),
    ]  # fmt: skip


def test_the_place_of_a_field_is_told_as_it_is_written() -> None:
    (found,) = read(FLAT).recipes
    assert found.place("engineArgs.async-scheduling") == "line 14, config.args.--async-scheduling"
    assert found.place("hardware.gpuCount") == "line 5, gpu_count"
    assert found.place("precision") == "line 6, precision"
    (own,) = read("kind: AIMRecipe\nspec:\n  " + OWN.strip().replace("\n", "\n  ")).recipes
    assert own.place("engineArgs.max-model-len") == "line 6, spec.engineArgs.max-model-len"
    assert own.place("env.A") == "line 2, spec.env.A"


def test_the_laughing_document_is_refused_at_once() -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)]
    assert "aliases" in refused("\n".join(lines)).message


_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12))
_KEYS = st.sampled_from(
    sorted(
        set(re.findall(r"[\w./-]+(?=:)", OWN + FLAT + SERVE + PROFILE))
        | {"spec", "kind", "engineArgs", "provenance"}
    )
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=5)),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_a_recipe_or_an_error(text: str) -> None:
    assert isinstance(read_recipe(text, name="n", namespace="ns"), RecipeDocument | Faults)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(_KEYS, _TREES, max_size=8))
def test_any_document_is_a_recipe_or_an_error(tree: dict[str, object]) -> None:
    result = read_recipe(yaml.safe_dump(tree), name="n", namespace="ns")
    if isinstance(result, RecipeDocument):
        assert all(AIMRecipeSpec.strict_load(recipe.spec.wire()) == recipe.spec for recipe in result.recipes)
    else:
        assert all(error.message and error.remedy for error in result.errors)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([OWN, FLAT, SERVE, PROFILE]), st.data())
def test_a_damaged_recipe_is_a_recipe_or_an_error(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 6)) :]
    assert isinstance(read_recipe(damaged, name="n", namespace="ns"), RecipeDocument | Faults)

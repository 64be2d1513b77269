"""Recipes of the vLLM project become ours per variant and AMD GPU, or are refused with file, field, value and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.configmap_yaml import ReadError
from aim_engine.api.enums import Maturity, Precision
from aim_engine.api.meta import ANNOTATION_LICENCE, ANNOTATION_NOTES, ANNOTATION_ORIGIN
from aim_engine.api.recipe import AIMRecipe
from aim_engine.catalog.imports import origins
from aim_engine.importers.results import Imported, Rejected
from aim_engine.importers.tokens import from_tokens
from aim_engine.importers.vllm_recipes import import_models
from unit.importer_files import source_file

ORIGIN = origins()["vllm-recipes"]
PATH = "models/meta-llama/Llama-3.3-70B-Instruct.yaml"
ON_MI300X = "llama-3-3-70b-instruct-mi300x-2x-bf16"
"""One GPU holds what the source calls the minimum, and not the whole context beside it."""
FILE = """\
meta:
  tasks: [text]
  hardware: {h100: verified, mi300x: verified, mi355x: verified}
model:
  model_id: meta-llama/Llama-3.3-70B-Instruct
  min_vllm_version: 0.12.0
  base_args: [--trust-remote-code]
  base_env: null
features:
  tool_calling:
    args: [--enable-auto-tool-choice, --tool-call-parser, llama3_json, --chat-template, examples/a.jinja]
  reasoning:
    args: [--reasoning-parser, qwen3]
  spec_decoding:
    args: [--speculative-config, '{"method": "eagle3"}']
opt_in_features: [reasoning]
variants:
  default:
    precision: bf16
    vram_minimum_gb: 170
  nvfp4:
    model_id: nvidia/Llama-3.3-70B-Instruct-NVFP4
    precision: nvfp4
    vram_minimum_gb: 42
hardware_overrides:
  hopper:
    extra_args: [--async-scheduling]
  amd:
    extra_args: []
    extra_env: {VLLM_ROCM_USE_AITER: '1', VLLM_USE_DEEP_GEMM: '1'}
strategy_overrides: {}
"""


def results(text: str, path: str = PATH) -> list[Imported | Rejected]:
    return import_models([source_file(path, text)], ORIGIN)


def recipes(text: str) -> dict[str, AIMRecipe]:
    return {each.recipe.metadata.name: each.recipe for each in results(text) if isinstance(each, Imported)}


def refusals(text: str) -> str:
    return "\n".join(str(each) for each in results(text) if isinstance(each, Rejected))


def changed(*changes: tuple[str, str]) -> str:
    text = FILE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def test_a_variant_is_a_recipe_on_each_verified_gpu_and_on_its_sibling() -> None:
    made = recipes(FILE)
    assert set(made) == {
        ON_MI300X,
        *(f"llama-3-3-70b-instruct-{gpu}-1x-bf16" for gpu in ("mi350x", "mi355x")),
    }
    assert {each.spec.precision for each in made.values()} == {Precision.BF16}
    notes = made["llama-3-3-70b-instruct-mi350x-1x-bf16"].metadata.annotations[ANNOTATION_NOTES]
    assert "MI350X is the same chip" in notes


def test_flags_come_from_the_model_its_abilities_and_the_amd_row_alone() -> None:
    spec = recipes(FILE)[ON_MI300X].spec
    assert spec.engine_args == {"enable-auto-tool-choice": True, "tool-call-parser": "llama3_json"}
    assert spec.env == {"VLLM_ROCM_USE_AITER": "1"}


@pytest.mark.parametrize(
    "said",
    [
        "verified on MI300X by the source",
        "the source leaves the number of GPUs open; 2 is the least that holds its minimum of 170 GB",
        "trust-remote-code was dropped: transformers has the configurations of Llama, and vLLM 0.32 the models",
        "chat-template was dropped",
        "VLLM_USE_DEEP_GEMM=1 was dropped: DeepGEMM is for NVIDIA GPUs",
    ],
)
def test_every_change_is_noted(said: str) -> None:
    recipe = recipes(FILE)[ON_MI300X]
    assert said in recipe.metadata.annotations[ANNOTATION_NOTES]


def test_file_variant_commit_and_licence_are_recorded() -> None:
    said = recipes(FILE)[ON_MI300X].metadata.annotations
    assert said[ANNOTATION_ORIGIN] == (
        f"https://github.com/vllm-project/recipes/blob/8959cf6/{PATH}#default@mi300x"
    )
    assert said[ANNOTATION_LICENCE] == "Apache-2.0"


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (("strategy_overrides: {}", "strategy_overrides: {single_node_tp: {tp: 4}}"), 4),
        (("strategy_overrides: {}", "strategy_overrides: {single_node_tp: {tp: {mi300x: 2, mi355x: 2}}}"), 2),
        (("    vram_minimum_gb: 170", "    vram_minimum_gb: 170\n    tp: 8"), 8),
        (("extra_args: []", "extra_args: [--tensor-parallel-size, '4']"), 4),
    ],
)
def test_a_written_number_of_gpus_is_taken(change: tuple[str, str], count: int) -> None:
    made = recipes(changed(change))
    assert {each.spec.hardware.gpu_count for each in made.values()} == {count}
    assert {name: each.spec.maturity for name, each in made.items() if "mi350x" not in name} == {
        f"llama-3-3-70b-instruct-{gpu}-{count}x-bf16": Maturity.GENERAL for gpu in ("mi300x", "mi355x")
    }


def test_an_open_number_of_gpus_grows_until_memory_and_checks_allow() -> None:
    made = recipes(changed(("vram_minimum_gb: 170", "vram_minimum_gb: 500")))
    assert {each.spec.hardware.gpu_count for each in made.values()} == {2, 4}
    assert {each.spec.maturity for each in made.values()} == {Maturity.PREVIEW}


def test_another_precision_is_a_checkpoint_of_the_model_and_another_size_a_model_of_its_own() -> None:
    made = recipes(
        changed(
            (
                "  nvfp4:\n    model_id: nvidia/Llama-3.3-70B-Instruct-NVFP4\n    precision: nvfp4\n",
                "  fp8:\n    model_id: nvidia/Llama-3.3-70B-Instruct-FP8\n    precision: fp8\n"
                "    vram_minimum_gb: 84\n    extra_args: [--kv-cache-dtype, fp8]\n"
                "  small:\n    model_id: meta-llama/Llama-3.2-3B-Instruct\n    precision: bf16\n",
            )
        )
    )
    fp8 = made["llama-3-3-70b-instruct-mi300x-1x-fp8"].spec
    assert (fp8.model_id, fp8.source) == (
        "meta-llama/Llama-3.3-70B-Instruct",
        "nvidia/Llama-3.3-70B-Instruct-FP8",
    )
    assert fp8.engine_args["kv-cache-dtype"] == "fp8"
    small = made["llama-3-2-3b-instruct-mi300x-1x-bf16"].spec
    assert (small.model_id, small.source) == ("meta-llama/Llama-3.2-3B-Instruct", None)


def test_a_variant_for_other_hardware_is_told_for_each_gpu_it_is_not_for() -> None:
    text = changed(
        ("    vram_minimum_gb: 170", "    vram_minimum_gb: 170\n    supported_hardware: [h100, mi300x]")
    )
    assert set(recipes(text)) == {ON_MI300X}
    told = refusals(text)
    for label in ("#default@mi355x: ", "#default@mi355x for MI350X: "):
        assert (
            f"{PATH}{label}variants.default.supported_hardware 'h100, mi300x': does not name mi355x" in told
        )
    brand = changed(
        ("    vram_minimum_gb: 170", "    vram_minimum_gb: 170\n    precision_hardware: {brand: NVIDIA}")
    )
    assert recipes(brand) == {}
    assert "#default@mi300x: variants.default.precision_hardware.brand 'NVIDIA'" in refusals(brand)


def test_no_two_lines_of_refusals_are_the_same_and_none_is_missing() -> None:
    """A sibling GPU stands at the same place of the source as the one it follows; its line says which it is."""
    found = results(changed(("[--trust-remote-code]", "[--swap-spice, 4]")))
    lines = [str(each) for each in found if isinstance(each, Rejected)]
    assert len(lines) == len(set(lines)) == 4
    assert sum(" for MI350X: engineArgs.swap-spice" in line for line in lines) == 1


KIMI = {
    "meta-llama/Llama-3.3-70B-Instruct\n": "moonshotai/Kimi-K2-Instruct\n",
    "bf16": "fp8",
    "gb: 170": "gb: 1200",
}


@pytest.mark.parametrize(
    ("changes", "kept", "said"),
    [
        ((), False, "trust-remote-code was dropped: transformers has the configurations of Llama"),
        (KIMI.items(), True, "trust-remote-code was kept: its tokenizer (tokenization_kimi.py) is code of the repository"),
    ],
    ids=["suffices", "needed"],
)  # fmt: skip
def test_code_of_the_repository_is_kept_where_the_model_does_not_start_without(
    changes: Iterable[tuple[str, str]], kept: bool, said: str
) -> None:
    made = recipes(changed(*changes))
    assert made
    for recipe in made.values():
        assert recipe.spec.engine_args.get("trust-remote-code", False) is kept
        assert said in recipe.metadata.annotations[ANNOTATION_NOTES]


def test_a_model_of_which_nobody_knows_whether_it_needs_code_is_not_imported_with_it() -> None:
    told = refusals(changed(("meta-llama/Llama-3.3-70B-Instruct\n", "google/gemma-2-27b-it\n")))
    assert (
        "engineArgs.trust-remote-code 'True': whether google/gemma-2-27b-it needs code of its repository is not known"
        in told
    )
    assert "add it to remoteCode of catalog/imports.yaml" in told


def test_a_file_named_after_a_quantised_repository_is_about_the_model_it_is_made_of() -> None:
    text = changed(
        (
            "model_id: meta-llama/Llama-3.3-70B-Instruct\n",
            "model_id: meta-llama/Llama-3.3-70B-Instruct-NVFP4\n",
        ),
        ("    precision: bf16\n", "    precision: bf16\n    model_id: meta-llama/Llama-3.3-70B-Instruct\n"),
    )
    assert {(each.spec.model_id, each.spec.source) for each in recipes(text).values()} == {
        ("meta-llama/Llama-3.3-70B-Instruct", None)
    }


def test_the_precision_is_that_of_the_checkpoint_where_it_is_known() -> None:
    text = changed(
        ("meta-llama/Llama-3.3-70B-Instruct\n", "deepseek-ai/DeepSeek-V4-Flash\n"),
        (
            "    precision: bf16\n    vram_minimum_gb: 170",
            "    precision: fp8\n    vram_minimum_gb: 170\n    tp: 8",
        ),
    )
    made = recipes(text)
    assert {each.spec.precision for each in made.values()} == {Precision.MXFP4}
    notes = next(iter(made.values())).metadata.annotations[ANNOTATION_NOTES]
    assert "the source labels it fp8; its experts are mxfp4" in notes


BAD = {
    "a precision of others": ((), "variants.nvfp4.precision 'nvfp4'"),
    "unknown dimensions": ((("Llama-3.3-70B", "Llama-9.9-70B"),), "dimensions of the model are not known; add it to catalog/models.yaml"),
    "an unknown checkpoint": (
        (("precision: bf16\n", "precision: bf16\n    model_id: acme/Llama-3.3-70B-Instruct-tuned\n"),),
        "source 'acme/Llama-3.3-70B-Instruct-tuned': the format of the checkpoint is not known",
    ),
    "more than a node": ((("gb: 170", "gb: 9000"),), "variants.default.vram_minimum_gb '9000'"),
    "too new": ((("0.12.0", "9.1.0"),), "model.min_vllm_version '9.1.0'"),
    "no version": ((("0.12.0", "soon"),), "model.min_vllm_version 'soon'"),
    "another engine": ((("[text]", "[omni]"),), "meta.tasks 'omni'"),
    "no AMD GPU": ((("mi300x: verified, mi355x: verified", "mi300x: unsupported"),), "no AMD Instinct GPU"),
    "a flag nobody may set": ((("[--trust-remote-code]", "[--middleware, a.b]"),), "engineArgs.middleware"),
    "a flag that does not exist": ((("[--trust-remote-code]", "[--swap-spice, 4]"),), "engineArgs.swap-spice"),
    "a variable of an admin": ((("VLLM_ROCM_USE_AITER", "LD_PRELOAD"),), "env.LD_PRELOAD"),
    "a stray value": ((("[--trust-remote-code]", "[lost, --seed, 1]"),), "extra_args 'lost'"),
    "no GPUs": ((("strategy_overrides: {}", "strategy_overrides: {single_node_tp: {tp: 0}}"),), "is no number of GPUs"),
    "text for a number": ((("gb: 170", "gb: much"),), "variants.default.vram_minimum_gb 'much'"),
    "variants as a list": ((("variants:\n", "variants: []\nothers:\n"),), "variants"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_imported_is_told_with_file_field_and_value(
    changes: tuple[tuple[str, str], ...], told: str
) -> None:
    said = refusals(changed(*changes))
    assert PATH in said
    assert told in said


def test_two_variants_that_come_to_one_recipe_are_told() -> None:
    twin = indent(yaml.safe_dump({"precision": "bf16", "vram_minimum_gb": 170}), "    ")
    text = changed(("  nvfp4:\n", f"  again:\n{twin}  nvfp4:\n"))
    assert f"is the recipe of {PATH}#default@mi300x: same model, checkpoint" in refusals(text)
    assert set(recipes(text)) == set(recipes(FILE))


def test_two_variants_with_checkpoints_of_their_own_are_two_recipes() -> None:
    each = {"precision": "fp8", "vram_minimum_gb": 84}
    twins = {
        "fp8": {**each, "model_id": "amd/Llama-3.3-70B-Instruct-FP8-KV"},
        "nv": {**each, "model_id": "nvidia/Llama-3.3-70B-Instruct-FP8"},
    }
    text = changed(("  nvfp4:\n", f"{indent(yaml.safe_dump(twins), '  ')}  nvfp4:\n"))
    made = {name: each.spec.source for name, each in recipes(text).items() if "mi300x" in name}
    assert made == {
        ON_MI300X: None,
        "llama-3-3-70b-instruct-mi300x-1x-fp8": "amd/Llama-3.3-70B-Instruct-FP8-KV",
        "llama-3-3-70b-instruct-mi300x-1x-fp8-nvidia": "nvidia/Llama-3.3-70B-Instruct-FP8",
    }


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["--a", "1"], {"a": 1}),
        (["--a=1.5"], {"a": 1.5}),
        (["--a=-1"], {"a": -1}),
        (["--a"], {"a": None}),
        (["--a_b", "x"], {"a-b": "x"}),
        (["--a", "x", "y"], {"a": ["x", "y"]}),
        (["--a", "1", "--a", "2"], {"a": 2}),
        (["--no-a", "--a"], {"a": None}),
        (["--a", "--no-a"], {"no-a": None}),
        (["-cc.pass_config.fuse=True"], {"cc.pass_config.fuse": True}),
        (["--a", '{"mode": 3}'], {"a": {"mode": 3}}),
        (["--a", "-1"], {"a": -1}),
        ([], {}),
    ],
)
def test_words_of_a_command_line_become_flags(words: list[str], flags: dict[str, object]) -> None:
    assert from_tokens(words) == flags


@given(st.lists(st.text(max_size=6) | st.sampled_from(["--a", "-cc.b=1", "{", "--no-a"]), max_size=6))
def test_any_words_are_flags_or_a_refusal(words: list[str]) -> None:
    assert isinstance(from_tokens(words), dict | ReadError)


_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    tree=_trees,
    at=st.sampled_from([
        (), ("meta",), ("meta", "hardware"), ("model",), ("model", "base_args"), ("model", "docker_image"),
        ("model", "base_env"), ("features",), ("features", "tool_calling", "args"), ("opt_in_features",),
        ("variants",), ("variants", "default"), ("variants", "default", "vram_minimum_gb"), ("variants", "default", "tp"),
        ("hardware_overrides",), ("hardware_overrides", "amd"), ("hardware_overrides", "amd", "extra_env"),
        ("strategy_overrides",), ("strategy_overrides", "single_node_tp"),
    ]),
)  # fmt: skip
def test_any_tree_anywhere_is_imported_or_refused(tree: object, at: tuple[str, ...]) -> None:
    document = yaml.safe_load(FILE)
    if at:
        place = document
        for key in at[:-1]:
            place = place.setdefault(key, {})
        place[at[-1]] = tree
    else:
        document = tree
    for each in results(yaml.safe_dump(document, allow_unicode=True)):
        assert isinstance(each, Imported | Rejected)
        assert str(each)

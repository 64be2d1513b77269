"""The rules for recipe files: what each refuses by file, field, value and remedy, and that no file can break them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aim_engine.api.recipe import AIMRecipe
from aim_engine.cli import main
from aim_engine.selection import CatalogueFacts, catalogue_problems

FACTS = CatalogueFacts()
GOOD = """\
apiVersion: aim.engine.amd.com/v1alpha1
kind: AIMRecipe
metadata: {name: qwen3-32b-mi300x-2x-bf16}
spec:
  modelID: Qwen/Qwen3-32B
  hardware: {gpuModel: MI300X, gpuCount: 2}
  precision: bf16
  backend: vllm
  engineVersion: 0.32.0
  engineArgs: {max-model-len: 32768}
  env: {VLLM_ROCM_USE_AITER: '1'}
  performance:
    - tokensPerSecond: 100
      workload: {inputTokens: 128, outputTokens: 128}
      provenance: {kind: vendor, source: 'https://example.com/page', engineVersion: 0.11.1, date: '2025-11-03'}
"""


def recipe(*changes: tuple[str, object]) -> dict[str, Any]:
    """The good recipe with values set by dotted path; None removes one."""
    made: dict[str, Any] = yaml.safe_load(GOOD)
    for path, value in changes:
        *above, last = path.split(".")
        place: Any = made
        for part in above:
            place = place[int(part)] if part.isdigit() else place[part]
        if isinstance(place, list):
            place[int(last)] = value
        elif value is None:
            del place[last]
        else:
            place[last] = value
    return made


def told(*recipes: object) -> list[str]:
    files = {f"{number}.yaml": each for number, each in enumerate(recipes)}
    return [str(problem) for problem in catalogue_problems(files, FACTS)]


def test_a_recipe_in_order_has_no_problem() -> None:
    assert told(recipe()) == []


PERFORMANCE = "spec.performance.0.provenance"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("spec.precision", "fp7"), "0.yaml: spec.precision 'fp7'"),
        (("spec.precision", None), "0.yaml: spec.precision"),
        (("spec.bogus", 1), "0.yaml: spec.bogus '1'"),
        (("spec.hardware.gpuCount", "two"), "0.yaml: spec.hardware.gpuCount 'two'"),
        (("spec.modelID", "qwen/qwen3-32b"), "spec.modelID 'qwen/qwen3-32b': is a known model in other upper and lower case; write Qwen/Qwen3-32B"),
        (("spec.modelID", "Qwen/../etc"), "0.yaml: spec.modelID 'Qwen/../etc'"),
        (("spec.modelID", "Qwen/Qwen3 32B"), "0.yaml: spec.modelID 'Qwen/Qwen3 32B'"),
        (("spec.modelID", "Qwen/Qwen3\u201032B"), "0.yaml: spec.modelID 'Qwen/Qwen3\u201032B'"),
        (("spec.engineArgs", {"max-modle-len": 1}), "max-modle-len"),
        (("spec.engineArgs", {"max\u2010model\u2010len": 1}), "max\u2010model\u2010len"),
        (("spec.engineArgs", {"tensor-parallel-size": 2}), "tensor-parallel-size"),
        (("spec.engineArgs", {"swap-space": 64}), "swap-space"),
        (("spec.engineArgs", {"max-model-len": "x" * 2**20}), "max-model-len"),
        (("spec.engineArgs", {f"flag-{i}": i for i in range(60_000)}), "engineArgs: there are 60000 arguments, and 256 are the most"),
        (("spec.engineArgs", {"x" * 2**20: 1}), "the name has 1048576 characters"),
        (("spec.env", {"x-" * 2**19: "1"}), "has more than 128 characters"),
        (("spec.engineArgs", {"pipeline-parallel-size": 3}), "pipeline-parallel-size"),
        (("spec.env", {"VLLM_USE_ROCM": "1"}), "env.VLLM_USE_ROCM"),
        (("spec.hardware.gpuModel", "MI300A"), ""),
        (("spec.hardware.gpuModel", "MI210"),
         "env.VLLM_ROCM_USE_AITER: VLLM_ROCM_USE_AITER has no effect on MI210 (gfx90a): its kernels are for gfx942, gfx950; remove"),
        (("spec.hardware.gpuCount", 16), "hardware '16xMI300X': 16 GPUs of one replica; a node has at most 8 MI300X; use 8 x MI300X"),
        (("spec.hardware.gpuCount", 3), "64 attention heads cannot be divided over 3 GPUs; use 2 x MI300X"),
        (("spec.engineVersion", "9.9.9"), "spec.engineVersion '9.9.9': is a version whose flags are not known here, so the arguments cannot be checked; use one of 0.18.1, 0.23.0, 0.32.0"),
        (("spec.precision", "fp8"), "precision 'fp8': the weights of Qwen/Qwen3-32B are bf16; set source to Qwen/Qwen3-32B-FP8, or set quantization to fp8, or set precision to bf16"),
        (("spec.precision", "int8"), "precision 'int8': the weights of Qwen/Qwen3-32B are bf16; set precision to bf16"),
        (("spec.precision", "mxfp4"), "precision 'mxfp4': the weights of Qwen/Qwen3-32B are bf16; set precision to bf16"),
        (("spec.precision", "fp16"), "precision 'fp16': the weights of Qwen/Qwen3-32B are bf16, and dtype auto serves them in bf16; set dtype to float16, or precision to bf16"),
        (("spec.engineArgs", {"dtype": "half"}), "dtype half serves them in fp16; set dtype to bfloat16, or precision to fp16"),
        (("spec.engineArgs", {"quantization": "fp8"}), "precision 'bf16': quantization fp8 turns the weights of Qwen/Qwen3-32B into fp8; set precision to fp8, or remove quantization"),
        (("spec.source", "Qwen/Qwen3-32B-FP8"), "precision 'bf16': the weights of Qwen/Qwen3-32B-FP8 are fp8; set source to Qwen/Qwen3-32B, or set precision to fp8"),
        (("spec.source", "Qwen/Qwen3-8B"), "source 'Qwen/Qwen3-8B': holds weights of Qwen/Qwen3-8B, and modelID is Qwen/Qwen3-32B; set modelID to Qwen/Qwen3-8B"),
        (("spec.source", "acme/qwen3-32b-finetuned"), ""),
        (("spec.source", "qwen/Qwen3-32b-fp8"), "write Qwen/Qwen3-32B-FP8"),
        ((f"{PERFORMANCE}.kind", "declared"), "spec.performance[0].provenance.kind 'declared': is a bare claim; give a published source"),
        ((f"{PERFORMANCE}.source", "http://example.com"), "spec.performance[0].provenance.source 'http://example.com': is not a public address"),
        ((f"{PERFORMANCE}.date", None), "spec.performance[0].provenance 'https://example.com/page': lacks engineVersion or date"),
        ((f"{PERFORMANCE}.engineVersion", None), "lacks engineVersion or date"),
        ((PERFORMANCE, None), "spec.performance[0].provenance"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_one_wrong_thing_is_told_with_file_field_value_and_remedy(
    change: tuple[str, object], words: str
) -> None:
    found = told(recipe(change))
    assert bool(found) is bool(words)
    assert words in "\n".join(found)
    assert all("; " in each and len(each) < 1500 for each in found)


@pytest.mark.parametrize(
    "changes",
    [
        [("spec.precision", "fp8"), ("spec.source", "Qwen/Qwen3-32B-FP8")],
        [("spec.precision", "fp8"), ("spec.engineArgs", {"quantization": "fp8"})],
        [("spec.precision", "fp16"), ("spec.engineArgs", {"dtype": "float16"})],
        [("spec.precision", "int4"), ("spec.source", "acme/qwen3-32b-awq")],
        [("spec.engineVersion", "0.23.1")],
        [("spec.hardware.gpuModel", "MI210"), ("spec.hardware.gpuCount", 8), ("spec.env", {"VLLM_ROCM_USE_AITER": "0"})],
        [("spec.backend", "aim"), ("spec.engineVersion", "0.11.0"), ("spec.precision", "fp8"), ("spec.env", {})],
        [("spec.backend", "sglang"), ("spec.engineVersion", "0.5.12"), ("spec.engineArgs", {}), ("spec.env", {})],
        [("spec.backend", "sglang"), ("spec.engineVersion", "0.5.12"), ("spec.engineArgs", {"quantization": "fp8"}),
         ("spec.precision", "fp8"), ("spec.env", {})],
    ],
    ids=lambda changes: " ".join(str(value) for _, value in changes),
)  # fmt: skip
def test_what_is_loaded_as_it_says_has_no_problem(changes: list[tuple[str, object]]) -> None:
    assert told(recipe(*changes)) == []


def test_sglang_is_refused_where_it_has_no_image_unless_one_is_named() -> None:
    changes: list[tuple[str, object]] = [
        ("spec.backend", "sglang"), ("spec.engineVersion", "0.5.12"), ("spec.engineArgs", {}), ("spec.env", {}),
        ("spec.hardware.gpuModel", "MI210"),
    ]  # fmt: skip
    assert told(recipe(*changes)) == [
        "0.yaml: hardware.gpuModel 'MI210': SGLang has no image for gfx90a, only for gfx942, gfx950; "
        "use backend vllm, name an image of your own in image, or use another GPU model"
    ]
    assert told(recipe(*changes, ("spec.image", "registry.example.com/sglang:gfx90a"))) == []


def test_precision_and_memory_are_those_of_the_gpu() -> None:
    fp8 = recipe(("spec.precision", "fp8"), ("spec.source", "Qwen/Qwen3-32B-FP8"))
    assert told(fp8) == []
    old = copy.deepcopy(fp8)
    old["spec"]["hardware"]["gpuModel"] = "MI210"
    assert told(old)[0] == (
        "0.yaml: precision 'fp8': is not supported by MI210, which runs bf16, fp16, int4, int8, mxfp4; "
        "use Qwen/Qwen3-32B (bf16)"
    )
    large = recipe(
        ("spec.modelID", "meta-llama/Llama-3.1-405B-Instruct"),
        ("spec.engineArgs", {}),
        ("spec.hardware.gpuCount", 4),
    )
    (found,) = told(large)
    assert "hardware '4xMI300X'" in found
    assert "GiB" in found
    assert "; " in found


def test_the_second_of_two_recipes_is_told_by_name_and_by_configuration() -> None:
    named = recipe(("spec.precision", "fp16"), ("spec.engineArgs", {"dtype": "float16"}))
    assert any("1.yaml: metadata.name" in each and "0.yaml" in each for each in told(recipe(), named))
    again = recipe(("metadata.name", "another-name"))
    (found,) = told(recipe(), again)
    assert "1.yaml: spec 'another-name': is the configuration of 0.yaml again; keep one of the two" in found


def test_the_problems_do_not_depend_on_the_order_of_the_files() -> None:
    files = {"b.yaml": recipe(), "a.yaml": recipe(("spec.precision", "fp7")), "c.yaml": recipe()}
    backwards = dict(reversed(files.items()))
    assert catalogue_problems(files, FACTS) == catalogue_problems(backwards, FACTS)


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_trees = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["spec", "kind", "metadata"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
_PLACES = [
    "apiVersion", "kind", "metadata", "metadata.name", "metadata.annotations", "spec", "spec.modelID", "spec.source",
    "spec.hardware", "spec.hardware.gpuModel", "spec.hardware.gpuCount", "spec.precision", "spec.backend",
    "spec.engineVersion", "spec.engineArgs", "spec.engineArgs.max-model-len", "spec.env", "spec.env.A", "spec.image",
    "spec.resources", "spec.objective", "spec.performance", "spec.performance.0", "spec.performance.0.workload",
    PERFORMANCE, f"{PERFORMANCE}.source", "spec.allowedNamespaces",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(tree=_trees)
def test_any_tree_is_a_recipe_or_a_told_problem(tree: object) -> None:
    for problem in catalogue_problems({"x.yaml": tree}, FACTS):
        assert str(problem).startswith("x.yaml: ")
        assert problem.problem.remedy


@settings(max_examples=600, deadline=None)
@given(tree=_trees, place=st.sampled_from(_PLACES))
def test_any_tree_anywhere_in_a_recipe_is_a_recipe_or_a_told_problem(tree: object, place: str) -> None:
    made = recipe((place, {} if tree is None else tree))
    problems = catalogue_problems({"x.yaml": made}, FACTS)
    assert all(problem.problem.field and problem.problem.remedy for problem in problems)
    if not problems:
        AIMRecipe.strict_load(made)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "line 2: *a: YAML aliases are not allowed"),
        ("spec: &s\n  self: *s\n", "line 2: *s: YAML aliases are not allowed"),
        ("spec: " + "[" * 5000, "nested more than"),
        ("spec: [1,\n", "not YAML"),
        ("- 1\n", "is not an object"),
        ("spec: !!python/object/apply:os.system [ls]\n", "line 1: YAML tag"),
        (GOOD.replace("bf16\n  backend", "bf17\n  backend"), "spec.precision 'bf17'"),
        (GOOD.replace("32768", "x" * 2**20), "max-model-len"),
    ],
    ids=["laughs", "cycle", "deep", "truncated", "list", "tag", "value", "a megabyte"],
)
def test_a_bad_file_ends_the_command_with_4_and_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert main(["recipes", "validate", str(tmp_path)]) == 4
    out = "".join(capsys.readouterr())
    assert words in out
    assert "Traceback" not in out
    assert len(out) < 2000

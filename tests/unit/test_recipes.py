"""The shipped recipes: each one loads, starts and fits by our own rules."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.api.enums import Maturity, ProvenanceKind
from aim_engine.api.recipe import AIMRecipe
from aim_engine.catalog.flags import PINNED_VLLM, flag_table
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.catalog.models import checkpoint, model_facts
from aim_engine.engines import Trust, engine
from aim_engine.sizing import FitVerdict, fit

FOLDER = Path(__file__).parents[2] / "recipes"
PATHS = sorted(FOLDER.glob("*/*.yaml"))
RECIPES = {path.stem: AIMRecipe.strict_load(yaml.safe_load(path.read_text())) for path in PATHS}

each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())


def test_the_first_set_covers_the_models_and_gpus_asked_for() -> None:
    specs = [recipe.spec for recipe in RECIPES.values()]
    assert len(specs) >= 20
    assert {spec.hardware.gpu_model for spec in specs} >= {"MI210", "MI300X", "MI325X", "MI355X"}
    assert {spec.model_id for spec in specs} >= {
        "Qwen/Qwen3-32B",
        "meta-llama/Llama-2-70b-chat-hf",
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.3-70B-Instruct",
        "meta-llama/Llama-3.1-405B-Instruct",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "openai/gpt-oss-120b",
        "deepseek-ai/DeepSeek-R1",
    }
    qwen = {
        (spec.hardware.gpu_count, str(spec.precision))
        for spec in specs
        if (spec.model_id, spec.hardware.gpu_model) == ("Qwen/Qwen3-32B", "MI300X")
    }
    assert qwen >= {(count, kind) for count in (1, 2, 4, 8) for kind in ("bf16", "fp8")} | {(8, "fp16")}


def test_files_are_foldered_and_all_of_them_are_recipes() -> None:
    stray = [path for path in FOLDER.rglob("*") if path.is_file() and path not in PATHS]
    assert stray == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_file_is_named_as_its_recipe_and_says_where_it_comes_from(path: Path) -> None:
    text = path.read_text()
    content: dict[str, Any] = yaml.safe_load(text)
    assert content["metadata"] == {"name": path.stem}
    assert text.startswith("# ")
    spec = RECIPES[path.stem].spec
    ending = f"-{spec.hardware.gpu_model.lower()}-{spec.hardware.gpu_count}x-{spec.precision}"
    assert path.stem.endswith(ending)
    assert len(path.stem) <= 63


def test_no_two_recipes_describe_the_same_configuration() -> None:
    identities = Counter(
        (
            recipe.spec.model_id,
            recipe.spec.hardware.gpu_model,
            recipe.spec.hardware.gpu_count,
            recipe.spec.hardware.partition,
            recipe.spec.precision,
            recipe.spec.backend,
            recipe.spec.objective,
        )
        for recipe in RECIPES.values()
    )
    assert [identity for identity, count in identities.items() if count > 1] == []


@each_recipe
def test_its_arguments_and_environment_are_valid_for_its_engine(recipe: AIMRecipe) -> None:
    spec = recipe.spec
    backend = engine(spec.backend)
    assert spec.engine_version == PINNED_VLLM
    assert flag_table(spec.backend, spec.engine_version) is not None
    assert backend.check_args(spec.engine_args, spec.engine_version, trust=Trust.TENANT) == ()
    assert backend.check_env(spec.env, trust=Trust.TENANT) == ()
    assert backend.env_warnings(spec.env) == ()
    assert backend.check_combination(spec.engine_args) == ()
    assert backend.check_parallelism(spec.engine_args, spec.hardware.gpu_count) == ()


@each_recipe
def test_it_fits_its_gpus(recipe: AIMRecipe) -> None:
    spec = recipe.spec
    gpu = gpu_catalog()[spec.hardware.gpu_model]
    stored = checkpoint(spec.source or spec.model_id)
    plan = engine(spec.backend).plan(spec.engine_args, spec.hardware.gpu_count, gpu, spec.hardware.partition)
    answer = fit(model_facts(spec.model_id), stored, gpu, spec.hardware.partition, spec.precision, plan)
    assert answer.verdict is FitVerdict.FITS, answer.message
    assert plan.gpus == spec.hardware.gpu_count <= gpu.gpus_per_node


@each_recipe
def test_its_checkpoint_has_the_precision_it_promises(recipe: AIMRecipe) -> None:
    spec = recipe.spec
    stored = checkpoint(spec.source or spec.model_id)
    assert stored is not None
    assert stored.model == spec.model_id
    sixteen_bit = {"bf16", "fp16"}
    assert stored.precision == spec.precision or {str(stored.precision), str(spec.precision)} <= sixteen_bit
    dtype = spec.engine_args.get("dtype", "auto")
    if spec.precision in sixteen_bit and stored.precision != spec.precision:
        assert dtype == {"fp16": "float16", "bf16": "bfloat16"}[spec.precision]


@each_recipe
def test_aiter_is_on_only_where_its_kernels_exist(recipe: AIMRecipe) -> None:
    gpu = gpu_catalog()[recipe.spec.hardware.gpu_model]
    assert (recipe.spec.env.get("VLLM_ROCM_USE_AITER") == "1") == (gpu.architecture != "gfx90a")


@each_recipe
def test_its_performance_is_published_by_someone_else(recipe: AIMRecipe) -> None:
    for entry in recipe.spec.performance:
        assert entry.provenance.kind is not ProvenanceKind.DECLARED
        assert entry.provenance.source.startswith("https://")
        assert entry.provenance.engine_version
        assert entry.provenance.date
        assert entry.workload is not None


def test_optimized_is_claimed_only_with_a_profile_of_amd() -> None:
    for path in PATHS:
        if RECIPES[path.stem].spec.maturity is Maturity.OPTIMIZED:
            assert path.read_text().startswith("# AMD AIM profile"), path.stem

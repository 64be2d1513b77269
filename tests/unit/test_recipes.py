"""The shipped recipes: each one loads, starts and fits by our own rules, and says where it comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from aim_engine.api.enums import Maturity, Objective
from aim_engine.api.meta import ANNOTATION_LICENCE, ANNOTATION_NOTES, ANNOTATION_ORIGIN
from aim_engine.api.recipe import AIMRecipe, AIMRecipeSpec
from aim_engine.catalog.flags import flag_table
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.catalog.imports import origins
from aim_engine.catalog.measurements import Setting, measurements, not_attached, published
from aim_engine.catalog.models import Checkpoint, checkpoint
from aim_engine.cli.recipes_import import IMPORTERS, read_files
from aim_engine.engines import Trust, engine
from aim_engine.importers.recipe import allowed_trust, checkpoint_suffix, file_path, recipe_name, to_yaml
from aim_engine.importers.results import Imported
from aim_engine.selection import CatalogueFacts, Source, candidate, catalogue_problems, recipe_fit
from aim_engine.sizing import FitVerdict
from aim_engine.sizing.weights import weight_format
from unit.importer_files import shared_data

FOLDER = Path(__file__).parents[2] / "recipes"
PATHS = sorted(FOLDER.glob("*/*.yaml"))
RECIPES = {path.stem: AIMRecipe.strict_load(yaml.safe_load(path.read_text())) for path in PATHS}
OWN_ORIGIN = "generated from model facts"
DERIVED = "derived from "
PAGES = ("https://docs.vultr.com/",)
"""Pages whose flags are facts: no file, and no licence."""
EXACT_FILE = re.compile(r"https://github\.com/[^/]+/[^/]+/blob/[0-9a-f]{7,40}/.+\.(yaml|sh)(#[^#@]+@[^#@]+)?")
PROJECTS = {f"https://github.com/{origin.repository}/": origin.licence for origin in origins().values()} | {
    "https://github.com/SemiAnalysisAI/InferenceX/": "Apache-2.0"
}
FACTS = CatalogueFacts()


def _stored(spec: AIMRecipeSpec) -> Checkpoint | None:
    return checkpoint(spec.source or spec.model_id)


each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())


def test_the_set_covers_the_models_and_gpus_asked_for() -> None:
    specs = [recipe.spec for recipe in RECIPES.values()]
    assert len(specs) >= 100
    assert len({spec.model_id for spec in specs}) >= 25
    assert {spec.hardware.gpu_model for spec in specs} >= {
        "MI210",
        "MI250X",
        "MI300X",
        "MI325X",
        "MI350X",
        "MI355X",
    }
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


def test_the_catalogue_has_no_problem() -> None:
    files = {str(path.relative_to(FOLDER)): yaml.safe_load(path.read_text()) for path in PATHS}
    assert [str(problem) for problem in catalogue_problems(files, FACTS)] == []


def test_files_are_foldered_and_all_of_them_are_recipes() -> None:
    stray = [path for path in FOLDER.rglob("*") if path.is_file() and path not in PATHS]
    assert stray == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_file_is_named_and_written_as_its_recipe(path: Path) -> None:
    recipe = RECIPES[path.stem]
    spec = recipe.spec
    assert path.relative_to(FOLDER).as_posix() == file_path(recipe)
    name = recipe_name(spec.model_id, spec.hardware, spec.precision, spec.backend, spec.objective)
    assert path.stem == name or (path.stem == f"{name}-{checkpoint_suffix(spec)}" and name in RECIPES)
    assert path.read_text() == to_yaml(recipe)


@each_recipe
def test_it_names_the_exact_file_it_comes_from_and_its_licence_or_that_it_is_ours(recipe: AIMRecipe) -> None:
    said = recipe.metadata.annotations
    origin = said[ANNOTATION_ORIGIN].removeprefix(DERIVED)
    if origin == OWN_ORIGIN:
        assert ANNOTATION_LICENCE not in said
        assert recipe.spec.maturity in (Maturity.PREVIEW, Maturity.UNOPTIMIZED)
        assert recipe.spec.performance == []
    elif origin.startswith(PAGES):
        assert ANNOTATION_LICENCE not in said
    else:
        assert EXACT_FILE.fullmatch(origin), origin
        licences = [licence for url, licence in PROJECTS.items() if origin.startswith(url)]
        assert licences == [said[ANNOTATION_LICENCE]]


@each_recipe
def test_the_file_it_comes_from_exists(recipe: AIMRecipe) -> None:
    url = recipe.metadata.annotations[ANNOTATION_ORIGIN].removeprefix(DERIVED)
    for project, origin in origins().items():
        commit = f"https://github.com/{origin.repository}/blob/{origin.commit}/"
        if url.startswith(commit):
            assert (shared_data(project) / url.removeprefix(commit).split("#")[0]).is_file()


@pytest.mark.parametrize("url", PROJECTS)
def test_the_notice_names_the_project_and_its_licence(url: str) -> None:
    notice = (FOLDER.parent / "NOTICE").read_text()
    licence = {"MIT": "MIT License", "Apache-2.0": "Apache License 2.0"}[PROJECTS[url]]
    (section,) = [part for part in notice.split("\n\n") if url.removesuffix("/") in part]
    assert licence in section


@each_recipe
def test_what_was_made_by_hand_says_so_and_why(recipe: AIMRecipe) -> None:
    said = recipe.metadata.annotations
    origin = said[ANNOTATION_ORIGIN]
    if origin.startswith(DERIVED):
        assert said[ANNOTATION_NOTES].startswith(("derived by us", "written by hand"))
    elif origin == OWN_ORIGIN:
        assert said[ANNOTATION_NOTES]
    else:
        imported = (
            f"https://github.com/{each.repository}/blob/{each.commit}/" for each in origins().values()
        )
        assert origin.startswith(tuple(imported))


@each_recipe
def test_it_asks_no_more_trust_than_a_tenant_has_but_code_where_the_model_needs_it(recipe: AIMRecipe) -> None:
    spec = recipe.spec
    backend, trust = engine(spec.backend), allowed_trust(spec.model_id)
    assert spec.engine_version == backend.DEFAULT_VERSION
    assert flag_table(spec.backend, spec.engine_version) is not None
    assert backend.check_args(spec.engine_args, spec.engine_version, trust=trust) == ()
    assert backend.check_env(spec.env, trust=Trust.TENANT) == ()
    assert ("trust-remote-code" in spec.engine_args) == (trust is Trust.TENANT_WITH_REMOTE_CODE)


def test_code_of_repositories_runs_for_two_families_alone() -> None:
    """Kimi K2's tokenizer and Intern-S1's configuration are in no package."""
    families = {
        path.parent.name for path in PATHS if "trust-remote-code" in path.read_text().split("engineArgs")[-1]
    }
    assert families == {"kimi", "internlm"}


@each_recipe
def test_it_fits_its_gpus(recipe: AIMRecipe) -> None:
    """A real verdict: dimensions and format are known, and the memory was computed."""
    spec = recipe.spec
    answer = recipe_fit(candidate(recipe.metadata.name, Source.CATALOGUE, spec), FACTS)
    assert answer is not None
    assert answer.verdict is FitVerdict.FITS, answer.message
    assert FACTS.model(spec.model_id) is not None
    assert _stored(spec) is not None
    assert spec.hardware.gpu_count <= gpu_catalog()[spec.hardware.gpu_model].gpus_per_node


@pytest.mark.parametrize("name", RECIPES)
def test_its_checkpoint_has_the_precision_it_promises(name: str) -> None:
    spec = RECIPES[name].spec
    stored = _stored(spec)
    assert stored is not None
    assert stored.model == spec.model_id
    sixteen_bit = {"bf16", "fp16"}
    plan = engine(spec.backend).plan(spec.engine_args, spec.hardware.gpu_count, gpu_catalog()["MI300X"])
    loaded = weight_format(stored, spec.precision, plan)
    assert loaded == spec.precision or {str(loaded), str(spec.precision)} <= sixteen_bit
    dtype = spec.engine_args.get("dtype", "auto")
    if spec.precision in sixteen_bit and stored.precision != spec.precision:
        assert dtype == {"fp16": "float16", "bf16": "bfloat16"}[spec.precision]


@each_recipe
def test_aiter_is_on_only_where_its_kernels_exist(recipe: AIMRecipe) -> None:
    gpu = gpu_catalog()[recipe.spec.hardware.gpu_model]
    assert gpu.architecture != "gfx90a" or recipe.spec.env.get("VLLM_ROCM_USE_AITER", "0") == "0"


@each_recipe
def test_its_performance_was_published_for_exactly_this_setting(recipe: AIMRecipe) -> None:
    spec = recipe.spec
    setting = Setting(
        spec.source or spec.model_id,
        spec.hardware.gpu_model,
        spec.hardware.gpu_count,
        spec.precision,
        spec.backend,
    )
    assert all(entry in published(setting) for entry in spec.performance)
    assert all(entry.workload is not None for entry in spec.performance)


def test_every_published_number_is_in_a_recipe_of_its_setting_or_listed_with_the_reason_why_not() -> None:
    used = [entry for recipe in RECIPES.values() for entry in recipe.spec.performance]
    unused = [entry for entries in measurements().values() for entry in entries if entry not in used]
    assert unused == []
    assert len(used) == 25
    assert all(each.figure and each.source and each.why for each in not_attached())


def test_every_recipe_of_a_measured_setting_carries_its_numbers() -> None:
    for setting, entries in measurements().items():
        same = [
            recipe.spec
            for recipe in RECIPES.values()
            if (
                recipe.spec.source or recipe.spec.model_id, recipe.spec.hardware.gpu_model,
                recipe.spec.hardware.gpu_count, recipe.spec.precision, recipe.spec.backend,
            )
            == (setting.checkpoint, setting.gpu_model, setting.gpu_count, setting.precision, setting.backend)
        ]  # fmt: skip
        assert same, setting
        for spec in same:
            assert spec.performance == list(entries) or spec.objective is not Objective.THROUGHPUT


@pytest.mark.parametrize("project", origins())
def test_importing_again_gives_the_shipped_files(project: str) -> None:
    origin = origins()[project]
    results = IMPORTERS[project](read_files(shared_data(project), origin), origin)
    made = {file_path(each.recipe): to_yaml(each.recipe) for each in results if isinstance(each, Imported)}
    shipped = {
        path.relative_to(FOLDER).as_posix(): path.read_text()
        for path in PATHS
        if RECIPES[path.stem]
        .metadata.annotations[ANNOTATION_ORIGIN]
        .startswith(f"https://github.com/{origin.repository}/blob/{origin.commit}/")
    }
    assert shipped
    remedy = f"run: aim-engine recipes import {project} PATH --output recipes"
    assert {path: made.get(path) for path in shipped} == shipped, remedy
    assert {path for path in made if not (FOLDER / path).exists()} == set(), remedy


def test_optimized_is_claimed_only_with_a_profile_of_amd() -> None:
    for recipe in RECIPES.values():
        if recipe.spec.maturity is Maturity.OPTIMIZED:
            origin = recipe.metadata.annotations[ANNOTATION_ORIGIN]
            assert origin.startswith("https://github.com/amd-enterprise-ai/aim-build/"), recipe.metadata.name

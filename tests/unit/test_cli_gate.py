"""A change is judged as the gate of the cluster would: what it refuses ends with 4, what it warns about is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.cli_world import Json, Terminal, config_map, node, recipe, snapshot
from unit.selection_world import QWEN
from unit.test_cli_changes import CUSTOM, plain, write

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    return snapshot(tmp_path, node("gpu-1"), recipe("small"))


WRONG = {
    "a flag of an AIMRecipe": (
        recipe("bad", engineArgs={"swap-space": 4}),
        ("AIMRecipe bad: ", "spec.engineArgs.swap-space '4'", "removed in 0.18; remove it"),
    ),
    "hardware of an AIMRecipe": (
        recipe("bad", gpus=3),
        ("AIMRecipe bad: spec.hardware '3xMI300X'", "cannot be divided over 3 GPUs; use 2 x MI300X"),
    ),
    "a ConfigMap that no deployment names": (
        config_map("bad", f"{CUSTOM}config: {{args: {{--max-modle-len: 8192}}, env: {{LD_PRELOAD: x}}}}\n"),
        ("ConfigMap team-a/bad: data[recipe.yaml] line ", "did you mean max-model-len?", "LD_PRELOAD is denied"),
    ),
    "a ConfigMap that cannot be read": (
        config_map("bad", CUSTOM.replace("precision: bf16", "precision: fp7")),
        ("ConfigMap team-a/bad: ", "precision 'fp7': is none of bf16"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "told"), WRONG.values(), ids=WRONG)
def test_a_recipe_that_the_gate_refuses_fails_the_change(
    run: Terminal, cluster: Path, tmp_path: Path, wrong: tuple[str, Json], told: tuple[str, ...]
) -> None:
    apps = tmp_path / "apps"
    apps.mkdir()
    write(apps / "a.yaml", plain("good", "team-a"))
    write(apps / "b.yaml", wrong)
    ended = run("explain", "-f", apps, "--cluster", cluster, "-o", "json")
    assert (ended.code, [each.get("outcome") for each in ended.json]) == (4, ["Selected", None])
    (line,) = (each for each in ended.err.splitlines() if each.startswith("aim-engine: "))
    assert "b.yaml: " in line
    assert [part for part in told if part not in line] == []
    together = write(tmp_path / "one.yaml", plain("good", "team-a"), wrong)
    for command in ("explain", "render", "diff"):
        ended = run(command, "-f", together, "--cluster", cluster)
        assert (ended.code, ended.out) == (4, "")
        assert [part for part in told if part not in ended.err] == []


def test_recipes_of_a_change_without_a_fault_pass(run: Terminal, cluster: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "app.yaml", plain("good", "team-a"), recipe("new", gpus=2), config_map("mine", CUSTOM),
        config_map("others", "a: [", labelled=False),
    )  # fmt: skip
    ended = run("explain", "-f", path, "--cluster", cluster)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, ""),
        ({"cache": {"sizeGiB": 8}}, f"spec.cache.sizeGiB '8': the weights of {QWEN} need at least 15.3 GiB"),
        ({"overrides": {"env": {"VLLM_USE_V1": "1"}}}, "spec.overrides.env.VLLM_USE_V1 has no effect"),
        ({"model": {"id": LLAMA}}, f"spec.model.tokenSecret: {LLAMA} is gated"),
    ],
    ids=str,
)
def test_what_the_gate_warns_about_is_told_and_changes_nothing_else(
    run: Terminal, tmp_path: Path, spec: Json, told: str
) -> None:
    cluster = snapshot(tmp_path, node("gpu-1"), recipe("small"), recipe("llama", model=LLAMA, gpus=2))
    app = write(tmp_path / "app.yaml", plain("app", "team-a", **spec))
    ended = run("explain", "-f", app, "--cluster", cluster)
    warned = [line for line in ended.err.splitlines() if line.startswith("Warning: ")]
    assert (ended.code, len(warned)) == (0, 1 if told else 0), ended.err
    assert told in ended.err
    assert run("explain", "-f", app, "--cluster", cluster, "-o", "json").json["outcome"] == "Selected"


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        (CUSTOM, 0, "1 recipe, 0 with problems"),
        (CUSTOM.replace("gpu_count: 2", "gpu_count: 3"), 4, "64 attention heads cannot be divided over 3 GPUs"),
        (CUSTOM.replace("gpu_count", "gpu_cout"), 4, "there is no such field; did you mean gpu_count?"),
        (f"{CUSTOM}config: {{env: {{LD_PRELOAD: x}}}}\n", 4, "line 6, config.env.LD_PRELOAD: LD_PRELOAD is denied"),
        (f"{CUSTOM}config: {{args: {{--swap-space: 4}}}}\n", 4, "removed in 0.18; remove it"),
        ("a: [", 4, "1 recipe, 1 with problems"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "named"])
def test_recipes_of_teams_are_validated(
    run: Terminal, tmp_path: Path, text: str, code: int, told: str, *, labelled: bool
) -> None:
    path = write(tmp_path / "mine.yaml", config_map("mine", text, labelled=labelled), plain("app", "team-a"))
    ended = run("recipes", "validate", path)
    assert (ended.code, told in ended.out) == (code, True), ended.out
    assert ("mine.yaml: document 1: data[recipe.yaml] " in ended.out) is (code == 4)


def test_the_sample_of_a_team_is_valid(run: Terminal) -> None:
    sample = Path(__file__).parents[2] / "deploy" / "samples" / "custom-recipe.yaml"
    assert run("recipes", "validate", sample).out == "1 recipe, 0 with problems\n"


def test_what_is_neither_recipe_nor_beside_one_is_refused(run: Terminal, tmp_path: Path) -> None:
    kind, empty = config_map("other", "", labelled=False)
    for part in (plain("app"), (kind, {**empty, "data": {"x": "y"}})):
        ended = run("recipes", "validate", write(tmp_path / "a.yaml", recipe("fine"), part))
        assert (ended.code, "document 2" in ended.out) == (4, True)

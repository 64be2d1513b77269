"""`aim-engine recipes import`: files written, counts printed, everything left out told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from aim_engine.api.recipe import AIMRecipe
from aim_engine.cli import main
from unit.importer_files import shared_data
from unit.test_importers_vllm_recipes import FILE, ON_MI300X, PATH


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of vllm-project/recipes with one file."""
    file = tmp_path / "checkout" / PATH
    file.parent.mkdir(parents=True)
    file.write_text(FILE)
    return tmp_path / "checkout"


def test_one_file_is_written_per_recipe_and_what_is_left_out_is_told_and_counted(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["recipes", "import", "vllm-recipes", str(checkout), "--output", str(out)]) == 0
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.yaml"))
    assert f"llama-3/{ON_MI300X}.yaml" in written
    assert len(written) == 3
    for path in written:
        AIMRecipe.strict_load(yaml.safe_load((out / path).read_text()))
    told = capsys.readouterr().err
    assert f"not imported: {PATH}#nvfp4: variants.nvfp4.precision 'nvfp4'" in told
    counts = "3 imported as 3 recipes of 1 models, 0 left alone, 1 not imported; 0 other files not read"
    assert f"1 files with 4 configurations: {counts}" in told


def test_without_a_folder_the_recipes_go_to_standard_output(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "import", "vllm-recipes", str(checkout)]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert len(documents) == 3


def test_a_file_of_another_origin_is_left_alone_and_told(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "out" / "llama-3" / f"{ON_MI300X}.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("kind: AIMRecipe\n")
    main(["recipes", "import", "vllm-recipes", str(checkout), "--output", str(tmp_path / "out")])
    assert mine.read_text() == "kind: AIMRecipe\n"
    told = capsys.readouterr().err
    assert f"left alone: {mine} of {PATH}#default@mi300x has another origin: not told" in told
    assert "1 files with 4 configurations: 2 imported as 2 recipes of 1 models, 1 left alone, 1 not" in told


def test_files_beside_the_recipes_and_of_the_other_suffix_are_accounted_for(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "models" / "extra.yml").write_text("meta: 1\n")
    (checkout / "docs").mkdir()
    (checkout / "docs" / "index.yaml").write_text("a: 1\n")
    (checkout / ".github").mkdir()
    (checkout / ".github" / "ci.yml").write_text("a: 1\n")
    main(["recipes", "import", "vllm-recipes", str(checkout), "--output", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert "not imported: models/extra.yml: line 1, meta" in told
    assert (
        "not imported: docs/index.yaml: document: lies outside models/, where vllm-project/recipes keeps"
        in told
    )
    assert (
        "2 files with 5 configurations: 3 imported as 3 recipes of 1 models, 0 left alone, 2 not imported; 1 other"
        in told
    )


@pytest.mark.parametrize(
    ("project", "files", "configurations"), [("aim-build", 170, 170), ("vllm-recipes", 65, 439)]
)
def test_the_counts_of_a_whole_source_add_up_and_no_line_is_told_twice(
    project: str, files: int, configurations: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["recipes", "import", project, str(shared_data(project)), "--output", str(tmp_path)])
    *lines, counts = capsys.readouterr().err.splitlines()
    said = [int(number) for number in re.findall(r"\d+", counts)]
    assert said[:2] == [files, configurations]
    assert said[2] + said[5] + said[6] == configurations
    assert len(list(tmp_path.rglob("*.yaml"))) == said[3]
    assert len(lines) == len(set(lines))


def test_importing_twice_changes_nothing(checkout: Path, tmp_path: Path) -> None:
    command = ["recipes", "import", "vllm-recipes", str(checkout), "--output", str(tmp_path / "out")]
    main(command)
    first = {path: path.read_text() for path in (tmp_path / "out").rglob("*.yaml")}
    main(command)
    assert {path: path.read_text() for path in (tmp_path / "out").rglob("*.yaml")} == first


def test_a_folder_that_cannot_be_written_is_told(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert main(["recipes", "import", "vllm-recipes", str(checkout), "--output", str(taken / "below")]) == 1
    assert "; name a folder that can be written with --output\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [("a: [", 4, "not YAML"), ("- a\n", 4, "not a YAML mapping"), (None, 4, "no YAML files")],
)
def test_files_that_are_none_of_the_project_end_with_a_code_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, code: int, told: str
) -> None:
    if text is not None:
        (tmp_path / "x.yaml").write_text(text)
    assert main(["recipes", "import", "aim-build", str(tmp_path)]) == code
    assert told in capsys.readouterr().err

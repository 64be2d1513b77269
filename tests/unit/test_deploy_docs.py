"""The pages written by hand: links lead somewhere, examples are the shipped ones, commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from aim_engine.api.deployment import AIMDeployment
from aim_engine.catalog.flags import PINNED_VLLM
from aim_engine.catalog.gpus import gpu_catalog

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "testbed" / "README.md"]

each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def anchors(page: Path) -> set[str]:
    """Anchors as forges make them from headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_relative_link_leads_to_a_file_and_heading(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading"


@each_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r"(?:`|^ +|\s)make ([a-z][a-z-]+)(?=`|\s+#|$)", page.read_text(), re.MULTILINE))
        <= targets
    )


def test_the_example_of_the_readme_is_the_shipped_sample() -> None:
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found
    example = yaml.safe_load(found[1])
    assert example == yaml.safe_load((ROOT / "deploy" / "samples" / "qwen3-32b.yaml").read_text())
    AIMDeployment.from_object(example)


def test_the_readme_names_what_the_catalogue_supports() -> None:
    assert f"| GPUs | {', '.join(gpu_catalog())}," in README
    assert f"vLLM {PINNED_VLLM}" in README
    shipped = {
        yaml.safe_load(p.read_text())["spec"]["hardware"]["gpuModel"]
        for p in (ROOT / "recipes").glob("*/*.yaml")
    }
    *first, last = (model for model in gpu_catalog() if model in shipped)
    assert f"recipes are shipped for {', '.join(first)} and {last} |" in README


def test_the_map_of_the_architecture_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for room in sorted((ROOT / "operator" / "aim_engine").iterdir()):
        if room.is_dir() and (room / "__init__.py").exists():
            assert f"`operator/aim_engine/{room.name}/`" in text

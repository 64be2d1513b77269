"""The reference pages are what the code says now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from aim_engine.api import crd
from aim_engine.api.conditions import ConditionReason, ConditionType
from aim_engine.api.enums import Reason
from aim_engine.telemetry.families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _load()
PAGES: dict[str, str] = GENERATE.pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_generates(name: str) -> None:
    assert (DOCS / "reference" / name).read_text() == PAGES[name], "run `make generate`"


def test_drift_is_told_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setattr(GENERATE, "REFERENCE", tmp_path)
    assert GENERATE.main(["--check"]) == 1
    assert "api.md" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "a check writes nothing"
    assert GENERATE.main([]) == 0
    assert GENERATE.main(["--check"]) == 0
    (tmp_path / "api.md").write_text("edited by hand")
    assert GENERATE.main(["--check"]) == 1


def test_every_reason_of_a_verdict_is_explained() -> None:
    assert set(GENERATE.REASONS) == set(Reason)
    assert list(GENERATE.REASONS) == list(Reason), "in the order of the stages"


def test_every_condition_and_reason_has_its_row() -> None:
    assert set(GENERATE.CONDITIONS) == set(ConditionType)
    for reason in ConditionReason:
        assert f"| `{reason.value}` |" in PAGES["conditions.md"]


def test_every_field_has_its_row() -> None:
    rows = set(re.findall(r"^\| `((?:spec|status)[^`]*)` \|", PAGES["api.md"], re.MULTILINE))
    for definition in crd.definitions().values():
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for section in ("spec", "status"):
            for path, _, _ in GENERATE.fields(schema["properties"][section], section):
                assert path in rows


def test_every_metric_of_ours_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.* \| ([^|]+) \|$", PAGES["metrics.md"], re.MULTILINE)
    for name, about in rows:
        assert re.match(r"^aim_[a-z_]+$", name)
        assert about.endswith("."), about
    names = [name for name, _ in rows]
    assert len(set(names)) == len(names)
    assert {family.name for family in FAMILIES} < set(names)
    assert {"aim_recipe_selection_total", "aim_webhook_reviews_total"} < set(names)


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_whole(name: str) -> None:
    width = 0
    for line in PAGES[name].splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (0, cells), line
        width = cells


def test_links_of_all_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page}: {target}"

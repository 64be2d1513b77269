"""What commands print: one line for an error, nothing that a terminal obeys, progress only where somebody watches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.cli import COMMANDS, DEBUG_VARIABLE, main
from aim_engine.cli.output import columns, escaped, printable, to_json, to_yaml
from unit.cli_world import Terminal, deployment, node, recipe, snapshot
from unit.selection_world import QWEN

EVIL = "x\x1b[31m\u202e\u2028\x9b\x07y\nz"


@given(st.text(st.characters()))
def test_printable_text_is_one_line_without_controls(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(
        ord(each) < 32 or 0x7F <= ord(each) < 0xA0 or 0xD800 <= ord(each) < 0xE000 for each in shown
    )
    assert shown == text or "\\" in shown


@given(
    st.recursive(
        st.text(st.characters()), lambda inner: st.dictionaries(st.text(), inner, max_size=2), max_leaves=4
    )
)
def test_json_says_the_same_escaped(value: object) -> None:
    text = to_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("\x1b\x85\x9b\u2028\u202e\ud800")
    assert json.loads(escaped(json.dumps(value, ensure_ascii=False))) == value


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_yaml_says_the_same_escaped_and_without_aliases(text: str) -> None:
    shared = [text]
    written = to_yaml({"a": shared, "b": shared})
    assert yaml.safe_load(written) == {"a": [text], "b": [text]}
    assert not set(written) & set("\x1b\x85\x9b\u2028\u202e")


def test_columns_keep_their_rows_whatever_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    table = columns(("A", "B", "C"), [(EVIL, "red", "-"), ("plain", "red", "")], {1: {"red": "red"}})
    assert len(table.splitlines()) == 3
    assert "\x1b" not in table
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    painted = columns(("A", "B", "C"), [("red", "red", "-"), ("a", "redder", "b")], {1: {"red": "red"}})
    assert painted == "A     B        C\nred   \x1b[31mred\x1b[0m      -\na     redder   b\n"


def test_names_of_others_are_shown_and_not_obeyed(run: Terminal, tmp_path: Path) -> None:
    kind, chat = deployment("chat")
    chat["status"] = {
        "modelID": EVIL,
        "conditions": [{"type": "Ready", "status": "True", "message": EVIL}],
        "ready": 7,
    }
    path = snapshot(tmp_path, node("gpu-\x1b[31m1"), recipe("small"), (kind, chat), deployment("e\u2028f"))
    for words in (
        ("status", "-o", "wide"), ("select", QWEN, "-o", "wide"), ("select", QWEN), ("select", QWEN, "-o", "json"),
        ("select", QWEN, "-o", "yaml"), ("status", "-o", "yaml"), ("explain", "no\x1bbody"), ("recipes", "list"),
    ):  # fmt: skip
        ended = run(*words, "--cluster", path)
        assert not set(ended.out + ended.err) & set("\x1b\u2028\x9b\x07"), words


def test_a_fault_of_ours_is_one_line_that_says_how_to_report_it(
    run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = ModuleType("aim_engine.cli.status")

    def fail(_: object) -> int:
        raise RuntimeError("line one\nline two")

    faulty.run = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "aim_engine.cli.status", faulty)
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    ended = run("status")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "RuntimeError: line one\\nline two; please report it" in ended.err
    assert f"{DEBUG_VARIABLE}=1 shows where" in ended.err
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    with pytest.raises(RuntimeError):
        main(["status"])


def test_progress_is_told_on_standard_error_of_a_terminal_only(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = snapshot(tmp_path, node("gpu-1"), recipe("small"))
    words = ("select", QWEN, "--cluster", path, "-o", "json")
    quiet = run(*words)
    assert quiet.err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    watched = run(*words)
    assert watched.err == f"reading {path}\n"
    assert watched.out == quiet.out


def loaded(*words: str) -> set[str]:
    """Modules that a command loads."""
    program = "import sys; from aim_engine.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_loads_no_command(command: str) -> None:
    assert not loaded(command, "--help") & {
        "pydantic",
        "yaml",
        "kopf",
        "aiohttp",
        "asyncio",
        "kubernetes",
        "prometheus_client",
    }


def test_a_decision_offline_loads_no_client(tmp_path: Path) -> None:
    path = snapshot(tmp_path, node("gpu-1"), recipe("small"))
    found = loaded("select", QWEN, "--cluster", str(path))
    assert not found & {"kopf", "aiohttp", "asyncio", "kubernetes", "prometheus_client", "ssl"}


def test_a_terminal_without_unicode_shows_what_it_can(tmp_path: Path) -> None:
    path = snapshot(tmp_path, node("gpü-1"), recipe("small"))
    done = subprocess.run(
        ["/usr/bin/env", "PYTHONIOENCODING=ascii", sys.executable, "-m", "aim_engine", "select", QWEN, "--cluster", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "gp\\xfc-1" in done.stdout

"""The examples that the help of each command shows, to be run as they stand."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


def examples(command: str) -> list[str]:
    """The lines that `aim-engine COMMAND --help` prints below `examples:`."""
    ended = subprocess.run(
        [sys.executable, "-m", "aim_engine", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    _, _, shown = ended.stdout.partition("\nexamples:\n")
    return [line.strip() for line in shown.splitlines() if line.strip()]


@dataclass(frozen=True)
class Example:
    """An example with the files it speaks of in their places."""

    line: str
    words: list[str]
    target: Path | None
    """Where its output is sent."""


def placed(line: str, stand_ins: Mapping[str, object]) -> Example:
    """The example with words replaced; an unknown file would be a file that the documentation does not explain."""
    program, *words = shlex.split(line)
    assert program == "aim-engine", line
    target = None
    if ">" in words:
        target = Path(str(stand_ins[words[-1]]))
        words = words[: words.index(">")]
    return Example(line, [str(stand_ins.get(word, word)) for word in words], target)

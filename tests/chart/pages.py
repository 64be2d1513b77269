"""The code blocks of the pages written by hand, and what a command line consists of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbed.product import ROOT

DOCS = ROOT / "docs"
WRITTEN = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if page.parent.name not in ("reference", "runbooks")),
]
"""Pages of users. Those of docs/reference are generated, with tests of their own."""
LANGUAGES = ("sh", "yaml", "")
"""Commands, objects or values, and what is printed."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Page and line, for messages and names of tests."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page; those in lists without their indentation."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^( *)```([a-z]*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        indent, language, body = match.groups()
        body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, language, body))
    return found


def commands(block: Block) -> Iterator[str]:
    """The commands of a block: lines, joined where they end in a backslash, without comments."""
    for line in block.text.replace("\\\n", " ").splitlines():
        bare = _without_comment(line)
        if bare:
            yield bare


def _without_comment(line: str) -> str:
    """A line up to a `#` that starts a comment, as a shell sees it."""
    quote = ""
    for place, sign in enumerate(line):
        if sign in "'\"" and quote in ("", sign):
            quote = "" if quote else sign
        elif sign == "#" and not quote and (place == 0 or line[place - 1].isspace()):
            return line[:place].strip()
    return line.strip()


def words(command: str) -> list[str]:
    """Words of the first program of a pipeline, without assignments before and redirections after it."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if set(word) <= set("|<>;&"):
            break
        if found or not re.fullmatch(r"[A-Z_]+=.*", word):
            found.append(word)
    return found

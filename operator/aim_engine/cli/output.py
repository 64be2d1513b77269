"""What every command prints with: tables, JSON, YAML, colour on a terminal, and errors that end it."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from aim_engine.api.wording import UNPRINTABLE
from aim_engine.api.wording import printable as printable

Rows = Sequence[Sequence[str]]


class Exit(IntEnum):
    """Exit codes of all commands."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NO_RECIPE = 3
    INVALID_INPUT = 4


class CommandError(Exception):
    """Ends the command with one clear message."""

    def __init__(self, message: str, code: Exit = Exit.ERROR) -> None:
        super().__init__(message)
        self.code = code


class ForbiddenError(CommandError):
    """The user may not do what the command needs."""


def invalid(message: str) -> CommandError:
    """Input that cannot be used."""
    return CommandError(message, Exit.INVALID_INPUT)


def add_output(parser: argparse.ArgumentParser, *, wide: bool = True) -> None:
    """The flag -o of commands whose answers are tables."""
    choices = ["table", "json", "yaml", *(["wide"] if wide else [])]
    parser.add_argument("-o", "--output", choices=choices, default="table", help="format (default: table)")


def emit(form: str, document: Any, table: Callable[[bool], str]) -> None:
    """Print a document as JSON or YAML, or the table; `table` is told whether wide is asked for."""
    match form:
        case "json":
            sys.stdout.write(to_json(document) + "\n")
        case "yaml":
            sys.stdout.write(to_yaml(document))
        case _:
            sys.stdout.write(table(form == "wide"))


def to_json(document: Any) -> str:
    """Indented, keys in the document's order."""
    return escaped(json.dumps(document, indent=2, ensure_ascii=False))


def escaped(text: str) -> str:
    """JSON text that is YAML too, and that no terminal obeys: what cannot be printed stands as `\\u001b`."""
    return UNPRINTABLE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found.group() if found.group() == "\n" else f"\\u{ord(found.group()):04x}"


def to_yaml(document: Any) -> str:
    """Block style, keys in the document's order."""
    text = _dump(document, as_it_is=True)
    odd = UNPRINTABLE.search(text.replace("\n", ""))
    return _dump(document, as_it_is=False) if odd else text


def _dump(document: Any, *, as_it_is: bool) -> str:
    """Values that stand in two places are written twice: aliases are hard to read, and our own reader refuses them."""
    import yaml

    class Whole(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    text: str = yaml.dump(document, Dumper=Whole, sort_keys=False, allow_unicode=as_it_is, width=120)
    return text


def columns(
    head: Sequence[str], rows: Iterable[Sequence[str]], colours: Mapping[int, Mapping[str, str]] | None = None
) -> str:
    """Columns as kubectl prints them, a row a line; `colours` gives, by column, the colour of a cell's text."""
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "".join(f"{_line(line, widths, colours or {} if i else {})}\n" for i, line in enumerate(lines))


def _line(cells: Sequence[str], widths: Sequence[int], colours: Mapping[int, Mapping[str, str]]) -> str:
    """A colour has no width, so it is added when the padding is known; what ends the line is not padded."""
    last = max((i for i, cell in enumerate(cells) if cell), default=0)
    painted = (
        coloured(cell, colours[i][cell]) if cell in colours.get(i, {}) else cell
        for i, cell in enumerate(cells)
    )
    padding = ("" if i >= last else " " * (widths[i] - len(cell) + 3) for i, cell in enumerate(cells))
    return "".join(part for pair in zip(painted, padding, strict=True) for part in pair)


def coloured(text: str, colour: str) -> str:
    """Text in a colour where standard output is a terminal that wants it (NO_COLOR is honoured)."""
    codes: Mapping[str, str] = {"green": "32", "yellow": "33", "red": "31"}
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{codes[colour]}m{text}\x1b[0m"


def tell(message: str) -> None:
    """A word beside the output, on standard error; always one line."""
    sys.stderr.write(f"{printable(message)}\n")


def progress(message: str) -> None:
    """A word about long work, only where somebody watches."""
    if sys.stderr.isatty():
        tell(message)

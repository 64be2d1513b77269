"""What every command prints with: tables, JSON, YAML, colour on a terminal, and errors that end it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

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


def invalid(message: str) -> CommandError:
    """Input that cannot be used."""
    return CommandError(message, Exit.INVALID_INPUT)


def add_output(parser: argparse.ArgumentParser, *, wide: bool = True) -> None:
    """The flag -o."""
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
    return json.dumps(document, indent=2, ensure_ascii=False)


def to_yaml(document: Any) -> str:
    """Block style, keys in the document's order."""
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return text


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as kubectl prints them; the last one is not padded."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def coloured(text: str, colour: str) -> str:
    """Text in a colour where standard output is a terminal that wants it (NO_COLOR is honoured)."""
    codes: Mapping[str, str] = {"green": "32", "yellow": "33", "red": "31"}
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{codes[colour]}m{text}\x1b[0m"


def tell(message: str) -> None:
    """A word beside the output, on standard error."""
    sys.stderr.write(f"{message}\n")


def progress(message: str) -> None:
    """A word about long work, only where somebody watches."""
    if sys.stderr.isatty():
        tell(message)

"""Command line words as a mapping of flags: `--a 1 --b=2 --no-c -cc.mode=3` as people write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from aim_engine.api.configmap_yaml import ReadError

_FLAG = re.compile(r"--?[A-Za-z][\w.+-]*(=.*)?", re.DOTALL)


def from_tokens(words: Sequence[str]) -> dict[str, object] | ReadError:
    """Flags with their values as YAML would have them; a later one wins. The refusal names the stray word."""
    flags: dict[str, object] = {}
    for word, values in _grouped(words):
        if word is None:
            message = "is a value without a flag"
            return ReadError("extra_args", values[0], message, "write it after its flag")
        name, equals, inline = word.lstrip("-").partition("=")
        found = [inline, *values] if equals else values
        parsed = [_value(each) for each in found]
        value = None if not parsed else parsed[0] if len(parsed) == 1 else parsed
        head, _, tail = name.partition(".")
        head = head.replace("_", "-")
        _store(flags, f"{head}.{tail}" if tail else head, value)
    return flags


def _store(flags: dict[str, object], name: str, value: object) -> None:
    """`--x` and `--no-x` speak of one flag: the later one alone is kept."""
    other = name.removeprefix("no-") if name.startswith("no-") else f"no-{name}"
    flags.pop(other, None)
    flags[name] = value


def _grouped(words: Sequence[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Each flag with the words up to the next one."""
    current: str | None = None
    values: list[str] = []
    for word in words:
        if _FLAG.fullmatch(word):
            if current is not None or values:
                yield current, values
            current, values = word, []
        else:
            values.append(word)
    if current is not None or values:
        yield current, values


def _value(text: str) -> object:
    """A number, truth value or JSON object; anything else is text."""
    try:
        value = json.loads(text)
    except ValueError:
        return {"True": True, "False": False}.get(text, text)
    return value if not isinstance(value, float) or abs(value) < 2**63 else text

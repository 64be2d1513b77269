"""How values, fields and causes are put into messages: short, and on one line that no terminal obeys."""

from __future__ import annotations

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]
"""Of a value within a document."""
_SHOWN = 80
_SECRET = re.compile(r"(^|[.\s])env(-vars)?([.\s]|$)|(api-?key|hf-token|password|secret)$")
"""Variables of the environment, and what is named after a secret."""
_MOST_TOLD = 40
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Controls of terminals and of the direction of text, what ends a line, and halves of characters."""


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def is_secret(field: str) -> bool:
    """Whether the value of a field may be a secret, and is never repeated."""
    return _SECRET.search(field.replace("_", "-").lower()) is not None


def dotted(path: Path) -> str:
    """A path as people write it: `performance[0].tokensPerSecond`; a long key is cut."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def printable(text: str) -> str:
    """Text of others as one line that a terminal shows and does not obey: `\\x1b` instead of an escape character."""
    return UNPRINTABLE.sub(lambda found: ascii(found.group())[1:-1], text)


def briefly(lines: Sequence[str]) -> tuple[str, ...]:
    """At most so many causes as people can read, and as a condition can hold; the rest is counted."""
    rest = len(lines) - _MOST_TOLD
    return tuple(lines) if rest <= 0 else (*lines[:_MOST_TOLD], f"and {rest} more")

"""Which metrics a PromQL expression reads. A scanner, not a parser: whether an expression is valid is for Prometheus to say."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    |(?P<number>(?:\d[\w.]*|\.\d+))
    |(?P<word>[A-Za-z_:][\w:]*)
    |(?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^(){}\[\],=<>@:])""",
    re.VERBOSE,
)
_VARIABLE = re.compile(r"\$\{[^}]*\}|\$\w+")
_GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_OPERATORS = frozenset({"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"})
_BRACKETS = {"(": ")", "{": "}", "[": "]"}

Token = tuple[str, str]


def metric_names(expression: str) -> set[str]:
    """Names of all metrics that an expression selects; Grafana's variables in it count as empty.

    `{__name__=~"a|b"}` selects a and b. Raises ValueError for text that is no PromQL, and for a selector without a name.
    """
    return set(_names(list(_tokens(_VARIABLE.sub(" ", _without_prefixes(expression))))))


def _without_prefixes(expression: str) -> str:
    """A variable directly before a name is the configurable prefix of an exporter: it is taken away without a gap."""
    return re.sub(r"\$\{[^}]*\}(?=[A-Za-z_])", "", expression)


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise ValueError(f"'{text[at : at + 20]}' is no PromQL, in: {text}")
        at = found.end()
        if found.lastgroup:
            yield found.lastgroup, found.group()


def _names(tokens: list[Token]) -> Iterator[str]:
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind == "word" and text.lower() in _GROUPING:
            at = _end(tokens, at + 1) if following == "(" else at + 1
        elif text == "[":
            at = _end(tokens, at)
        elif text == "{":
            yield from _named_in(tokens[at : _end(tokens, at)])
            at = _end(tokens, at)
        elif kind == "word" and text.lower() not in _OPERATORS and not _is_function(following):
            yield text
            at = _end(tokens, at + 1) if following == "{" else at + 1
        else:
            at += 1


def _is_function(following: str) -> bool:
    return following == "(" or following in ("by", "without")


def _end(tokens: list[Token], at: int) -> int:
    """The place after the bracket that closes the one at `at`."""
    closing = _BRACKETS[tokens[at][1]]
    for place in range(at, len(tokens)):
        if tokens[place][1] == closing:
            return place + 1
    raise ValueError(f"'{tokens[at][1]}' is never closed")


def _named_in(selector: list[Token]) -> Iterator[str]:
    for (_, name), (_, sign), (kind, value) in zip(selector, selector[1:], selector[2:], strict=False):
        if name == "__name__" and kind == "string":
            if sign not in ("=", "=~"):
                raise ValueError(f"__name__{sign}{value} selects what nobody can list")
            yield from value[1:-1].split("|")
            return
    raise ValueError("a selector without the name of a metric: " + "".join(text for _, text in selector))

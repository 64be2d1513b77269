"""A benchmark for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.benchmark.summary import BUSY, PERCENTILES
from aim_engine.cli.output import columns, printable

_TIMES = {
    "time to first token": "timeToFirstTokenMilliseconds",
    "inter-token latency": "interTokenLatencyMilliseconds",
    "request latency": "requestLatencyMilliseconds",
}
_COLUMNS = ("mean", *(f"p{at}" for at in PERCENTILES), "max")
_ENDINGS = {
    "duration": "",
    "requests": "",
    "interrupted": ", interrupted: a partial result",
    "gave_up": ", given up: nearly every request failed",
}


def table(result: Mapping[str, Any]) -> str:
    """What was asked, how much came, how fast, and what went wrong."""
    parts = [_facts(result)]
    rows = [
        [name.upper(), *(f"{result[key][each]:.1f} ms" for each in _COLUMNS)]
        for name, key in _TIMES.items()
        if result[key] is not None
    ]
    if rows:
        parts.append(columns(["", *(name.upper() for name in _COLUMNS)], rows))
    if result["errors"]:
        errors = [[each["kind"], str(each["count"]), each["example"]] for each in result["errors"]]
        parts.append(columns(["ERROR", "COUNT", "EXAMPLE"], errors))
    notes = list(result["notes"])
    if result["clientCpuPercent"] >= 100 * BUSY:
        notes.append(
            "this program used a whole core: the server may be faster than shown; run several at a time"
        )
    if notes:
        parts.append("".join(f"Note: {printable(note)}\n" for note in notes))
    return "\n".join(parts)


def _facts(result: Mapping[str, Any]) -> str:
    load, requests, tokens = result["load"], result["requests"], result["tokens"]
    rows = [("Server", f"{result['server']}, model {result['model']}")]
    if result["deployment"]:
        rows.append(("Deployment", f"{result['deployment']}, recipe {result['recipe'] or '-'}"))
    asked = f"{load['concurrency']} at a time, {load['inputTokens']} tokens in, {load['outputTokens']} out"
    got = f"{_text(tokens['meanInput'])} in, {_text(tokens['meanOutput'])} out, counted by {'the server' if tokens['countedBy'] == 'server' else 'pieces of text'}"
    rows += [
        ("Load", asked),
        ("Measured", f"{result['seconds']:.1f} s after {load['warmupSeconds']:g} s of warm-up{_ENDINGS[result['ended']]}"),
        ("Requests", f"{requests['answered']} answered, {requests['failed']} failed, {requests['cutAtTheEnd']} cut at the end"),
        ("Tokens", f"{got}, on average"),
        ("Output", f"{_text(result['outputTokensPerSecond'])} tok/s"),
        ("Input", f"{_text(result['inputTokensPerSecond'])} tok/s"),
        ("Rate", f"{_text(result['requestsPerSecond'])} requests/s"),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows) + 2
    return "".join(f"{name + ':':<{width}}{printable(value)}\n" for name, value in rows)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if value < 1000 else f"{value:.0f}"

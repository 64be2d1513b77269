"""The result of a run as a document and as a table. Pure."""

from __future__ import annotations

from typing import Any

from aim_engine.benchmark.book import Run
from aim_engine.benchmark.samples import Samples

PERCENTILES = (50, 90, 95, 99)
BUSY = 0.9
"""Share of a core above which the load generator may itself have been the limit."""


def summarize(run: Run) -> dict[str, Any]:
    """Numbers of a run, for machines. Times in milliseconds; None where nothing was seen."""
    seconds = run.seconds or None
    return {
        "ended": run.ending.value,
        "seconds": round(run.seconds, 2),
        "requests": {"answered": run.answered, "failed": run.failed, "cutAtTheEnd": run.cut},
        "tokens": {
            "countedBy": "server" if run.counted and run.answered else "pieces",
            "meanInput": _mean(run.prompt_tokens, run.answered) or None,
            "meanOutput": _mean(run.answer_tokens, run.answered),
        },
        "outputTokensPerSecond": round(run.output_tokens / seconds, 1) if seconds else None,
        "inputTokensPerSecond": round(run.prompt_tokens / seconds, 1) if seconds and run.counted else None,
        "requestsPerSecond": round(run.answered / seconds, 2) if seconds else None,
        "timeToFirstTokenMilliseconds": _times(run.first_token),
        "interTokenLatencyMilliseconds": _times(run.inter_token),
        "requestLatencyMilliseconds": _times(run.latency),
        "errors": [
            {"kind": fault.value, "count": each.count, "example": each.example}
            for fault, each in sorted(run.failures.items(), key=lambda item: (-item[1].count, item[0]))
        ],
        "clientCpuPercent": round(100 * run.client_share),
    }


def _mean(total: int, count: int) -> float | None:
    return round(total / count, 1) if count else None


def _times(samples: Samples) -> dict[str, float] | None:
    if not samples.count:
        return None
    found = {"mean": samples.mean, **{f"p{at}": samples.percentile(at / 100) for at in PERCENTILES}}
    return {
        name: round(1000 * value, 2)
        for name, value in {**found, "max": samples.largest}.items()
        if value is not None
    }

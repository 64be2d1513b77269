"""What would serve a measured load better: signs in a window, each with the change that helps. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from aim_engine.api.performance import Hint
from aim_engine.reconcile.subject import Subject, is_loaded
from aim_engine.telemetry.window import Window

PREEMPTIONS_PER_SECOND = 0.05
FULL, HALF, HARDLY = 0.95, 0.5, 0.1
"""Shares of the KV cache."""
FEW_HITS, LONG_PROMPT = 0.05, 1000
"""Share of prompt tokens found in the prefix cache, and the mean prompt length from which it matters."""


def hints(window: Window, subject: Subject) -> Iterator[Hint]:
    """At most one of each kind, the most urgent first."""
    used, limit = window.kv_cache_usage, subject.max_num_seqs
    preempted = window.preemptions_per_second or 0.0
    if preempted >= PREEMPTIONS_PER_SECOND:
        yield Hint(
            kind="Preemptions",
            message=f"{preempted * 60:.0f} requests a minute are preempted for want of KV cache and start over: lower max-num-seqs"
            f"{_now(limit)}, set kv-cache-dtype to fp8, or use more GPUs",
        )
    if is_loaded(window, subject) and used is not None:
        waiting = max(1, round(window.waiting))
        if used >= FULL:
            yield Hint(
                kind="KVCacheFull",
                message=f"{waiting} requests wait while {used:.0%} of the KV cache is in use: add replicas, set kv-cache-dtype to fp8, or "
                "use more GPUs",
            )
        elif used <= HALF and limit is not None and window.running >= 0.9 * limit * window.replicas:
            yield Hint(
                kind="BatchLimit",
                message=f"{waiting} requests wait while {1 - used:.0%} of the KV cache is free: raise max-num-seqs{_now(limit)}, for "
                "example by workload.maxBatchSize",
            )
    elif used is not None and used <= HARDLY and window.running >= 1:
        yield Hint(
            kind="Overprovisioned",
            message=f"{used:.0%} of the KV cache serves this load: a recipe with fewer GPUs, or fewer replicas, would do",
        )
    hits, prompt = window.prefix_hit_ratio, window.input_tokens
    if hits is not None and hits < FEW_HITS and prompt is not None and prompt >= LONG_PROMPT:
        yield Hint(
            kind="PrefixCacheMisses",
            message=f"{hits:.0%} of the prompt tokens are found in the prefix cache at {prompt:.0f} tokens a prompt: put what prompts share "
            "(system prompt, documents) at their beginning, and keep a conversation on one replica",
        )


def _now(limit: int | None) -> str:
    return "" if limit is None else f" (now {limit})"

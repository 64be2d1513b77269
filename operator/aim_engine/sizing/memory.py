from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Where the memory of one GPU goes, and what context that leaves room for."""

    weights_bytes_per_gpu: int
    kv_bytes_per_token_per_gpu: int
    """With a sliding window: for a token beyond the window."""
    overhead_bytes: int
    usable_bytes: int
    kv_bytes: int
    kv_tokens: int
    """Tokens of one long sequence that fit in the KV cache of one engine replica."""
    max_context: int
    """Longest context the model itself supports."""
    usable_context: int

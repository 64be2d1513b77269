"""Model architectures and published checkpoints. What is not listed here is unknown, never wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from aim_engine.api.enums import Precision
from aim_engine.catalog.data import read_yaml


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Dimensions of one model, named as in its `config.json`."""

    id: str
    parameters: int
    active_parameters: int
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    max_position_embeddings: int
    native_precision: Precision
    source: str
    vocab_size: int | None = None
    checkpoint_bytes: int | None = None
    """Size of the model's own weight files where published."""
    experts: int | None = None
    experts_per_token: int | None = None
    moe_intermediate_size: int | None = None
    fp8_block_size: int | None = None
    """Block edge of the scales of a natively FP8 model."""
    mla_kv_lora_rank: int | None = None
    mla_rope_head_dim: int | None = None
    sliding_window: int | None = None
    sliding_layers: int | None = None
    """Layers that keep only `sliding_window` tokens."""
    gated: bool = False
    """The Hub gives the files only to accounts that accepted the licence."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One repository of weights of a known model."""

    id: str
    model: str
    precision: Precision
    source: str
    bytes: int | None = None
    kv_cache_precision: Precision | None = None
    """Format of the KV cache scales the checkpoint carries, when it carries any."""
    fp8_block_size: int | None = None


def model_facts(model_id: str) -> ModelFacts | None:
    """Facts of a model by its exact Hub id."""
    return model_catalog().get(model_id)


def checkpoint(source_id: str) -> Checkpoint | None:
    """Checkpoint by its exact Hub id; a model's own repository is its native checkpoint."""
    return checkpoint_catalog().get(source_id)


@cache
def model_catalog() -> Mapping[str, ModelFacts]:
    """All known models by Hub id; ids that share one architecture share the facts."""
    rows = read_yaml("models.yaml")["models"]
    return MappingProxyType({facts.id: facts for row in rows for facts in _models(row)})


@cache
def checkpoint_catalog() -> Mapping[str, Checkpoint]:
    """All known checkpoints by Hub id."""
    known = {facts.id: _native_checkpoint(facts) for facts in model_catalog().values()}
    for row in read_yaml("models.yaml")["checkpoints"]:
        known[row["id"]] = _checkpoint(row)
    return MappingProxyType(known)


def _models(row: dict[str, Any]) -> list[ModelFacts]:
    ids = [row["id"], *row.get("alsoKnownAs", ())]
    return [
        ModelFacts(
            id=model_id,
            parameters=row["parameters"],
            active_parameters=row.get("activeParameters", row["parameters"]),
            layers=row["layers"],
            hidden_size=row["hiddenSize"],
            attention_heads=row["attentionHeads"],
            kv_heads=row["kvHeads"],
            head_dim=row["headDim"],
            max_position_embeddings=row["maxPositionEmbeddings"],
            native_precision=Precision(row["nativePrecision"]),
            source=row["source"],
            vocab_size=row.get("vocabSize"),
            checkpoint_bytes=row.get("checkpointBytes"),
            experts=row.get("experts"),
            experts_per_token=row.get("expertsPerToken"),
            moe_intermediate_size=row.get("moeIntermediateSize"),
            fp8_block_size=row.get("fp8BlockSize"),
            mla_kv_lora_rank=row.get("mlaKVLoraRank"),
            mla_rope_head_dim=row.get("mlaRopeHeadDim"),
            sliding_window=row.get("slidingWindow"),
            sliding_layers=row.get("slidingLayers"),
            gated=row.get("gated", False),
        )
        for model_id in ids
    ]


def _native_checkpoint(facts: ModelFacts) -> Checkpoint:
    return Checkpoint(
        id=facts.id,
        model=facts.id,
        precision=facts.native_precision,
        source=facts.source,
        bytes=facts.checkpoint_bytes,
        fp8_block_size=facts.fp8_block_size if facts.native_precision is Precision.FP8 else None,
    )


def _checkpoint(row: dict[str, Any]) -> Checkpoint:
    kv_cache = row.get("kvCachePrecision")
    return Checkpoint(
        id=row["id"],
        model=row["model"],
        precision=Precision(row["precision"]),
        source=row["source"],
        bytes=row.get("bytes"),
        kv_cache_precision=None if kv_cache is None else Precision(kv_cache),
        fp8_block_size=row.get("fp8BlockSize"),
    )

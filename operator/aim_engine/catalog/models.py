"""Model architectures and published checkpoints. What is not listed here is unknown, never wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
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
    tied_embeddings: bool = False
    """Input and output embeddings are one matrix."""
    intermediate_size: int | None = None
    """Width of the dense MLP layers."""
    lookup_parameters: int | None = None
    """Parameters of further embedding tables, one per layer, which stay in 16 bit as the embeddings do."""
    checkpoint_bytes: int | None = None
    """Size of the model's own weight files where published."""
    experts: int | None = None
    experts_per_token: int | None = None
    moe_intermediate_size: int | None = None
    quantization_block: int | None = None
    """Edge of the scale blocks of natively quantised weights (FP8 blocks, groups of integers)."""
    native_rest_precision: Precision | None = None
    """Format of everything but the routed experts, where only these have the native one."""
    mla_kv_lora_rank: int | None = None
    mla_rope_head_dim: int | None = None
    mla_index_bytes: int | None = None
    """Bytes per token and layer that sparse attention's index keeps beside the latent vector."""
    sliding_window: int | None = None
    sliding_layers: int | None = None
    """Layers that keep only `sliding_window` tokens."""
    full_kv_heads: int | None = None
    """KV heads of the layers that keep every token, where they have another number than the windowed ones."""
    full_head_dim: int | None = None
    """Size of a head in the layers that keep every token, where it is another than in the windowed ones."""
    kv_layers: int | None = None
    """Layers that keep a KV cache, `sliding_layers` included; None means all. Hybrid models have fewer."""
    state_bytes_per_sequence: int | None = None
    """Recurrent state of the linear-attention layers of one sequence, all layers, before division over GPUs."""
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
    quantization_block: int | None = None
    rest_precision: Precision | None = None
    """Format of everything but the routed experts, where only these have `precision`."""
    loaded_bytes: int | None = None
    """Size in memory, where it is not that of the files: an engine loads 32-bit files in 16 bit."""


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
        known[row["id"]] = checkpoint_from_row(row)
    return MappingProxyType(known)


def _models(row: dict[str, Any]) -> list[ModelFacts]:
    ids = [row["id"], *row.get("alsoKnownAs", ())]
    return [model_from_row({**row, "id": model_id}) for model_id in ids]


def model_from_row(row: Mapping[str, Any]) -> ModelFacts:
    """Facts from a row as `catalog/models.yaml` and snapshots write it; raises KeyError, TypeError or ValueError."""
    values = _values(ModelFacts, row)
    return ModelFacts(**{"active_parameters": values["parameters"], **values})


def model_row(facts: ModelFacts) -> dict[str, Any]:
    """The row that reads back as `facts`; what is at its default is left out."""
    return _row(facts)


def checkpoint_from_row(row: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint from its row; raises KeyError, TypeError or ValueError."""
    return Checkpoint(**_values(Checkpoint, row))


def checkpoint_row(known: Checkpoint) -> dict[str, Any]:
    """The row that reads back as `known`; what is at its default is left out."""
    return _row(known)


def _values(kind: type, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field.name: _value(field.type, key, row[key])
        for field in fields(kind)
        if (key := _key(field.name)) in row
    }


def _value(annotation: object, key: str, value: Any) -> Any:
    """The value, when it is of the field's type; numbers are above 0."""
    kinds = str(annotation).split(" | ")
    if "Precision" in kinds:
        return Precision(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = (
        (
            number
            and value >= 0
            and (isinstance(value, int) or "float" in kinds)
            and {"int", "float"} & set(kinds)
        )
        or (isinstance(value, bool) and "bool" in kinds)
        or (isinstance(value, str) and "str" in kinds)
    )
    if not fits:
        raise TypeError(f"{key} {value!r} is not {annotation}")
    return value


def _row(value: ModelFacts | Checkpoint) -> dict[str, Any]:
    kept = ((field, getattr(value, field.name)) for field in fields(value))
    return {
        _key(field.name): str(item) if isinstance(item, Precision) else item
        for field, item in kept
        if item != field.default
    }


def _key(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join("KV" if part == "kv" else part.capitalize() for part in rest)


def _native_checkpoint(facts: ModelFacts) -> Checkpoint:
    return Checkpoint(
        id=facts.id,
        model=facts.id,
        precision=facts.native_precision,
        source=facts.source,
        bytes=facts.checkpoint_bytes,
        quantization_block=facts.quantization_block,
        rest_precision=facts.native_rest_precision,
    )

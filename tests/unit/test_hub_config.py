"""`config.json` becomes facts: counted parameters agree with the published ones, the catalogue with both, and any tree is survived."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Precision
from aim_engine.catalog.models import model_catalog
from aim_engine.hub.config_json import ConfigError, describe
from unit.model_configs import MODELS, Published, decoder

DIMENSIONS = (
    "layers", "hidden_size", "attention_heads", "kv_heads", "head_dim", "max_position_embeddings", "experts",
    "experts_per_token", "moe_intermediate_size", "mla_kv_lora_rank", "mla_rope_head_dim", "kv_layers",
    "state_bytes_per_sequence", "sliding_window", "sliding_layers", "tied_embeddings", "native_precision",
)  # fmt: skip

each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)


def facts_of(config: Any) -> Any:
    return describe("acme/model", config, None, "test").facts


@each_model
def test_the_counted_parameters_are_the_published_ones(model: Published) -> None:
    facts = facts_of(model.config)
    assert facts.parameters == pytest.approx(model.total * 1e9, rel=0.01)
    if model.active is None:
        assert facts.active_parameters == facts.parameters
    else:
        assert facts.active_parameters == pytest.approx(model.active * 1e9, rel=max(0.02, model.tolerance))


@each_model
def test_the_catalogue_says_the_same_as_the_configuration(model: Published) -> None:
    parsed, known = facts_of(model.config), model_catalog()[model.id]
    assert {name: getattr(known, name) for name in DIMENSIONS} == {
        name: getattr(parsed, name) for name in DIMENSIONS
    }
    assert known.parameters == pytest.approx(parsed.parameters, rel=0.001)


SMALL = decoder(2, 64, 4, 2, 128, 1000, 2048)


@pytest.mark.parametrize(
    ("changes", "precision", "block"),
    [
        ({"torch_dtype": "bfloat16"}, Precision.BF16, None),
        ({"torch_dtype": "float16"}, Precision.FP16, None),
        ({"torch_dtype": None, "dtype": "torch.float16"}, Precision.FP16, None),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, Precision.FP8, 128),
        ({"quantization_config": {"quant_method": "mxfp4"}}, Precision.MXFP4, 32),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, Precision.INT4, None),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, Precision.INT8, None),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"weights": {"num_bits": 8, "type": "float"}}}}}, Precision.FP8, None),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"weights": {"num_bits": 8, "type": "int"}}}}}, Precision.INT8, None),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"weights": {"num_bits": 4, "type": "int"}}}}}, Precision.INT4, None),
        ({"quantization_config": {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}}, Precision.FP8, None),
        ({"quantization_config": {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "x": "mxfp4"}}}}, Precision.MXFP4, None),
    ],
)  # fmt: skip
def test_formats_of_weights(changes: dict[str, Any], precision: Precision, block: int | None) -> None:
    facts = facts_of({**SMALL, **changes})
    assert (facts.native_precision, facts.quantization_block) == (precision, block)


def test_the_text_part_of_a_multimodal_model_counts() -> None:
    whole = {
        "model_type": "x_vl",
        "vision_config": {"hidden_size": 1},
        "text_config": SMALL,
        "hidden_size": 9,
    }
    assert facts_of(whole).hidden_size == 64
    assert facts_of({"thinker_config": {"text_config": SMALL}}).layers == 2


@pytest.mark.parametrize(
    ("changes", "window", "layers"),
    [
        ({"sliding_window": 512}, 512, 2),
        ({"sliding_window": 512, "use_sliding_window": False}, None, None),
        ({"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]}, 512, 1),
        ({"sliding_window": 512, "layer_types": ["full_attention", "full_attention"]}, None, None),
        ({"sliding_window": 512, "sliding_window_pattern": 2}, 512, 1),
        ({"sliding_window": None}, None, None),
    ],
)
def test_windows(changes: dict[str, Any], window: int | None, layers: int | None) -> None:
    facts = facts_of({**SMALL, **changes})
    assert (facts.sliding_window, facts.sliding_layers) == (window, layers)


def test_yarn_stretches_the_context_as_the_engine_does() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    assert facts_of({**SMALL, "rope_scaling": scaling}).max_position_embeddings == 8192


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ([], "config.json is [], not an object"),
        ({}, "hidden_size is missing"),
        ({**SMALL, "num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({**SMALL, "num_hidden_layers": "many"}, "num_hidden_layers is 'many'"),
        ({**SMALL, "num_hidden_layers": True}, "num_hidden_layers is True"),
        ({**SMALL, "vocab_size": 2**50}, "vocab_size is"),
        ({**SMALL, "torch_dtype": "int3"}, "torch_dtype is 'int3'"),
        ({**SMALL, "is_encoder_decoder": True}, "only decoder models"),
        ({**SMALL, "quantization_config": {"quant_method": "magic"}}, "quant_method is 'magic'"),
        ({**SMALL, "num_experts": 8}, "num_experts_per_tok is missing"),
        ({**SMALL, "intermediate_size": None}, "intermediate_size is missing"),
    ],
)
def test_what_cannot_be_sized_is_told_by_field_and_value(config: Any, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        facts_of(config)
    assert told in str(refused.value)


_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
_NAMES = sorted(
    {name for model in MODELS for name in model.config}
    | {"text_config", "layer_types", "rope_scaling", "dtype"}
)


@given(
    changes=st.dictionaries(st.sampled_from(_NAMES), _trees | st.integers(1, 64), max_size=4),
    base=st.sampled_from(MODELS),
)
def test_any_configuration_is_facts_or_a_refusal(changes: dict[str, Any], base: Published) -> None:
    try:
        facts = facts_of({**base.config, **changes})
    except ConfigError:
        return
    assert facts.parameters >= facts.active_parameters > 0


@given(_trees)
def test_any_tree_is_facts_or_a_refusal(tree: object) -> None:
    with pytest.raises(ConfigError):
        facts_of(tree)

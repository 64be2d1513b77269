"""`config.json` becomes facts: counted parameters agree with the published ones, the catalogue with both, and any tree is survived."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Precision
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.catalog.models import checkpoint, checkpoint_from_row, checkpoint_row, model_catalog
from aim_engine.catalog.plan import EnginePlan
from aim_engine.hub.config_json import ConfigError, describe
from aim_engine.sizing import FitVerdict, fit
from aim_engine.sizing.weights import weights_bytes
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
        ({"quantization_config": {"quant_method": "mxfp4"}}, Precision.MXFP4, None),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, Precision.INT4, None),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, Precision.INT8, None),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"weights": {"num_bits": 8, "type": "float"}}}}}, Precision.FP8, None),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"weights": {"num_bits": 8, "type": "int"}}}}}, Precision.INT8, None),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"weights": {"num_bits": 4, "type": "int"}}}}}, Precision.INT4, None),
        ({"quantization_config": {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}}, Precision.FP8, None),
        ({"quantization_config": {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}}, Precision.MXFP4, None),
        ({"quantization_config": {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "uint4"}}}}, Precision.INT4, None),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, Precision.FP8, None),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized", "config_groups": {
            "group_0": {"weights": {"num_bits": 4, "type": "float"}}}}}, Precision.MXFP4, None),
    ],
)  # fmt: skip
def test_formats_of_weights(changes: dict[str, Any], precision: Precision, block: int | None) -> None:
    facts = facts_of({**SMALL, **changes})
    assert (facts.native_precision, facts.quantization_block) == (precision, block)


EXPERTS = {
    **SMALL,
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
}
INT4 = {
    "quant_method": "compressed-tensors",
    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}},
}


@pytest.mark.parametrize(
    ("config", "rest"),
    [
        ({**EXPERTS, "quantization_config": {**INT4, "ignore": ["re:.*self_attn.*", "lm_head"]}}, Precision.BF16),
        ({**EXPERTS, "quantization_config": {**INT4, "ignore": ["lm_head"]}}, None),
        ({**SMALL, "quantization_config": {**INT4, "ignore": ["re:.*self_attn.*"]}}, None),
        ({**EXPERTS, "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}}, Precision.BF16),
    ],
)  # fmt: skip
def test_what_only_the_experts_are_stored_in_is_said_of_them_alone(
    config: dict[str, Any], rest: Precision | None
) -> None:
    found = describe("acme/model", config, None, "test")
    assert (found.facts.native_rest_precision, found.checkpoint.rest_precision) == (rest, rest)


def test_the_text_part_of_a_multimodal_model_counts() -> None:
    whole = {
        "model_type": "x_vl",
        "vision_config": {"hidden_size": 1},
        "text_config": SMALL,
        "hidden_size": 9,
    }
    assert facts_of(whole).hidden_size == 64
    assert facts_of({"thinker_config": {"text_config": SMALL}}).layers == 2


GEMMA_3 = {"model_type": "gemma3_text", "num_hidden_layers": 12, "sliding_window": 512}
LLAMA_4 = {"model_type": "llama4_text", "num_hidden_layers": 8, "attention_chunk_size": 512}
QWEN_3 = {"model_type": "qwen3", "num_hidden_layers": 8, "sliding_window": 512, "max_window_layers": 6}


@pytest.mark.parametrize(
    ("changes", "window", "layers"),
    [
        ({"model_type": "mistral", "sliding_window": 512}, 512, 2),
        ({"model_type": "mistral", "sliding_window": None}, None, None),
        ({"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]}, 512, 1),
        ({"sliding_window": 512, "layer_types": ["full_attention", "full_attention"]}, None, None),
        ({"sliding_window": 512, "sliding_window_pattern": 2}, 512, 1),
        ({"sliding_window": 512, "use_sliding_window": False}, None, None),
        ({"sliding_window": None}, None, None),
        ({"model_type": "gemma2", "num_hidden_layers": 46, "sliding_window": 4096}, 4096, 23),
        (GEMMA_3, 512, 10),
        ({**GEMMA_3, "sliding_window_pattern": 2}, 512, 6),
        ({"model_type": "cohere2", "num_hidden_layers": 8, "sliding_window": 512}, 512, 6),
        ({"model_type": "gpt_oss", "num_hidden_layers": 8, "sliding_window": 128}, 128, 4),
        (LLAMA_4, 512, 6),
        ({**LLAMA_4, "no_rope_layers": [1, 0] * 4}, 512, 4),
        ({**LLAMA_4, "no_rope_layers": [], "no_rope_layer_interval": 2}, 512, 4),
        ({**LLAMA_4, "attention_chunk_size": None}, None, None),
        (QWEN_3, None, None),
        ({**QWEN_3, "use_sliding_window": True}, 512, 2),
    ],
)
def test_windows(changes: dict[str, Any], window: int | None, layers: int | None) -> None:
    facts = facts_of({**SMALL, **changes})
    assert (facts.sliding_window, facts.sliding_layers) == (window, layers)


def test_the_experts_that_all_tokens_share_are_counted_where_only_the_class_says_so() -> None:
    """Llama 4 Scout: 107.8 B of text, of which 6 B are shared experts that no key names."""
    config = decoder(
        48, 5120, 40, 8, 8192, 202048, 10485760, model_type="llama4_text", head_dim=128, num_local_experts=16,
        num_experts_per_tok=1, interleave_moe_layer_step=1, intermediate_size_mlp=16384, attention_chunk_size=8192,
    )  # fmt: skip
    facts = facts_of({"model_type": "llama4", "text_config": config})
    assert facts.parameters == pytest.approx(107.8e9, rel=0.001)
    assert facts.active_parameters == pytest.approx(17.2e9, rel=0.01)


def test_a_derivative_of_a_model_of_the_catalogue_is_sized_as_the_model_itself() -> None:
    """gpt-oss in MXFP4: its groups of 32 do not restrict how experts of width 2880 are cut."""
    config = decoder(
        36, 2880, 64, 8, 2880, 201088, 131072, model_type="gpt_oss", head_dim=64, num_local_experts=128, num_experts_per_tok=4,
        sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 18,
        quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
    )  # fmt: skip
    found = describe("acme/gpt-oss-tuned", config, 65_283_502_899, "test")
    known, gpu = model_catalog()["openai/gpt-oss-120b"], gpu_catalog()["MI300X"]
    assert found.facts.parameters == pytest.approx(known.parameters, rel=0.001)
    for count in (1, 2, 4, 8):
        plan = EnginePlan(tensor_parallel=count)
        answers = [
            fit(facts, stored, gpu, None, Precision.MXFP4, plan)
            for facts, stored in ((found.facts, found.checkpoint), (known, checkpoint(known.id)))
        ]
        assert {answer.verdict for answer in answers} == {FitVerdict.FITS}
        tokens = [answer.memory.kv_tokens for answer in answers if answer.memory]
        assert tokens[0] == pytest.approx(tokens[1], rel=0.01)


@pytest.mark.parametrize(
    ("scaling", "context"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}, 8192),
        ({"type": "linear", "factor": 4.0}, 8192),
        ({"rope_type": "dynamic", "factor": 2}, 4096),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 2048}, 2048),
        ({"type": "longrope", "factor": 8.0}, 2048),
        ({"type": "mrope", "mrope_section": [16, 24, 24]}, 2048),
        ({"type": "linear", "factor": None}, 2048),
        ({"type": "linear", "factor": 10**400}, 2048),
        ({"type": "linear", "factor": float("inf")}, 2048),
        ({"type": "linear", "factor": float("nan")}, 2048),
        ({"type": "yarn", "factor": 10**400, "original_max_position_embeddings": 2048}, 2048),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10**400}, 2048),
        ({"type": "yarn", "factor": 4.0}, 2048),
    ],
)
def test_the_context_is_stretched_as_the_engine_does(scaling: dict[str, Any], context: int) -> None:
    """A recipe that serves what vLLM takes must not be refused as beyond the model."""
    assert facts_of({**SMALL, "rope_scaling": scaling}).max_position_embeddings == context


def test_files_in_32_bit_take_half_of_their_size_in_memory() -> None:
    """OLMo 2 7B lies there in 29 GB of float32; vLLM loads it in bf16. What is downloaded are the files."""
    config = decoder(32, 4096, 32, 32, 11008, 100352, 4096, model_type="olmo2", torch_dtype="float32")
    found = describe("allenai/OLMo-2-1124-7B", config, 29_200_000_000, "test")
    assert found.checkpoint.bytes == 29_200_000_000
    for count in (1, 4):
        plan = EnginePlan(tensor_parallel=count)
        assert weights_bytes(found.facts, found.checkpoint, Precision.BF16, plan) == 14_600_000_000
    stored = describe("acme/model", {**config, "torch_dtype": "bfloat16"}, 14_600_000_000, "test").checkpoint
    assert (stored.bytes, stored.loaded_bytes) == (14_600_000_000, None)
    assert checkpoint_from_row(checkpoint_row(found.checkpoint)) == found.checkpoint


def test_the_heads_of_mla_are_those_of_its_values() -> None:
    """transformers writes `head_dim` 64 for DeepSeek, the rotated part alone: half of the workspace that the engine takes."""
    latent = {**SMALL, "model_type": "deepseek_v32", "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
              "v_head_dim": 16, "head_dim": 8, "index_head_dim": 128}  # fmt: skip
    facts = facts_of(latent)
    assert (facts.head_dim, facts.mla_rope_head_dim) == (16, 8)
    assert facts.mla_index_bytes == model_catalog()["deepseek-ai/DeepSeek-V3.2-Exp"].mla_index_bytes == 132


def test_gemma_3_names_its_stretched_length_already() -> None:
    scaled = {**SMALL, "model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert facts_of(scaled).max_position_embeddings == 2048


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ([], "config.json is [], not an object"),
        ({}, "model_type is None, which is none of the"),
        ({"model_type": "llama"}, "hidden_size is missing"),
        ({**SMALL, "num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({**SMALL, "num_hidden_layers": "many"}, "num_hidden_layers is 'many'"),
        ({**SMALL, "num_hidden_layers": True}, "num_hidden_layers is True"),
        ({**SMALL, "vocab_size": 2**50}, "vocab_size is"),
        ({**SMALL, "torch_dtype": "int3"}, "torch_dtype is 'int3'"),
        ({**SMALL, "is_encoder_decoder": True}, "only decoder models"),
        ({**SMALL, "quantization_config": {"quant_method": "magic"}}, "quant_method is 'magic'"),
        ({**SMALL, "num_experts": 8}, "num_experts_per_tok is missing"),
        ({**SMALL, "intermediate_size": None}, "intermediate_size is missing"),
        *(
            ({**SMALL, "model_type": name}, f"model_type is '{name}', which is none of the")
            for name in ("bert", "jamba", "nemotron_h", "granitemoehybrid", "kimi_linear", "mamba", "t5", "")
        ),
        ({**SMALL, "model_type": ["llama"]}, "model_type is ['llama']"),
        ({**SMALL, "layer_types": ["mamba", "full_attention"]}, "layer_types has 'mamba'; known are full_attention"),
        ({**SMALL, "layer_types": ["full_attention"]}, "layer_types has 1 entries for 2 layers"),
        ({**SMALL, "layer_types": ["sliding_attention"] * 2}, "sliding_window is missing"),
        ({**SMALL, "sliding_window": 512}, "sliding_window is 512, and neither layer_types nor sliding_window_pattern"),
        ({**EXPERTS, "sliding_window": 512, "use_sliding_window": True}, "neither layer_types nor"),
        ({**SMALL, "hybrid_override_pattern": "M-*"}, "hybrid_override_pattern is 'M-*': such hybrids"),
        ({**SMALL, "attn_layer_period": 8}, "attn_layer_period is 8"),
        ({**SMALL, "linear_attn_config": {"kda_layers": [1]}}, "linear_attn_config is"),
        ({**SMALL, "num_kv_shared_layers": 20}, "num_kv_shared_layers is 20"),
        ({**SMALL, "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "quant_algo is 'NVFP4'"),
        ({**SMALL, "quantization_config": {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {
            "g": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}}}}, "4-bit floating point that is not MXFP4"),
        ({**SMALL, "quantization_config": {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 16}}}},
         "4-bit floating point that is not MXFP4"),
        ({**SMALL, "quantization_config": {"quant_method": "quark"}}, "weight.dtype is ''"),
    ],
)  # fmt: skip
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
    | {
        "text_config",
        "layer_types",
        "rope_scaling",
        "dtype",
        "no_rope_layers",
        "linear_attn_config",
        "use_sliding_window",
    }
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

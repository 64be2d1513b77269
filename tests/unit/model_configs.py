"""`config.json` of published models, as far as sizing reads it, with the parameter counts that their authors publish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
FP8_128 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1,
    "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "quantization_config": FP8_128,
}  # fmt: skip
GLM_MOE = {"model_type": "glm4_moe", "num_experts_per_tok": 8, "n_shared_experts": 1, "head_dim": 128}
QWEN_MOE = {
    "model_type": "qwen3_moe",
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}


GATED_DELTA = {
    "head_dim": 256, "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_key_head_dim": 128,
    "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "attn_output_gate": True,
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A model, its configuration, and the totals on its card."""

    id: str
    config: Json
    total: float
    """Billions."""
    active: float | None = None
    tolerance: float = 0.01


def decoder(
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    intermediate: int,
    vocab: int,
    positions: int,
    **more: Any,
) -> Json:
    """What `config.json` of a decoder says, a Llama's unless `model_type` says otherwise."""
    return {
        "model_type": "llama",
        "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate, "vocab_size": vocab, "max_position_embeddings": positions,
        "torch_dtype": "bfloat16", "tie_word_embeddings": False, **more,
    }  # fmt: skip


def qwen3_5(
    layers: int, hidden: int, heads: int, kv_heads: int, value_heads: int, intermediate: int | None = None,
    experts: tuple[int, int, int] | None = None, **more: Any,
) -> Json:  # fmt: skip
    """What it says of Qwen3.5 and its successors, which see too; `experts` are their number, those of a token, and their width."""
    text = decoder(
        layers,
        hidden,
        heads,
        kv_heads,
        intermediate or 0,
        248320,
        262144,
        model_type="qwen3_5_text",
        **GATED_DELTA,
        **more,
    )
    text |= {
        "linear_num_value_heads": value_heads, "mamba_ssm_dtype": "float32",
        "layer_types": ["linear_attention" if at % 4 < 3 else "full_attention" for at in range(layers)],
    }  # fmt: skip
    if experts:
        count, used, width = experts
        text |= {
            "model_type": "qwen3_5_moe_text", "num_experts": count, "num_experts_per_tok": used, "moe_intermediate_size": width,
            "shared_expert_intermediate_size": width,
        }  # fmt: skip
        del text["intermediate_size"]
    return {
        "model_type": text["model_type"].removesuffix("_text"),
        "text_config": text,
        "vision_config": {"depth": 27},
    }


TIED = {"tie_word_embeddings": True}
MODELS = [
    Published("Qwen/Qwen3-0.6B", decoder(28, 1024, 16, 8, 3072, 151936, 40960, model_type="qwen3", head_dim=128, **TIED), 0.596),
    Published("Qwen/Qwen3-1.7B", decoder(28, 2048, 16, 8, 6144, 151936, 40960, model_type="qwen3", head_dim=128, **TIED), 1.721),
    Published("Qwen/Qwen3-4B", decoder(36, 2560, 32, 8, 9728, 151936, 40960, model_type="qwen3", head_dim=128, **TIED), 4.022),
    Published("Qwen/Qwen3-8B", decoder(36, 4096, 32, 8, 12288, 151936, 40960, model_type="qwen3", head_dim=128), 8.19),
    Published("Qwen/Qwen3-14B", decoder(40, 5120, 40, 8, 17408, 151936, 40960, model_type="qwen3", head_dim=128), 14.768),
    Published("Qwen/Qwen3-32B", decoder(64, 5120, 64, 8, 25600, 151936, 40960, model_type="qwen3", head_dim=128), 32.762),
    Published("Qwen/Qwen3-30B-A3B", decoder(48, 2048, 32, 4, 6144, 151936, 40960, **QWEN_MOE, moe_intermediate_size=768), 30.53, 3.35),
    Published("Qwen/Qwen3-235B-A22B", decoder(94, 4096, 64, 4, 12288, 151936, 40960, **QWEN_MOE, moe_intermediate_size=1536), 235.09, 22.19),
    Published("Qwen/Qwen3-Coder-480B-A35B-Instruct", decoder(
        62, 6144, 96, 8, 8192, 151936, 262144, **{**QWEN_MOE, "num_experts": 160}, moe_intermediate_size=2560), 480, 35, 0.02),
    Published("Qwen/Qwen3-Next-80B-A3B-Instruct", decoder(
        48, 2048, 16, 2, 5120, 151936, 262144, model_type="qwen3_next", **GATED_DELTA, linear_num_value_heads=32, num_experts=512,
        num_experts_per_tok=10, moe_intermediate_size=512, shared_expert_intermediate_size=512, decoder_sparse_step=1,
    ), 79.7, 3.9),
    Published("Qwen/Qwen3.6-35B-A3B", qwen3_5(40, 2048, 16, 2, 32, experts=(256, 8, 512)), 34.66, 3.45),
    Published("Qwen/Qwen3.5-397B-A17B", qwen3_5(60, 4096, 32, 2, 64, experts=(512, 10, 1024)), 397, 17, 0.03),
    Published("Qwen/Qwen2.5-VL-72B-Instruct", decoder(80, 8192, 64, 8, 29568, 152064, 128000, model_type="qwen2_5_vl", vision_config={}), 72.7),
    Published("zai-org/GLM-4.5V", {"model_type": "glm4v_moe", "vision_config": {}, "text_config": decoder(
        46, 4096, 96, 8, 10944, 151552, 65536, **{**GLM_MOE, "model_type": "glm4v_moe_text"}, n_routed_experts=128,
        moe_intermediate_size=1408, first_k_dense_replace=1)}, 107, 13.4),
    *(
        Published(f"mistralai/Ministral-3-{size}-{kind}-2512", {"model_type": "mistral3", "vision_config": {}, **stored, "text_config": decoder(
            layers, hidden, 32, 8, intermediate, 131072, 262144, model_type="ministral3", head_dim=128, sliding_window=None, **tied)}, total)
        for size, layers, hidden, intermediate, tied, total in (
            ("14B", 40, 5120, 16384, {}, 13.5), ("8B", 34, 4096, 14336, {}, 8.49), ("3B", 26, 3072, 9216, TIED, 3.43))
        for kind, stored in (("Instruct", {"quantization_config": {"quant_method": "fp8"}}), ("Reasoning", {}))
    ),
    Published("Qwen/Qwen2.5-7B-Instruct", decoder(28, 3584, 28, 4, 18944, 152064, 32768, model_type="qwen2"), 7.616),
    Published("Qwen/Qwen2.5-14B-Instruct", decoder(48, 5120, 40, 8, 13824, 152064, 32768, model_type="qwen2"), 14.77),
    Published("Qwen/Qwen2.5-32B-Instruct", decoder(64, 5120, 40, 8, 27648, 152064, 32768, model_type="qwen2"), 32.76),
    Published("Qwen/Qwen2.5-72B-Instruct", decoder(80, 8192, 64, 8, 29568, 152064, 32768, model_type="qwen2"), 72.7),
    Published("Qwen/QwQ-32B", decoder(64, 5120, 40, 8, 27648, 152064, 40960, model_type="qwen2"), 32.76),
    Published("meta-llama/Llama-2-7b-chat-hf", decoder(32, 4096, 32, 32, 11008, 32000, 4096, torch_dtype="float16"), 6.738),
    Published("meta-llama/Llama-2-13b-chat-hf", decoder(40, 5120, 40, 40, 13824, 32000, 4096, torch_dtype="float16"), 13.016),
    Published("meta-llama/Llama-2-70b-chat-hf", decoder(80, 8192, 64, 8, 28672, 32000, 4096, torch_dtype="float16"), 68.98),
    Published("meta-llama/Llama-3.1-8B-Instruct", decoder(32, 4096, 32, 8, 14336, 128256, 131072), 8.03),
    Published("meta-llama/Llama-3.3-70B-Instruct", decoder(80, 8192, 64, 8, 28672, 128256, 131072), 70.55),
    Published("meta-llama/Llama-3.1-405B-Instruct", decoder(126, 16384, 128, 8, 53248, 128256, 131072), 405.9),
    Published("deepseek-ai/DeepSeek-R1", decoder(61, 7168, 128, 128, 18432, 129280, 163840, **DEEPSEEK_V3), 671, 37, 0.02),
    Published("deepseek-ai/DeepSeek-V3.2-Exp", decoder(
        61, 7168, 128, 128, 18432, 129280, 163840, **{**DEEPSEEK_V3, "model_type": "deepseek_v32"}, index_head_dim=128), 671, 37, 0.02),
    Published("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", decoder(64, 5120, 40, 8, 27648, 152064, 131072, model_type="qwen2"), 32.76),
    Published("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", decoder(80, 8192, 64, 8, 28672, 128256, 131072), 70.55),
    Published("moonshotai/Kimi-K2-Instruct", decoder(
        61, 7168, 64, 64, 18432, 163840, 131072, **{**DEEPSEEK_V3, "model_type": "kimi_k2", "n_routed_experts": 384, "first_k_dense_replace": 1}), 1026, 32.6, 0.02),
    Published("zai-org/GLM-4.5", decoder(
        92, 5120, 96, 8, 12288, 151552, 131072, **GLM_MOE, n_routed_experts=160, moe_intermediate_size=1536, first_k_dense_replace=3), 355, 32, 0.06),
    Published("zai-org/GLM-4.6", decoder(
        92, 5120, 96, 8, 12288, 151552, 202752, **GLM_MOE, n_routed_experts=160, moe_intermediate_size=1536, first_k_dense_replace=3), 355, 32, 0.06),
    Published("zai-org/GLM-4.7", decoder(
        92, 5120, 96, 8, 12288, 151552, 202752, **GLM_MOE, n_routed_experts=160, moe_intermediate_size=1536, first_k_dense_replace=3), 355, 32, 0.06),
    Published("zai-org/GLM-4.5-Air", decoder(
        46, 4096, 96, 8, 10944, 151552, 131072, **GLM_MOE, n_routed_experts=128, moe_intermediate_size=1408, first_k_dense_replace=1), 106, 12, 0.12),
    Published("MiniMaxAI/MiniMax-M2", decoder(
        62, 3072, 48, 8, 1536, 200064, 196608, model_type="minimax_m2", head_dim=128, num_local_experts=256, num_experts_per_tok=8, quantization_config=FP8_128), 230, 10, 0.11),
    Published("mistralai/Mistral-7B-Instruct-v0.3", decoder(32, 4096, 32, 8, 14336, 32768, 32768, model_type="mistral"), 7.248),
    Published("mistralai/Mixtral-8x7B-Instruct-v0.1", decoder(
        32, 4096, 32, 8, 14336, 32000, 32768, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2), 46.7, 12.9),
    Published("mistralai/Mixtral-8x22B-Instruct-v0.1", decoder(
        56, 6144, 48, 8, 16384, 32768, 65536, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2), 140.6, 39.1),
    Published("mistralai/Mistral-Large-Instruct-2411", decoder(88, 12288, 96, 8, 28672, 32768, 131072, model_type="mistral"), 122.6),
    Published("microsoft/phi-4", decoder(40, 5120, 40, 10, 17920, 100352, 16384, model_type="phi3"), 14.66),
    Published("google/gemma-2-27b-it", decoder(
        46, 4608, 32, 16, 36864, 256000, 8192, model_type="gemma2", head_dim=128, sliding_window=4096, tie_word_embeddings=None), 27.2),
    Published("CohereLabs/command-a-reasoning-08-2025", decoder(
        64, 12288, 96, 8, 36864, 256000, 131072, model_type="cohere2", head_dim=128, sliding_window=4096, tie_word_embeddings=None), 111),
]  # fmt: skip

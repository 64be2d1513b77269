"""Sizing by table: verdicts, numbers and remedies."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from aim_engine.api.enums import Backend, Precision, Reason
from aim_engine.catalog.gpus import GIB, gpu_catalog
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint, model_facts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import engine
from aim_engine.sizing import Fit, FitVerdict, fit, hardware_bound, remedies, smallest_gpu_count, told
from aim_engine.sizing.kv_cache import (
    kv_bytes_for_context,
    kv_bytes_per_token,
    kv_layers,
    sequences_that_fit,
    tokens_that_fit,
)
from aim_engine.sizing.memory import MemoryModel, memory_model
from aim_engine.sizing.overhead import overhead
from aim_engine.sizing.roofline import estimate, read_share
from aim_engine.sizing.weights import (
    expert_fraction,
    expert_share,
    stage_layers,
    weights,
    weights_bytes,
    weights_bytes_per_gpu,
)

GPUS = gpu_catalog()
MODELS = ("MI300X", "MI325X", "MI355X")
LLAMA, QWEN_MOE = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-235B-A22B"

# Thousands of KV tokens at 1/2/4/8 GPUs, utilisation 0.9 and 6 GiB reserve, computed independently of this code.
# "no": the weights do not fit. Sliding windows are left out on both sides.
CAPACITY = [
    ("Qwen/Qwen3-8B", "bf16", 2, "1103/2317/4746/9605 1522/3156/6424/12960 1732/3576/7263/14638"),
    ("Qwen/Qwen3-32B", "bf16", 2, "433/1116/2482/5215 669/1588/3426/7103 787/1824/3898/8047"),
    ("Qwen/Qwen3-30B-A3B", "bf16", 2, "1200/3022/6666/6976 1829/4280/9182/9493 2144/4909/10440/10751"),
    ("Qwen/Qwen3-235B-A22B", "bf16", 2, "no/no/1278/2500 no/60/2563/3785 no/382/3206/4427"),
    ("Qwen/Qwen3-235B-A22B-FP8", "fp8", 2, "no/633/2494/3107 24/1276/3779/4392 185/1597/4421/5035"),
    ("meta-llama/Llama-3.1-8B-Instruct", "bf16", 2,
     "1243/2609/5342/10808 1715/3553/7230/14583 1951/4025/8173/16470"),
    ("meta-llama/Llama-3.3-70B-Instruct", "bf16", 2, "115/662/1755/3941 304/1040/2510/5451 399/1228/2888/6206"),
    ("amd/Llama-3.3-70B-Instruct-FP8-KV", "fp8", 1,
     "649/1742/3928/8301 1026/2497/5438/11321 1215/2875/6193/12831"),
    ("amd/Llama-3.1-405B-Instruct-FP8-KV", "fp8", 1, "no/no/1187/3963 no/278/2145/5880 no/518/2625/6839"),
    ("meta-llama/Llama-3.1-405B-Instruct", "bf16", 2, "no/no/no/1203 no/no/294/2162 no/no/534/2641"),
    ("meta-llama/Llama-2-70b-chat-hf", "fp16", 2, "125/672/1765/3951 314/1049/2520/5461 408/1238/2897/6216"),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", "bf16", 2,
     "653/2020/4752/10218 1125/2963/6640/13993 1361/3435/7584/15881"),
    ("mistralai/Mixtral-8x22B-Instruct-v0.1", "bf16", 2, "no/335/1897/5020 no/874/2975/7177 no/1144/3515/8256"),
    ("mistralai/Mistral-Small-24B-Instruct-2501", "bf16", 2,
     "805/1898/4084/8457 1182/2653/5594/11477 1371/3031/6349/12987"),
    ("openai/gpt-oss-20b", "mxfp4", 2, "3364/7007/14295/28870 4622/9524/19328/38937 5251/10782/21845/43970"),
    ("openai/gpt-oss-120b", "mxfp4", 2, "1543/3972/8831/18548 2382/5650/12186/25259 2802/6489/13864/28614"),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "bf16", 2,
     "no/718/2540/6184 122/1347/3798/8700 279/1662/4428/9959"),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "fp8", 2,
     "no/no/1584/5228 no/392/2843/7745 no/706/3472/9003"),
    ("deepseek-ai/DeepSeek-R1-0528", "fp8", 2, "no/no/96/1322 no/no/976/2202 no/no/1416/2642"),
    ("deepseek-ai/DeepSeek-R1-0528", "fp8", 1, "no/no/192/2644 no/no/1952/4405 no/no/2832/5285"),
    ("google/gemma-3-27b-it", "bf16", 2, "244/597/1302/2712 366/840/1789/3687 427/962/2033/4174"),
]  # fmt: skip
CELLS = [
    (source, precision, element, gpu, count, cell)
    for source, precision, element, rows in CAPACITY
    for gpu, row in zip(MODELS, rows.split(), strict=True)
    for count, cell in zip((1, 2, 4, 8), row.split("/"), strict=True)
]


def plan_of(count: int, element: float | None = None, **changes: object) -> EnginePlan:
    plan = EnginePlan(count, kv_cache_bytes_per_element=element, max_num_batched_tokens=8192)
    return replace(plan, **changes)  # type: ignore[arg-type]


def helping(source: str, gpu: str, plan: EnginePlan, **more: object) -> str | None:
    """The remedies in one line."""
    stored = checkpoint(source)
    assert stored is not None
    facts = model_facts(stored.model)
    return told(remedies(facts, stored, GPUS[gpu], None, stored.precision, plan, **more))  # type: ignore[arg-type]


def ask(source: str, gpu: str, plan: EnginePlan, precision: str | None = None, **more: object) -> Fit:
    stored = checkpoint(source)
    assert stored is not None
    wanted = stored.precision if precision is None else Precision(precision)
    return fit(model_facts(stored.model), stored, GPUS[gpu], None, wanted, plan, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("source", "precision", "element", "gpu", "count", "cell"), CELLS)
def test_capacity_agrees_with_an_independent_table(
    source: str, precision: str, element: float, gpu: str, count: int, cell: str
) -> None:
    stored = checkpoint(source)
    assert stored is not None
    facts = model_facts(stored.model)
    assert facts is not None
    whole = replace(facts, sliding_window=None, sliding_layers=None)
    plan = plan_of(count, element)
    memory = memory_model(whole, stored, Precision(precision), plan, GPUS[gpu].vram_bytes)
    room = memory.kv_bytes + memory.overhead_bytes - 6 * GIB
    if cell == "no":
        assert room <= 0
    else:
        assert tokens_that_fit(whole, plan, room) == pytest.approx(1000 * int(cell), rel=0.06)


def test_weights_of_quantised_checkpoints_keep_16_bit_embeddings() -> None:
    for source, published in [
        ("amd/Llama-3.1-8B-Instruct-FP8-KV", 9.08e9),
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", 382 * GIB),
    ]:
        stored = checkpoint(source)
        assert stored is not None
        facts = model_facts(stored.model)
        assert facts is not None
        computed = weights_bytes(facts, replace(stored, bytes=None), Precision.FP8, plan_of(1))
        assert computed == pytest.approx(published, rel=0.002)


@pytest.mark.parametrize(
    ("source", "gpu", "count", "reason", "remedy"),
    [
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", "MI300X", 2, Reason.MEMORY_INSUFFICIENT, "use 4 x MI300X"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "MI210", 1, Reason.MEMORY_INSUFFICIENT,
         "use 4 x MI210 and set max-model-len <= 57344"),
        ("meta-llama/Llama-3.1-405B-Instruct", "MI300A", 4, Reason.MEMORY_INSUFFICIENT,
         "use amd/Llama-3.1-405B-Instruct-FP8-KV (fp8) and set max-model-len <= 107520, "
         "or use amd/Llama-3.1-405B-Instruct-FP8-KV (fp8) and use kv-cache-dtype fp8"),
        ("meta-llama/Llama-2-70b-chat-hf", "MI300A", 1, Reason.MEMORY_INSUFFICIENT,
         "use 2 x MI300A, or set quantization fp8"),
        ("meta-llama/Llama-3.1-405B-Instruct", "MI300X", 4, Reason.MEMORY_INSUFFICIENT,
         "use 8 x MI300X, or use amd/Llama-3.1-405B-Instruct-FP8-KV (fp8)"),
        ("meta-llama/Llama-3.1-405B-Instruct", "MI210", 4, Reason.MEMORY_INSUFFICIENT, None),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", "MI210", 4, Reason.MEMORY_INSUFFICIENT, "use 8 x MI210"),
        ("Qwen/Qwen3-32B-FP8", "MI210", 2, Reason.PRECISION_UNSUPPORTED, "use Qwen/Qwen3-32B (bf16)"),
        ("Qwen/Qwen3-32B-FP8", "MI210", 1, Reason.PRECISION_UNSUPPORTED, "use Qwen/Qwen3-32B (bf16) and use 2 x MI210"),
        ("meta-llama/Llama-3.3-70B-Instruct", "MI300X", 1, Reason.CONTEXT_TOO_LONG,
         "set max-model-len <= 112640, or use kv-cache-dtype fp8, or use 2 x MI300X, "
         "or use amd/Llama-3.3-70B-Instruct-FP8-KV (fp8)"),
        ("Qwen/Qwen3-235B-A22B-FP8", "MI300X", 8, Reason.PARALLELISM_INVALID,
         "set enable-expert-parallel, or use 4 x MI300X, or use Qwen/Qwen3-235B-A22B (bf16)"),
        ("Qwen/Qwen3-30B-A3B-FP8", "MI300X", 4, Reason.PARALLELISM_INVALID,
         "set enable-expert-parallel, or use 2 x MI300X, or use Qwen/Qwen3-30B-A3B (bf16)"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "MI300X", 16, Reason.PARALLELISM_INVALID,
         "use 8 x MI300X"),
        ("Qwen/Qwen3-32B", "MI300X", 3, Reason.PARALLELISM_INVALID, "use 2 x MI300X"),
        ("deepseek-ai/DeepSeek-R1", "MI300X", 4, Reason.CONTEXT_TOO_LONG,
         "set max-model-len <= 71680, or use 8 x MI300X"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_reason_and_the_nearest_changes_that_help(
    source: str, gpu: str, count: int, reason: Reason, remedy: str | None
) -> None:
    answer = ask(source, gpu, plan_of(count))
    assert answer.verdict is FitVerdict.DOES_NOT_FIT
    assert answer.reason is reason
    assert helping(source, gpu, plan_of(count)) == remedy


def test_a_memory_refusal_gives_needed_and_available_memory() -> None:
    answer = ask("amd/Llama-3.1-405B-Instruct-FP8-KV", "MI300X", plan_of(2))
    assert (answer.needed, answer.has) == ("198.3 GiB", "172.8 GiB")


def test_following_the_remedy_for_a_long_context_makes_it_fit() -> None:
    assert (
        ask("meta-llama/Llama-3.3-70B-Instruct", "MI300X", plan_of(1, max_model_len=111616)).verdict
        is FitVerdict.FITS
    )
    assert ask("meta-llama/Llama-3.3-70B-Instruct", "MI300X", plan_of(1, 1.0)).verdict is FitVerdict.FITS
    assert ask("meta-llama/Llama-3.3-70B-Instruct", "MI300X", plan_of(2)).verdict is FitVerdict.FITS


def test_a_context_beyond_the_model_is_refused_unless_the_configuration_is_overridden() -> None:
    long = plan_of(1, max_model_len=131072)
    assert ask("Qwen/Qwen3-32B", "MI300X", long).reason is Reason.CONTEXT_TOO_LONG
    assert ask("Qwen/Qwen3-32B", "MI300X", replace(long, context_extended=True)).verdict is FitVerdict.FITS


def test_requests_longer_than_the_served_context_are_refused_with_both_ways_out() -> None:
    answer = ask("Qwen/Qwen3-32B", "MI300X", plan_of(1, max_model_len=8192), required_context=16384)
    assert answer.reason is Reason.CONTEXT_TOO_LONG
    assert (answer.needed, answer.has) == ("16384 tokens", "8192 tokens")
    told = helping("Qwen/Qwen3-32B", "MI300X", plan_of(1, max_model_len=8192), required_context=16384)
    assert told == "set maxInputTokens + maxOutputTokens <= 8192, or raise max-model-len to 16384"


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"gpu_memory_utilization": 0.2}, "set gpu-memory-utilization to 0.92, or use 4 x MI300X"),
        ({"max_num_batched_tokens": 2**21}, "set max-num-batched-tokens to 2048"),
        ({"expert_parallel": True}, "remove enable-expert-parallel"),
        ({"decode_context_parallel": 2}, "use 1 x MI300X by tensor parallelism alone"),
        ({"data_parallel": 16}, "use 8 x MI300X by tensor parallelism alone"),
        ({"max_model_len": 131072}, "set max-model-len <= 40960"),
        (
            {"quantization": "fp8", "online_precision": Precision.FP8, "max_model_len": 131072},
            "set max-model-len <= 40960",
        ),
    ],
)
def test_settings_that_are_to_blame_are_named(changes: dict[str, object], remedy: str) -> None:
    told = helping("Qwen/Qwen3-32B", "MI300X", plan_of(1, None, **changes))
    assert told is not None
    assert told.startswith(remedy)


def test_a_quantisation_goes_with_the_weights_it_was_asked_for() -> None:
    online = {"quantization": "fp8", "online_precision": Precision.FP8}
    assert helping("Qwen/Qwen3-32B", "MI210", plan_of(2, None, **online)) == "remove quantization"
    told = helping(
        "meta-llama/Llama-3.1-8B-Instruct", "MI210", plan_of(1, None, max_model_len=8192, **online)
    )
    assert told == "remove quantization"
    large = helping("meta-llama/Llama-3.1-405B-Instruct", "MI300X", plan_of(1, None, **online))
    assert large == "use 4 x MI300X"


def test_the_words_of_a_remedy_are_the_engines_own() -> None:
    plan = engine(Backend("sglang")).plan({}, 1, GPUS["MI300X"])
    told = helping("meta-llama/Llama-3.3-70B-Instruct", "MI300X", plan)
    assert told is not None
    assert re.match(r"set context-length <= \d+, or use kv-cache-dtype fp8_e4m3, or ", told)


def test_sparse_attention_is_not_told_to_use_an_fp8_cache() -> None:
    known = checkpoint("deepseek-ai/DeepSeek-V3.2-Exp")
    assert known is not None
    facts = model_facts(known.model)
    assert facts is not None
    assert facts.mla_index_bytes
    assert "kv-cache-dtype" not in (helping(known.id, "MI300X", plan_of(4)) or "")


def test_what_fits_and_what_nobody_knows_has_no_remedy() -> None:
    assert helping("Qwen/Qwen3-32B", "MI300X", plan_of(1)) is None
    assert remedies(None, None, GPUS["MI210"], None, Precision.FP8, plan_of(1)) == ()
    assert remedies(None, None, GPUS["MI210"], None, Precision.BF16, plan_of(1)) == ()


def test_of_a_model_that_nobody_knows_what_the_hardware_refuses_is_mended() -> None:
    large = remedies(None, None, GPUS["MI300X"], None, Precision.BF16, plan_of(16))
    assert told(large) == "use 8 x MI300X"
    cached = plan_of(2, 1.0, kv_cache_precision=Precision.FP8)
    assert told(remedies(None, None, GPUS["MI210"], None, Precision.BF16, cached)) == "remove kv-cache-dtype"
    assert told(remedies(None, None, GPUS["MI210"], "cpx", Precision.BF16, plan_of(1))) == "use whole GPUs"


@pytest.mark.parametrize(
    ("gpu", "partition", "count", "fits"),
    [
        ("MI300X", None, 8, True),
        ("MI300X", None, 16, False),
        ("MI300X", "cpx_nps4", 64, True),
        ("MI300X", "dpx", 32, False),
        ("MI210", None, 8, True),
        ("MI210", None, 16, False),
        ("MI300A", None, 8, False),
    ],
)
def test_all_gpus_of_a_replica_are_of_one_node(
    gpu: str, partition: str | None, count: int, fits: bool
) -> None:
    stored, facts = (
        checkpoint("meta-llama/Llama-2-70b-chat-hf"),
        model_facts("meta-llama/Llama-2-70b-chat-hf"),
    )
    for known in (facts, None):
        answer = fit(known, stored if known else None, GPUS[gpu], partition, Precision.FP16, plan_of(count))
        assert (answer.reason is Reason.PARALLELISM_INVALID) is not fits
        if not fits:
            assert f"{count} GPUs of one replica; a node has at most" in answer.message


def test_a_node_that_is_larger_than_any_known_one_is_believed() -> None:
    plan = plan_of(1, data_parallel=16)
    assert ask("Qwen/Qwen3-8B", "MI300X", plan).reason is Reason.PARALLELISM_INVALID
    assert ask("Qwen/Qwen3-8B", "MI300X", plan, node_gpus=16).verdict is FitVerdict.FITS


def test_cdna2_reads_no_fp8_kv_cache() -> None:
    plan = engine(Backend.VLLM).plan({"kv-cache-dtype": "fp8", "max-model-len": 8192}, 2, GPUS["MI210"])
    answer = ask("Qwen/Qwen3-32B", "MI210", plan)
    assert answer.reason is Reason.PRECISION_UNSUPPORTED
    assert answer.message == "MI210 (gfx90a) cannot read a KV cache in fp8, which kv-cache-dtype asks for"
    assert helping("Qwen/Qwen3-32B", "MI210", plan) == "remove kv-cache-dtype"
    assert ask("Qwen/Qwen3-32B", "MI300X", plan).verdict is FitVerdict.FITS
    assert fit(None, None, GPUS["MI210"], None, Precision.BF16, plan).reason is Reason.PRECISION_UNSUPPORTED


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "source", ["openai/gpt-oss-120b", "openai/gpt-oss-20b", "amd/gpt-oss-120b-w-mxfp4-a-fp8"]
)
def test_gpt_oss_runs_on_as_many_gpus_as_amd_ships_it_for(source: str, count: int) -> None:
    for gpu in ("MI300X", "MI355X"):
        assert ask(source, gpu, plan_of(count)).verdict is FitVerdict.FITS


def test_groups_of_mxfp4_experts_are_cut_whole() -> None:
    native = facts_of("openai/gpt-oss-120b", quantization_block=32)
    converted = facts_of(QWEN_MOE, moe_intermediate_size=1408)
    assert _cut(native, Precision.MXFP4, plan_of(8), None) is None
    assert _cut(native, Precision.MXFP4, plan_of(16), "cpx") == (
        "experts of width 2880 in MXFP4 groups of 32 cannot be divided over 16 GPUs"
    )
    assert _cut(native, Precision.MXFP4, plan_of(16, expert_parallel=True), "cpx") is None
    assert _cut(converted, Precision.MXFP4, plan_of(4), None) is None
    assert _cut(converted, Precision.MXFP4, plan_of(8), None) == (
        "experts of width 1408 in MXFP4 groups of 32 cannot be divided over 8 GPUs"
    )


def test_blocks_of_a_dense_mlp_are_cut_whole() -> None:
    """Qwen3-4B-FP8 on 8 GPUs: 1216 = 9.5 x 128 columns each, with which vLLM ends while it loads."""
    facts = facts_of("Qwen/Qwen3-4B", native_precision=Precision.FP8, quantization_block=128)
    assert _cut(facts, Precision.FP8, plan_of(4), None) is None
    assert _cut(facts, Precision.FP8, plan_of(8), None) == (
        "MLPs of width 9728 in FP8 blocks of 128 cannot be divided over 8 GPUs"
    )
    assert _cut(replace(facts, quantization_block=None), Precision.FP8, plan_of(8), None) is None
    assert _cut(facts, Precision.BF16, plan_of(8), None) is None


@pytest.mark.parametrize(
    ("source", "count", "sharing", "told"),
    [
        # 8 KV heads over 8 GPUs: no GPU holds what another one holds.
        (LLAMA, 8, 2, "decode context parallel size 2 needs as many copies of the cache, and 8 KV heads over 8 GPUs have 1"),
        (QWEN_MOE, 8, 2, None),
        (QWEN_MOE, 8, 4, "decode context parallel size 4 needs as many copies of the cache, and 4 KV heads over 8 GPUs have 2"),
        ("deepseek-ai/DeepSeek-V3.2-Exp", 8, 8, None),
        (LLAMA, 8, 3, "tensor parallel size 8 is not divisible by decode context parallel size 3"),
    ],
)  # fmt: skip
def test_only_copies_of_the_cache_can_be_shared(
    source: str, count: int, sharing: int, told: str | None
) -> None:
    """vLLM: "tensor parallel size must be greater than total num kv heads when enable decode context parallel for GQA/MQA"."""
    facts = facts_of(source)
    plan = plan_of(count, decode_context_parallel=sharing)
    assert _cut(facts, facts.native_precision, plan, None) == told


def _cut(facts: ModelFacts, precision: Precision, plan: EnginePlan, partition: str | None) -> str | None:
    answer = fit(facts, None, GPUS["MI300X"], partition, precision, plan)
    return answer.message if answer.reason is Reason.PARALLELISM_INVALID else None


def test_blocks_of_the_published_format_do_not_bind_another_one() -> None:
    facts = facts_of("MiniMaxAI/MiniMax-M2")
    assert _cut(facts, Precision.FP8, plan_of(8), None) is not None
    assert _cut(facts, Precision.BF16, plan_of(8), None) is None
    plan = plan_of(1)
    expected = weights_bytes(replace(facts, quantization_block=None), None, Precision.INT4, plan)
    assert weights_bytes(facts, None, Precision.INT4, plan) == expected


def test_an_automatic_context_fits_whatever_is_left() -> None:
    auto = plan_of(1, max_model_len_auto=True)
    assert ask("meta-llama/Llama-3.3-70B-Instruct", "MI300X", auto).verdict is FitVerdict.FITS
    answer = ask("meta-llama/Llama-3.3-70B-Instruct", "MI300X", auto, required_context=120000)
    assert answer.verdict is FitVerdict.DOES_NOT_FIT


def test_an_unknown_model_is_unknown_and_never_refused_for_memory() -> None:
    answer = fit(None, None, GPUS["MI210"], None, Precision.BF16, plan_of(1))
    assert answer.verdict is FitVerdict.UNKNOWN
    assert answer.reason is None


def test_an_unknown_model_is_still_refused_for_its_precision_and_partition() -> None:
    assert (
        fit(None, None, GPUS["MI210"], None, Precision.FP8, plan_of(1)).reason is Reason.PRECISION_UNSUPPORTED
    )
    answer = fit(None, None, GPUS["MI210"], "cpx_nps4", Precision.BF16, plan_of(1))
    assert answer.reason is Reason.PARTITION_MISMATCH


def test_a_partition_has_its_share_of_the_memory() -> None:
    stored = checkpoint("meta-llama/Llama-3.1-8B-Instruct")
    facts = model_facts("meta-llama/Llama-3.1-8B-Instruct")
    plan = plan_of(1, max_model_len=4096, max_num_batched_tokens=2048)
    whole = fit(facts, stored, GPUS["MI300X"], "spx_nps1", Precision.BF16, plan)
    part = fit(facts, stored, GPUS["MI300X"], "cpx_nps4", Precision.BF16, plan)
    assert whole.verdict is FitVerdict.FITS
    assert part.verdict is FitVerdict.FITS
    assert part.memory is not None
    assert part.memory.usable_bytes == int(24 * GIB * 0.9)
    assert (
        fit(facts, stored, GPUS["MI300X"], "cpx_nps4", Precision.BF16, plan_of(1)).verdict
        is FitVerdict.DOES_NOT_FIT
    )


def test_online_quantisation_halves_the_weights() -> None:
    plain = ask("Qwen/Qwen3-32B", "MI300X", plan_of(1)).memory
    online = ask("Qwen/Qwen3-32B", "MI300X", plan_of(1, online_precision=Precision.FP8), "fp8").memory
    assert plain is not None
    assert online is not None
    assert online.weights_bytes_per_gpu < 0.55 * plain.weights_bytes_per_gpu


def test_a_precision_wish_does_not_change_what_the_checkpoint_holds() -> None:
    memory = ask("deepseek-ai/DeepSeek-R1", "MI300X", plan_of(8), "fp16").memory
    assert memory is not None
    assert memory.weights_bytes_per_gpu == pytest.approx(689e9 / 8, rel=0.003)


def test_sliding_windows_leave_room_for_longer_contexts() -> None:
    hybrid = ask("openai/gpt-oss-120b", "MI300X", plan_of(1)).memory
    whole = ask("openai/gpt-oss-120b", "MI300X", plan_of(1, hybrid_kv_cache=False)).memory
    assert hybrid is not None
    assert whole is not None
    assert 1.8 < hybrid.kv_tokens / whole.kv_tokens <= 2


def test_the_latent_cache_of_mla_is_not_divided_by_tensor_parallelism() -> None:
    four = ask("deepseek-ai/DeepSeek-R1", "MI355X", plan_of(4)).memory
    eight = ask("deepseek-ai/DeepSeek-R1", "MI355X", plan_of(8)).memory
    assert four is not None
    assert eight is not None
    assert four.kv_bytes_per_token_per_gpu == eight.kv_bytes_per_token_per_gpu == 61 * 576 * 2


def test_data_parallel_ranks_share_experts_and_copy_the_rest() -> None:
    facts = model_facts("deepseek-ai/DeepSeek-R1")
    assert facts is not None
    assert 0.9 < expert_fraction(facts) < 1
    tensor = ask("deepseek-ai/DeepSeek-R1", "MI355X", plan_of(8, expert_parallel=True)).memory
    data = ask("deepseek-ai/DeepSeek-R1", "MI355X", plan_of(1, data_parallel=8, expert_parallel=True)).memory
    assert tensor is not None
    assert data is not None
    assert tensor.weights_bytes_per_gpu < data.weights_bytes_per_gpu < 1.5 * tensor.weights_bytes_per_gpu


def facts_of(source: str, **changes: object) -> ModelFacts:
    known = model_facts(source)
    assert known is not None
    return replace(known, **changes)  # type: ignore[arg-type]


def sized(facts: ModelFacts, plan: EnginePlan, stored: Checkpoint | None = None) -> MemoryModel:
    precision = facts.native_precision if stored is None else stored.precision
    return memory_model(facts, stored, precision, plan, GPUS["MI300X"].vram_bytes)


def test_tied_embeddings_are_one_matrix_that_both_ends_of_a_pipeline_hold() -> None:
    apart = facts_of(LLAMA, tied_embeddings=False)
    tied = replace(apart, tied_embeddings=True)
    matrix = 2 * 128256 * 4096
    for facts, matrices in ((apart, 2), (tied, 1)):
        parts = weights(facts, None, Precision.FP8, plan_of(1))
        assert parts.total == matrices * matrix + parts.rest
        assert parts.rest == facts.parameters - matrices * matrix // 2
    halves = sized(tied, plan_of(1, pipeline_parallel=2)).weights_bytes_per_gpu
    assert halves == (2 * tied.parameters - matrix) / 2 + matrix


def test_the_largest_pipeline_stage_decides() -> None:
    assert stage_layers(61, 4) == (15, 15, 16, 15)
    assert stage_layers(126, 4) == (31, 32, 32, 31)
    facts = facts_of(LLAMA, layers=61, vocab_size=None)
    weights_of = {n: sized(facts, plan_of(1, pipeline_parallel=n)).weights_bytes_per_gpu for n in (1, 4)}
    assert weights_of[4] == pytest.approx(weights_of[1] * 16 / 61)
    assert kv_layers(facts, plan_of(1, pipeline_parallel=4)).full == 16


def test_experts_are_dealt_out_whole_under_expert_parallelism() -> None:
    facts = facts_of(QWEN_MOE, experts=10)
    assert expert_share(facts, plan_of(4, expert_parallel=True)) == 0.3
    assert expert_share(facts, plan_of(4)) == 0.25
    assert expert_share(facts, plan_of(2, data_parallel=4, expert_parallel=True)) == 0.2


def test_data_parallel_ranks_hold_the_same_kv_cache_and_attention() -> None:
    facts = facts_of("deepseek-ai/DeepSeek-R1")
    one, eight = (sized(facts, plan_of(1, data_parallel=n, expert_parallel=True)) for n in (1, 8))
    parts = weights(facts, None, Precision.FP8, plan_of(1))
    assert one.weights_bytes_per_gpu - eight.weights_bytes_per_gpu == pytest.approx(parts.experts * 7 / 8)
    assert one.kv_bytes_per_token_per_gpu == eight.kv_bytes_per_token_per_gpu


def test_data_parallel_ranks_share_the_load_and_read_only_the_experts_they_hold() -> None:
    """One model over eight GPUs under one load: dividing it otherwise gives another speed, and not several times the speed."""
    for source in ("deepseek-ai/DeepSeek-R1", LLAMA):
        facts = facts_of(source)
        found = [
            estimate(facts, None, GPUS["MI325X"], replace(plan, expert_parallel=bool(facts.experts)), facts.native_precision)
            for plan in (plan_of(8, max_model_len=8192), plan_of(1, data_parallel=8, max_model_len=8192))
        ]  # fmt: skip
        tensor, data = (each.tokens_per_second for each in found)
        assert 0.5 < data / tensor < 2
    experts = facts_of("deepseek-ai/DeepSeek-R1")
    for plan in (plan_of(8), plan_of(2, data_parallel=4), plan_of(1, data_parallel=8)):
        whole = weights_bytes(experts, None, experts.native_precision, plan)
        held = weights_bytes_per_gpu(experts, None, experts.native_precision, plan)
        assert read_share(experts, plan, 10**6) * whole <= held


def test_drafted_tokens_are_not_bound_by_the_steps() -> None:
    """One request at a time: a step reads all weights, and brings several tokens where a draft is right."""
    facts, gpu = facts_of(LLAMA), GPUS["MI300X"]
    for backend, args in (
        (Backend.VLLM, {"speculative-config": {"method": "ngram", "num_speculative_tokens": 4}}),
        (Backend("sglang"), {"speculative-algorithm": "NGRAM"}),
    ):
        one = {("max-num-seqs" if backend is Backend.VLLM else "max-running-requests"): 1}
        plain, drafting = (
            engine(backend).plan({**one, **more}, 1, gpu, None, engine(backend).DEFAULT_VERSION) for more in ({}, args)
        )  # fmt: skip
        bounds = [hardware_bound(facts, None, gpu, plan, Precision.BF16) for plan in (plain, drafting)]
        assert bounds[0] is not None
        assert bounds[1] is not None
        assert bounds[0].tokens_per_second < 340
        assert bounds[1].tokens_per_second > 10_000


def test_scales_count_by_the_blocks_of_the_checkpoint() -> None:
    facts = facts_of("Qwen/Qwen3-32B", vocab_size=None)
    for precision, block, per_weight in [
        ("fp8", None, 1),
        ("fp8", 128, 1 + 4 / 128**2),
        ("int8", None, 1),
        ("int4", None, 0.5 + 2.5 / 128),
        ("int4", 32, 0.5 + 2.5 / 32),
        ("mxfp4", None, 0.5 + 1 / 32),
    ]:
        stored = Checkpoint("x/y", facts.id, Precision(precision), "test", quantization_block=block)
        total = weights_bytes(facts, stored, Precision(precision), plan_of(1))
        assert total == pytest.approx(facts.parameters * per_weight, rel=1e-6)


def test_mxfp4_leaves_all_but_the_experts_in_16_bit() -> None:
    facts = facts_of("openai/gpt-oss-120b")
    computed = weights_bytes(facts, None, Precision.MXFP4, plan_of(1))
    assert computed == pytest.approx(facts.checkpoint_bytes, rel=0.02)


def test_the_published_size_of_the_files_is_taken_as_it_is() -> None:
    stored = checkpoint("amd/Llama-3.1-8B-Instruct-FP8-KV")
    assert stored is not None
    assert weights_bytes(facts_of(LLAMA), stored, Precision.FP8, plan_of(1)) == stored.bytes


def test_layers_without_a_cache_take_a_state_per_sequence_instead() -> None:
    whole = facts_of("Qwen/Qwen3-32B")
    hybrid = replace(whole, kv_layers=16, state_bytes_per_sequence=4 * GIB)
    plan = plan_of(2)
    assert kv_bytes_for_context(hybrid, plan, 0) == 2 * GIB
    assert kv_bytes_for_context(hybrid, plan, 1000) - 2 * GIB == kv_bytes_for_context(whole, plan, 1000) / 4
    assert tokens_that_fit(hybrid, plan, 2 * GIB) == 0
    assert tokens_that_fit(replace(whole, kv_layers=0), plan, 1.0) > 10**9


def test_the_index_of_sparse_attention_comes_on_top_of_the_latent_cache() -> None:
    facts = facts_of("deepseek-ai/DeepSeek-R1", mla_index_bytes=132)
    assert kv_bytes_per_token(facts, plan_of(8, 1.0)) == 61 * (576 + 132)
    assert kv_bytes_per_token(facts, plan_of(8, 1.0, decode_context_parallel=4)) == 61 * 177


def test_concurrency_at_a_context_is_what_the_cache_holds() -> None:
    facts = facts_of("meta-llama/Llama-3.3-70B-Instruct")
    assert sequences_that_fit(facts, plan_of(8), 80 * GIB, 8192) == 80 * GIB // (40960 * 8192)
    assert sequences_that_fit(facts, plan_of(8), -1, 8192) == 0


def test_overhead_names_each_cause() -> None:
    facts = facts_of(LLAMA, intermediate_size=14336)
    graphs = overhead(facts, plan_of(1, max_num_batched_tokens=16384, max_num_seqs=1024))
    eager = overhead(facts, plan_of(1, graphs=False, max_num_batched_tokens=16384, max_num_seqs=1024))
    assert (graphs.context, graphs.graphs, eager.graphs) == (3 * GIB, 2 * GIB, 0)
    assert graphs.logits == 1024 * 128256 * 4
    assert graphs.activations == 16384 * (8 * 4096 + 2 * 3 * 14336)
    assert overhead(facts, plan_of(8)).activations < overhead(facts, plan_of(1)).activations


def test_drafted_tokens_are_not_bound_by_the_reading_of_the_weights() -> None:
    """One reading confirms several tokens of a sequence, so a target beyond one token a reading is no impossible one."""
    stored, vllm = checkpoint("amd/Llama-3.1-405B-Instruct-FP8-KV"), engine(Backend.VLLM)
    facts = facts_of("meta-llama/Llama-3.1-405B-Instruct")
    plain, drafted = (
        vllm.plan({"max-num-seqs": 1, **more}, 8, GPUS["MI300X"])
        for more in ({}, {"speculative-config": {"method": "ngram", "num_speculative_tokens": 4}})
    )
    bounds = [hardware_bound(facts, stored, GPUS["MI300X"], plan, Precision.FP8) for plan in (plain, drafted)]
    assert [int(each.tokens_per_second) for each in bounds if each] == [103, 25771]
    assert engine(Backend("sglang")).plan({"speculative-algorithm": "EAGLE"}, 8, GPUS["MI300X"]).drafts


def test_sglang_without_chunks_works_on_whole_prompts() -> None:
    sglang = engine(Backend("sglang"))
    plans = [sglang.plan({"chunked-prefill-size": size}, 1, GPUS["MI300X"]) for size in (-1, 8192)]
    assert [each.whole_prompts for each in plans] == [True, False]
    told = (
        helping("meta-llama/Llama-3.3-70B-Instruct", "MI300X", replace(plans[0], max_model_len=81920)) or ""
    )
    assert "remove chunked-prefill-size" in told


def test_without_chunked_prefill_a_step_holds_the_longest_prompt() -> None:
    """vLLM 0.32 engine/arg_utils.py raises max-num-batched-tokens to the context then: the activations are those of 131,072 tokens."""
    args = {"enable-chunked-prefill": False}
    plan = engine(Backend.VLLM).plan(args, 1, GPUS["MI300X"])
    facts = facts_of("meta-llama/Llama-3.1-8B-Instruct")
    assert overhead(facts, plan).activations == 131072 * (8 * 4096 + 2 * 3 * 14336)
    short = replace(plan, max_model_len=32768)
    assert overhead(facts, short).activations == 32768 * (8 * 4096 + 2 * 3 * 14336)
    whole, source = replace(plan, max_model_len=81920), "meta-llama/Llama-3.3-70B-Instruct"
    assert ask(source, "MI300X", whole).reason is Reason.CONTEXT_TOO_LONG
    assert ask(source, "MI300X", replace(whole, whole_prompts=False)).verdict is FitVerdict.FITS
    assert "set enable-chunked-prefill to true" in (helping(source, "MI300X", whole) or "")


@pytest.mark.parametrize(
    ("source", "gpu", "count"),
    [
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", "MI300X", 4),
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", "MI325X", 2),
        ("Qwen/Qwen3-32B", "MI210", 2),
        ("Qwen/Qwen3-32B", "MI355X", 1),
        ("deepseek-ai/DeepSeek-R1", "MI300X", 8),
        ("meta-llama/Llama-3.1-405B-Instruct", "MI210", None),
        ("Qwen/Qwen3-32B-FP8", "MI210", None),
    ],
)
def test_the_smallest_gpu_count_is_found(source: str, gpu: str, count: int | None) -> None:
    stored = checkpoint(source)
    assert stored is not None
    facts = model_facts(stored.model)
    assert facts is not None
    assert smallest_gpu_count(facts, stored, GPUS[gpu], None, stored.precision, plan_of(1)) == count


def test_the_format_beside_the_experts_must_run_too() -> None:
    stored = checkpoint("deepseek-ai/DeepSeek-V4-Flash-0731")
    assert stored is not None
    assert (stored.precision, stored.rest_precision) == (Precision.MXFP4, Precision.FP8)
    answer = ask(stored.id, "MI210", plan_of(8))
    assert answer.reason is Reason.PRECISION_UNSUPPORTED
    assert "cannot run fp8" in answer.message
    assert ask(stored.id, "MI355X", plan_of(8)).verdict is FitVerdict.FITS


def test_heads_of_layers_without_a_window_are_divided_too() -> None:
    facts = facts_of("google/gemma-4-31B-it", full_kv_heads=3)
    assert _cut(facts, Precision.BF16, plan_of(4), None) == "3 KV heads cannot be divided over 4 GPUs"

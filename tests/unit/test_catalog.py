"""The catalogue: every row loads, has a source, and lookups are exact."""

from __future__ import annotations

import pytest

from aim_engine.api.enums import Backend, Precision
from aim_engine.catalog.flags import PINNED_VLLM, FlagClass, FlagKind, env_rules, flag_table
from aim_engine.catalog.gpus import (
    GIB,
    gpu_by_device_id,
    gpu_by_product_name,
    gpu_catalog,
    partition_divisor,
    partition_vram_bytes,
)
from aim_engine.catalog.models import checkpoint, checkpoint_catalog, model_catalog, model_facts
from aim_engine.catalog.terminations import termination_rules


@pytest.mark.parametrize(
    ("device_id", "model"),
    [
        ("74a1", "MI300X"),
        ("74A9", "MI300X"),
        ("0x74a5", "MI325X"),
        ("75a3", "MI355X"),
        ("75a0", "MI350X"),
        ("740f", "MI210"),
        ("7408", "MI250X"),
        ("740c", "MI250X"),
        ("74a2", "MI308X"),
    ],
)
def test_a_device_id_names_its_gpu(device_id: str, model: str) -> None:
    gpu = gpu_by_device_id(device_id)
    assert gpu is not None
    assert gpu.model == model


def test_an_unknown_device_id_is_no_gpu() -> None:
    assert gpu_by_device_id("ffff") is None


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("AMD_Instinct_MI300X", "MI300X"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("AMD Instinct MI250X / MI250", "MI250X"),
        ("amd_instinct_mi250", "MI250"),
        ("AMD-Instinct-MI355X", "MI355X"),
        ("AMD_Radeon_Graphics", None),
        ("AMD_Instinct_MI300XYZ", None),
        ("", None),
    ],
)
def test_a_product_name_names_its_gpu(name: str, model: str | None) -> None:
    gpu = gpu_by_product_name(name)
    assert (gpu.model if gpu else None) == model


def test_no_two_gpus_share_a_device_id_or_product_name() -> None:
    gpus = gpu_catalog().values()
    ids = [device_id for gpu in gpus for device_id in gpu.device_ids]
    names = [name for gpu in gpus for name in gpu.product_names]
    assert len(ids) == len(set(ids))
    assert len(names) == len(set(names))


def test_every_gpu_has_memory_bandwidth_and_a_source() -> None:
    for gpu in gpu_catalog().values():
        assert gpu.vram_bytes >= 64 * GIB
        assert 1e12 < gpu.memory_bandwidth_bytes_per_s < 2e13
        assert gpu.source
        assert set(gpu.tflops) <= gpu.hardware_precisions <= gpu.runnable_precisions


def test_generations_follow_memory_and_bandwidth() -> None:
    ordered = sorted(gpu_catalog().values(), key=lambda gpu: gpu.generation)
    assert [gpu.model for gpu in ordered][-4:] == ["MI300X", "MI325X", "MI350X", "MI355X"]
    assert len({gpu.generation for gpu in ordered}) == len(ordered)


def test_cdna2_cannot_run_fp8_and_cdna3_runs_mxfp4_without_hardware() -> None:
    gpus = gpu_catalog()
    assert Precision.FP8 not in gpus["MI210"].runnable_precisions
    assert Precision.MXFP4 in gpus["MI300X"].runnable_precisions - gpus["MI300X"].hardware_precisions
    assert Precision.MXFP4 in gpus["MI355X"].hardware_precisions


@pytest.mark.parametrize(
    ("model", "partition", "gib"),
    [
        ("MI300X", None, 192),
        ("MI300X", "spx_nps1", 192),
        ("MI300X", "dpx_nps1", 96),
        ("MI300X", "cpx_nps4", 24),
        ("MI300X", "CPX_NPS1", 24),
        ("MI210", "cpx_nps1", None),
        ("MI300X", "abc", None),
    ],
)
def test_a_partition_divides_the_memory(model: str, partition: str | None, gib: int | None) -> None:
    gpu = gpu_catalog()[model]
    assert partition_vram_bytes(gpu, partition) == (None if gib is None else gib * GIB)
    assert (partition_divisor(gpu, partition) is None) == (gib is None)


def test_every_model_and_checkpoint_has_a_source_and_sane_dimensions() -> None:
    for facts in model_catalog().values():
        assert facts.source
        assert 0 < facts.active_parameters <= facts.parameters
        assert facts.attention_heads % facts.kv_heads == 0
        assert (facts.experts is None) == (facts.experts_per_token is None)
        assert (facts.sliding_window is None) == (facts.sliding_layers is None)
        assert (facts.sliding_layers or 0) <= facts.layers
    for stored in checkpoint_catalog().values():
        assert stored.source
        assert stored.model in model_catalog()


def test_model_lookups_are_exact_and_unknown_is_none() -> None:
    assert model_facts("Qwen/Qwen3-32B") is not None
    assert model_facts("qwen/qwen3-32b") is None
    assert checkpoint("nobody/nothing") is None


def test_a_model_is_its_own_native_checkpoint() -> None:
    native = checkpoint("deepseek-ai/DeepSeek-R1-0528")
    assert native is not None
    assert (native.model, native.precision) == ("deepseek-ai/DeepSeek-R1-0528", Precision.FP8)
    assert native.quantization_block == 128


def test_a_quantised_checkpoint_points_to_its_model() -> None:
    quark = checkpoint("amd/Llama-3.1-405B-Instruct-FP8-KV")
    assert quark is not None
    assert quark.model == "meta-llama/Llama-3.1-405B-Instruct"
    assert (quark.precision, quark.kv_cache_precision) == (Precision.FP8, Precision.FP8)


def test_the_pinned_vllm_has_a_table_that_patch_releases_share() -> None:
    table = flag_table(Backend.VLLM, PINNED_VLLM)
    assert table is not None
    assert len(table.flags) > 300
    assert flag_table(Backend.VLLM, "v0.32.7") is table
    assert flag_table(Backend.VLLM, "0.10.2") is None


def test_every_flag_says_why_it_is_of_its_class() -> None:
    table = flag_table(Backend.VLLM, PINNED_VLLM)
    assert table is not None
    for flag in table.flags.values():
        assert flag.why, flag.name
        assert (flag.kind is not FlagKind.CHOICE) or flag.choices, flag.name


def test_aliases_and_removed_flags_do_not_shadow_flags() -> None:
    table = flag_table(Backend.VLLM, PINNED_VLLM)
    assert table is not None
    names = set(table.flags)
    assert not names & set(table.aliases)
    assert not names & set(table.removed)
    assert not {name for name in names if name.startswith("no-")}


@pytest.mark.parametrize(
    "name",
    [
        "middleware",
        "worker-cls",
        "worker-extension-cls",
        "logits-processors",
        "config",
        "tool-parser-plugin",
        "reasoning-parser-plugin",
        "allowed-local-media-path",
        "otlp-traces-endpoint",
        "kv-transfer-config",
        "profiler-config",
        "log-config-file",
    ],
)
def test_flags_that_load_code_or_redirect_are_denied(name: str) -> None:
    table = flag_table(Backend.VLLM, PINNED_VLLM)
    assert table is not None
    assert table.flags[name].flag_class is FlagClass.DENIED


def test_environment_notes_speak_of_variables_the_engine_does_not_read() -> None:
    rules = env_rules(Backend.VLLM)
    assert not set(rules.notes) & rules.known
    assert "VLLM_ROCM_USE_AITER" in rules.known


def test_termination_rules_use_only_groups_their_pattern_has() -> None:
    for rule in termination_rules(Backend.VLLM):
        groups = dict.fromkeys(rule.pattern.groupindex, "1")
        assert rule.message.format_map(groups)
        assert rule.remedy.format_map(groups)

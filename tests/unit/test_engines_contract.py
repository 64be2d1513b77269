"""What holds for every backend, and the table that a backend brings. A new one is one module in `engines/backends` and one row here;
`test_engines_fourth.py` proves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.api.enums import Backend
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.catalog.flags import FlagClass, FlagKind, env_rules, flag_table, flag_versions
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import Engine, Trust, engine, version_of
from aim_engine.engines.backends import aim, sglang, vllm
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.render import render
from aim_engine.selection import candidate, image_problems, recipe_problems
from aim_engine.selection.types import Source
from unit.test_render import container_of, env_of, inputs, recipe

GPUS = gpu_catalog()
SECRET = {"service": {"apiKeySecret": {"name": "key", "key": "token"}}}


@dataclass(frozen=True)
class Expected:
    """One backend's answers."""

    args: Mapping[str, object]
    command: tuple[str, ...]
    has: tuple[str, ...]
    """Words of the command line, in order somewhere."""
    env: Mapping[str, str]
    key: tuple[str, tuple[str, ...]]
    images: Mapping[str, str]
    context: tuple[str, int]
    batch: str
    metrics: str


TABLE = {
    Backend.VLLM: Expected(
        args={"max-model-len": 4096, "kv-cache-dtype": "fp8"},
        command=("vllm", "serve"),
        has=("Qwen/Qwen3-32B", "--max-model-len 4096", "--served-model-name Qwen/Qwen3-32B", "--tensor-parallel-size 2"),
        env={"VLLM_CACHE_ROOT": "/cache/vllm", "VLLM_NO_USAGE_STATS": "1"},
        key=("VLLM_API_KEY", ()),
        images={"MI300X": "vllm/vllm-openai-rocm:v0.32.0", "MI355X": "vllm/vllm-openai-rocm:v0.32.0"},
        context=("max-model-len", 4096), batch="max-num-seqs", metrics="vllm:",
    ),
    Backend("sglang"): Expected(
        args={"context-length": 4096, "kv-cache-dtype": "fp8_e4m3", "mem-fraction-static": 0.8},
        command=("python3", "-m", "sglang.launch_server"),
        has=("--context-length 4096", "--enable-metrics", "--model-path Qwen/Qwen3-32B", "--port 30000", "--tensor-parallel-size 2"),
        env={"SGLANG_CACHE_DIR": "/cache/sglang", "SGLANG_USE_AITER": "1"},
        key=("SGLANG_API_KEY", ("--api-key", "$(SGLANG_API_KEY)")),
        images={"MI300X": "lmsysorg/sglang:v0.5.12-rocm700-mi30x", "MI355X": "lmsysorg/sglang:v0.5.12-rocm700-mi35x"},
        context=("context-length", 4096), batch="max-running-requests", metrics="sglang:",
    ),
    Backend("aim"): Expected(
        args={"max-model-len": 4096},
        command=(),
        has=(),
        env={
            "AIM_PRECISION": "bf16", "AIM_ACCELERATOR_COUNT": "2", "AIM_GPU_COUNT": "2", "AIM_METRIC": "throughput",
            "AIM_PORT": "8000", "AIM_ENGINE_ARGS": '{"max-model-len":4096}',
        },
        key=("VLLM_API_KEY", ()),
        images={"MI300X": "amdenterpriseai/aim-qwen-qwen3-32b:0.11.0"},
        context=("max-model-len", 4096), batch="max-num-seqs", metrics="vllm:",
    ),
}  # fmt: skip

MODULES: list[Engine] = [vllm, sglang, aim]
"""For mypy: each module is an Engine."""
every_backend = pytest.mark.parametrize("backend", Backend)


def spec(backend: Backend, gpu: str = "MI300X", **changes: Any) -> AIMRecipeSpec:
    hardware = {"gpuModel": gpu, "gpuCount": 2}
    args = dict(TABLE[backend].args)
    return recipe(**{"backend": backend, "engineArgs": args, "env": {}, "hardware": hardware, **changes})


def test_every_backend_has_a_table() -> None:
    assert set(TABLE) == set(Backend)
    assert [engine(backend) for backend in TABLE] == MODULES


def test_backends_have_a_fixed_order_with_the_default_first() -> None:
    """The CRDs list them, and must not change by themselves."""
    assert [str(backend) for backend in Backend] == ["vllm", "aim", "sglang"]


@every_backend
def test_a_backend_says_what_it_is_and_where_its_images_are(backend: Backend) -> None:
    assert engine(backend).NOTE.endswith(".")
    assert engine(backend).REPOSITORIES
    assert set(engine(backend).REPOSITORIES) <= set(OperatorConfig().allowed_images)


@every_backend
def test_a_plain_recipe_is_valid_and_renders_the_expected_container(backend: Backend) -> None:
    wanted = TABLE[backend]
    chosen = spec(backend)
    assert recipe_problems(candidate("r", Source.CATALOGUE, chosen), {}) == ()
    container = container_of(render(inputs(chosen=chosen)))
    assert tuple(container.get("command", ())) == wanted.command
    line = " ".join(container.get("args", ()))
    places = [line.index(words) for words in wanted.has]
    assert places == sorted(places)
    env = env_of(render(inputs(chosen=chosen)))
    assert {name: env[name] for name in wanted.env} == wanted.env
    assert {"HF_HOME", "HOME"} <= set(env)
    assert container["ports"][0]["containerPort"] == engine(backend).PORT
    assert container["startupProbe"]["httpGet"]["path"] == engine(backend).HEALTH_PATH


@every_backend
def test_the_image_fits_the_gpu_and_comes_from_an_allowed_repository(backend: Backend) -> None:
    allowed = OperatorConfig().allowed_images
    for gpu, image in TABLE[backend].images.items():
        chosen = spec(backend, gpu)
        found = container_of(render(inputs(chosen=chosen)))["image"]
        assert found == image
        assert not list(image_problems(found, allowed, "image"))


@every_backend
def test_the_key_comes_from_the_secret_and_never_as_plain_text(backend: Backend) -> None:
    variable, args = TABLE[backend].key
    manifests = render(inputs(SECRET, spec(backend)))
    assert env_of(manifests)[variable] == {"secretKeyRef": {"key": "token", "name": "key", "optional": False}}
    line = tuple(container_of(manifests).get("args", ()))
    assert line[len(line) - len(args) :] == args
    assert not set(args) & set(container_of(render(inputs(chosen=spec(backend)))).get("args", ()))


@every_backend
def test_a_load_becomes_flags_and_a_longer_context_is_kept(backend: Backend) -> None:
    name, length = TABLE[backend].context
    module = engine(backend)
    args = module.workload_args(TABLE[backend].args, 7, length + 1, 192 * 2**30, "")
    assert (args[TABLE[backend].batch], args[name]) == (7, length + 1)
    assert module.workload_args(TABLE[backend].args, None, length - 1, 192 * 2**30, "")[name] == length
    assert module.check_args(args, module.DEFAULT_VERSION, trust=Trust.TENANT) == ()


@every_backend
def test_the_plan_follows_the_arguments(backend: Backend) -> None:
    module = engine(backend)
    plan = module.plan(TABLE[backend].args, 2, GPUS["MI300X"])
    assert (plan.gpus, plan.tensor_parallel, plan.max_model_len) == (2, 2, 4096)
    assert plan.max_num_seqs > 0


@every_backend
def test_metrics_name_the_engines_own_series(backend: Backend) -> None:
    names = engine(backend).METRICS
    assert {
        "requestsRunning",
        "requestsWaiting",
        "promptTokens",
        "generationTokens",
        "timeToFirstToken",
        "interTokenLatency",
        "requestLatency",
    } <= set(names)
    assert all(name.startswith(TABLE[backend].metrics) for series in names.values() for name in series)


@every_backend
def test_owned_flags_and_variables_are_refused_whoever_asks(backend: Backend) -> None:
    module = engine(backend)
    for trust in Trust:
        assert module.check_args({"port": 1}, module.DEFAULT_VERSION, trust=trust)
        assert module.check_env({"HF_HOME": "/x"}, trust=trust)
        assert module.check_env({"LD_PRELOAD": "/x"}, trust=trust)


@every_backend
def test_a_variable_that_is_misspelt_is_told(backend: Backend) -> None:
    known = sorted(env_rules(backend).known)
    name = next(each for each in known if not engine(backend).env_warnings({each: "1"}))
    assert engine(backend).env_warnings({f"{name}X": "1"})


@every_backend
def test_a_crash_has_a_cause(backend: Backend) -> None:
    found = engine(backend).classify_termination("torch.OutOfMemoryError: HIP out of memory", 1, "Error")
    assert found is not None
    assert found.reason == "OutOfGPUMemory"
    assert engine(backend).classify_termination("", 0, "Completed") is None


def test_a_recipe_without_a_version_has_its_backends() -> None:
    assert {backend: version_of(spec(backend)) for backend in Backend} == {
        Backend.VLLM: "0.32.0", Backend("sglang"): "0.5.12", Backend("aim"): "0.11.0",
    }  # fmt: skip


def test_a_version_that_was_the_default_does_not_change_the_recipes_hash() -> None:
    plain = candidate("r", Source.CATALOGUE, spec(Backend.VLLM))
    assert candidate("r", Source.CATALOGUE, spec(Backend.VLLM, engineVersion="0.32.0")).hash == plain.hash
    assert candidate("r", Source.CATALOGUE, spec(Backend.VLLM, engineVersion="0.23.0")).hash != plain.hash


def test_flags_are_known_for_three_releases_of_vllm_and_for_sglang() -> None:
    assert flag_versions(Backend.VLLM) == ("0.18.1", "0.23.0", "0.32.0")
    assert flag_versions(Backend("sglang")) == ("0.5.12",)


@pytest.mark.parametrize(
    ("backend", "version"), [(b, v) for b in (Backend.VLLM, Backend("sglang")) for v in flag_versions(b)]
)
def test_every_table_is_whole(backend: Backend, version: str) -> None:
    table = flag_table(backend, version)
    assert table is not None
    assert (table.engine, table.version) == (backend, version)
    assert len(table.flags) > 200
    assert not set(table.flags) & set(table.removed)
    for flag in table.flags.values():
        assert flag.flag_class is FlagClass.ALLOWED or flag.why, flag.name
        assert flag.kind is not FlagKind.CHOICE or flag.choices, flag.name
    for dangerous in ("trust-remote-code", "config", "otlp-traces-endpoint", "host"):
        assert table.flags[dangerous].flag_class is not FlagClass.ALLOWED


@pytest.mark.parametrize(
    ("version", "args", "told"),
    [
        (
            "0.18.1",
            {"linear-backend": "aiter"},
            "it came after 0.18.1; set engineVersion to 0.32.0, or remove it",
        ),
        ("0.18.1", {"quantization": "mxfp8"}, "'mxfp8' is not a value of quantization"),
        ("0.18.1", {"max-num-partial-prefills": 2}, None),
        ("0.32.0", {"max-num-partial-prefills": 2}, "max-num-partial-prefills is not a flag of vllm 0.32.0"),
        ("0.23.0", {"linear-backend": "aiter"}, None),
        ("0.23.0", {"quantization": "bitsandbytes"}, None),
        ("0.32.0", {"quantization": "bitsandbytes"}, "'bitsandbytes' is not a value of quantization"),
        ("0.18.9", {"linear-backend": "aiter"}, "it came after 0.18.1"),
    ],
)
def test_flags_are_those_of_the_recipes_own_version(
    version: str, args: dict[str, object], told: str | None
) -> None:
    problems = engine(Backend.VLLM).check_args(args, version, trust=Trust.ADMIN)
    said = " ".join(f"{problem.message}; {problem.remedy}" for problem in problems)
    assert (said == "") if told is None else (told in said)


def test_defaults_are_those_of_the_recipes_own_version() -> None:
    plans = {
        version: engine(Backend.VLLM).plan({}, 1, GPUS["MI300X"], None, version)
        for version in flag_versions(Backend.VLLM)
    }
    assert {version: plan.max_num_batched_tokens for version, plan in plans.items()} == {
        "0.18.1": 8192, "0.23.0": 8192, "0.32.0": 16384,
    }  # fmt: skip
    assert {version: plan.gpu_memory_utilization for version, plan in plans.items()} == {
        "0.18.1": 0.9, "0.23.0": 0.92, "0.32.0": 0.92,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "remedy"),
    [
        ({"max-model-len": 4096}, "use context-length"),
        ({"gpu-memory-utilization": 0.9}, "use mem-fraction-static"),
        ({"enable-custom-logit-processor": True}, "remove it"),
        ({"tp-size": 4}, "follows from hardware.gpuCount"),
        ({"kv-cache-dtype": "fp8"}, "choose one of auto, fp8_e5m2"),
        ({"enable-dp-attention": True}, "set data-parallel-size"),
        ({"pp-size": 3}, "choose sizes whose product divides 2"),
    ],
)
def test_flags_of_sglang_are_checked_in_its_own_words(args: dict[str, object], remedy: str) -> None:
    module = engine(Backend("sglang"))
    problems = [
        *module.check_args(args, module.DEFAULT_VERSION, trust=Trust.TENANT),
        *module.check_combination(args), *module.check_parallelism(args, 2),
    ]  # fmt: skip
    assert any(remedy in problem.remedy for problem in problems), problems


def test_a_measured_configuration_of_sglang_is_accepted_and_fits() -> None:
    """SGLang's DeepSeek-R1 FP8 on eight MI300X as InferenceX runs it (dsr1_fp8_mi300x.sh)."""
    args = {
        "mem-fraction-static": 0.8, "cuda-graph-max-bs": 128, "chunked-prefill-size": 131072,
        "num-continuous-decode-steps": 4, "max-prefill-tokens": 131072, "kv-cache-dtype": "fp8_e4m3",
        "attention-backend": "aiter", "disable-radix-cache": True,
    }  # fmt: skip
    module = engine(Backend("sglang"))
    assert module.check_args(args, module.DEFAULT_VERSION, trust=Trust.TENANT) == ()
    plan = module.plan(args, 8, GPUS["MI300X"])
    assert (plan.tensor_parallel, plan.max_num_batched_tokens, plan.kv_cache_bytes_per_element) == (
        8,
        131072,
        1,
    )


def test_the_tables_are_plain_data() -> None:
    folder = Path(__file__).parents[2] / "operator" / "aim_engine" / "catalog" / "engines"
    for path in folder.glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        assert "source" in content or "Source" in path.read_text(), path.name

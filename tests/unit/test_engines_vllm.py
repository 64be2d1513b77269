"""vLLM: plan, environment, startup budget and causes of a crash."""

from __future__ import annotations

import pytest

from aim_engine.api.enums import Backend
from aim_engine.catalog.flags import PINNED_VLLM
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import Trust, engine
from aim_engine.engines.backends import vllm

GPUS = gpu_catalog()


def test_the_backend_enum_and_the_engines_agree() -> None:
    for backend in Backend:
        assert engine(backend).HEALTH_PATH.startswith("/")


def test_the_image_is_upstreams_rocm_image() -> None:
    assert vllm.default_image(PINNED_VLLM, GPUS["MI300X"], "a/b") == "vllm/vllm-openai-rocm:v0.32.0"


@pytest.mark.parametrize(
    ("gpu", "partition", "batched", "sequences"),
    [
        ("MI300X", None, 16384, 1024),
        ("MI355X", None, 16384, 1024),
        ("MI300X", "dpx_nps1", 8192, 1024),
        ("MI300X", "cpx_nps1", 2048, 256),
        ("MI210", None, 2048, 256),
    ],
)
def test_defaults_follow_the_memory_of_the_device(
    gpu: str, partition: str | None, batched: int, sequences: int
) -> None:
    plan = vllm.plan({}, 1, GPUS[gpu], partition)
    assert (plan.max_num_batched_tokens, plan.max_num_seqs) == (batched, sequences)
    assert plan.gpu_memory_utilization == 0.92
    assert plan.max_model_len is None


def test_a_plan_reads_arguments_in_any_spelling() -> None:
    plan = vllm.plan(
        {
            "max_model_len": "32k",
            "kv-cache-dtype": "fp8",
            "ep": None,
            "pp": 2,
            "q": "fp8",
            "max-num-seqs": "64",
            "gpu-memory-utilization": 0.9,
            "cpu-offload-gb": 2,
            "kv-cache-memory-bytes": "10G",
        },
        8,
        GPUS["MI300X"],
    )
    assert (plan.tensor_parallel, plan.pipeline_parallel, plan.data_parallel, plan.gpus) == (4, 2, 1, 8)
    assert plan.max_model_len == 32000
    assert plan.kv_cache_bytes_per_element == 1
    assert plan.expert_parallel
    assert (plan.quantization, plan.online_precision) == ("fp8", "fp8")
    assert plan.max_num_seqs == 64
    assert plan.weights_offload_bytes == 2 * 2**30
    assert plan.kv_cache_memory_bytes == 10 * 2**30


@pytest.mark.parametrize(
    ("args", "graphs"),
    [
        ({}, True),
        ({"enforce-eager": True}, False),
        ({"enforce-eager": False}, True),
        ({"compilation-config": {"cudagraph_mode": "NONE"}}, False),
        ({"compilation-config": {"cudagraph_mode": "FULL_AND_PIECEWISE"}}, True),
        ({"compilation-config": {"level": 3}}, True),
    ],
)
def test_a_plan_knows_whether_graphs_are_captured(args: dict[str, object], graphs: bool) -> None:
    assert vllm.plan(args, 1, GPUS["MI300X"]).graphs is graphs


def test_malformed_values_leave_the_defaults() -> None:
    plan = vllm.plan({"max-model-len": "x", "gpu-memory-utilization": "y", "pp": []}, 1, GPUS["MI300X"])
    assert plan == vllm.plan({}, 1, GPUS["MI300X"])


def test_an_automatic_context_is_not_a_length() -> None:
    plan = vllm.plan({"max-model-len": "auto"}, 1, GPUS["MI300X"])
    assert plan.max_model_len is None
    assert plan.max_model_len_auto


@pytest.mark.parametrize(
    ("args", "gpus", "wrong"),
    [
        ({}, 8, False),
        ({"pipeline-parallel-size": 2}, 8, False),
        ({"data-parallel-size": 8}, 8, False),
        ({"pipeline-parallel-size": 3}, 8, True),
        ({"pp": 2, "dp": 8}, 8, True),
        ({"data-parallel-size": 2}, 1, True),
    ],
)
def test_parallel_sizes_must_divide_the_gpus(args: dict[str, object], gpus: int, wrong: bool) -> None:
    assert bool(vllm.check_parallelism(args, gpus)) is wrong


@pytest.mark.parametrize(
    ("name", "admin", "tenant"),
    [
        ("VLLM_ROCM_USE_AITER", True, True),
        ("NCCL_MIN_NCHANNELS", True, True),
        ("MY_OWN", True, False),
        ("HF_ENDPOINT", True, False),
        ("HF_TOKEN", False, False),
        ("HIP_VISIBLE_DEVICES", False, False),
        ("LD_PRELOAD", False, False),
        ("PYTHONPATH", False, False),
        ("VLLM_PLUGINS", False, False),
        ("VLLM_SERVER_DEV_MODE", False, False),
        ("NCCL_NET_PLUGIN", False, False),
        ("VLLM_DP_MASTER_IP", False, False),
        ("A-B", False, False),
    ],
)
def test_environment_names_are_allowed_by_trust(name: str, admin: bool, tenant: bool) -> None:
    assert (vllm.check_env({name: "1"}, trust=Trust.ADMIN) == ()) is admin
    assert (vllm.check_env({name: "1"}, trust=Trust.TENANT) == ()) is tenant


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("VLLM_USE_V1", "obsolete"),
        ("VLLM_USE_ROCM", "never existed"),
        ("VLLM_ROCM_USE_AITR", "did you mean VLLM_ROCM_USE_AITER?"),
    ],
)
def test_variables_without_effect_are_told(name: str, warning: str) -> None:
    (told,) = vllm.env_warnings({name: "1", "VLLM_ROCM_USE_AITER": "1", "OTHER": "1"})
    assert warning in told


def test_own_environment_passes_own_checks() -> None:
    assert vllm.check_env(vllm.base_env(), trust=Trust.TENANT) == ()
    assert vllm.env_warnings(vllm.base_env()) == ()


@pytest.mark.parametrize(
    ("gib", "least", "most"),
    [(0, 600, 1200), (15, 600, 1200), (100, 900, 1800), (400, 1800, 2400), (640, 3000, 3600)],
)
def test_the_startup_budget_grows_with_the_checkpoint(gib: int, least: int, most: int) -> None:
    assert least <= vllm.startup_budget_seconds(gib * 2**30) <= most
    assert vllm.startup_budget_seconds(None) == 3600


KV_TOO_SMALL = (
    "(EngineCore_DP0 pid=123) ERROR 11-24 02:36:24 [core.py:900] ValueError: To serve at least one request with the "
    "model's max seq len (131072), (40.0 GiB KV cache is needed, which is larger than the available KV cache memory "
    "(35.4 GiB). Based on the available memory, the estimated maximum model length is 115936. Try increasing "
    "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
)
FREE_MEMORY = (
    "ValueError: Free memory on device cuda:0 (20.1/191.98 GiB) on startup is less than desired GPU memory "
    "utilization (0.92, 176.63 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)


@pytest.mark.parametrize(
    ("message", "code", "reason", "diagnosis", "told"),
    [
        (KV_TOO_SMALL, 1, "Error", "KVCacheTooSmall", "max-model-len to at most 115936"),
        ("ValueError: No available memory for the cache blocks. Try increasing", 1, None, "KVCacheTooSmall", "GPUs"),
        ("ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (854). Each decode sequence requires one Mamba cache block",
         1, None, "KVCacheTooSmall", "set max-num-seqs to at most 854"),
        ("The model's max seq len (8192) is larger than the maximum number of tokens that can be stored in KV cache"
         " (4096).", 1, None, "KVCacheTooSmall", "4096"),
        ("ValueError: max_num_batched_tokens (2048) is smaller than max_model_len (32768). This effectively limits the maximum",
         1, None, "InvalidEngineArgument", "at least 32768"),
        (FREE_MEMORY, 1, None, "OutOfGPUMemory", "another process"),
        ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 3.50 GiB. GPU 0 has", 1, None,
         "OutOfGPUMemory", "3.50 GiB"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", 1, None, "ModelAccessDenied", "licence"),
        ("requests.exceptions.HTTPError: 403 Client Error: Forbidden for url", 1, None, "ModelAccessDenied", "token"),
        ("huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. Repository Not Found for url: x", 1, None,
         "ModelNotFound", "modelID"),
        ("vllm serve: error: unrecognized arguments: --swap-space 64", 2, "Error", "UnknownEngineFlag",
         "--swap-space 64"),
        ("vllm serve: error: argument --dtype: invalid choice: 'float8'", 2, "Error", "InvalidEngineArgument",
         "--dtype"),
        ("ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (16).", 1, None,
         "InvalidEngineArgument", "divides 40"),
        ("ValueError: User-specified max_model_len (99999) is greater than the derived max_model_len "
         "(max_position_embeddings=40960 or model_max_length=None in model's config.json).", 1, None,
         "InvalidEngineArgument", "at most 40960"),
        ("RuntimeError: Failed to load the model config. consider setting `trust_remote_code=True` in LLM or using "
         "the `--trust-remote-code` flag in the CLI.", 1, None, "RemoteCodeRequired", "cluster recipe"),
        ("", 137, "OOMKilled", "OutOfHostMemory", "resources.memory"),
        ("OSError: [Errno 28] No space left on device", 1, None, "StorageFull", "sizeGiB"),
        ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", 1, None, "ModelDownloadFailed",
         "HF_ENDPOINT"),
        ("Traceback\nRuntimeError: something new\nat exit", 1, "Error", "EngineCrashed", "something new"),
        ("", 139, "Error", "EngineCrashed", "139"),
    ],
)  # fmt: skip
def test_the_cause_of_a_crash_is_found(
    message: str, code: int, reason: str | None, diagnosis: str, told: str
) -> None:
    found = vllm.classify_termination(message, code, reason)
    assert found is not None
    assert found.reason == diagnosis
    assert told in f"{found.message} {found.remedy}"


def test_a_good_end_has_no_diagnosis() -> None:
    assert vllm.classify_termination("", 0, "Completed") is None
    assert vllm.classify_termination("", None, None) is None

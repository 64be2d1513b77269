"""Who may set what of an engine: every flag of every version and every telling variable has a class with a reason."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from aim_engine.api.enums import Backend
from aim_engine.catalog import flags
from aim_engine.catalog.data import file_names, read_yaml
from aim_engine.catalog.flags import FlagClass, FlagTable, env_rules, flag_table, flag_versions
from aim_engine.engines import Trust, engine

VERSIONS = [(backend, version) for backend in Backend for version in flag_versions(backend)]
every_version = pytest.mark.parametrize(("backend", "version"), VERSIONS)


def table_of(backend: Backend, version: str) -> FlagTable:
    table = flag_table(backend, version)
    assert table is not None
    return table


@every_version
def test_every_flag_of_every_version_has_a_class_and_a_reason(backend: Backend, version: str) -> None:
    for flag in table_of(backend, version).flags.values():
        assert flag.flag_class in FlagClass
        assert flag.why, f"{flag.name}: say why"


@every_version
def test_a_table_with_a_flag_of_no_class_is_not_read(
    backend: Backend, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert table_of(backend, version)
    name = next(
        name
        for name, flag in table_of(backend, version).flags.items()
        if flag.flag_class is FlagClass.ALLOWED
    )
    known = flags._allowed(backend.value)
    monkeypatch.setattr(flags, "_allowed", lambda _: {key: why for key, why in known.items() if key != name})
    with pytest.raises(ValueError, match=rf"{backend} {version}: say who may set {name}, and why"):
        flags._read_table.__wrapped__(f"{backend}-{'.'.join(version.split('.')[:2])}.yaml")


@pytest.mark.parametrize("name", [name for name in file_names("engines") if name.endswith("-allowed.yaml")])
def test_the_list_of_allowed_flags_names_each_once_and_only_what_exists(name: str) -> None:
    backend = Backend(name.removesuffix("-allowed.yaml"))
    listed = [each for names in read_yaml(f"engines/{name}").values() for each in names]
    assert len(listed) == len(set(listed))
    tables = [table_of(backend, version) for version in flag_versions(backend)]
    allowed = {f.name for table in tables for f in table.flags.values() if f.flag_class is FlagClass.ALLOWED}
    assert set(listed) == allowed


@pytest.mark.parametrize("backend", list(Backend))
def test_every_variable_that_sounds_dangerous_was_looked_at(backend: Backend) -> None:
    rules = env_rules(backend)
    looked_at = [*rules.owned, *rules.denied, *rules.admin_only, *rules.reviewed]
    telling = {name for name in rules.known if rules.telling.search(name)}
    assert {name for name in telling if not any(fnmatchcase(name, pattern) for pattern in looked_at)} == set()
    for reasons in (rules.owned, rules.denied, rules.admin_only, rules.reviewed):
        assert all(reasons.values())


@pytest.mark.parametrize(
    "pattern", [p for b in Backend for p in env_rules(b).reviewed if p.startswith(b.value.upper())]
)
def test_what_was_found_harmless_exists(pattern: str) -> None:
    assert any(fnmatchcase(name, pattern) for backend in Backend for name in env_rules(backend).known)


IMPORTS = "imports code by name into the server"


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"compilation-config": {"backend": "os.system"}}, IMPORTS),
        ({"compilation-config.backend": "my_module.Backend"}, IMPORTS),
        ({"compilation-config": '{"backend": "my_module.Backend"}'}, IMPORTS),
        ({"cc": {"inductor_passes": {"post_grad": "os.system"}}}, IMPORTS),
        ({"cc.inductor-passes.post_grad": "os.system"}, IMPORTS),
        ({"compilation-config": {"pass_config.x": 1, "debug-dump-path": "/cache"}}, "writes files"),
        ({"compilation-config": {"inductor_compile_config": {"cpp.cxx": ["sh"]}}}, "the programs it runs"),
        ({"compilation-config": {"cache_dir": "/cache"}}, "compiled code from a folder"),
        ({"speculative-config": {"method": "custom_class", "model": "a/b"}}, IMPORTS),
        ({"speculative-config": {"model": "my_module.Proposer", "num_speculative_tokens": 2}}, IMPORTS),
        ({"sc.model": " my_module.Proposer "}, IMPORTS),
        ({"speculative-config": {"model": "a/b", "draft_load_config": {"download_dir": "/"}}}, "unchecked settings"),
        ({"spec-method": "custom_class"}, IMPORTS),
        ({"spec-model": "my_module.Proposer"}, IMPORTS),
        ({"mm-processor-kwargs": {"trust_remote_code": True}}, "executes code from the model repository"),
        ({"hf-overrides": {"text_config": {"auto_map": {"AutoModel": "x.Y"}}}}, "executes code"),
        ({"load-format": "ipc_cache"}, "unpickles"),
        ({"load-format": "modelexpress"}, "other hosts"),
        ({"structured-outputs-config": '{"reasoning_parser_plugin": "/x.py"}'}, "loads a Python file"),
    ],
)  # fmt: skip
def test_code_hosts_and_files_cannot_be_reached_through_the_value_of_an_allowed_flag(
    args: dict[str, object], told: str, trust: Trust
) -> None:
    module = engine(Backend.VLLM)
    problems = module.check_args(args, module.DEFAULT_VERSION, trust=trust)
    assert any(told in problem.message and "denied" in problem.message for problem in problems), problems


@pytest.mark.parametrize(
    "args",
    [
        {"compilation-config": {"backend": "inductor", "cudagraph_mode": "FULL_AND_PIECEWISE"}},
        {"compilation-config.backend": "eager"},
        {
            "speculative-config": {
                "method": "eagle3",
                "model": "org/Some-Model-3.1",
                "num_speculative_tokens": 3,
            }
        },
        {"speculative-config": {"method": "ngram", "prompt_lookup_max": 4, "num_speculative_tokens": 3}},
        {"spec-model": "org/model-v1.5", "spec-method": "draft_model"},
        {"load-format": "fastsafetensors"},
        {"hf-overrides": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}},
    ],
)
def test_the_usual_values_of_these_flags_stay_allowed(args: dict[str, object]) -> None:
    module = engine(Backend.VLLM)
    assert module.check_args(args, module.DEFAULT_VERSION, trust=Trust.TENANT) == ()


@pytest.mark.parametrize("value", ["remote", "remote_instance", "private"])
def test_sglang_loads_no_weights_from_other_hosts(value: str) -> None:
    module = engine(Backend("sglang"))
    (problem,) = module.check_args({"load-format": value}, module.DEFAULT_VERSION, trust=Trust.ADMIN)
    assert "is denied: it" in problem.message


@pytest.mark.parametrize("trust", list(Trust))
@pytest.mark.parametrize(
    "value",
    [
        {"auto_map": {"AutoModel": "someone/else--module.Model"}},
        '{"text_config": {"auto_map": {"AutoModel": "module.Model"}}}',
        {"trust_remote_code": True},
    ],
)
def test_sglang_imports_no_code_that_an_overridden_configuration_names(value: object, trust: Trust) -> None:
    module = engine(Backend("sglang"))
    args = {"json-model-override-args": value}
    (problem,) = module.check_args(args, module.DEFAULT_VERSION, trust=trust)
    assert "is denied: it executes code from the model repository" in problem.message
    usual = {"json-model-override-args": '{"rope_scaling": {"factor": 4.0}}'}
    assert module.check_args(usual, module.DEFAULT_VERSION, trust=trust) == ()


def test_sglang_runs_the_code_of_a_repository_only_where_that_is_allowed() -> None:
    """Its implementation `transformers` does, whatever trust-remote-code says."""
    module = engine(Backend("sglang"))
    args = {"model-impl": "transformers"}
    assert module.check_args(args, module.DEFAULT_VERSION, trust=Trust.TENANT)
    assert module.check_args(args, module.DEFAULT_VERSION, trust=Trust.TENANT_WITH_REMOTE_CODE) == ()


@pytest.mark.parametrize("backend", list(Backend))
@pytest.mark.parametrize(
    ("name", "admin_may"),
    [
        ("LD_PRELOAD", False), ("LD_LIBRARY_PATH", False), ("PYTHONPATH", False), ("PYTHONSTARTUP", False),
        ("GCONV_PATH", False), ("PATH", False), ("HOME", False), ("BASH_ENV", False), ("VLLM_PLUGINS", False),
        ("VLLM_SERVER_DEV_MODE", False), ("VLLM_LOGGING_CONFIG_PATH", False), ("VLLM_LOGGING_STREAM", False),
        ("VLLM_CUDA_COMPATIBILITY_PATH", False), ("VLLM_USAGE_STATS_SERVER", False), ("HIP_CLANG_PATH", False),
        ("SGLANG_LOGGING_CONFIG_PATH", False), ("SGLANG_NCCL_SO_PATH", False), ("SGLANG_HOST_IP", False),
        ("DUMPER_SOURCE_PATCHER_CONFIG", False), ("VLLM_SOME_NEW_PLUGIN_PATH", True), ("SGLANG_NEW_CONFIG_DIR", True),
        ("HF_SOMETHING_ENDPOINT", True), ("NCCL_TOPO_FILE", True), ("HSA_NEW_LIB", True),
        ("NCCL_COMM_ID", False), ("NCCL_NET_PLUGIN", False), ("NCCL_DEBUG_FILE", False), ("HF_MODULES_CACHE", False),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", False), ("AWS_SECRET_ACCESS_KEY", False), ("SGLANG_PROFILE_V2", False),
        ("HTTP_PROXY", True), ("https_proxy", True), ("ALL_PROXY", True), ("NO_PROXY", True), ("HF_ENDPOINT", True),
        ("SSL_CERT_FILE", True), ("REQUESTS_CA_BUNDLE", True), ("TMPDIR", True), ("VLLM_LOOPBACK_IP", True),
        ("MY_OWN", True), ("PYTORCH_TUNABLEOP_FILENAME", True), ("PYTORCH_TUNABLEOP_UNTUNED_FILENAME", True),
        ("HF_XET_CACHE", True), ("HF_ASSETS_CACHE", True), ("HF_HUB_CACHE", False),
    ],
)  # fmt: skip
def test_variables_that_load_code_redirect_or_trust_others_are_no_tenants(
    backend: Backend, name: str, admin_may: bool
) -> None:
    module = engine(backend)
    assert module.check_env({name: "x"}, trust=Trust.TENANT)
    assert module.check_env({name: "x"}, trust=Trust.TENANT_WITH_REMOTE_CODE)
    assert (module.check_env({name: "x"}, trust=Trust.ADMIN) == ()) is admin_may


@pytest.mark.parametrize(
    "name",
    [
        "NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "NCCL_MIN_NCHANNELS", "HSA_NO_SCRATCH_RECLAIM", "HSA_OVERRIDE_GFX_VERSION",
        "GPU_MAX_HW_QUEUES", "HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "VLLM_LOGGING_LEVEL", "VLLM_ROCM_USE_AITER",
        "VLLM_USE_V1", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_TUNABLEOP_ENABLED", "TORCH_BLAS_PREFER_HIPBLASLT", "AMDGCN_USE_BUFFER_OPS",
        "OMP_NUM_THREADS", "SGLANG_USE_AITER", "AIM_LOG_LEVEL",
    ],
)  # fmt: skip
def test_the_usual_variables_stay_allowed(name: str) -> None:
    assert engine(Backend.VLLM).check_env({name: "1"}, trust=Trust.TENANT) == ()

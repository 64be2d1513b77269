"""Engine arguments: which are refused, in which words, and how they become a command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.api.enums import Backend
from aim_engine.catalog.flags import FlagClass, flag_table
from aim_engine.engines import Trust
from aim_engine.engines.arguments import parse_human_int
from aim_engine.engines.backends import vllm

VERSION = "0.32.0"


def problems(args: dict[str, object], trust: Trust = Trust.ADMIN, version: str = VERSION) -> list[str]:
    return [
        f"{problem.field}: {problem.message}; {problem.remedy}"
        for problem in vllm.check_args(args, version, trust=trust)
    ]


def rendered(args: dict[str, object]) -> list[str]:
    return vllm.command("org/model", args, 1, ["org/model"], 8000, VERSION)[1]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"max-model-len": 32768},
        {"max-model-len": "32k"},
        {"max-model-len": "auto"},
        {"max-model-len": -1},
        {"max_model_len": "25.6k"},
        {"--max-model-len": "131072"},
        {"async-scheduling": True},
        {"async-scheduling": None},
        {"async-scheduling": False},
        {"no-enable-prefix-caching": None},
        {"no-enable-prefix-caching": True},
        {"distributed_executor_backend": "mp"},
        {"compilation-config": {"cudagraph_mode": "FULL_AND_PIECEWISE"}},
        {"compilation-config": '{"cudagraph_mode": "NONE"}'},
        {"compilation-config.cudagraph_mode": "NONE"},
        {"cc.cudagraph_mode": "NONE", "compilation-config.level": 3},
        {"gpu-memory-utilization": 0.95},
        {"device-memory-utilization": "0.9"},
        {"cudagraph-capture-sizes": [1, 2, 4]},
        {"attention-backend": "rocm_aiter_fa"},
        {"moe-backend": "AITER"},
        {"pp": 2},
        {"hf-overrides": {"rope_parameters": {"factor": 4.0}}},
    ],
)
def test_what_the_engine_accepts_is_no_problem(args: dict[str, object]) -> None:
    assert problems(args, Trust.TENANT) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"max-model-length": 1}, "engineArgs.max-model-length: max-model-length is not a flag of vllm 0.32.0; "
         "did you mean max-model-len?"),
        ({"swap-space": 64}, "removed in 0.18"),
        ({"max_seq_len_to_capture": 8192}, "cudagraph-capture-size"),
        ({"disable-log-requests": None}, "enable-log-requests"),
        ({"zzz": 1}, "remove it"),
        ({"trust-remote": True}, "did you mean trust-remote-code?"),
        ({"dtype": "float8_e4m3"}, "'float8_e4m3' is not a value of dtype"),
        ({"kv-cache-dtype": "fp9"}, "did you mean fp8"),
        ({"max-model-len": "long"}, "needs a whole number"),
        ({"max-model-len": None}, "needs one whole number"),
        ({"max-model-len": True}, "needs one whole number"),
        ({"max-model-len": "1.5K"}, "needs a whole number"),
        ({"max-model-len": 0}, "at least 1"),
        ({"max-num-seqs": 0}, "at least 1"),
        ({"max-num-seqs": 1.5}, "needs a whole number"),
        ({"gpu-memory-utilization": 90}, "at most 1"),
        ({"gpu-memory-utilization": "nan"}, "needs a number"),
        ({"async-scheduling": "true"}, "takes no value"),
        ({"no-async-scheduling": False}, "write async-scheduling: false"),
        ({"compilation-config": 3}, "takes an object"),
        ({"compilation-config": "not json"}, "takes an object"),
        ({"compilation-config": "[" * 100_000}, "takes an object"),
        ({"compilation-config": '{"a":' * 5_000 + "1" + "}" * 5_000}, "takes an object"),
        ({"compilation-config": '{"a":' * 50 + "1" + "}" * 50}, "takes an object"),
        ({"dtype.x": 1}, "takes no object"),
        ({"max-model-len": 1, "max_model_len": 2}, "are the same flag"),
        ({"enable-prefix-caching": True, "no-enable-prefix-caching": None}, "are the same flag"),
        ({"pipeline-parallel-size": 1, "pp": 1}, "are the same flag"),
        ({"tokenizer": "a\nb"}, "control characters"),
        ({"tokenizer": "a\x00b"}, "control characters"),
        ({"cudagraph-capture-sizes": []}, "at least one value"),
        ({"ignore-patterns": ["a", "--trust-remote-code"]}, "would be read as a flag"),
        ({"tool-call-parser": "hermes2"}, "did you mean hermes?"),
    ],
)  # fmt: skip
def test_what_would_stop_the_engine_is_told(args: dict[str, object], expected: str) -> None:
    found = problems(args)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    "args",
    [
        {"tensor-parallel-size": 8},
        {"tp": 8},
        {"port": 80},
        {"host": "0.0.0.0"},
        {"served-model-name": "x"},
        {"api-key": "secret"},
        {"ssl-keyfile": "/x"},
        {"model": "x"},
        {"data-parallel-address": "10.0.0.1"},
        {"middleware": "a.b"},
        {"worker_extension_cls": "a.b"},
        {"--config": "/x.yaml"},
        {"kv-transfer-config": {"kv_connector": "x"}},
        {"kv-transfer-config.kv_connector": "x"},
        {"structured-outputs-config": {"reasoning_parser_plugin": "/x.py"}},
        {"structured-outputs-config": '{"reasoning_parser_plugin": "/x.py"}'},
        {"structured-outputs-config": {"reasoning-parser-plugin": "/x.py"}},
        {"structured_outputs_config.reasoning_parser_plugin": "/x.py"},
    ],
)
@pytest.mark.parametrize("trust", list(Trust))
def test_owned_and_denied_flags_are_refused_to_everyone(args: dict[str, object], trust: Trust) -> None:
    assert len(problems(args, trust)) == 1
    assert len(problems(args, trust, version="0.99.0")) == 1


@pytest.mark.parametrize(
    ("args", "allowed"),
    [
        ({"trust-remote-code": True}, {Trust.ADMIN, Trust.TENANT_WITH_REMOTE_CODE}),
        ({"code-revision": "main"}, {Trust.ADMIN, Trust.TENANT_WITH_REMOTE_CODE}),
        ({"chat-template": "/x.jinja"}, {Trust.ADMIN}),
        ({"additional-config": {"a": 1}}, {Trust.ADMIN}),
    ],
)
def test_trusted_flags_are_allowed_by_trust(args: dict[str, object], allowed: set[Trust]) -> None:
    assert {trust for trust in Trust if problems(args, trust) == []} == allowed


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({}, None),
        ({"enable-auto-tool-choice": True, "tool_call_parser": "hermes"}, None),
        ({"enable_auto_tool_choice": None}, "needs tool-call-parser"),
        ({"enable-log-outputs": True, "enable-log-requests": False}, "needs enable-log-requests"),
        ({"max-num-batched-tokens": "1k", "max-num-seqs": 1024}, "less than max-num-seqs"),
        ({"max-num-batched-tokens": "1K", "max-num-seqs": 1024}, None),
        # vLLM 0.32 config/scheduler.py, verify_max_model_len: it does not start.
        (
            {"no-enable-chunked-prefill": True, "max-num-batched-tokens": 8192, "max-model-len": "32K"},
            "8192 is less than max-model-len without chunked prefill 32768",
        ),
        ({"enable-chunked-prefill": False, "max-num-batched-tokens": 32768, "max-model-len": 32768}, None),
        ({"enable-chunked-prefill": True, "max-num-batched-tokens": 8192, "max-model-len": 32768}, None),
        ({"enable-chunked-prefill": False, "max-model-len": 32768}, None),
    ],
)
def test_arguments_that_contradict_each_other_are_told(args: dict[str, object], told: str | None) -> None:
    found = [problem.message for problem in vllm.check_combination(args)]
    assert len(found) == (told is not None)
    assert all(told in message for message in found if told)


def test_an_admin_may_use_flags_of_an_engine_version_without_table() -> None:
    assert problems({"swap-space": 4}, Trust.ADMIN, version="0.10.2") == []
    assert len(problems({"swap-space": 4}, Trust.TENANT, version="0.10.2")) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1k", 1000),
        ("1K", 1024),
        ("25.6k", 25600),
        ("2M", 2**21),
        (7, 7),
        ("7", 7),
        ("-1", -1),
        ("1.5K", None),
    ],
)
def test_human_numbers_are_read_as_vllm_reads_them(text: object, number: int | None) -> None:
    assert parse_human_int(text) == number


def test_the_command_line_is_sorted_and_owned_flags_win() -> None:
    command, args = vllm.command(
        "Qwen/Qwen3-32B-FP8",
        {"port": 1, "max_model_len": "32k", "no-enable-prefix-caching": None, "async-scheduling": True},
        4,
        ["Qwen/Qwen3-32B"],
        8000,
        VERSION,
        revision="main",
        shutdown_timeout_seconds=60,
    )
    assert command == ["vllm", "serve"]
    assert args == [
        "Qwen/Qwen3-32B-FP8",
        "--async-scheduling",
        "--no-enable-prefix-caching",
        "--host", "0.0.0.0",
        "--max-model-len", "32k",
        "--port", "8000",
        "--revision", "main",
        "--served-model-name", "Qwen/Qwen3-32B",
        "--shutdown-timeout", "60",
        "--tensor-parallel-size", "4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"compilation-config": {"b": 1, "a": [True]}}, ["--compilation-config", '{"a":[true],"b":1}']),
        ({"cc.a.b": 1, "compilation_config.a.c": 2}, ["--compilation-config", '{"a":{"b":1,"c":2}}']),
        ({"cudagraph-capture-sizes": [2, 4]}, ["--cudagraph-capture-sizes", "2", "4"]),
        ({"max-model-len": -1}, ["--max-model-len=-1"]),
        ({"tokenizer": "--trust-remote-code"}, ["--tokenizer=--trust-remote-code"]),
        ({"aggregate-engine-logging": False}, []),
        ({"aggregate-engine-logging": True}, ["--aggregate-engine-logging"]),
    ],
)
def test_values_become_tokens(args: dict[str, object], expected: list[str]) -> None:
    fixed = rendered({})
    assert [token for token in rendered(args) if token not in fixed] == expected


def test_an_override_replaces_whatever_the_spelling() -> None:
    merged = vllm.merge_args(
        {"max_model_len": 1, "no-enable-prefix-caching": None, "cc": {"a": 1, "b": 2}},
        {"max-model-len": 2, "enable-prefix-caching": True, "compilation-config.a": 3},
    )
    assert merged == {
        "compilation-config": {"a": 3, "b": 2},
        "enable-prefix-caching": True,
        "max-model-len": 2,
    }


def test_a_key_changes_an_object_that_is_written_as_text() -> None:
    base = {"compilation-config": '{"a": 1, "b": 2}'}
    assert vllm.merge_args(base, {"compilation-config.a": 3}) == {"compilation-config": {"a": 3, "b": 2}}
    assert vllm.merge_args(base, {}) == {"compilation-config": {"a": 1, "b": 2}}


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.just("--config"),
)
names = st.one_of(
    st.sampled_from(
        ["max-model-len", "dtype", "cc.a", "no-async-scheduling", "lora-modules", "tokenizer", "config", "O"]
    ),
    st.text(max_size=20),
)
values = st.recursive(scalars, lambda nested: st.lists(nested, max_size=2), max_leaves=4)


@given(st.dictionaries(names, values, max_size=4))
def test_arguments_that_pass_the_checks_smuggle_in_no_other_flag(args: dict[str, object]) -> None:
    found = vllm.check_args(args, VERSION, trust=Trust.TENANT)
    assert all(problem.message and problem.remedy for problem in found)
    if not found:
        table = flag_table(Backend.VLLM, VERSION)
        assert table is not None
        owned = {"--host", "--port", "--served-model-name", "--tensor-parallel-size"}
        flags = {token.partition("=")[0] for token in rendered(args) if token.startswith("-")} - owned
        used = {flag.removeprefix("--") for flag in flags}
        known = {name if name in table.flags else name.removeprefix("no-") for name in used}
        assert all(table.flags[name].flag_class is FlagClass.ALLOWED for name in known)


@given(st.dictionaries(names, scalars, max_size=4), st.dictionaries(names, scalars, max_size=4))
def test_merged_arguments_are_in_their_final_form(
    base: dict[str, object], override: dict[str, object]
) -> None:
    merged = vllm.merge_args(base, override)
    assert vllm.merge_args(merged, {}) == merged
    assert vllm.merge_args(merged, override) == merged


@pytest.mark.parametrize(
    ("args", "gib", "told"),
    [
        ({"max-num-seqs": 20_000}, 192, "max-num-batched-tokens 16384 is less than max-num-seqs 20000"),
        ({"max-num-seqs": 4096}, 24, "max-num-batched-tokens 2048 is less than max-num-seqs 4096"),
        ({"max-num-seqs": 4096}, 192, None),
        ({"max-num-seqs": 4096, "max-num-batched-tokens": 4096}, 24, None),
        ({"enable-chunked-prefill": False, "max-model-len": 32768}, 24, None),
        ({}, 24, None),
    ],
)
def test_sequences_are_held_against_the_batch_that_the_engine_chooses_on_the_device(
    args: dict[str, object], gib: int, told: str | None
) -> None:
    found = [problem.message for problem in vllm.check_combination(args, gib * 2**30)]
    assert found == ([] if told is None else [told])

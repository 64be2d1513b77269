"""`aim-engine bench` and `status` as users see them: usage, remedies, tables, and what is refused to be saved."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.api.performance import Benchmark
from aim_engine.benchmark import Ending, Fault, Run
from aim_engine.benchmark.book import Failures
from aim_engine.cli.bench_deployment import Subject
from aim_engine.cli.bench_save import benchmark, small_load, unconvincing, unsuitable
from aim_engine.cli.bench_table import table
from aim_engine.reconcile.cache import read_deployment, read_stored_recipe
from unit.cli_world import Json, Terminal, deployment, node, recipe, snapshot
from unit.openai_world import Asked, good, serving, whole
from unit.selection_world import QWEN

ROOT = Path(__file__).parents[2]
FAST = ("--warmup", "0", "--duration", "30", "--requests", "4", "--concurrency", "2", "--input-tokens", "40")


@pytest.fixture
def run(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("AIM_ENGINE_API_KEY", raising=False)
    return run


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "name an AIMDeployment, or a server with --url"),
        (("--url", "http://127.0.0.1:1", "--save"), 2, "--save needs the AIMDeployment"),
        (("--url", "nonsense"), 2, "write it like http://host:8000/v1"),
        (("--url", "http://u:p@h/v1"), 2, "--api-key-file"),
        (("--url", "http://127.0.0.1:1", "--concurrency", "0"), 2, "--concurrency 0 must be 1 to 4096"),
        (("--url", "http://127.0.0.1:1", "--duration", "inf"), 2, "--duration inf must be 1 to 3600"),
        (("--url", "http://127.0.0.1:1", "--duration", "nan"), 2, "--duration nan must be 1 to 3600"),
        (("--url", "http://127.0.0.1:1", "--output-tokens", "-1"), 2, "--output-tokens -1 must be"),
        (("--url", "http://127.0.0.1:1", "--requests", "many"), 2, "invalid int value"),
        (("--url", "http://127.0.0.1:1", "--api-key-file", "/nowhere"), 4, "/nowhere: No such file"),
        (("--url", "http://127.0.0.1:1"), 1, "Connection refused; start the server or correct --url"),
        (("qwen",), 1, "no cluster is configured"),
        (("qwen", "-n", "Team A"), 4, "--namespace 'Team A'"),
    ],
)
def test_wrong_usage_is_told_with_the_remedy(
    run: Terminal, words: tuple[str, ...], code: int, told: str
) -> None:
    ended = run("bench", *words)
    assert (ended.code, told in ended.err) == (code, True), ended
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\nb", "\x1b[31m", "é"])
def test_a_file_that_holds_no_key_is_refused(run: Terminal, tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    ended = run("bench", "--url", "http://127.0.0.1:1", "--api-key-file", tmp_path / "key")
    assert ended.code == 4
    assert "the key alone" in ended.err
    assert not content.strip() or content not in ended.err


def test_many_connections_raise_the_limit_of_open_files_or_say_that_it_is_too_low() -> None:
    """In a process of its own, whose limits are lowered."""
    ask = ("bench", "--url", "http://127.0.0.1:1", "--concurrency")
    code = (
        "import resource, sys; from aim_engine.cli import main; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400)); "
        "sys.exit(main(sys.argv[1:]))"
    )
    told = {}
    for count in (100, 300, 3000):
        ended = subprocess.run([sys.executable, "-c", code, *ask, str(count)], capture_output=True, text=True)
        told[count] = ended.stderr
    assert "Connection refused" in told[100]
    assert "Connection refused" in told[300]
    assert "--concurrency 3000 needs 3064 open files, the limit is 400" in told[3000]


async def guarded(asked: Asked) -> AsyncIterator[bytes]:
    """A server with a key."""
    if asked.headers.get("authorization") != "bearer s3cret":
        yield whole(b'{"error": "Unauthorized"}', "401 Unauthorized")
        return
    async for part in good(asked):
        yield part


def test_the_key_is_taken_from_file_or_environment_and_never_shown(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    with serving(guarded) as server:
        without = run("bench", "--url", server.url, *FAST)
        by_file = run("bench", "--url", server.url, "--api-key-file", tmp_path / "key", *FAST, "-o", "json")
        monkeypatch.setenv("AIM_ENGINE_API_KEY", "s3cret")
        by_environment = run("bench", "--url", server.url, *FAST)
        monkeypatch.setenv("AIM_ENGINE_API_KEY", "wrong")
        wrong = run("bench", "--url", server.url, *FAST)
    assert (without.code, wrong.code) == (1, 1)
    assert "HTTP 401: Unauthorized; name a file with its key with --api-key-file, or set AIM_ENGINE_API_KEY" in without.err  # fmt: skip
    assert (by_file.code, by_environment.code) == (0, 0)
    assert "s3cret" not in by_file.out + by_file.err + by_environment.out + by_environment.err


def test_the_result_as_a_document(run: Terminal) -> None:
    with serving(good) as server:
        ended = run("bench", "--url", server.url, *FAST, "--output-tokens", "6", "-o", "json")
        as_yaml = run("bench", "--url", server.url, *FAST, "-o", "yaml")
    assert ended.code == 0
    assert ended.json["requests"]["answered"] == 4
    assert ended.json["tokens"]["meanInput"] == pytest.approx(40, abs=2)
    assert (ended.json["tokens"]["countedBy"], ended.json["tokens"]["meanOutput"]) == ("server", 6.0)
    assert ended.json["load"]["requests"] == 4
    assert set(ended.json["timeToFirstTokenMilliseconds"]) == {"mean", "p50", "p90", "p95", "p99", "max"}
    assert list(yaml.safe_load(as_yaml.out)) == list(ended.json)


def test_a_server_that_fails_under_load_ends_with_its_reason(run: Terminal) -> None:
    async def answer(asked: Asked) -> AsyncIterator[bytes]:
        if asked.method == "GET" or asked.body["max_tokens"] == 4:
            async for part in good(asked):
                yield part
        else:
            yield whole(b'{"error": {"message": "CUDA \x1b[31mout of memory"}}', "500 Oops")

    with serving(answer) as server:
        ended = run("bench", "--url", server.url, *FAST)
    assert ended.code == 1
    assert "given up: nearly every request failed" in ended.out
    assert "server_error   6" in ended.out
    assert "no request was answered: HTTP 500" in ended.err
    assert "\x1b" not in ended.out + ended.err


RESULT: Json = {
    "server": "http://127.0.0.1:8000/v1", "model": QWEN, "deployment": "team-a/chat", "recipe": "small",
    "load": {"concurrency": 32, "inputTokens": 1024, "outputTokens": 128, "durationSeconds": 60.0, "requests": None, "warmupSeconds": 5.0},
    "ended": "duration", "seconds": 60.0, "requests": {"answered": 900, "failed": 3, "cutAtTheEnd": 32},
    "tokens": {"countedBy": "server", "meanInput": 1023.6, "meanOutput": 128.0},
    "outputTokensPerSecond": 1951.4, "inputTokensPerSecond": 15354.0, "requestsPerSecond": 15.0,
    "timeToFirstTokenMilliseconds": {"mean": 210.0, "p50": 190.5, "p90": 300.0, "p95": 350.0, "p99": 501.25, "max": 612.0},
    "interTokenLatencyMilliseconds": {"mean": 15.1, "p50": 14.9, "p90": 18.0, "p95": 20.0, "p99": 41.0, "max": 90.0},
    "requestLatencyMilliseconds": None,
    "errors": [{"kind": "rate_limited", "count": 3, "example": "HTTP 429: slow down"}],
    "clientCpuPercent": 97, "notes": ["the server refuses ignore_eos: asked without it"],
}  # fmt: skip

TABLE = """\
Server:     http://127.0.0.1:8000/v1, model Qwen/Qwen3-32B
Deployment: team-a/chat, recipe small
Load:       32 at a time, 1024 tokens in, 128 out
Measured:   60.0 s after 5 s of warm-up
Requests:   900 answered, 3 failed, 32 cut at the end
Tokens:     1024 in, 128 out, counted by the server, on average
Output:     1951 tok/s
Input:      15354 tok/s
Rate:       15 requests/s

                      MEAN       P50        P90        P95        P99        MAX
TIME TO FIRST TOKEN   210.0 ms   190.5 ms   300.0 ms   350.0 ms   501.2 ms   612.0 ms
INTER-TOKEN LATENCY   15.1 ms    14.9 ms    18.0 ms    20.0 ms    41.0 ms    90.0 ms

ERROR          COUNT   EXAMPLE
rate_limited   3       HTTP 429: slow down

Note: the server refuses ignore_eos: asked without it
Note: this program used a whole core: the server may be faster than shown; run several at a time
"""


def test_the_table_of_a_result() -> None:
    assert table(RESULT) == TABLE


def subject(**spec: Any) -> Subject:
    """A deployment that runs AIMRecipe `small` on one replica, as it stands."""
    kind, written = recipe("small")
    catalogued = read_stored_recipe({"kind": kind, **written})
    assert catalogued.candidate is not None
    _, obj = deployment("chat", **spec)
    ready = {"type": "Ready", "status": "True", "reason": "Serving"}
    obj["status"] = {
        "conditions": [ready], "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "modelID": QWEN,
        "url": "http://chat-service.team-a.svc:8000/v1",
        "recipe": {"name": "small", "hash": catalogued.candidate.hash, "revision": "chat-1"},
    }  # fmt: skip
    stored = read_deployment(obj)
    assert stored.typed is not None
    return Subject(stored, stored.typed.spec, catalogued)


def with_status(before: Subject, **status: object) -> Subject:
    return replace(before, stored=replace(before.stored, status={**before.stored.status, **status}))


GOOD = subject()
NOT_READY = {"type": "Ready", "status": "False", "reason": "Progressing"}


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (subject(), None),
        (subject(targets={"minTokensPerSecond": 5}, recipe={"name": "small"}, monitoring={"enabled": False}), None),
        (subject(overrides={"engineArgs": {"max-num-seqs": 8}}), "spec.overrides change the recipe"),
        (subject(workload={"maxBatchSize": 8}), "spec.workload change the recipe"),
        (with_status(GOOD, recipe=None), "no recipe is in use"),
        (replace(with_status(GOOD, recipe={"name": "configmap/mine", "hash": "x"}), catalogued=None), "configmap/mine is no AIMRecipe"),
        (replace(with_status(GOOD, recipe={"name": "generated/x", "hash": "x"}), catalogued=None), "generated/x is no AIMRecipe"),
        (replace(GOOD, catalogued=None), "does not exist any more"),
        (with_status(GOOD, recipe={"name": "small", "hash": "older"}), "was changed since"),
        (with_status(GOOD, observedGeneration=0), "is not Ready, or its last change"),
        (with_status(GOOD, conditions=[NOT_READY]), "is not Ready"),
        (with_status(GOOD, conditions="nonsense"), "is not Ready"),
        (with_status(GOOD, replicas=2, readyReplicas=2), "only one replica can be measured"),
        (with_status(GOOD, replicas=2, readyReplicas=1), "only one replica can be measured"),
    ],
)  # fmt: skip
def test_only_a_recipe_as_it_stands_is_measured_for_the_record(measured: Subject, told: str | None) -> None:
    problem = unsuitable(measured)
    assert problem is None if told is None else told in (problem or "")


def measured_run(**changes: Any) -> Run:
    run = Run(began=0.0, seconds=60.0, answered=900, prompt_tokens=900 * 1024)
    for name, value in changes.items():
        setattr(run, name, value)
    return run


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (measured_run(), None),
        (measured_run(failures={Fault.STALLED: Failures(47, "")}), None),
        (
            measured_run(failures={Fault.STALLED: Failures(48, "")}),
            "48 of 948 requests failed, at most 5% may",
        ),
        (measured_run(ending=Ending.GAVE_UP), "requests failed"),
        (measured_run(answered=9), "9 requests were answered, at least 10 must be"),
        (measured_run(seconds=9.9), "9.9 s were measured, at least 10 s must be"),
        (measured_run(counted=False), "does not count tokens"),
        (measured_run(prompt_tokens=0), "does not count tokens"),
        (measured_run(client_share=0.89), None),
        # A number that the client was the limit of would rank the recipe below what it does.
        (measured_run(client_share=0.93), "the load generator used 93% of a core"),
    ],
)
def test_what_is_no_evidence_is_not_saved(measured: Run, told: str | None) -> None:
    problem = unconvincing(measured)
    assert problem is None if told is None else told in (problem or "")


def test_a_load_that_does_not_show_what_a_recipe_can_do_is_warned_of() -> None:
    assert "--concurrency 1 does not show" in (small_load(1) or "")
    assert "--concurrency 7 does not show" in (small_load(7) or "")
    assert small_load(8) is None


def test_the_record_has_workload_source_and_what_it_was_measured_on() -> None:
    entry = benchmark(GOOD, RESULT, measured_run(), "2026-03-01T12:00:00Z")
    wire = entry.wire()
    assert wire == {
        "tokensPerSecond": 1951,
        "timeToFirstTokenMilliseconds": {"p50": 190, "p95": 350},
        "interTokenLatencyMilliseconds": {"p50": 15, "p95": 20},
        "workload": {"inputTokens": 1024, "outputTokens": 128, "concurrency": 32},
        "requests": 900, "seconds": 60, "source": "team-a/chat", "at": "2026-03-01T12:00:00Z",
        "recipeHash": GOOD.stored.status["recipe"]["hash"], "gpuModel": "MI300X", "engineVersion": wire["engineVersion"],
    }  # fmt: skip
    assert Benchmark.model_validate(json.loads(json.dumps(wire))) == entry


def measured_deployment() -> tuple[str, Json]:
    kind, obj = deployment(
        "chat", targets={"minTokensPerSecond": 1000, "maxTimeToFirstTokenMilliseconds": 500}
    )
    obj["status"] = {
        "modelID": QWEN, "ready": "2/2", "url": "http://chat-service.team-a.svc:8000/v1",
        "recipe": {"name": "small", "gpus": "1xMI300X", "precision": "bf16", "tier": "Primary"},
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Serving", "message": "2 replicas answer"},
            {"type": "PerformanceOnTarget", "status": "False", "reason": "BelowTarget", "message": "too slow"},
        ],
        "performance": {
            "tokensPerSecond": 1640, "requestsRunning": 60, "requestsWaiting": 12, "at": "2026-03-01T12:00:00Z",
            "timeToFirstTokenMilliseconds": {"p50": 120, "p95": 610}, "interTokenLatencyMilliseconds": {"p50": 15, "p95": 21},
            "expected": {"tokensPerSecond": 2000, "source": "target", "percent": 82},
            "baseline": {"tokensPerSecond": 900, "percent": 91}, "recipeHash": "x", "engineVersion": "0.32.0",
        },
    }  # fmt: skip
    return kind, obj


FLEET = """\
NAMESPACE   NAME   READY   REASON    RECIPE   GPUS       PRECISION   REPLICAS   TOK/S   EXPECTED           TTFT P95     WAITING   PERFORMANCE   BASELINE
team-a      chat   True    Serving   small    1xMI300X   bf16        2/2        1640    2000 target, 82%   610/500 ms   12        BelowTarget   91%
team-a      new    -       -         -        -          -           -          -       50 target          -            -         -             -
"""  # fmt: skip

ONE = """\
Deployment:          team-a/chat
Ready:               True, Serving: 2 replicas answer
Model:               Qwen/Qwen3-32B
Recipe:              small, 1xMI300X, bf16, tier Primary
Recommended:         -
Replicas:            2/2
URL:                 http://chat-service.team-a.svc:8000/v1
Throughput:          1640 tok/s, measured until 2026-03-01T12:00:00Z
Expected:            2000 target, 82% (tok/s)
Time to first token: 610/500 ms (p95/target)
Inter-token latency: 21 ms (p95)
Requests:            60 running, 12 waiting
Baseline:            900 tok/s per replica; now 91% of it at a like load
On target:           False, BelowTarget: too slow
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    new = deployment("new", targets={"minTokensPerSecond": 50})
    return snapshot(tmp_path, node("gpu-1"), recipe("small"), measured_deployment(), new)


def test_status_shows_what_deployments_deliver(run: Terminal, fleet: Path) -> None:
    shown = run("status", "--cluster", fleet).out
    assert shown.startswith(FLEET)
    assert shown == run("status", "--cluster", fleet, "-A").out


def test_status_says_why_nothing_is_compared_with_the_baseline(run: Terminal, tmp_path: Path) -> None:
    other = measured_deployment()
    del other[1]["status"]["performance"]["baseline"]["percent"]
    shown = run("status", "chat", "-n", "team-a", "--cluster", snapshot(tmp_path, node("gpu-1"), other)).out
    assert "Baseline:            900 tok/s per replica; the load is another now\n" in shown


def test_status_of_one_deployment(run: Terminal, fleet: Path) -> None:
    assert run("status", "chat", "-n", "team-a", "--cluster", fleet).out == ONE
    seen = run("status", "chat", "-n", "team-a", "--cluster", fleet, "-o", "json").json["performance"]
    assert (seen["tokensPerSecond"], seen["percentOfExpected"], seen["onTargetReason"]) == (1640, 82, "BelowTarget")  # fmt: skip
    other = run("status", "chat", "--cluster", fleet)
    assert (other.code, "does not exist in namespace 'default'" in other.err) == (4, True)
    assert run("status", "chat", "-A", "--cluster", fleet).code == 2


@pytest.mark.parametrize("odd", ["x", 7, [], {"expected": "x", "baseline": 3, "timeToFirstTokenMilliseconds": []}])  # fmt: skip
def test_an_odd_status_is_shown_as_unknown(run: Terminal, tmp_path: Path, odd: object) -> None:
    kind, obj = measured_deployment()
    obj["status"]["performance"] = odd
    path = snapshot(tmp_path, node("gpu-1"), (kind, obj))
    for words in (("status",), ("status", "chat", "-n", "team-a")):
        assert run(*words, "--cluster", path).code == 0

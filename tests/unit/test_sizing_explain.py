"""The numbers at every step add up to the verdict."""

from __future__ import annotations

import pytest

from aim_engine.api.enums import Backend, Precision
from aim_engine.catalog.gpus import GPU, gpu_catalog, partition_vram_bytes
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint, model_facts
from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import engine
from aim_engine.sizing import Step, concurrency, explain, fit, remedies, told

Case = tuple[ModelFacts | None, Checkpoint, GPU, str | None, Precision, EnginePlan]
CASES: list[tuple[str, str, str | None, int, dict[str, object]]] = [
    ("Qwen/Qwen3-32B", "MI300X", None, 2, {}),
    ("deepseek-ai/DeepSeek-R1", "MI300X", None, 8, {"kv-cache-dtype": "fp8", "enable-expert-parallel": True}),
    ("openai/gpt-oss-120b", "MI355X", None, 1, {"max-model-len": 65536, "enforce-eager": True}),
    ("meta-llama/Llama-3.1-405B-Instruct", "MI300X", None, 4, {}),
    ("meta-llama/Llama-3.1-8B-Instruct", "MI300X", "cpx_nps4", 1, {"max-num-batched-tokens": 2048}),
    ("Qwen/Qwen3-235B-A22B-FP8", "MI325X", None, 8,
     {"pipeline-parallel-size": 2, "data-parallel-size": 2, "enable-expert-parallel": True}),
]  # fmt: skip
each_case = pytest.mark.parametrize(("source", "gpu", "partition", "count", "args"), CASES)


def asked(source: str, gpu: str, partition: str | None, count: int, args: dict[str, object]) -> Case:
    stored, device = checkpoint(source), gpu_catalog()[gpu]
    assert stored is not None
    plan = engine(Backend.VLLM).plan(args, count, device, partition)
    return model_facts(stored.model), stored, device, partition, stored.precision, plan


def numbers(steps: tuple[Step, ...]) -> dict[str, float]:
    return {step.name: step.value for step in steps if not isinstance(step.value, str)}


@each_case
def test_each_number_follows_from_those_before(
    source: str, gpu: str, partition: str | None, count: int, args: dict[str, object]
) -> None:
    case = asked(source, gpu, partition, count, args)
    told = numbers(explain(*case, context=8192))
    assert told["GPU memory"] == partition_vram_bytes(gpu_catalog()[gpu], partition)
    assert told["overhead"] == told["context"] + told["graphs"] + told["activations"] + told["logits"]
    assert told["KV cache"] == told["usable memory"] - told["weights per GPU"] - told["overhead"]
    assert told["longest context"] == min(told["KV tokens that fit"], told["context limit"])
    layers = told["layers that keep every token"] + told.get("layers that keep a window", 0)
    assert told["KV bytes per token"] == pytest.approx(told["KV bytes per token and layer"] * layers, abs=1)
    fitting = max(0, told["KV cache"] // told["KV cache of one sequence"])
    assert told["concurrency"] == case[-1].data_parallel * min(case[-1].max_num_seqs, fitting)


@each_case
def test_the_verdict_is_the_one_of_fit(
    source: str, gpu: str, partition: str | None, count: int, args: dict[str, object]
) -> None:
    case = asked(source, gpu, partition, count, args)
    steps = {step.name: step for step in explain(*case, context=8192)}
    answer = fit(*case, required_context=8192)
    assert (steps["verdict"].value, steps["verdict"].how) == (answer.verdict, answer.message)
    helping = told(remedies(*case, required_context=8192))
    assert (steps["remedy"].value if "remedy" in steps else None) == helping


def test_where_nothing_helps_that_is_the_remedy() -> None:
    steps = explain(*asked("meta-llama/Llama-3.1-405B-Instruct", "MI210", None, 8, {}))
    remedy = next(step for step in steps if step.name == "remedy")
    assert remedy.value == "none"
    assert remedy.how == "no context, GPU count or known format of the weights makes it fit MI210 of one node"


@each_case
def test_every_step_says_how(
    source: str, gpu: str, partition: str | None, count: int, args: dict[str, object]
) -> None:
    steps = explain(*asked(source, gpu, partition, count, args))
    assert all(step.how for step in steps)
    names = [step.name for step in steps]
    assert len(names) == len(set(names))


def test_without_facts_only_the_verdict_is_told() -> None:
    *_, device, _, _, plan = asked(*CASES[0])
    (verdict,) = explain(None, None, device, None, Precision.BF16, plan)
    assert verdict.value == "Unknown"


def test_concurrency_falls_with_the_context_and_stops_at_max_num_seqs() -> None:
    model, stored, device, partition, precision, plan = asked(
        "meta-llama/Llama-3.3-70B-Instruct", "MI300X", None, 8, {"max-num-seqs": 64}
    )
    assert model is not None
    counts = [
        concurrency(model, stored, device, partition, precision, plan, context)
        for context in (1024, 8192, 65536, 131072, 10**8)
    ]
    assert counts[0] == 64
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def test_nothing_runs_in_a_partition_the_gpu_lacks() -> None:
    model, stored, device, _, precision, plan = asked(*CASES[0])
    assert model is not None
    assert concurrency(model, stored, device, "none_such", precision, plan, 1024) == 0
    verdict, remedy = explain(model, stored, device, "none_such", precision, plan)
    assert (verdict.value, remedy.value) == ("DoesNotFit", "use whole GPUs")
    assert verdict.how == "MI300X has no partition mode none_such; it has spx, dpx, qpx, cpx"

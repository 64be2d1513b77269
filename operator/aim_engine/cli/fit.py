"""`aim-engine fit`: does a model fit GPUs, and how was that computed?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from aim_engine.api.enums import Backend, Precision
from aim_engine.catalog.gpus import GPU, gpu_catalog
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint, checkpoint_catalog
from aim_engine.cli.output import Exit, add_output, columns, emit, invalid
from aim_engine.engines import engine
from aim_engine.reconcile.config import HubConfig
from aim_engine.selection import CatalogueFacts, Facts
from aim_engine.sizing import FitVerdict, Step, explain, fit, smallest_gpu_count

EXAMPLES = """\
examples:
  aim-engine fit --model Qwen/Qwen3-32B
  aim-engine fit --model Qwen/Qwen3-32B --gpu MI300X --count 2 --precision fp8 --context 32768
  aim-engine fit --model meta-llama/Llama-3.1-405B-Instruct --gpu MI355X --count 8 -o json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument(
        "--model", required=True, metavar="ID", help="model or checkpoint, for example Qwen/Qwen3-32B"
    )
    parser.add_argument(
        "--gpu", metavar="MODEL", help="GPU model; without it, the fewest GPUs of every model are shown"
    )
    parser.add_argument("--count", type=int, metavar="N", help="GPUs (default: the fewest that hold it)")
    parser.add_argument("--precision", metavar="P", help="format of the weights (default: the checkpoint's)")
    parser.add_argument(
        "--context", type=int, metavar="N", help="longest prompt and answer together, in tokens"
    )
    parser.add_argument(
        "--partition", metavar="MODE", help="partition mode of the GPUs, for example cpx_nps4"
    )
    parser.add_argument(
        "--flag",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a flag of vLLM, for example kv-cache-dtype=fp8",
    )
    parser.add_argument(
        "--hub", action="store_true", help="ask the Hub about a model that the catalogue does not know"
    )
    add_output(parser, wide=False)


def run(arguments: argparse.Namespace) -> int:
    """Fit; 0 when it fits or nobody knows, 3 when it does not."""
    facts: Facts = CatalogueFacts()
    if arguments.hub:
        from aim_engine.cli.hub_facts import ask_hub

        facts = ask_hub([arguments.model], HubConfig())
    model = facts.model(arguments.model)
    stored = _checkpoint(arguments.model, arguments.precision) or facts.checkpoint(arguments.model)
    if model is None:
        raise invalid(_unknown(arguments.model))
    if (arguments.count or 1) < 1 or (arguments.context or 1) < 1:
        raise invalid("--count and --context must be at least 1")
    precision = _precision(arguments.precision, stored, model)
    if arguments.gpu is None:
        rows = [_row(model, stored, gpu, precision, arguments) for gpu in gpu_catalog().values()]
        emit(arguments.output, rows, lambda _: _overview(rows))
        return Exit.OK if any(row["gpuCount"] for row in rows) else Exit.NO_RECIPE
    gpu = _gpu(arguments.gpu)
    count = arguments.count or _smallest(model, stored, gpu, precision, arguments) or gpu.gpus_per_node
    plan = engine(Backend.VLLM).plan(_flags(arguments), count, gpu, arguments.partition)
    steps = explain(model, stored, gpu, arguments.partition, precision, plan, context=arguments.context)
    answer = fit(model, stored, gpu, arguments.partition, precision, plan, required_context=arguments.context)
    document = {
        "model": model.id,
        "checkpoint": stored.id if stored else None,
        "gpuModel": gpu.model,
        "gpuCount": count,
        "precision": precision.value,
        "verdict": answer.verdict.value,
        "message": answer.message,
        "remedy": answer.remedy,
        "steps": [{"name": s.name, "value": s.value, "unit": s.unit, "how": s.how} for s in steps],
    }
    emit(arguments.output, document, lambda _: _table(document, steps))
    return Exit.NO_RECIPE if answer.verdict is FitVerdict.DOES_NOT_FIT else Exit.OK


def _table(document: dict[str, Any], steps: tuple[Step, ...]) -> str:
    head = (
        f"{document['model']} in {document['precision']} on {document['gpuCount']}x{document['gpuModel']}\n\n"
    )
    return head + columns(("STEP", "VALUE", "HOW"), ((s.name, _value(s), s.how) for s in steps))


def _value(step: Step) -> str:
    if step.unit == "bytes" and isinstance(step.value, int | float):
        return f"{step.value / 2**30:.2f} GiB" if step.value >= 2**24 else f"{step.value:,.0f} bytes"
    shown = f"{step.value:,.6g}" if isinstance(step.value, float) else str(step.value)
    return f"{shown} {step.unit}".strip()


def _row(
    model: ModelFacts,
    stored: Checkpoint | None,
    gpu: GPU,
    precision: Precision,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    count = _smallest(model, stored, gpu, precision, arguments)
    plan = engine(Backend.VLLM).plan(_flags(arguments), count or gpu.gpus_per_node, gpu, None)
    answer = fit(model, stored, gpu, None, precision, plan, required_context=arguments.context)
    return {"gpuModel": gpu.model, "gpuCount": count, "precision": precision.value, "message": answer.message}


def _overview(rows: list[dict[str, Any]]) -> str:
    return columns(
        ("GPU", "FEWEST", "PRECISION", "MESSAGE"),
        ((r["gpuModel"], str(r["gpuCount"] or "-"), r["precision"], r["message"]) for r in rows),
    )


def _smallest(
    model: ModelFacts,
    stored: Checkpoint | None,
    gpu: GPU,
    precision: Precision,
    arguments: argparse.Namespace,
) -> int | None:
    for count in _powers(gpu.gpus_per_node):
        plan = engine(Backend.VLLM).plan(_flags(arguments), count, gpu, arguments.partition)
        if smallest_gpu_count(model, stored, gpu, arguments.partition, precision, plan) is None:
            return None
        answer = fit(
            model, stored, gpu, arguments.partition, precision, plan, required_context=arguments.context
        )
        if answer.verdict is FitVerdict.FITS:
            return count
    return None


def _powers(most: int) -> Iterator[int]:
    count = 1
    while count <= most:
        yield count
        count *= 2


def _flags(arguments: argparse.Namespace) -> dict[str, object]:
    from aim_engine.importers.tokens import from_tokens

    flags = from_tokens([f"--{flag.lstrip('-')}" for flag in arguments.flag])
    if not isinstance(flags, dict):
        raise invalid(f"--flag: {flags}")
    return flags


def _checkpoint(name: str, precision: str | None) -> Checkpoint | None:
    """The named checkpoint; a known one of the model in the precision asked for, where the model is named."""
    own = checkpoint(name)
    if own is None or precision in (None, str(own.precision)):
        return own
    others = (each for each in checkpoint_catalog().values() if each.model == own.model)
    return next((each for each in others if str(each.precision) == precision), own)


def _precision(asked: str | None, stored: Checkpoint | None, model: ModelFacts) -> Precision:
    if asked is None:
        return stored.precision if stored else model.native_precision
    try:
        return Precision(asked)
    except ValueError:
        raise invalid(f"--precision '{asked}' is not one of {', '.join(Precision)}") from None


def _gpu(name: str) -> GPU:
    known = {gpu.model.lower(): gpu for gpu in gpu_catalog().values()}
    gpu = known.get(name.lower())
    if gpu is None:
        raise invalid(f"--gpu '{name}' is not one of {', '.join(gpu_catalog())}")
    return gpu


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    by_case = {known.lower(): known for known in checkpoint_catalog()}
    near = get_close_matches(name.lower(), by_case, n=1, cutoff=0.7)
    hint = (
        f"did you mean {by_case[near[0]]}?"
        if near
        else "ask the Hub with --hub, or see `aim-engine recipes list`"
    )
    return f"--model '{name}': its dimensions are not known; {hint}"

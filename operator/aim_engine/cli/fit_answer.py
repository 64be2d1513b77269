"""The answer of `aim-engine fit`: whether a model fits GPUs, with every number on the way."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aim_engine.api.enums import Backend, Precision
from aim_engine.api.meta import ModelID
from aim_engine.catalog.assumptions import division_sizes
from aim_engine.catalog.flags import flag_table
from aim_engine.catalog.gpus import (
    GPU,
    devices,
    gpu_catalog,
    most_devices,
    partition_divisor,
    partition_vram_bytes,
)
from aim_engine.catalog.models import Checkpoint, ModelFacts, checkpoint_catalog
from aim_engine.catalog.plan import EnginePlan
from aim_engine.cli.output import CommandError, Exit, columns, emit, invalid
from aim_engine.cli.words import known_gpu, known_partition, known_precision
from aim_engine.engines import Problem, Trust, engine
from aim_engine.reconcile.config import HubConfig
from aim_engine.selection import CatalogueFacts, Facts
from aim_engine.sizing import Fit, FitVerdict, Step, explain, fit, remedies, weight_format

_ENGINE = engine(Backend.VLLM)
_SIXTEEN_BIT = frozenset({Precision.BF16, Precision.FP16})


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked, whatever the GPU."""

    name: str
    model: ModelFacts | None
    stored: Checkpoint | None
    precision: Precision
    shown: str | None
    """The precision, where it was asked for or is known."""
    flags: dict[str, object]
    partition: str | None
    context: int | None
    note: str | None
    """What is to be known about the weights that were sized."""
    unknown: str | None
    """What helps, where the model is not known."""

    def plan(self, gpu: GPU, count: int) -> EnginePlan:
        return _ENGINE.plan(self.flags, count, gpu, self.partition)

    def fit(self, gpu: GPU, count: int) -> Fit:
        return fit(
            self.model, self.stored, gpu, self.partition, self.precision, self.plan(gpu, count),
            required_context=self.context,
        )  # fmt: skip

    def remedies(self, gpu: GPU, count: int) -> tuple[dict[str, Any], ...]:
        found = remedies(
            self.model, self.stored, gpu, self.partition, self.precision, self.plan(gpu, count),
            required_context=self.context,
        )  # fmt: skip
        return tuple(
            {
                "text": each.text,
                "checkpoint": each.checkpoint.id if each.checkpoint else None,
                "gpuCount": each.gpus,
                "partition": each.partition,
                "precision": each.precision.value,
                "context": each.required_context,
            }
            for each in found
        )


def answer(arguments: argparse.Namespace) -> int:
    """Print it; 0 when it fits or nobody knows, 3 when it does not."""
    if arguments.count is not None and arguments.gpu is None:
        raise CommandError(f"--count {arguments.count} is of one GPU model: name it with --gpu", Exit.USAGE)
    gpu = None if arguments.gpu is None else known_gpu(arguments.gpu)
    question = _question(arguments)
    if gpu is None:
        return _overview(question, arguments.output)
    return _detail(question, gpu, arguments.count, arguments.output)


def _question(arguments: argparse.Namespace) -> _Question:
    name, flags = arguments.model, _flags(arguments.flag)
    _refuse_name(name)
    asked = known_precision(arguments.precision)
    facts: Facts = CatalogueFacts()
    if arguments.hub:
        from aim_engine.cli.hub_facts import ask_hub

        facts = ask_hub([name], HubConfig())
    model = facts.model(name)
    stored, precision, note = _weights(model, facts.checkpoint(name), asked, flags)
    return _Question(
        name=name,
        model=model,
        stored=stored,
        precision=precision,
        shown=None if model is None and asked is None else precision.value,
        flags=flags,
        partition=known_partition(arguments.partition),
        context=arguments.context,
        note=note,
        unknown=_unknown(name, asked_hub=arguments.hub) if model is None else None,
    )


def _refuse_name(name: str) -> None:
    try:
        TypeAdapter(ModelID).validate_python(name)
    except ValidationError:
        message = f"--model '{name[:200]}' is no id of a model; write it as on the Hub: ORGANISATION/NAME"
        raise invalid(message) from None


def _weights(
    model: ModelFacts | None, own: Checkpoint | None, asked: Precision | None, flags: dict[str, object]
) -> tuple[Checkpoint | None, Precision, str | None]:
    """What would be loaded: (checkpoint, precision, note). Without a checkpoint its size is parameters x width."""
    if model is None:
        return None, asked or Precision.BF16, None
    plan = _ENGINE.plan(flags, 1, next(iter(gpu_catalog().values())))
    if own is None:
        return None, asked or model.native_precision, None
    loaded = weight_format(own, own.precision, plan)
    if asked in (None, loaded):
        return own, loaded, None
    if {asked, loaded} <= _SIXTEEN_BIT:
        return own, Precision(asked or loaded), f"{own.id} is {loaded} and converted while it is loaded"
    known = (each for each in checkpoint_catalog().values() if each.model == own.model)
    other = next((each for each in known if each.precision is asked), None)
    if other is not None:
        return other, other.precision, None
    note = f"no checkpoint of {own.model} in {asked} is known: its size is taken as parameters x width"
    table = flag_table(Backend.VLLM, _ENGINE.DEFAULT_VERSION)
    if own.precision in _SIXTEEN_BIT and table is not None and asked in table.online_quantization:
        note += f"; --flag quantization={asked} makes it while loading {own.id}"
    return None, Precision(asked or loaded), note


def _detail(question: _Question, gpu: GPU, asked: int | None, form: str) -> int:
    count = asked or _fewest(question, gpu) or _usual(gpu, question.partition)
    memory = partition_vram_bytes(gpu, question.partition)
    _refuse_flags(_ENGINE.check_combination(question.flags, memory))
    _refuse_flags(_ENGINE.check_parallelism(question.flags, count))
    fits, plan = question.fit(gpu, count), question.plan(gpu, count)
    found = question.remedies(gpu, count)
    steps = explain(
        question.model, question.stored, gpu, question.partition, question.precision, plan, context=question.context
    )  # fmt: skip
    unknown = question.unknown if fits.verdict is FitVerdict.UNKNOWN else None
    document = {
        "model": question.model.id if question.model else question.name,
        "checkpoint": question.stored.id if question.stored else None,
        **_judged(question, gpu, count, fits),
        "remedy": ", or ".join(each["text"] for each in found) or unknown,
        "remedies": list(found),
        "note": question.note,
        "steps": [{"name": s.name, "value": s.value, "unit": s.unit, "how": s.how} for s in steps],
    }
    emit(form, document, lambda _: _table(document, steps, unknown))
    return Exit.NO_RECIPE if fits.verdict is FitVerdict.DOES_NOT_FIT else Exit.OK


def _table(document: dict[str, Any], steps: Iterable[Step], unknown: str | None) -> str:
    form = f" in {document['precision']}" if document["precision"] else ""
    head = (
        f"{document['model']}{form} on {devices(document['gpuCount'], document['gpuModel'], document['partition'])}\n"
        f"{document['note'] or ''}\n"
    )
    rows = [(s.name, _value(s), s.how) for s in steps]
    if unknown is not None:
        rows.append(("remedy", unknown, ""))
    return head + columns(("STEP", "VALUE", "HOW"), rows)


def _value(step: Step) -> str:
    value, unit = step.value, step.unit
    if not isinstance(value, int | float):
        return str(value)
    if unit == "bytes" and abs(value) >= 2**24:
        return f"{value / 2**30:.2f} GiB"
    if unit == "bytes":
        return f"{value:,.0f} bytes" if abs(value) >= 16 else f"{value:.4g} bytes"
    shown = f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
    return f"{shown} {unit.removesuffix('s') if value == 1 else unit}".strip()


def _overview(question: _Question, form: str) -> int:
    rows = [_row(question, gpu) for gpu in gpu_catalog().values()]

    def table(_: bool) -> str:
        head = f"{question.note}\n\n" if question.note else ""
        shown = (
            (r["gpuModel"], str(r["gpuCount"] or "-"), r["precision"] or "-", r["message"]) for r in rows
        )
        tail = f"\n{question.unknown}\n" if question.unknown else ""
        return head + columns(("GPU", "FEWEST", "PRECISION", "MESSAGE"), shown) + tail

    emit(form, rows, table)
    refused = all(row["verdict"] == FitVerdict.DOES_NOT_FIT.value for row in rows)
    return Exit.NO_RECIPE if refused else Exit.OK


def _row(question: _Question, gpu: GPU) -> dict[str, Any]:
    count = _fewest(question, gpu)
    fits = question.fit(gpu, count or _usual(gpu, question.partition))
    return {**_judged(question, gpu, count, fits), "note": question.note, "remedy": question.unknown}


def _judged(question: _Question, gpu: GPU, count: int | None, fits: Fit) -> dict[str, Any]:
    """What both forms of the document say of one GPU model."""
    return {
        "gpuModel": gpu.model,
        "gpuCount": count,
        "partition": question.partition,
        "precision": question.shown,
        "verdict": fits.verdict.value,
        "message": fits.message,
    }


def _fewest(question: _Question, gpu: GPU) -> int | None:
    """The fewest GPUs of one node that the flags divide and that hold the model; None when it is not known, or none do."""
    if question.model is None:
        return None
    most = most_devices(gpu, question.partition)
    counts = (
        size
        for size in division_sizes()
        if size <= most and not _ENGINE.check_parallelism(question.flags, size)
    )
    return next((size for size in counts if question.fit(gpu, size).verdict is FitVerdict.FITS), None)


def _usual(gpu: GPU, partition: str | None) -> int:
    """GPUs of a usual node."""
    return gpu.gpus_per_node * (partition_divisor(gpu, partition) or 1)


def _flags(written: list[str]) -> dict[str, object]:
    from aim_engine.importers.tokens import from_tokens

    flags = from_tokens([f"--{flag.lstrip('-')}" for flag in written])
    if not isinstance(flags, dict):
        raise invalid(f"--flag: {flags}")
    _refuse_flags(_ENGINE.check_args(flags, _ENGINE.DEFAULT_VERSION, trust=Trust.ADMIN))
    _refuse_flags(_ENGINE.check_combination(flags))
    return flags


def _refuse_flags(problems: Iterable[Problem]) -> None:
    for problem in problems:
        name = problem.field.removeprefix("engineArgs.")
        remedy = problem.remedy.replace("hardware.gpuCount", "--count")
        raise invalid(f"--flag {name} '{problem.value}': {problem.message}; {remedy}")


def _unknown(name: str, *, asked_hub: bool) -> str:
    from difflib import get_close_matches

    by_case = {known.lower(): known for known in checkpoint_catalog()}
    near = get_close_matches(name.lower(), by_case, n=1, cutoff=0.7)
    hint = f"did you mean {by_case[near[0]]}? " if near else ""
    further = (
        "the Hub does not tell either; correct the id, or take the GPUs that its authors name"
        if asked_hub
        else "ask the Hub with --hub"
    )
    return f"--model '{name}': its dimensions are not known; {hint}{'else ' if hint else ''}{further}"

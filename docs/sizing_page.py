"""docs/reference/sizing.md: the memory and speed models in words, and their errors against what others published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from aim_engine.catalog.assumptions import division_rules, memory_assumptions, speed_calibration
from aim_engine.catalog.comparisons import (
    capacity_source,
    columns_source,
    known_verdicts,
    published_capacity,
    published_columns,
    published_sizes,
    published_speeds,
    speed_classes,
    unused_figures,
)
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.catalog.measurements import not_attached
from aim_engine.sizing.comparison import (
    Agreement,
    agreement,
    answer,
    computed_columns,
    computed_gib,
    deviation,
    estimated_rate,
)
from aim_engine.sizing.fit import FitVerdict

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]

MODEL = """\
# Sizing

Does a model fit, and how fast may it be? `aim-engine fit --model M --gpu G --count N` prints every number of the way for one case. All constants are
data (`catalog/sizing.yaml`, `calibration.yaml`, `parallelism.yaml`) with their sources.

## Memory of one GPU

    usable    = memory x gpu-memory-utilization
    KV cache  = usable - weights - overhead

**Weights**: the size of the files where it was published (safetensors index), else parameters x width of the format with its scales; embeddings stay in 16
bit. Tensor parallelism divides everything but copied projections of KV heads or of MLA's latent; pipeline parallelism by layers, the largest stage
counts; expert parallelism gives the busiest GPU its rounded-up share of experts; data parallelism copies all but the experts.

**Overhead**: {context:.0f} GiB of HIP context and RCCL buffers, {graphs:.0f} GiB of captured graphs (none with `enforce-eager`), activations of `max-num-batched-tokens` (of the longest prompt, without chunked prefill)
by the widest layer (experts, dense MLP, or MLA's workspace), logits of `max-num-seqs` x vocabulary x 4 bytes. Context and graphs are assumptions.

**KV cache per token and layer**: 2 x max(1, KV heads / TP) x head dimension x bytes of `kv-cache-dtype`; MLA: latent rank + rotary dimension, whole on every
GPU, and the index of sparse attention. Sliding-window layers keep their window and one batch; linear-attention layers keep no tokens but a state per
sequence. vLLM divides such a cache into blocks, each of which holds a state of a group of layers or the tokens that fill as much (its `block size`), and starts only
with a block for each of `max-num-seqs` sequences, unless it captures no graphs of whole steps. A configuration that we make for a model without a recipe has as many
devices as the sequences asked for need, or fewer sequences. What drafted tokens add to states, and states in another format than the configuration names, are not sized.

**Answers**: weights per GPU, KV bytes per token, tokens that fit, the longest context for one sequence, sequences at a given context, the fewest GPUs.
Where facts are missing the answer is *unknown*, never a no.

**Remedies**: for a no the nearest changes that make it a yes, each of which was tried by the same rules before it is told: a shorter context (or a longer
one, for longer requests), an FP8 KV cache where the GPU computes FP8, expert parallelism, the usual memory utilisation, smaller batches, fewer sequences at a time, another number of GPUs of
one node, another known checkpoint of the model or FP8 made while loading. Where no single change is enough, the fewest that are enough together, with and
without a shorter context. Where nothing helps, that is said.

The weights are those of the checkpoint that is loaded, of its own model and in its own format. A recipe whose `precision` is another one than its
checkpoint's is refused, except that 16-bit formats convert into each other and `quantization` may turn 16-bit weights into others.

## How a model may be divided

{rules}
## Formats by GPU

{formats}
## Speed

A decode step takes layers x {overhead:g} ms, plus bytes read / (bandwidth x {bandwidth:g}), plus operations / (peak x {compute:g}), plus hidden states
exchanged at {link:.0f} GB/s. Bytes read are the weights that a batch touches (all of a dense model, the routed experts of others) and the KV cache. Throughput
is told for {concurrency} requests of {tokens} tokens. An estimate orders recipes; it is never shown as a measurement.

"""


AGAINST_OTHERS = """\
## Against what others know

All published figures that the project knows and that can be held against a number of ours, flattering or not; those that cannot stand below with the
reason.

Sizes of weight files:

{sizes}
Weights and KV cache per token from dimensions alone ({columns_source}). Its FP8 column halves all parameters; ours keeps embeddings in 16 bit and adds
scales, which is the difference of small models with large vocabularies. Of DeepSeek-R1 it counts the files, which hold a multi-token-prediction layer that
is not loaded; Llama-4 and Gemma-3 differ by their vision encoder:

{columns}
KV tokens that fit over 1, 2, 4 and 8 GPUs of MI300X, MI325X and MI355X: {cells} cells ({capacity_source}), computed there with a flat reserve of
{reserve:.0f} GiB per GPU. *Same assumptions* computes ours with that reserve, *own overhead* with the overhead above. Both agree on whether the weights fit in
{flat_verdicts} and {own_verdicts} cells, and within a tenth on the tokens in {flat_within} and {own_within}. The large ratios are where little is left:

{capacity}
Configurations that are known to run, or not to:

{verdicts}
## Speed against what others measured

Error of the estimate by class of model and load; 0 % is exact, and the mean counts both directions. The constants are one set, fitted on the classes that
say so. **Expect a quarter of error for dense FP8 models on 8 GPUs, and any factor elsewhere: there an estimate orders recipes of one model and no more.**

{classes}
Each point, in generated tokens per second of the whole server:

{speeds}
## Published figures that are not compared

{unused}
## Published figures that no recipe carries

A recipe carries a number only if its checkpoint, GPU and number of GPUs are those of the measurement.

{unattached}"""


def page(table: Table) -> str:
    """The whole page without its note."""
    assumed, speed = memory_assumptions(), speed_calibration()
    head = MODEL.format(
        context=assumed.context_bytes / 2**30, graphs=assumed.graph_bytes / 2**30, bandwidth=speed.bandwidth_efficiency, overhead=speed.overhead_ms_per_layer,
        compute=speed.compute_efficiency, link=speed.link_bytes_per_s / 1e9, concurrency=speed.concurrency, tokens=speed.context_tokens,
        rules=table(("Rule", "Source"), ((each.text, each.source) for each in division_rules())),
        formats=table(("GPU", "Computes", "Serves by dequantising", "No KV cache in", "GPUs of a node"), _formats()),
    )  # fmt: skip
    return head + AGAINST_OTHERS.format(**_memory(table), **_speed(table))


def _memory(table: Table) -> dict[str, object]:
    flat = [agreement(row, own_overhead=False) for row in published_capacity()]
    own = [agreement(row, own_overhead=True) for row in published_capacity()]
    return {
        "sizes": table(("Checkpoint", "Published", "Ours", "Error", "Source"), _sizes()),
        "columns": table(
            ("Model", "bf16, GiB", "Ours", "Error", "FP8, GiB", "Ours", "Error", "KV, KiB", "Ours", "Error"),
            _columns(),
        ),
        "columns_source": columns_source(),
        "capacity": table(
            ("Checkpoint", "KV cache", "Cells", "Within a tenth, same assumptions", "Own overhead", "Largest difference"),
            _capacity(flat, own),
        ),
        "capacity_source": capacity_source(),
        "reserve": published_capacity()[0].reserve_bytes / 2**30,
        "cells": sum(each.cells for each in own),
        "flat_verdicts": sum(each.verdicts for each in flat),
        "own_verdicts": sum(each.verdicts for each in own),
        "flat_within": sum(each.within for each in flat),
        "own_within": sum(each.within for each in own),
        "verdicts": table(("Checkpoint", "GPUs", "Known", "Ours", "Message", "Source"), _verdicts()),
    }  # fmt: skip


def _speed(table: Table) -> dict[str, object]:
    figures = ("Figure", "Source", "Why")
    return {
        "classes": table(("Class", "Fitted on", "Points", "Mean error", "From", "To", "Note"), _classes()),
        "speeds": table(
            ("Checkpoint", "GPUs", "Requests", "In / out", "Published", "Estimate", "Error", "Source"),
            _speeds(),
        ),
        "unused": table(figures, ((each.figure, each.source, each.why) for each in unused_figures())),
        "unattached": table(figures, ((each.figure, each.source, each.why) for each in not_attached())),
    }


def _formats() -> Iterable[Sequence[str]]:
    for gpu in gpu_catalog().values():
        emulated = gpu.runnable_precisions - gpu.hardware_precisions
        yield (
            f"{gpu.model} ({gpu.architecture})",
            ", ".join(sorted(gpu.hardware_precisions)),
            ", ".join(sorted(emulated)) or "-",
            ", ".join(sorted(gpu.refused_kv_cache_precisions)) or "-",
            f"{gpu.gpus_per_node}"
            + (f", at most {gpu.most_gpus_per_node}" if gpu.most_gpus_per_node > gpu.gpus_per_node else ""),
        )


def _sizes() -> Iterable[Sequence[str]]:
    for row in published_sizes():
        ours = computed_gib(row)
        yield (
            f"`{row.checkpoint}`",
            f"{row.gib:.1f} GiB",
            f"{ours:.1f} GiB",
            _error(ours / row.gib),
            row.source,
        )


def _verdicts() -> Iterable[Sequence[str]]:
    for row in known_verdicts():
        ours = answer(row)
        fits = "fits" if ours.verdict is FitVerdict.FITS else "does not fit"
        known = "runs" if row.fits else "does not run"
        yield f"`{row.checkpoint}`", f"{row.count}x{row.gpu}", known, fits, ours.message, row.source


def _columns() -> Iterable[Sequence[str]]:
    for row in published_columns():
        told = (row.bf16, row.fp8, row.kv_kib)
        pairs = zip(told, computed_columns(row), strict=True)
        yield f"`{row.model}`", *(cell for published, ours in pairs for cell in _compared(published, ours))


def _compared(published: float | None, ours: float) -> tuple[str, str, str]:
    if published is None:
        return "-", "-", "-"
    return f"{published:g}", f"{ours:.1f}", _error(ours / published)


def _capacity(flat: Sequence[Agreement], own: Sequence[Agreement]) -> Iterable[Sequence[str]]:
    for row, same, ours in zip(published_capacity(), flat, own, strict=True):
        gpu, count, told, found = ours.largest
        yield (
            f"`{row.checkpoint}`", str(row.kv_cache), str(ours.cells), str(same.within), str(ours.within),
            f"{count}x{gpu}: {told}k, ours {found}k ({_error(found / told)})",
        )  # fmt: skip


def _classes() -> Iterable[Sequence[str]]:
    for each in speed_classes():
        found = deviation(each.name)
        yield (
            each.name, "yes" if each.fitted else "no", str(found.points), f"{100 * (found.mean - 1):.0f} %",
            _error(found.lowest), _error(found.highest), each.note or "-",
        )  # fmt: skip


def _speeds() -> Iterable[Sequence[str]]:
    for row in published_speeds():
        ours = estimated_rate(row)
        yield (
            f"`{row.checkpoint}`", f"{row.count}x{row.gpu}", str(row.concurrency), f"{row.input_tokens} / {row.output_tokens}",
            f"{row.tokens_per_second:.0f}", f"{ours:.0f}", _error(ours / row.tokens_per_second), row.source,
        )  # fmt: skip


def _error(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %" if abs(ratio - 1) < 0.1 else f"{100 * (ratio - 1):+.0f} %"

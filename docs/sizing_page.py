"""docs/reference/sizing.md: the memory and speed models in words, and their errors against what others published."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from aim_engine.catalog.assumptions import division_rules, memory_assumptions, speed_calibration
from aim_engine.catalog.comparisons import known_verdicts, published_sizes, published_speeds
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.sizing.comparison import answer, computed_gib, estimated_rate
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

**Overhead**: {context:.0f} GiB of HIP context and RCCL buffers, {graphs:.0f} GiB of captured graphs (none with `enforce-eager`), activations of `max-num-batched-tokens`
by the widest layer (experts, dense MLP, or MLA's workspace), logits of `max-num-seqs` x vocabulary x 4 bytes. Context and graphs are assumptions.

**KV cache per token and layer**: 2 x max(1, KV heads / TP) x head dimension x bytes of `kv-cache-dtype`; MLA: latent rank + rotary dimension, whole on every
GPU, and the index of sparse attention. Sliding-window layers keep their window and one batch; linear-attention layers keep no tokens but a state per
sequence.

**Answers**: weights per GPU, KV bytes per token, tokens that fit, the longest context for one sequence, sequences at a given context, the fewest GPUs,
and for a no the nearest change that makes it a yes: a shorter context, an FP8 KV cache, more GPUs, another precision. Where facts are missing the
answer is *unknown*, never a no.

## How a model may be divided

{rules}
## Formats by GPU

{formats}
## Speed

A decode step takes layers x launch and communication time, plus bytes read / (bandwidth x {bandwidth:g}), plus operations / (peak x {compute:g}), plus hidden states
exchanged at {link:.0f} GB/s. Bytes read are the weights that a batch touches (all of a dense model, the routed experts of others) and the KV cache. Throughput
is told for {concurrency} requests of {tokens} tokens. An estimate orders recipes; it is never shown as a measurement.

"""


def page(table: Table) -> str:
    """The whole page without its note."""
    assumed, speed = memory_assumptions(), speed_calibration()
    head = MODEL.format(
        context=assumed.context_bytes / 2**30, graphs=assumed.graph_bytes / 2**30, bandwidth=speed.bandwidth_efficiency,
        compute=speed.compute_efficiency, link=speed.link_bytes_per_s / 1e9, concurrency=speed.concurrency, tokens=speed.context_tokens,
        rules=table(("Rule", "Source"), ((each.text, each.source) for each in division_rules())),
        formats=table(("GPU", "Computes", "Serves by dequantising"), _formats()),
    )  # fmt: skip
    return (
        f"{head}## Against what others know\n\nSizes of weight files:\n\n"
        f"{table(('Checkpoint', 'Published', 'Ours', 'Error', 'Source'), _sizes())}"
        "\nConfigurations that are known to run, or not to:\n\n"
        f"{table(('Checkpoint', 'GPUs', 'Known', 'Ours', 'Message', 'Source'), _verdicts())}"
        "\nSpeed by class of model and load (error of the estimate; 0 % is exact):\n\n"
        f"{table(('Class', 'Points', 'Mean error', 'Largest'), _classes())}"
        "\nEach point, in generated tokens per second of the whole server:\n\n"
        f"{table(('Checkpoint', 'GPUs', 'Requests', 'In / out', 'Published', 'Estimate', 'Error', 'Source'), _speeds())}"
    )


def _formats() -> Iterable[Sequence[str]]:
    for gpu in gpu_catalog().values():
        emulated = gpu.runnable_precisions - gpu.hardware_precisions
        yield (
            f"{gpu.model} ({gpu.architecture})",
            ", ".join(sorted(gpu.hardware_precisions)),
            ", ".join(sorted(emulated)) or "-",
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


def _classes() -> Iterable[Sequence[str]]:
    ratios: dict[str, list[float]] = defaultdict(list)
    for row in published_speeds():
        ratios[row.group].append(estimated_rate(row) / row.tokens_per_second)
    for group, found in ratios.items():
        mean = math.exp(sum(abs(math.log(ratio)) for ratio in found) / len(found)) - 1
        worst = max(found, key=lambda ratio: abs(math.log(ratio)))
        yield group, str(len(found)), f"{100 * mean:.0f} %", _error(worst)


def _speeds() -> Iterable[Sequence[str]]:
    for row in published_speeds():
        ours = estimated_rate(row)
        yield (
            f"`{row.checkpoint}`", f"{row.count}x{row.gpu}", str(row.concurrency), f"{row.input_tokens} / {row.output_tokens}",
            f"{row.tokens_per_second:.0f}", f"{ours:.0f}", _error(ours / row.tokens_per_second), row.source,
        )  # fmt: skip


def _error(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %" if abs(ratio - 1) < 0.1 else f"{100 * (ratio - 1):+.0f} %"

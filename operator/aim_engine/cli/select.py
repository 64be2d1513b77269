"""`aim-engine select`: the recipe a model would get, without writing an AIMDeployment."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.api.meta import API_VERSION
from aim_engine.cli.cluster import add_cluster, put, world_of
from aim_engine.cli.decision import decision_table, exit_code
from aim_engine.cli.explain import decision_of
from aim_engine.cli.files import Found
from aim_engine.cli.output import add_output, emit

EXAMPLES = """\
examples:
  aim-engine select Qwen/Qwen3-32B
  aim-engine select Qwen/Qwen3-32B --cluster snapshot.yaml -o json
  aim-engine select meta-llama/Llama-2-70b-chat-hf --gpu-count 8 --precision fp16 --nodes nodes.yaml"""
_NAME = "select"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("model", help="model, for example Qwen/Qwen3-32B")
    parser.add_argument("--gpu", metavar="MODEL", help="GPU model, for example MI300X")
    parser.add_argument("--gpu-count", type=int, metavar="N", help="GPUs per replica")
    parser.add_argument("--precision", metavar="P", help="bf16, fp16, fp8, int8, int4 or mxfp4")
    parser.add_argument("--backend", metavar="B", help="inference engine")
    parser.add_argument("--objective", metavar="O", help="throughput or latency")
    parser.add_argument("--replicas", type=int, metavar="N", help="replicas to find room for")
    parser.add_argument("--input-tokens", type=int, metavar="N", help="longest prompt")
    parser.add_argument("--output-tokens", type=int, metavar="N", help="longest answer")
    add_cluster(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Select."""
    world = world_of(arguments, model_id=arguments.model)
    key = put(world, Found(_deployment(arguments), "select"), arguments.namespace)
    document = decision_of(world, key, "select")
    emit(arguments.output, document, lambda wide: decision_table(document, wide=wide))
    return exit_code(document)


def _deployment(arguments: argparse.Namespace) -> dict[str, Any]:
    wishes = {
        "gpuModel": arguments.gpu,
        "gpuCount": arguments.gpu_count,
        "precision": arguments.precision,
        "backend": arguments.backend,
        "objective": arguments.objective,
    }
    load = {"maxInputTokens": arguments.input_tokens, "maxOutputTokens": arguments.output_tokens}
    spec = {
        "model": {"id": arguments.model},
        "recipe": _set(wishes),
        "workload": _set(load),
        **_set({"replicas": arguments.replicas}),
    }
    return {"apiVersion": API_VERSION, "kind": "AIMDeployment", "metadata": {"name": _NAME}, "spec": spec}


def _set(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

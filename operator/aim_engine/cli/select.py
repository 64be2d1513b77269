"""`aim-engine select`: the recipe a model would get, without writing an AIMDeployment."""

from __future__ import annotations

import argparse
from typing import Any

from aim_engine.api.meta import API_VERSION
from aim_engine.cli.cluster import home, put, world_of
from aim_engine.cli.decision import decide, decision_table, exit_code, hint_at_hub
from aim_engine.cli.files import Found
from aim_engine.cli.output import emit

_NAME = "select"


def run(arguments: argparse.Namespace) -> int:
    """Select."""
    world = world_of(arguments, model_id=arguments.model)
    key = put(world, Found(_deployment(arguments), _NAME), home(arguments))
    document, _ = decide(world, key, _NAME)
    hint_at_hub(world, document, asked=arguments.hub)
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
    load = {
        "maxBatchSize": arguments.batch_size,
        "maxInputTokens": arguments.input_tokens,
        "maxOutputTokens": arguments.output_tokens,
    }
    spec = {
        "model": {"id": arguments.model},
        "recipe": _set(wishes),
        "workload": _set(load),
        **_set({"replicas": arguments.replicas}),
    }
    return {"apiVersion": API_VERSION, "kind": "AIMDeployment", "metadata": {"name": _NAME}, "spec": spec}


def _set(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

"""A fourth backend is one module: nothing else in the package is touched, and it is read, checked, selected and rendered like the others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOY = """\
'''A toy: a server that takes --model and nothing else.'''

from types import MappingProxyType

from aim_engine.catalog.plan import EnginePlan
from aim_engine.engines import values
from aim_engine.engines.types import ApiKey, Problem

NOTE = "A toy that serves nobody."
REPOSITORIES = ("toys/",)
DEFAULT_VERSION = "1.0"
HEALTH_PATH = "/alive"
PORT = 7000
METRICS = MappingProxyType({"requestsRunning": "toy:running"})
FIRST_TOKEN_BOUNDS = ()
API_KEY = ApiKey("TOY_KEY")
CHOOSES_WEIGHTS = False
startup_budget_seconds = values.startup_budget_seconds


def check_args(args, version, *, trust):
    return tuple(
        Problem(f"engineArgs.{name}", value, f"{name} is not a flag of toy", "remove it")
        for name, value in args.items() if name != "speed"
    )


def check_env(env, *, trust):
    return ()


def check_gpu(gpu):
    return ()


def env_warnings(env, gpu=None):
    return ()


def check_combination(args, device_bytes=None):
    return ()


def check_parallelism(args, gpu_count):
    return ()


def merge_args(base, override):
    return {**base, **override}


def workload_args(args, max_batch_size, context, device_bytes, version):
    return dict(args)


def plan(args, gpu_count, gpu, partition=None, version=""):
    return EnginePlan(tensor_parallel=gpu_count, max_model_len=4096)


def command(model_source, args, gpu_count, served_names, port, version, *, revision=None, shutdown_timeout_seconds=None):
    flags = [f"--{name}={value}" for name, value in sorted(args.items())]
    return ["toy"], ["--model", model_source, "--gpus", str(gpu_count), *flags]


def default_image(version, gpu, model_source):
    return f"toys/server:{version}"


def base_env():
    return {"TOY_CALM": "1"}


def pod_env(server):
    return {}


def classify_termination(message, exit_code, reason):
    return None
"""
RECIPE = """\
huggingface_id: Qwen/Qwen3-32B
hardware: MI300X
precision: bf16
toy_serve:
  2_gpu:
    args: {speed: fast}
"""
SCRIPT = """\
import json, sys
from aim_engine.api import crd
from aim_engine.api.configmap import read_recipe
from aim_engine.api.enums import Backend
from aim_engine.engines import engine
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.world import build_world
from aim_engine.selection import CatalogueFacts

objects = json.load(sys.stdin)
world = build_world(objects, OperatorConfig(), CatalogueFacts(), 0.0)
_, plan = world.explain(("team-a", "chat"))
decision, revision = plan.decision, plan.revision
print(json.dumps({
    "backends": list(Backend),
    "verdicts": {each.recipe: each.reason for each in decision.verdicts},
    "chosen": decision.choice.assessment.candidate.name,
    "container": next(m for m in revision.manifests if m["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0],
    "images": OperatorConfig().allowed_images,
    "read": str(read_recipe(objects[-1]["data"]["recipe.yaml"], name="custom", namespace="team-a")),
    "note": engine(Backend("toy")).NOTE,
    "crd": json.dumps(crd.definitions()["aimrecipes.yaml"]),
}))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one file more."""
    copy = tmp_path_factory.mktemp("fourth")
    shutil.copytree(
        ROOT / "operator" / "aim_engine", copy / "aim_engine", ignore=shutil.ignore_patterns("__pycache__")
    )
    (copy / "aim_engine" / "engines" / "backends" / "toy.py").write_text(dedent(TOY))
    return copy


def run(package: Path, objects: list[dict[str, Any]]) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(objects),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_recipe_of_a_fourth_backend_is_read_selected_and_rendered(package: Path) -> None:
    from unit.cli_world import deployment, node, recipe

    plain = [
        node("gpu-1"),
        recipe("fast", gpus=2, backend="toy", engineArgs={"speed": "slow"}),
        recipe("wrong", gpus=1, backend="toy", engineArgs={"max-model-len": 1}),
        deployment("chat", model={"id": "Qwen/Qwen3-32B"}, recipe={"backend": "toy"}),
    ]
    labels = {"aim.engine.amd.com/recipe": "true"}
    metadata = {"name": "custom", "namespace": "team-a", "uid": "u-custom", "labels": labels}
    config_map = {"kind": "ConfigMap", "metadata": metadata, "data": {"recipe.yaml": RECIPE}}
    found = run(package, [*({**obj, "kind": kind} for kind, obj in plain), config_map])
    assert found["backends"] == ["vllm", "aim", "sglang", "toy"]
    assert found["verdicts"]["wrong"] == "RecipeInvalid"
    assert found["verdicts"]["fast"] == "Outranked"
    assert found["chosen"] == "configmap/custom-2gpu-toy"
    container = found["container"]
    assert container["command"] == ["toy"]
    assert container["args"] == ["--model", "Qwen/Qwen3-32B", "--gpus", "2", "--speed=fast"]
    assert container["image"] == "toys/server:1.0"
    assert container["ports"][0]["containerPort"] == 7000
    assert container["startupProbe"]["httpGet"]["path"] == "/alive"
    assert {"name": "TOY_CALM", "value": "1"} in container["env"]
    assert {"toys/", "docker.io/toys/"} <= set(found["images"])
    assert found["note"] == "A toy that serves nobody."
    assert '["vllm", "aim", "sglang", "toy"]' in found["crd"]

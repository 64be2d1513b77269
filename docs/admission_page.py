"""docs/reference/admission.md: what the gate refuses, warns about and never refuses. Every answer on it is the gate's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from aim_engine.admission.answer import Answer
from aim_engine.admission.deployments import Scene, judge_deployment
from aim_engine.admission.recipes import judge_config_map, judge_recipe
from aim_engine.admission.server import DEEPEST, LARGEST_BODY, READ_SECONDS
from aim_engine.api.configmap_yaml import MAX_BYTES, MAX_DEPTH, MAX_NODES
from aim_engine.api.meta import API_VERSION, LABEL_RECIPE
from aim_engine.api.recipe import AIMRecipeStatus
from aim_engine.engines.arguments import MAX_ARGUMENTS
from aim_engine.reconcile.cache import read_stored_recipe
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.selection import Candidate, CatalogueFacts, Check, Memo

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]
Example = tuple[str, str]
"""What is done, and the object's spec or document as people write it."""

_QWEN = "Qwen/Qwen3-32B"
_LLAMA = "meta-llama/Llama-3.1-405B-Instruct"
_CHECKS = frozenset(Check) - {Check.SPEC}
_MEMO = Memo()
_RECIPES = Path(__file__).parents[1] / "recipes"

DEPLOYMENTS: tuple[Example, ...] = (
    ("a misspelt flag", "overrides: {engineArgs: {max-modle-len: 8192}}"),
    ("a flag of the operator", "overrides: {engineArgs: {port: 80}}"),
    ("a flag that reaches further than the model server", "overrides: {engineArgs: {middleware: [a.b]}}"),
    ("code of the model's repository, where no administrator allowed it", "overrides: {engineArgs: {trust-remote-code: true}}"),
    ("a value the engine does not take", "overrides: {engineArgs: {gpu-memory-utilization: 1.5}}"),
    ("a variable nobody may set", "overrides: {env: {LD_PRELOAD: x}}"),
    ("a secret in the open", "overrides: {env: {HF_TOKEN: x}}"),
    ("an image from elsewhere", "overrides: {image: docker.io/acme/vllm}"),
    ("a GPU nobody knows", "recipe: {gpuModel: MI300XX}"),
    ("a precision without hardware", "recipe: {gpuModel: MI210, precision: fp8}"),
    ("weights beyond all memory", f"{{model: {{id: {_LLAMA}}}, recipe: {{gpuModel: MI300X, gpuCount: 2, precision: bf16}}}}"),
    ("sizes that do not divide", "{recipe: {gpuCount: 4}, overrides: {engineArgs: {pipeline-parallel-size: 3}}}"),
    ("memory without a unit", "overrides: {resources: {memory: '64'}}"),
    ("a context below the workload", "{workload: {maxInputTokens: 8192}, overrides: {engineArgs: {max-model-len: 4096}}}"),
    ("a target beyond the hardware", "targets: {minTokensPerSecond: 99999999}"),
    ("what no pod can have", "scheduling: {nodeSelector: {zone: 'a b'}}"),
)  # fmt: skip
RECIPES: tuple[Example, ...] = (
    ("a flag of another version", "engineArgs: {swap-space: 4}"),
    ("heads that do not divide", "hardware: {gpuModel: MI300X, gpuCount: 3}"),
    ("weights that do not fit", f"modelID: {_LLAMA}"),
    ("weights of another format", f"{{modelID: {_LLAMA}, hardware: {{gpuModel: MI300X, gpuCount: 8}}, precision: fp8}}"),
    ("a context beyond the model", "engineArgs: {max-model-len: 10000000}"),
    ("a selector of nothing", "allowedNamespaces: {matchExpressions: [{key: team, operator: In}]}"),
)  # fmt: skip
DOCUMENT = """\
huggingface_id: Qwen/Qwen3-32B
hardware: MI300X
gpu_cout: 1
precision: fp7
config:
  args: {--max-modle-len: 8192}
  env: {LD_PRELOAD: x}
resources: {limits: {memory: lots}}
"""
WARNINGS: tuple[tuple[str, str, str], ...] = (
    ("the GPUs are in use", "{}", "busy"),
    ("no node has the GPUs", "recipe: {gpuModel: MI355X}", "absent"),
    ("a gated model without a token", "model: {id: meta-llama/Llama-3.3-70B-Instruct}", ""),
    ("a model nobody knows", "model: {id: acme/unheard-of}", ""),
    ("a recipe that is not there", "recipe: {name: later}", ""),
    ("a better recipe exists", "recipe: {name: qwen3-32b-mi210-2x-bf16}", ""),
    ("an override that gives up a margin of safety", "overrides: {engineArgs: {gpu-memory-utilization: 0.98}}", ""),
    ("a variable without effect", "overrides: {env: {VLLM_USE_V1: '1'}}", ""),
    ("a cache below the weights", "cache: {sizeGiB: 8}", ""),
)  # fmt: skip

_HEAD = """\
# Admission

Two gates stand before the cluster. What one field can prove, and the rules over several fields in [the API](api.md), the API server checks itself, also
while no validator runs. The rest `aim-engine webhook` checks, for AIMDeployments, AIMRecipes and ConfigMaps with the label
`aim.engine.amd.com/recipe: "true"`. It refuses only what is provably wrong whatever the cluster does next; what may change is a warning, which kubectl
shows. All causes come at once, one a line: field, value, limit, remedy. `aim-engine explain -f FILE` says the same before anything is applied, and the
operator the same in the condition of an object that was stored nevertheless. Values of variables, tokens and keys are never repeated.

"""
_NEVER = """
## Never refused

- Changes of metadata, status, finalizers and scale, and deletions: the webhooks do not match them.
- An object whose spec, or a ConfigMap whose data, did not change.
- A fault that the stored object has already: it is told as a warning, `(as before)`. So an upgrade with a new rule locks nobody out: whatever an object
  holds, it can be scaled to zero, suspended, and changed elsewhere.
- Requests of the operator, the validator and the hooks (`admission.exemptUsers`).
- ConfigMaps without the label.

## While no validator answers

`failure_policy: Fail` (the default) refuses new specs of our kinds and recipes in labelled ConfigMaps until one answers; `Ignore` lets them through, and the operator
judges them by the same rules afterwards. Either way nothing of others is touched, and `kubectl scale` and deletion work. The webhooks are switched on by
the validator itself once it answers, and go with the release.

"""


def page(table: Table) -> str:
    """The page."""
    return "".join(
        (
            _HEAD,
            "## Refused\n\nExamples; the left column is below `spec` of a deployment of Qwen/Qwen3-32B.\n\n",
            table(("", "AIMDeployment", "Answer"), (_row(each, _deployment) for each in DEPLOYMENTS)),
            "\nOf a recipe for one MI300X in bf16:\n\n",
            table(("", "AIMRecipe", "Answer"), (_row(each, _recipe) for each in RECIPES)),
            "\nOf a ConfigMap, with line and field as they are written there:\n\n",
            f"```text\n{DOCUMENT}```\n\n```text\n{_lines(_document(DOCUMENT))}```\n",
            "\n## Warned about\n\n",
            table(("", "AIMDeployment", "Warning"), (_warning(*each) for each in WARNINGS)),
            _NEVER,
            _switches(table),
            _limits(table),
        )
    )


def _switches(table: Table) -> str:
    rows = (
        ("`check_resource_limits`", "weights against all memory of the named GPUs, host memory and CPU, context against the workload; in recipes what is said of `hardware` and `precision`"),
        ("`check_recipe_compatibility`", "GPU model and precision; in AIMRecipes all other faults; and the warnings about recipes"),
        ("`check_performance_constraints`", "targets against the fastest hardware that the wishes allow"),
    )  # fmt: skip
    return (
        "## Switches\n\n`admission_controller.validation.*` of the chart, `admission.check*` of the [configuration](configuration.md); all are on. What a tenant may "
        "ask for (flags, variables, images) and what cannot be read is always checked. A check that is off here is still made by the operator, which then "
        "tells in the condition.\n\n" + table(("Switch", "Checks"), rows)
    )


def _limits(table: Table) -> str:
    rows = (
        ("one review", f"{LARGEST_BODY // 2**20} MiB, {DEEPEST} levels, {READ_SECONDS:g} s to arrive"),
        ("`engineArgs`", f"{MAX_ARGUMENTS} flags"),
        ("`recipe.yaml` of a ConfigMap", f"{MAX_BYTES // 1024} KiB, {MAX_DEPTH} levels, {MAX_NODES} values; no aliases, no tags"),
    )  # fmt: skip
    return "\n## Limits\n\n" + table(("Of", "At most"), rows)


def _row(example: Example, judge: Callable[[Any], Answer]) -> tuple[str, str, str]:
    about, text = example
    refusals = judge(yaml.safe_load(text)).refusals
    if not refusals:
        raise AssertionError(f"the gate no longer refuses {about}: {text}")
    return about, f"`{text}`", "<br>".join(refusals)


def _warning(about: str, text: str, cluster: str) -> tuple[str, str, str]:
    answer = _deployment(yaml.safe_load(text), _statuses(cluster))
    if answer.refusals or not answer.warnings:
        raise AssertionError(f"the gate does not warn about {about}: {answer}")
    return about, f"`{text}`", "<br>".join(answer.warnings)


def _lines(answer: Answer) -> str:
    return "".join(f"{line}\n" for line in answer.refusals)


@cache
def _catalogue() -> tuple[Candidate, ...]:
    objects = (yaml.safe_load(file.read_text()) for file in sorted(_RECIPES.rglob("*.yaml")))
    return tuple(found for obj in objects if (found := read_stored_recipe(obj).candidate))


def _statuses(cluster: str) -> dict[str, AIMRecipeStatus]:
    """Of recipes in a cluster whose GPUs are busy or absent."""
    gone = {"type": "HardwareAvailable", "status": "False", "reason": "NoMatchingNodes", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    status = {"busy": {"fits": 0}, "absent": {"fits": 0, "conditions": [gone]}}.get(cluster)
    return {each.name: AIMRecipeStatus.model_validate(status) for each in _catalogue()} if status else {}


def _deployment(spec: Mapping[str, Any], statuses: Mapping[str, AIMRecipeStatus] | None = None) -> Answer:
    obj = {
        "apiVersion": API_VERSION, "kind": "AIMDeployment", "metadata": {"name": "example", "namespace": "team-a"},
        "spec": {"model": {"id": _QWEN}, **spec},
    }  # fmt: skip
    images = tuple(OperatorConfig().allowed_images)
    scene = Scene("team-a", {}, _catalogue(), statuses or {}, images, CatalogueFacts(), _CHECKS, _MEMO)
    return judge_deployment(obj, None, scene)


def _recipe(spec: Mapping[str, Any]) -> Answer:
    plain = {"modelID": _QWEN, "hardware": {"gpuModel": "MI300X", "gpuCount": 1}, "precision": "bf16"}
    obj = {
        "apiVersion": API_VERSION,
        "kind": "AIMRecipe",
        "metadata": {"name": "example"},
        "spec": {**plain, **spec},
    }
    return judge_recipe(obj, None, CatalogueFacts(), _CHECKS)


def _document(text: str) -> Answer:
    obj = {
        "metadata": {"name": "example", "namespace": "team-a", "labels": {LABEL_RECIPE: "true"}},
        "data": {"recipe.yaml": text},
    }
    return judge_config_map(obj, None, {}, OperatorConfig().allowed_images, CatalogueFacts(), _CHECKS)

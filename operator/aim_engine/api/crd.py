"""CustomResourceDefinitions from the pydantic models: `python -m aim_engine.api.crd DIR` writes them.

pydantic emits JSON Schema 2020-12; the API server wants structural OpenAPI v3. The transform inlines `$ref`, turns
`X | None` into an optional X, drops titles, and adds what only a CRD knows: columns, subresources, CEL rules.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aim_engine.api.deployment import AIMDeployment, AIMDeploymentSpec
from aim_engine.api.deployment_status import AIMDeploymentStatus
from aim_engine.api.meta import GROUP, VERSION, Model
from aim_engine.api.recipe import AIMRecipe, AIMRecipeSpec, AIMRecipeStatus
from aim_engine.api.rules import DEPLOYMENT_RULES, RECIPE_RULES, Rule
from aim_engine.generated import keep

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column of `kubectl get`; priority 1 shows only with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0


def structural(schema: Schema) -> Schema:
    """A pydantic JSON schema as a structural schema: no $ref, no null unions, no titles, no object defaults."""
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: Schema, defs: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[-1]]
        return _convert({**target, **{k: v for k, v in node.items() if k != "$ref"}}, defs)
    if "anyOf" in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise ValueError(f"a union of several types has no structural form: {node}")
        return _convert({**options[0], **{k: v for k, v in node.items() if k not in ("anyOf",)}}, defs)
    out = {k: v for k, v in node.items() if k not in ("title", "$defs", "propertyNames", "default")}
    default = node.get("default")
    if default is not None and not isinstance(default, dict | list):
        out["default"] = default
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if out.get("x-kubernetes-int-or-string"):
        out.pop("type")
    if out.get("x-kubernetes-preserve-unknown-fields"):
        out.pop("additionalProperties", None)
    if "properties" in out:
        out["properties"] = {name: _convert(value, defs) for name, value in out["properties"].items()}
        out.pop("additionalProperties", None)
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _convert(out["additionalProperties"], defs)
    if "items" in out:
        out["items"] = _convert(out["items"], defs)
    return out


def _model_schema(model: type[Model]) -> Schema:
    return structural(model.model_json_schema(mode="validation", by_alias=True))


def _insert_rules(schema: Schema, rules: tuple[Rule, ...]) -> None:
    for rule in rules:
        if rule.rule is None:
            continue
        node = schema
        for name in rule.path:
            node = node["properties"][name]
        entry = {"rule": rule.rule, "message": rule.message}
        if rule.field_path:
            entry["fieldPath"] = rule.field_path
        node.setdefault("x-kubernetes-validations", []).append(entry)


def _definition(
    kind: type[Model], plural: str, short: str, scope: str, spec: Schema, status: Schema,
    columns: tuple[Column, ...], rules: tuple[Rule, ...], selectable: tuple[str, ...], scale: Schema | None,
) -> Schema:  # fmt: skip
    root: Schema = {
        "type": "object",
        "description": kind.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "API version, aim.engine.amd.com/v1alpha1."},
            "kind": {"type": "string", "description": f"Kind, {kind.__name__}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    _insert_rules(root, rules)
    subresources: Schema = {"status": {}}
    if scale:
        subresources["scale"] = scale
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind.__name__,
                "listKind": f"{kind.__name__}List",
                "plural": plural,
                "singular": kind.__name__.lower(),
                "shortNames": [short],
                "categories": ["aim"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": root},
                    "subresources": subresources,
                    "additionalPrinterColumns": [
                        {
                            "name": c.name,
                            "type": c.type,
                            "jsonPath": c.path,
                            "description": c.description,
                            "priority": c.priority,
                        }
                        for c in columns
                    ],
                    "selectableFields": [{"jsonPath": path} for path in selectable],
                }
            ],
        },
    }


_AGE = Column("Age", ".metadata.creationTimestamp", "Time since creation.", "date")
_READY = ".status.conditions[?(@.type=='Ready')]"

RECIPE_COLUMNS = (
    Column("Model", ".spec.modelID", "Model that users ask for."),
    Column("GPU", ".spec.hardware.gpuModel", "GPU model."),
    Column("Count", ".spec.hardware.gpuCount", "GPUs per replica.", "integer"),
    Column("Precision", ".spec.precision", "Numeric format of the weights."),
    Column("Backend", ".spec.backend", "Inference engine."),
    Column("Maturity", ".spec.maturity", "How far the configuration has been tuned."),
    Column("Tok/s", ".spec.performance[0].tokensPerSecond", "First published throughput, with provenance in spec.performance.", "integer"),
    Column("Fits", ".status.fits", "Replicas that would fit on the free GPUs now.", "integer"),
    Column("Used", ".status.usedBy", "AIMDeployments that use the recipe.", "integer"),
    _AGE,
    Column("Valid", ".status.conditions[?(@.type=='Valid')].status", "Whether the recipe can be chosen.", priority=1),
    Column("Observed", ".status.observed.tokensPerSecond", "Tokens per second of a replica under load, seen in this cluster.", "integer", 1),
    Column("Nodes", ".status.matchingNodes", "Usable nodes that have the GPUs.", "integer", 1),
)  # fmt: skip

DEPLOYMENT_COLUMNS = (
    Column("Ready", f"{_READY}.status", "Whether the model answers."),
    Column("Model", ".status.modelID", "Model that is served, or else asked for."),
    Column("Recipe", ".status.recipe.name", "Recipe in use."),
    Column("GPUs", ".status.recipe.gpus", "GPUs of one replica."),
    Column("Precision", ".status.recipe.precision", "Numeric format of the weights."),
    Column("Replicas", ".status.ready", "Ready and wanted replicas."),
    Column(
        "Tok/s",
        ".status.performance.tokensPerSecond",
        "Generated tokens per second, measured over some minutes.",
        "integer",
    ),
    _AGE,
    Column("Reason", f"{_READY}.reason", "Cause of the Ready condition.", priority=1),
    Column("Tier", ".status.recipe.tier", "How near the choice is to the best recipe.", priority=1),
    Column("URL", ".status.url", "OpenAI-compatible endpoint.", priority=1),
)


def definitions() -> dict[str, Schema]:
    """File name -> CustomResourceDefinition, in the order to apply."""
    return {
        "aimrecipes.yaml": _definition(
            AIMRecipe, "aimrecipes", "aimr", "Cluster", _model_schema(AIMRecipeSpec), _model_schema(AIMRecipeStatus),
            RECIPE_COLUMNS, RECIPE_RULES, (".spec.modelID", ".spec.hardware.gpuModel", ".spec.precision"), None,
        ),
        "aimdeployments.yaml": _definition(
            AIMDeployment, "aimdeployments", "aimd", "Namespaced", _model_schema(AIMDeploymentSpec),
            _model_schema(AIMDeploymentStatus), DEPLOYMENT_COLUMNS, DEPLOYMENT_RULES,
            (".spec.model.id", ".status.recipe.name"),
            {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        ),
    }  # fmt: skip


class _NoAliases(yaml.SafeDumper):
    """Writes repeated values out: anchors would make the files hard to read and to diff."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def to_yaml(definition: Schema) -> str:
    """The file's text."""
    text = yaml.dump(definition, Dumper=_NoAliases, sort_keys=False, width=110)
    return f"# Generated from operator/aim_engine/api by `make generate`; do not edit.\n{text}"


def files() -> dict[str, str]:
    """File name -> text."""
    return {name: to_yaml(definition) for name, definition in definitions().items()}


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), files(), check="--check" in sys.argv))

"""Writes what of the chart is made from the code: its CRDs, two parts of values.schema.json, and files/gpus.txt for the deploy script. `--check` only tells what is out of date.

The parts are `aim_engine.spec` (the spec of an AIMDeployment) and `operator.config` (the operator's configuration file).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aim_engine.api import crd
from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.meta import Model
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.generated import keep
from aim_engine.reconcile.config import OperatorConfig

HELM = Path(__file__).parent / "helm"
Schema = dict[str, Any]
PARTS: dict[tuple[str, str], tuple[type[Model], str]] = {
    ("aim_engine", "spec"): (
        AIMDeploymentSpec,
        "Merged into the AIMDeployment's spec as it is, for everything else: token Secret, cache, replicas, scheduling. See docs/reference/api.md.",
    ),
    ("operator", "config"): (
        OperatorConfig,
        "Merged into the operator's configuration file. See docs/reference/configuration.md.",
    ),
}
"""Section and key of the values -> the model that describes it, and what the value is for."""
QUANTITY = ("string", "integer", "number")


def draft7(node: Schema) -> Schema:
    """A structural schema as draft 7, which helm reads; what is not described is refused."""
    kept = {
        key: value
        for key, value in node.items()
        if not key.startswith("x-") and key not in ("default", "format")
    }
    if node.get("x-kubernetes-int-or-string"):
        return {"type": list(QUANTITY), **kept}
    if "properties" in kept:
        kept["properties"] = {name: draft7(child) for name, child in kept["properties"].items()}
        kept["additionalProperties"] = False
    elif isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = draft7(kept["additionalProperties"])
    if "items" in kept:
        kept["items"] = draft7(kept["items"])
    return kept


def values_schema() -> str:
    """The chart's values.schema.json with its generated parts as the code has them."""
    schema = json.loads((HELM / "values.schema.json").read_text(encoding="utf-8"))
    for (section, key), (model, about) in PARTS.items():
        part = draft7(crd.structural(model.model_json_schema(mode="validation", by_alias=True)))
        part.pop("required", None)
        schema["properties"][section]["properties"][key] = {
            **part,
            "description": about,
            "$comment": "Made by `make generate` from the code; do not edit.",
        }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def gpus() -> str:
    """Known GPU models, one a line: name, device IDs, product names."""
    rows = ([gpu.model, *gpu.device_ids, *gpu.product_names] for gpu in gpu_catalog().values())
    return "".join(f"{' '.join(row)}\n" for row in rows)


def files() -> dict[str, str]:
    """Everything of the chart that is generated, with what it should hold."""
    crds = {f"crds/{name}": text for name, text in crd.files().items()}
    return {**crds, "values.schema.json": values_schema(), "files/gpus.txt": gpus()}


def main(arguments: Sequence[str]) -> int:
    """Write, or with `--check` compare; 1 where a file is out of date."""
    return keep(HELM, files(), check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

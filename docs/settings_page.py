"""docs/reference/values.md and configuration.md: what an administrator may set, from the schemas and defaults that are shipped."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aim_engine.api.meta import Model
from aim_engine.reconcile.config import OperatorConfig

HELM = Path(__file__).parents[1] / "deploy" / "helm"
Schema = Mapping[str, Any]
Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]
_HEAD = ("Name", "Type", "Default", "Bounds", "Meaning")

VALUES = """\
# Values of the chart

`helm install --set NAME=VALUE` or a file with `--values`. What is not here, or of another type, is refused with its name. How they work
together: [the Helm chart](../guides/helm.md). A default of `null` means: not asked for.
"""

CONFIGURATION = """\
# Configuration of the operator

One YAML file for operator and validator, `config.yaml` of the ConfigMap `RELEASE-operator-config`, `aim-engine-operator-config` in the manifests.
Every field has a default; what is not here is refused at the start with line, field and remedy. The chart fills in its own part, and
merges the value `operator.config` over it:

```sh
helm upgrade aim-engine ./helm --reuse-values --set operator.config.hub.enabled=false
```

"""


def values(table: Table) -> str:
    """All values of the chart, a section for each of the first level."""
    schema = json.loads((HELM / "values.schema.json").read_text())
    defaults = yaml.safe_load((HELM / "values.yaml").read_text())
    parts = [VALUES]
    for name, section in schema["properties"].items():
        rows = list(_values(section, defaults[name], name))
        parts.append(f"\n## {name}\n\n{section['description']}\n\n{table(_HEAD, rows)}")
    return "".join(parts)


def _values(schema: Schema, default: Any, path: str) -> Iterator[tuple[str, ...]]:
    inner = None if "$comment" in schema else schema.get("properties")
    if inner and isinstance(default, dict):
        for name, child in inner.items():
            yield from _values(child, default.get(name), f"{path}.{name}")
        return
    about = re.sub(r"See docs/reference/(\w+)\.md", r"See [\1](\1.md)", schema["description"])
    yield f"`{path}`", _type(schema), f"`{json.dumps(default)}`", _bounds(schema), about
    for name, child in {**(inner or {}), **schema.get("items", {}).get("properties", {})}.items():
        place = f"{path}.{name}" if inner else f"{path}[].{name}"
        yield f"`{place}`", _type(child), "", _bounds(child), child["description"]


def _type(schema: Schema) -> str:
    if "type" not in schema:
        return "string"
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    told = [each for each in types if each != "null"]
    if told == ["array"]:
        return f"list of {_type(schema['items'])}s"
    if told == ["object"] and isinstance(schema.get("additionalProperties"), dict):
        inside = schema["additionalProperties"]["type"]
        return f"map of {inside}s" if isinstance(inside, str) else "map"
    return " or ".join(told)


def _bounds(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"] if each is not None)
    told = []
    if "exclusiveMinimum" in schema:
        told.append(f"above {schema['exclusiveMinimum']}, at most {schema['maximum']}")
    elif "minimum" in schema:
        told.append(
            f"{schema['minimum']} to {schema['maximum']}"
            if "maximum" in schema
            else f"at least {schema['minimum']}"
        )
    if "pattern" in schema:
        told.append(f"`{schema['pattern']}`")
    return ", ".join(told)


def configuration(table: Table) -> str:
    """All fields of the operator's configuration file."""
    return CONFIGURATION + table(("Name", "Default", "Meaning"), _fields(OperatorConfig, ""))


def _fields(model: type[Model], prefix: str) -> Iterator[tuple[str, str, str]]:
    wire = model().model_dump(mode="json", by_alias=True)
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        kind = field.annotation
        if inspect.isclass(kind) and issubclass(kind, Model):
            about = inspect.getdoc(kind) or ""
            yield f"`{path}`", "", about.split("\n\n")[0].replace("\n", " ")
            yield from _fields(kind, f"{path}.")
        else:
            yield f"`{path}`", f"`{json.dumps(wire[field.alias or name])}`", field.description or ""

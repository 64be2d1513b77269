"""Objects that the gate must refuse or let in, read from `bad/` and `good/`, and the gate's functions to ask about them.

A file has a `kind` and `cases`. A case says what differs from a plain object of the kind: `spec` (merged over the plain one's
fields), `metadata`, or for a ConfigMap the `recipe` text (or all of its `data`). `object` stands for the whole. Tags write what
is too long to write: `!repeat [text, times]`, `!numbered [text, count]` for a list, `!keys [text, count, value]` for a mapping
and `!deep levels`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from aim_engine.admission.answer import Answer
from aim_engine.admission.deployments import Scene, judge_deployment
from aim_engine.admission.recipes import judge_config_map, judge_recipe
from aim_engine.api.meta import LABEL_ALLOW_REMOTE_CODE, LABEL_RECIPE
from aim_engine.reconcile.cache import read_stored_recipe
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.selection import Candidate, CatalogueFacts, Check, Memo

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
QWEN = "Qwen/Qwen3-32B"
TENANT, TRUSTED = "team-a", "trusted"
"""Namespaces; in the second one an administrator allows code from model repositories."""
LABELS: dict[str, dict[str, str]] = {TENANT: {}, TRUSTED: {LABEL_ALLOW_REMOTE_CODE: "true"}}
ALL_CHECKS = frozenset(Check) - {Check.SPEC}
Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One object and what is expected of it."""

    name: str
    object: Json
    told: tuple[str, ...] = ()
    """Bad: each refusal in order; `…` stands for any text."""
    by: str = ""
    """Bad: `schema` where the API server itself refuses it, `gate` where only we do."""
    limit: str = ""
    """By schema: what the API server's own words must hold beside the field."""
    warns: tuple[str, ...] = ()
    """Good: each warning in order."""

    def __str__(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        return str(self.object["kind"])

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"].get("namespace", ""))


class _Loader(yaml.SafeLoader):
    """With tags for what is long."""


def _repeat(loader: _Loader, node: yaml.SequenceNode) -> str:
    text, times = loader.construct_sequence(node)
    return str(text) * int(times)


def _numbered(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    value, count = loader.construct_sequence(node, deep=True)
    return [f"{value}{i}" if isinstance(value, str) else value for i in range(count)]


def _keys(loader: _Loader, node: yaml.SequenceNode) -> dict[str, Any]:
    name, count, value = loader.construct_sequence(node, deep=True)
    return {f"{name}{i}": value for i in range(count)}


def _deep(loader: _Loader, node: yaml.ScalarNode) -> Any:
    value: Any = 1
    for _ in range(int(loader.construct_scalar(node))):
        value = {"a": value}
    return value


_Loader.add_constructor("!repeat", _repeat)
_Loader.add_constructor("!deep", _deep)
_Loader.add_constructor("!numbered", _numbered)
_Loader.add_constructor("!keys", _keys)


def cases(folder: str) -> list[Case]:
    """All cases of a folder."""
    return [case for file in sorted((HERE / folder).glob("*.yaml")) for case in _read(file)]


def _read(file: Path) -> Iterator[Case]:
    content = yaml.load(file.read_text(), _Loader)  # noqa: S506  a safe loader with three tags more
    for written in content["cases"]:
        told, warns = written.get("told", ()), written.get("warns", ())
        yield Case(
            f"{file.stem}: {written['name']}",
            written.get("object") or _whole(content["kind"], written),
            (told,) if isinstance(told, str) else tuple(told),
            written.get("by", content.get("by", "")),
            str(written.get("limit", "")),
            (warns,) if isinstance(warns, str) else tuple(warns),
        )


def _whole(kind: str, written: Mapping[str, Any]) -> Json:
    metadata = {"name": "case", **written.get("metadata", {})}
    if kind == "ConfigMap":
        data = written["data"] if "data" in written else {"recipe.yaml": written["recipe"]}
        labels = {LABEL_RECIPE: "true"}
        return {
            "apiVersion": "v1", "kind": kind, "metadata": {"namespace": TENANT, "labels": labels, **metadata}, "data": data,
        }  # fmt: skip
    plain: Json = {"model": {"id": QWEN}}
    if kind == "AIMDeployment":
        metadata = {"namespace": TENANT, **metadata}
    else:
        plain = {"modelID": QWEN, "hardware": {"gpuModel": "MI300X", "gpuCount": 1}, "precision": "bf16"}
    spec = written.get("spec", {})
    merged = {**plain, **spec} if isinstance(spec, dict) else spec
    return {"apiVersion": "aim.engine.amd.com/v1alpha1", "kind": kind, "metadata": metadata, "spec": merged}


@lru_cache
def catalogue() -> tuple[Candidate, ...]:
    """The shipped recipes."""
    objects = (yaml.safe_load(file.read_text()) for file in sorted((ROOT / "recipes").rglob("*.yaml")))
    return tuple(found for obj in objects if (found := read_stored_recipe(obj).candidate))


_FACTS, _MEMO = CatalogueFacts(), Memo()
_IMAGES = tuple(OperatorConfig().allowed_images)


def judge(obj: Json, old: Json | None = None, checks: frozenset[Check] = ALL_CHECKS, **scene: Any) -> Answer:
    """What the gate says with the shipped recipes around."""
    namespace = (
        obj.get("metadata", {}).get("namespace", TENANT) if isinstance(obj.get("metadata"), dict) else TENANT
    )
    labels = LABELS.get(namespace, {}) if isinstance(namespace, str) else {}
    match obj.get("kind"):
        case "AIMRecipe":
            return judge_recipe(obj, old, _FACTS, checks)
        case "ConfigMap":
            return judge_config_map(obj, old, labels, _IMAGES, _FACTS, checks)
    around: Json = {"candidates": catalogue(), "statuses": {}, **scene}
    return judge_deployment(
        obj, old, Scene(namespace=namespace, namespace_labels=labels, allowed_images=_IMAGES, facts=_FACTS, checks=checks, memo=_MEMO, **around)
    )  # fmt: skip


def matches(expected: str, line: str) -> bool:
    """Whether a line is as expected; `…` stands for any text."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), line) is not None

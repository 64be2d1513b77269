"""Objects that the API server takes or refuses, for tests that ask whether files are judged alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
GROUP = "aim.engine.amd.com/v1alpha1"
NUMBER = {"provenance": {"kind": "vendor", "source": "https://example.com"}, "tokensPerSecond": 5}


@dataclass(frozen=True)
class Sample:
    """An object and whether it is taken."""

    obj: Json
    taken: bool
    field: str = ""
    """Where the fault is."""


def aimd(name: object = "app", *, namespace: object = None, drop: str = "", **spec: Any) -> Json:
    metadata: Json = {"name": name, **({} if namespace is None else {"namespace": namespace})}
    obj = {
        "apiVersion": GROUP,
        "kind": "AIMDeployment",
        "metadata": metadata,
        "spec": {"model": {"id": "a/b"}, **spec},
    }
    return {key: value for key, value in obj.items() if key != drop}


def aimr(name: object = "recipe", *, drop: str = "", **spec: Any) -> Json:
    body = {"modelID": "a/b", "hardware": {"gpuModel": "MI300X", "gpuCount": 1}, "precision": "fp8", **spec}
    obj = {"apiVersion": GROUP, "kind": "AIMRecipe", "metadata": {"name": name}, "spec": body}
    return {key: value for key, value in obj.items() if key != drop}


def with_metadata(obj: Json, **metadata: Any) -> Json:
    return {**obj, "metadata": {**obj["metadata"], **metadata}}


def cached(**cache: Any) -> Json:
    return aimd(cache=cache)


def resources(cpu: Any) -> Json:
    return aimd(overrides={"resources": {"cpu": cpu}})


SAMPLES: dict[str, Sample] = {
    "a plain deployment": Sample(aimd(), True),
    "labels, annotations and what the API server adds": Sample(
        with_metadata(aimd(), labels={"a": "b"}, annotations={"c": "d"}, finalizers=["example.com/x"]), True
    ),
    "a name of 55 characters": Sample(aimd("a" * 55), True),
    "a name of 56 characters": Sample(aimd("a" * 56), False, "metadata.name"),
    "a name in upper case": Sample(aimd("Chat_1"), False, "metadata.name"),
    "a name that starts with a digit": Sample(aimd("1chat"), False, "metadata.name"),
    "a name with a dot": Sample(aimd("my.chat"), False, "metadata.name"),
    "a name that ends with a hyphen": Sample(aimd("chat-"), False, "metadata.name"),
    "a namespace that is no label": Sample(aimd(namespace="Team A"), False, "metadata.namespace"),
    "an unknown field of the metadata": Sample(with_metadata(aimd(), lables={}), False, "metadata.lables"),
    "no spec": Sample(aimd(drop="spec"), False, "spec"),
    "a spec that is null": Sample({**aimd(), "spec": None}, False, "spec"),
    "an empty model": Sample(aimd(model={}), False, "spec"),
    "no model": Sample(aimd(model=None), False, "spec"),
    "an empty model with a recipe's name": Sample(aimd(model={}, recipe={"name": "x"}), True),
    "no model with a ConfigMap": Sample(aimd(model=None, recipe={"configMap": "x"}), True),
    "a recipe and a ConfigMap": Sample(aimd(recipe={"name": "x", "configMap": "y"}), False, "spec.recipe"),
    "a recipe, and a ConfigMap that is null": Sample(aimd(recipe={"name": "x", "configMap": None}), True),
    "a claim": Sample(cached(existingClaim="x"), True),
    "a claim and a class": Sample(cached(existingClaim="x", storageClassName="y"), False, "spec.cache"),
    "a claim and a size": Sample(cached(existingClaim="x", sizeGiB=5), False, "spec.cache"),
    "a claim and a mode": Sample(cached(existingClaim="x", accessMode="ReadWriteMany"), True),
    "a number that is null": Sample(aimd(replicas=None), True),
    "a number in quotes": Sample(aimd(replicas="2"), False, "spec.replicas"),
    "a number that is true": Sample(aimd(replicas=True), False, "spec.replicas"),
    "true in quotes": Sample(aimd(suspend="true"), False, "spec.suspend"),
    "text that is a number": Sample(aimd(model={"id": 5}), False, "spec.model.id"),
    "a quantity that is a number": Sample(resources(8), True),
    "a quantity that is a fraction": Sample(resources(0.5), False, "spec.overrides.resources.cpu"),
    "a fraction in quotes": Sample(resources("0.5"), True),
    "a quantity that is none": Sample(resources("many"), False, "spec.overrides.resources.cpu"),
    "flags of any shape": Sample(
        aimd(overrides={"engineArgs": {"a": None, "b": {"c": [1, "d"]}, "e": 0.5}}), True
    ),
    "a variable that is a number": Sample(aimd(overrides={"env": {"A": 1}}), False, "spec.overrides.env.A"),
    "an unknown field": Sample(aimd(replica=2), False, "spec.replica"),
    "an unknown field beside the spec": Sample({**aimd(), "specs": {}}, False, "specs"),
    "a negative number": Sample(aimd(replicas=-1), False, "spec.replicas"),
    "a plain recipe": Sample(aimr(), True),
    "a recipe's name of 63 characters": Sample(aimr("a" * 63), True),
    "a recipe's name of 64 characters": Sample(aimr("a" * 64), False, "metadata.name"),
    "a recipe's name with a dot": Sample(aimr("a.b"), False, "metadata.name"),
    "a recipe without a spec": Sample(aimr(drop="spec"), False, "spec"),
    "performance with its source": Sample(aimr(performance=[NUMBER]), True),
    "performance without a source": Sample(
        aimr(performance=[{"tokensPerSecond": 5}]), False, "spec.performance.0.provenance"
    ),
    "performance without a number": Sample(
        aimr(performance=[NUMBER, {"provenance": NUMBER["provenance"]}]), False, "spec.performance.1"
    ),
    "performance with numbers that are null": Sample(
        aimr(performance=[{**NUMBER, "tokensPerSecond": None}]), False, "spec.performance.0"
    ),
    "a recipe's count in quotes": Sample(
        aimr(hardware={"gpuModel": "MI300X", "gpuCount": "1"}), False, "spec.hardware.gpuCount"
    ),
}
"""What the API server does with each is asked in tests/e2e/test_operator_api.py."""

OTHER_VERSIONS: dict[str, Sample] = {
    "another version": Sample({**aimd(), "apiVersion": "aim.engine.amd.com/v9"}, False, "apiVersion"),
    "no version": Sample(aimd(drop="apiVersion"), False, "apiVersion"),
    "a recipe of another version": Sample(
        {**aimr(), "apiVersion": "aim.engine.amd.com/v9"}, False, "apiVersion"
    ),
    "another kind": Sample({**aimr(), "kind": "Recipe"}, False, "kind"),
}
"""Objects that have no address to be sent to."""

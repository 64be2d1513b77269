"""What the demo applies, and what must come of it on the simulated cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMESPACE = "aim-demo"
NODES = ("mi300x-8", "mi325x-8", "mi355x-8", "mi210-4", "mi300x-cpx-nps4", "cpu-only")


@dataclass(frozen=True)
class Sample:
    """One file of deploy/samples with the AIMDeployment in it."""

    file: str
    name: str
    about: str
    ready: str
    """Expected status of the Ready condition."""
    reason: str
    """Expected reason of the RecipeSelected condition."""
    recipe: str = ""
    """Beginning of the expected recipe's name."""

    def as_expected(self, obj: Mapping[str, Any]) -> bool:
        """Whether the demo shows with this object what it is there to show."""
        return (
            condition(obj, "Ready") == self.ready
            and condition(obj, "RecipeSelected", "reason") == self.reason
        )


SAMPLES = (
    Sample("qwen3-32b.yaml", "qwen3-32b", "a model and nothing else: the best recipe for the free GPUs", "True", "RecipeSelected", "qwen3-32b-"),
    Sample("llama-3-3-70b.yaml", "llama-3-3-70b", "wishes: two MI300X in fp8", "True", "RecipeSelected", "llama-3-3-70b-instruct-mi300x-2x-fp8"),
    Sample("llama-3-1-405b-waits.yaml", "llama-3-1-405b", "eight free MI300X on one node: it has to wait", "False", "InsufficientCapacity"),
    Sample("custom-recipe.yaml", "team-qwen3-8b", "a team's own recipe in a ConfigMap", "True", "RecipeSelected", "configmap/team-qwen3-8b"),
    Sample("cannot-work.yaml", "too-large", "cannot work on these GPUs, and says why", "False", "NoEligibleRecipe"),
)  # fmt: skip


def condition(obj: Mapping[str, Any], kind: str, field: str = "status") -> str:
    """A field of a condition that speaks of the present spec; "" otherwise."""
    generation = obj["metadata"].get("generation")
    for found in obj.get("status", {}).get("conditions", []):
        if found["type"] == kind and found.get("observedGeneration") == generation:
            return str(found.get(field, ""))
    return ""


def is_judged(obj: Mapping[str, Any]) -> bool:
    """Whether the operator has decided about the present spec."""
    return condition(obj, "RecipeSelected") in ("True", "False")

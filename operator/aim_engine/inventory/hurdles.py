"""What keeps pods off a node whatever is free on it, each cause by its own name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from aim_engine.inventory.nodes import NodeFacts, Taint


class Cause(StrEnum):
    """Why a node takes no pod."""

    DELETING = "Deleting"
    NOT_READY = "NotReady"
    CORDONED = "Cordoned"
    TAINTED = "Tainted"
    NOT_SELECTED = "NotSelected"
    UNHEALTHY = "Unhealthy"
    """Its device plugin reports fewer usable GPUs than there are, and those are too few."""


@dataclass(frozen=True, slots=True, order=True)
class Hurdle:
    """One cause, with what it is about: the taint, or the labels that are missing."""

    cause: Cause
    told: str
    """What follows the name of the node."""
    about: str = ""

    def __str__(self) -> str:
        return self.told


_IMPLIED_TAINTS = "node.kubernetes.io/"
"""Kubernetes itself taints nodes that are cordoned or not Ready; what is told already is not told again."""


def standing(facts: NodeFacts) -> tuple[Hurdle, ...]:
    """Why a node takes no pods at all; empty when it does."""
    found = []
    if facts.deleting:
        found.append(Hurdle(Cause.DELETING, "is being deleted"))
    if not facts.ready:
        found.append(Hurdle(Cause.NOT_READY, "is not Ready"))
    if facts.unschedulable:
        found.append(Hurdle(Cause.CORDONED, "is cordoned"))
    return tuple(found)


def untolerated(taints: tuple[Taint, ...], closed: tuple[Hurdle, ...]) -> Iterator[Hurdle]:
    """The taints in the way, without those that stand for what is in `closed`."""
    for taint in taints:
        if not (closed and taint.key.startswith(_IMPLIED_TAINTS)):
            yield Hurdle(Cause.TAINTED, f"has taint {taint} that is not tolerated", str(taint))


def unselected(selector: Mapping[str, str], facts: NodeFacts) -> Iterator[Hurdle]:
    """The labels of a node selector that a node lacks."""
    lacks = ", ".join(
        f"{label}={value}" for label, value in sorted(selector.items()) if facts.labels.get(label) != value
    )
    if lacks:
        yield Hurdle(Cause.NOT_SELECTED, f"lacks the label {lacks} of the node selector", lacks)


def unhealthy(usable: int, there: int) -> Hurdle:
    """GPUs that the device plugin does not offer."""
    return Hurdle(Cause.UNHEALTHY, f"has {there - usable} unhealthy GPUs of {there}")

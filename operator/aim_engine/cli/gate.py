"""What the gate of a cluster would say of a change: the validator's own judgement, without a validator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aim_engine.admission.answer import Answer
from aim_engine.admission.deployments import Scene, judge_deployment
from aim_engine.admission.recipes import judge_config_map, judge_recipe, labelled
from aim_engine.cli.changes import Change, Wrong
from aim_engine.cli.files import Found
from aim_engine.cli.output import invalid, tell
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.world import World
from aim_engine.selection import Check, Memo

_CHECKS = frozenset(Check)
"""All: what a validator leaves out, the operator refuses afterwards."""


def through_the_gate(world: World, change: Change, namespace: str) -> Change:
    """The change with recipes that the gate refuses as parts that are wrong. Warnings about them are told."""
    return replace(change, parts=(*change.parts, *_refused(world, change, namespace)))


def refuse_wrong(change: Change) -> None:
    """Tell all that is wrong in a file; raises CommandError when anything is."""
    wrong = [part.error for part in change.parts if isinstance(part, Wrong)]
    for error in wrong[:-1]:
        tell(f"aim-engine: {error}")
    if wrong:
        raise wrong[-1]


def warn_of_deployment(world: World, found: Found, key: Key) -> None:
    """Tell what the gate would warn about. What is free is the decision's to tell, which knows the nodes."""
    scene = Scene(
        namespace=key[0],
        namespace_labels=world.labels(key),
        candidates=world.cache.candidates(key[0], world.named.get((key[0], world.config_map(key) or ""), ())),
        statuses={},
        allowed_images=tuple(world.planner.config.allowed_images),
        facts=world.planner.facts,
        checks=_CHECKS,
        memo=Memo(),
    )
    warn(found, judge_deployment(found.obj, None, scene))


def _refused(world: World, change: Change, namespace: str) -> Iterator[Wrong]:
    for found in change.beside:
        answer = _of_recipe(world, found, namespace)
        warn(found, answer)
        if answer.refusals:
            yield Wrong(found.where, invalid(f"{found.where}: {found.name}: {'; '.join(answer.refusals)}"))


def _of_recipe(world: World, found: Found, namespace: str) -> Answer:
    facts, kind = world.planner.facts, found.obj["kind"]
    if kind == "AIMRecipe":
        return judge_recipe(found.obj, None, facts, _CHECKS)
    if kind == "ConfigMap" and labelled(found.obj):
        home = (found.identity(namespace)["namespace"], found.obj["metadata"]["name"])
        allowed = world.planner.config.allowed_images
        return judge_config_map(found.obj, None, world.labels(home), allowed, facts, _CHECKS)
    return Answer()


def warn(found: Found, answer: Answer) -> None:
    """Tell the warnings about an object."""
    for text in answer.warnings:
        tell(f"Warning: {found.where}: {text}")

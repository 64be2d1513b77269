"""The six steps of a selection as a log that reads as an explanation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.api.quantity import format_bytes
from aim_engine.cli.output import printable
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.world import World

_SHOWN = 5
_ELIGIBLE = ("chosen", "recommended", "eligible")


def account(world: World, key: Key, document: Mapping[str, Any]) -> str:
    """What was seen and decided, a line each."""
    steps = (
        ("GPUs of the cluster", _gpus(document["inventory"])),
        ("The model", _model(world, document)),
        ("Recipes that cannot serve", _dropped(document)),
        ("The order of the others", _order(document)),
        ("Free GPUs", _capacity(document)),
        ("The choice", _choice(document)),
    )
    lines = [f"Selecting a recipe for {key[0]}/{key[1]}"]
    for number, (title, told) in enumerate(steps, start=1):
        lines += [f"[{number}/6] {title}", *(f"      {printable(line)}" for line in told)]
    return "\n".join(lines) + "\n"


def _gpus(inventory: Mapping[str, Any]) -> Iterator[str]:
    if not inventory["gpus"]:
        yield f"none were recognised on {inventory['nodes']} nodes with AMD GPUs; is AMD's node labeller running?"
    for each in inventory["gpus"]:
        mode = f" in {each['partition']}" if each["partition"] else ""
        yield f"{each['gpuModel']}{mode}: {each['allocatable']} on {each['nodes']} nodes, {each['free']} free"
    for name in inventory["unrecognised"][:_SHOWN]:
        yield f"node {name} has GPUs of a model that is not known"


def _model(world: World, document: Mapping[str, Any]) -> Iterator[str]:
    name = document["model"]
    model = world.planner.facts.model(name) if name else None
    if name is None:
        yield "that of the recipe that is named"
    elif model is None:
        why = world.planner.facts.unknown(name)
        yield f"{name}: its dimensions are not known{f' ({why})' if why else ''}, so memory is not checked"
    else:
        weights = format_bytes(2 * model.parameters)
        yield (
            f"{name}: {model.parameters / 1e9:.1f} billion parameters ({weights} in 16 bit), published in "
            f"{model.native_precision}, context up to {model.max_position_embeddings} tokens"
        )


def _dropped(document: Mapping[str, Any]) -> Iterator[str]:
    rejected = [each for each in document["candidates"] if each["verdict"] == "rejected"]
    if not rejected:
        yield "none"
    reasons = Counter(each["reason"] for each in rejected)
    for reason, count in reasons.most_common():
        yield f"{count} for {reason}"
        for each in [each for each in rejected if each["reason"] == reason][:2]:
            yield f"  {each['recipe']}: {each['message']}"


def _order(document: Mapping[str, Any]) -> Iterator[str]:
    eligible = [each for each in document["candidates"] if each["verdict"] in _ELIGIBLE]
    if not eligible:
        yield "nothing is left"
    for place, each in enumerate(eligible[:_SHOWN], start=1):
        yield f"{place}. {each['recipe']}"
    if len(eligible) > _SHOWN:
        yield f"and {len(eligible) - _SHOWN} more"


def _capacity(document: Mapping[str, Any]) -> Iterator[str]:
    short = [
        each
        for each in document["candidates"]
        if each["verdict"] in _ELIGIBLE and each["verdict"] != "chosen" and each["needed"]
    ]
    chosen = document["chosen"]
    if chosen:
        yield f"{chosen['recipe']}: {chosen['replicasThatFit']} replicas fit now, the first on {chosen['node'] or 'no node yet'}"
    for each in short[:_SHOWN]:
        yield f"{each['recipe']}: {each['message']}"
    if not chosen and not short:
        yield "not looked at: no recipe is left"


def _choice(document: Mapping[str, Any]) -> Iterator[str]:
    chosen = document["chosen"]
    if chosen:
        yield (
            f"{chosen['recipe']} ({chosen['gpuCount']} x {chosen['gpuModel']}, {chosen['precision']}, {chosen['backend']}), "
            f"tier {chosen['tier']}"
        )
    yield document["message"]
    if document["remedy"]:
        yield f"What would help: {document['remedy']}"

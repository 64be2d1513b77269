"""How select and explain show a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.api.enums import Outcome
from aim_engine.catalog.gpus import devices
from aim_engine.cli.output import Exit, columns, invalid, printable, tell
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.plan import Plan
from aim_engine.reconcile.world import World

_COLOURS = {"chosen": "green", "recommended": "green", "eligible": "yellow", "rejected": "red"}
_SHOWN = 12
_NODES = 3


def decide(world: World, key: Key, where: str) -> tuple[dict[str, Any], Plan]:
    """The decision on a deployment of the world, and the plan of the pass that would make it.

    Raises CommandError when its spec cannot work whatever the cluster does. See docs/reference/decision.schema.json.
    """
    problem = world.cache.deployments[key].error or world.problem(key)
    if problem is not None:
        raise invalid(f"{where}: {problem}")
    document, plan = world.explain(key)
    error = world.config_error(key)
    if error is not None and not document["candidates"]:
        name = world.config_map(key)
        document["message"] = f"ConfigMap '{name}' cannot be read: {error}"
        document["remedy"] = f"correct the lines named of ConfigMap {name}"
    waits = world.told_to_wait(key)
    if waits is not None and document["outcome"] == Outcome.SELECTED and document["inForce"] is None:
        document["operatorSays"] = waits
    return document, plan


def exit_code(document: Mapping[str, Any]) -> Exit:
    """3 when nothing can serve, whatever comes free; a deployment that only waits for GPUs is in order."""
    return Exit.NO_RECIPE if document["outcome"] == "NoRecipe" else Exit.OK


def hint_at_hub(world: World, document: Mapping[str, Any], *, asked: bool) -> None:
    """The operator may know the model from the Hub, which a command asks only when told to."""
    model = document["model"]
    unheard = document["outcome"] == "NoRecipe" and model and "/" in model and not document["candidates"]
    if (
        unheard
        and not asked
        and world.planner.config.hub.enabled
        and world.planner.facts.model(model) is None
    ):
        tell(f"nothing is known of {model} here; --hub asks the Hub about it, as the operator does")


def decision_table(document: Mapping[str, Any], *, wide: bool) -> str:
    """The decision for people."""
    lines = [f"{document['outcome']}: {printable(document['message'])}\n"]
    if document.get("operatorSays"):
        lines.append(f"The operator says: {printable(document['operatorSays'])}\n")
    if document["remedy"]:
        lines.append(f"What would help: {printable(document['remedy'])}\n")
    lines += [f"{printable(line)}\n" for line in _standing(document)]
    if document["chosen"]:
        lines.append("\n" + _chosen(document["chosen"]))
    if document["candidates"]:
        lines.append("\n" + _candidates(document, wide=wide))
    lines.append("\n" + inventory_table(document["inventory"]))
    if document["inForce"] is not None and document["inventory"]["gpus"]:
        lines.append("(its own GPUs are counted as free)\n")
    return "".join(lines)


def _standing(document: Mapping[str, Any]) -> list[str]:
    """What runs, and what would be better."""
    running, advice, chosen = document["inForce"], document["recommendation"], document["chosen"]
    if running is None:
        waits = chosen and chosen["waitsFor"]
        return [f"Further replicas wait: {waits}"] if waits else []
    on = f" on {', '.join(running['nodes'])}" if running["nodes"] else ""
    what = {
        "Recipe": "; the next pass moves it",
        "Rendering": "; the next pass renders it anew",
        "Replicas": "; the next pass scales it",
        None: "",
    }
    lines = [
        f"In force: {running['recipe']} ({_devices(running)}, {running['precision']}), "
        f"{running['tier']}, revision {running['revision']}{on}{what[document['change']]}"
    ]
    if running["waitsFor"]:
        lines.append(f"Further replicas wait: {running['waitsFor']}")
    if advice is not None:
        lines.append(f"Recommended: {advice['message']}")
        lines += [f"  {part}: {advice[part]}" for part in ("gain", "cost") if advice.get(part)]
    return lines


def _devices(found: Mapping[str, Any]) -> str:
    return devices(found["gpuCount"], found["gpuModel"], found["partition"])


def _chosen(chosen: Mapping[str, Any]) -> str:
    performance = chosen["performance"]
    rate = f"{performance['tokensPerSecond']:g} tok/s ({performance['kind']})" if performance else "-"
    context = str(chosen["usableContext"] or "unknown")
    head = ("RECIPE", "TIER", "GPUS", "PRECISION", "BACKEND", "NODE", "CONTEXT", "THROUGHPUT")
    row = (
        chosen["recipe"], chosen["tier"], _devices(chosen), chosen["precision"], chosen["backend"], chosen["node"] or "-",
        context, rate,
    )  # fmt: skip
    return columns(head, [row])


def _candidates(document: Mapping[str, Any], *, wide: bool) -> str:
    """One row a recipe."""
    shown = document["candidates"] if wide else document["candidates"][:_SHOWN]
    head = ("CANDIDATE", "VERDICT", "REASON", "MESSAGE", *(("REMEDY", "NEEDED", "HAS") if wide else ()))
    rows = [
        (
            each["recipe"], each["verdict"], each["reason"], each["message"],
            *((each["remedy"] or "-", each["needed"] or "-", each["has"] or "-") if wide else ()),
        )
        for each in shown
    ]  # fmt: skip
    left = len(document["candidates"]) - len(shown)
    more = f"... and {left} more; -o wide shows all\n" if left else ""
    return columns(head, rows, {1: _COLOURS}) + more


def inventory_table(inventory: Mapping[str, Any]) -> str:
    """The GPUs there are."""
    if not inventory["gpus"]:
        unrecognised = inventory["unrecognised"]
        if not unrecognised:
            return "No node offers AMD GPUs.\n"
        return (
            f"No node has AMD GPUs of a known model: see the labels of {', '.join(unrecognised[:_NODES])}.\n"
        )
    rows = [
        (
            each["gpuModel"],
            each["partition"] or "-",
            str(each["nodes"]),
            str(each["allocatable"]),
            str(each["unhealthy"]),
            str(each["free"]),
        )
        for each in inventory["gpus"]
    ]
    return columns(("GPU", "PARTITION", "NODES", "GPUS", "UNHEALTHY", "FREE"), rows)

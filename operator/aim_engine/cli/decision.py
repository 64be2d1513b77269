"""How select and explain show a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.cli.output import Exit, coloured, columns
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.world import World
from aim_engine.selection import report

_COLOURS = {"chosen": "green", "eligible": "yellow", "rejected": "red"}


def decision_document(world: World, key: Key) -> dict[str, Any]:
    """The decision on a deployment of the world, with its name; see docs/reference/decision.schema.json."""
    request, decision = world.decide(key)
    document = report(request, decision, world.planner.free_for(key))
    error = world.config_error(key)
    if error is not None and not document["candidates"]:
        name = request.spec.recipe.config_map
        document["message"] = f"ConfigMap '{name}': {error}"
    return {"namespace": key[0], "name": key[1], **document}


def exit_code(document: Mapping[str, Any]) -> Exit:
    """3 when nothing can serve, whatever comes free; a deployment that only waits for GPUs is in order."""
    return Exit.NO_RECIPE if document["outcome"] == "NoRecipe" else Exit.OK


def decision_table(document: Mapping[str, Any], *, wide: bool) -> str:
    """The decision for people."""
    lines = [f"{document['outcome']}: {document['message']}\n"]
    if document["remedy"]:
        lines.append(f"What would help: {document['remedy']}\n")
    chosen = document["chosen"]
    if chosen:
        lines.append("\n" + _chosen(chosen))
    if document["candidates"]:
        lines.append("\n" + _candidates(document, wide=wide))
    lines.append("\n" + _inventory(document["inventory"]))
    return "".join(lines)


def _chosen(chosen: Mapping[str, Any]) -> str:
    performance = chosen["performance"]
    rate = f"{performance['tokensPerSecond']:g} tok/s ({performance['kind']})" if performance else "-"
    gpus = f"{chosen['gpuCount']}x{chosen['gpuModel']}"
    context = str(chosen["usableContext"] or "unknown")
    head = ("RECIPE", "TIER", "GPUS", "PRECISION", "BACKEND", "NODE", "CONTEXT", "THROUGHPUT")
    row = (
        chosen["recipe"], chosen["tier"], gpus, chosen["precision"], chosen["backend"], chosen["node"] or "-",
        context, rate,
    )  # fmt: skip
    return columns(head, [row])


def _candidates(document: Mapping[str, Any], *, wide: bool) -> str:
    """One row a recipe; the colour is added after the columns are laid out, for it has no width."""
    shown = document["candidates"] if wide else document["candidates"][:12]
    head = ("CANDIDATE", "VERDICT", "REASON", "MESSAGE", *(("REMEDY", "NEEDED", "HAS") if wide else ()))
    rows = [
        (
            each["recipe"], each["verdict"], each["reason"], each["message"],
            *((each["remedy"] or "-", each["needed"] or "-", each["has"] or "-") if wide else ()),
        )
        for each in shown
    ]  # fmt: skip
    first, *others = columns(head, rows).splitlines(keepends=True)
    painted = [
        line.replace(each["verdict"], coloured(each["verdict"], _COLOURS[each["verdict"]]), 1)
        for each, line in zip(shown, others, strict=True)
    ]
    left = len(document["candidates"]) - len(shown)
    return "".join([first, *painted, f"... and {left} more; -o wide shows all\n" if left else ""])


def _inventory(inventory: Mapping[str, Any]) -> str:
    if not inventory["gpus"]:
        return f"No AMD GPUs were recognised on {inventory['nodes']} nodes.\n"
    rows = [
        (
            each["gpuModel"],
            each["partition"] or "-",
            str(each["nodes"]),
            str(each["allocatable"]),
            str(each["free"]),
        )
        for each in inventory["gpus"]
    ]
    return columns(("GPU", "PARTITION", "NODES", "GPUS", "FREE"), rows)

"""`aim-engine status`: deployments, what they deliver, and the GPUs there are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from aim_engine.cli.cluster import home, named, world_of
from aim_engine.cli.decision import inventory_table
from aim_engine.cli.output import CommandError, Exit, ForbiddenError, columns, emit, printable, tell
from aim_engine.inventory import Inventory
from aim_engine.inventory.quantities import mapping
from aim_engine.reconcile.cache import Key, StoredDeployment, read_deployment
from aim_engine.reconcile.status import by_type
from aim_engine.reconcile.world import World
from aim_engine.selection import inventory_summary

_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}
_PERFORMANCE_COLOURS = {
    "OnTarget": "green",
    "BelowTarget": "red",
    "PerformanceRegressed": "red",
}


def run(arguments: argparse.Namespace) -> int:
    """Show the fleet; one namespace with -n, else all. With a name, one deployment and all that is known of it."""
    if arguments.all_namespaces and (arguments.namespace or arguments.name):
        raise CommandError("--all-namespaces goes with neither --namespace nor a name", Exit.USAGE)
    world, deployments, inventory = _seen(arguments)
    if arguments.name is not None:
        document = _row(deployments[named(deployments, arguments.name, home(arguments))])
        emit(arguments.output, document, lambda _: _details(document))
        return Exit.OK
    rows = [
        _row(stored) for key, stored in sorted(deployments.items()) if arguments.namespace in (None, key[0])
    ]
    if not rows:
        tell(_nothing(arguments.namespace, world))
    fleet = {"deployments": rows, "inventory": inventory_summary(inventory) if inventory else None}
    emit(arguments.output, fleet, lambda wide: _table(fleet, wide=wide))
    return Exit.OK


def _nothing(namespace: str | None, world: World | None) -> str:
    """Why there are no rows. A file of nodes alone knows no namespaces."""
    if namespace is None:
        return "there are no AIMDeployments"
    known = world.cache.namespaces if world else {}
    if known and namespace not in known:
        return f"namespace '{namespace}' does not exist"
    return f"there are no AIMDeployments in namespace '{namespace}'"


def _seen(
    arguments: argparse.Namespace,
) -> tuple[World | None, Mapping[Key, StoredDeployment], Inventory | None]:
    """The cluster, its deployments and GPUs; who may read a namespace alone sees the deployments there."""
    try:
        world = world_of(arguments, everywhere=arguments.namespace is None and arguments.name is None)
    except ForbiddenError as error:
        if arguments.namespace is None and arguments.name is None:
            raise CommandError(f"{error}, or name your namespace with -n") from None
        from aim_engine.cli.live import fetch_deployments

        found = [read_deployment(obj) for obj in fetch_deployments(home(arguments))]
        tell(f"aim-engine: the GPUs of the cluster are not shown: {error}")
        return None, {(stored.namespace, stored.name): stored for stored in found}, None
    return world, world.cache.deployments, world.tracker.inventory()


def _row(stored: StoredDeployment) -> dict[str, Any]:
    status = stored.status
    recipe, advice = mapping(status.get("recipe")), mapping(status.get("recommendation"))
    conditions = by_type(status)
    ready, on_target = (conditions.get(name, {}) for name in ("Ready", "PerformanceOnTarget"))
    return {
        "namespace": stored.namespace,
        "name": stored.name,
        "model": status.get("modelID"),
        "recipe": recipe.get("name"),
        "tier": recipe.get("tier"),
        "gpus": recipe.get("gpus"),
        "precision": recipe.get("precision"),
        "replicas": status.get("ready"),
        "ready": ready.get("status"),
        "reason": ready.get("reason"),
        "message": ready.get("message") or stored.error,
        "recommended": advice.get("recipe"),
        "url": status.get("url"),
        "performance": _performance(stored, on_target),
    }


def _performance(stored: StoredDeployment, on_target: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured beside what is wanted; None where nothing is known."""
    seen = mapping(stored.status.get("performance"))
    targets = stored.typed.spec.targets if stored.typed else None
    expected, baseline = mapping(seen.get("expected")), mapping(seen.get("baseline"))
    first, token = (
        mapping(seen.get(name)) for name in ("timeToFirstTokenMilliseconds", "interTokenLatencyMilliseconds")
    )
    return {
        "tokensPerSecond": seen.get("tokensPerSecond"),
        "expectedTokensPerSecond": expected.get("tokensPerSecond"),
        "expectedBy": expected.get("source"),
        "percentOfExpected": expected.get("percent"),
        "timeToFirstTokenP95Milliseconds": first.get("p95"),
        "targetTimeToFirstTokenMilliseconds": targets.max_time_to_first_token_milliseconds if targets else None,
        "targetTokensPerSecondAndReplica": targets.min_tokens_per_second if targets else None,
        "interTokenLatencyP95Milliseconds": token.get("p95"),
        "requestsRunning": seen.get("requestsRunning"),
        "requestsWaiting": seen.get("requestsWaiting"),
        "baselineTokensPerSecondAndReplica": baseline.get("tokensPerSecond"),
        "percentOfBaseline": baseline.get("percent"),
        "measuredAt": seen.get("at"),
        "onTarget": on_target.get("status"),
        "onTargetReason": on_target.get("reason"),
        "onTargetMessage": on_target.get("message"),
    }  # fmt: skip


def _table(document: Mapping[str, Any], *, wide: bool) -> str:
    head = ["namespace", "name", "ready", "reason", "recipe", "gpus", "precision", "replicas"]
    measured = ["tok/s", "expected", "ttft p95", "waiting", "performance", "baseline"]
    more = ["tier", "model", "recommended", "message"] if wide else []
    rows = [
        [*(_text(row[name]) for name in head), *_measured(row["performance"]), *(_text(row[name]) for name in more)]
        for row in document["deployments"]
    ]  # fmt: skip
    names = [*head, *measured, *more]
    colours = {names.index("ready"): _COLOURS, names.index("performance"): _PERFORMANCE_COLOURS}
    fleet = columns([name.upper() for name in names], rows, colours)
    return f"{fleet}\n{inventory_table(document['inventory'])}" if document["inventory"] else fleet


def _measured(seen: Mapping[str, Any]) -> list[str]:
    """Cells of the numbers: measured first, then what it is held against."""
    return [
        _text(seen["tokensPerSecond"]),
        _expected(seen),
        _first_token(seen),
        _text(seen["requestsWaiting"]),
        _text(seen["onTargetReason"]),
        _percent(seen["percentOfBaseline"]),
    ]


def _expected(seen: Mapping[str, Any]) -> str:
    if seen["expectedTokensPerSecond"] is not None:
        share = f", {seen['percentOfExpected']}%" if seen["percentOfExpected"] is not None else ""
        return f"{seen['expectedTokensPerSecond']} {seen['expectedBy']}{share}"
    target = seen["targetTokensPerSecondAndReplica"]
    return "-" if target is None else f"{target} target"


def _first_token(seen: Mapping[str, Any]) -> str:
    measured, target = seen["timeToFirstTokenP95Milliseconds"], seen["targetTimeToFirstTokenMilliseconds"]
    limit = "" if target is None else f"/{target}"
    return "-" if measured is None and not limit else f"{_text(measured)}{limit} ms"


def _of_baseline(seen: Mapping[str, Any]) -> str:
    percent = seen["percentOfBaseline"]
    return "the load is another now" if percent is None else f"now {_percent(percent)} of it at a like load"


def _percent(value: object) -> str:
    return "-" if value is None else f"{value}%"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _details(row: Mapping[str, Any]) -> str:
    """One deployment, a fact a line."""
    seen = row["performance"]
    baseline = seen["baselineTokensPerSecondAndReplica"]
    facts = {
        "Deployment": f"{row['namespace']}/{row['name']}",
        "Ready": f"{_text(row['ready'])}, {_text(row['reason'])}: {_text(row['message'])}",
        "Model": row["model"],
        "Recipe": f"{_text(row['recipe'])}, {_text(row['gpus'])}, {_text(row['precision'])}, tier {_text(row['tier'])}",
        "Recommended": row["recommended"],
        "Replicas": row["replicas"],
        "URL": row["url"],
        "Throughput": None if seen["tokensPerSecond"] is None else f"{seen['tokensPerSecond']} tok/s, measured until {seen['measuredAt']}",
        "Expected": None if _expected(seen) == "-" else f"{_expected(seen)} (tok/s)",
        "Time to first token": None if _first_token(seen) == "-" else f"{_first_token(seen)} (p95{'/target' if '/' in _first_token(seen) else ''})",
        "Inter-token latency": None if seen["interTokenLatencyP95Milliseconds"] is None else f"{seen['interTokenLatencyP95Milliseconds']} ms (p95)",
        "Requests": None if seen["requestsRunning"] is None else f"{seen['requestsRunning']} running, {_text(seen['requestsWaiting'])} waiting",
        "Baseline": None if baseline is None else f"{baseline} tok/s per replica; {_of_baseline(seen)}",
        "On target": f"{_text(seen['onTarget'])}, {_text(seen['onTargetReason'])}: {_text(seen['onTargetMessage'])}",
    }  # fmt: skip
    width = max(map(len, facts)) + 2
    return "".join(f"{name + ':':<{width}}{printable(_text(value))}\n" for name, value in facts.items())

"""`aim-engine diff`: what applying a deployment would change in the cluster."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.cli.cluster import add_cluster, world_of
from aim_engine.cli.explain import decision_of
from aim_engine.cli.output import Exit, coloured, tell, to_yaml
from aim_engine.cli.render import add_deployment, chosen_key, manifests_of
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.world import World

EXAMPLES = """\
examples:
  aim-engine diff -f deploy/samples/qwen3-32b.yaml
  aim-engine diff -f app.yaml --cluster snapshot.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add_deployment(parser)
    add_cluster(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare the decision in force with the one that applying would lead to."""
    world = world_of(arguments)
    key = chosen_key(world, arguments)
    current = world.planner.current(key)
    before = [dict(manifest) for manifest in current.manifests] if current else []
    decision_of(world, key, f"{key[0]}/{key[1]}")
    after = manifests_of(world, key)
    lines = list(difference(before, after))
    for line in lines:
        sys.stdout.write(_painted(line))
    tell(_summary(world, key, bool(lines)))
    return Exit.OK


def difference(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[str]:
    """A unified difference by object; objects of one side alone are whole."""
    old, new = _by_name(before), _by_name(after)
    for name in dict.fromkeys((*new, *old)):
        yield from difflib.unified_diff(
            _lines(old.get(name)), _lines(new.get(name)),
            f"{name} now" if name in old else "/dev/null", f"{name} then" if name in new else "/dev/null",
        )  # fmt: skip


def _summary(world: World, key: Key, changed: bool) -> str:
    plan = world.plan(key)
    strategy = (
        f"; pods are replaced by {plan.revision.strategy}: {plan.revision.strategy_reason}"
        if plan.revision
        else ""
    )
    what = f"would change{strategy}" if changed else "would not change"
    return f"{key[0]}/{key[1]} {what}; {plan.selected.message}"


def _by_name(manifests: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in manifests}


def _lines(manifest: dict[str, Any] | None) -> list[str]:
    return to_yaml(manifest).splitlines(keepends=True) if manifest else []


def _painted(line: str) -> str:
    if line.startswith("+"):
        return coloured(line, "green")
    return coloured(line, "red") if line.startswith("-") else line

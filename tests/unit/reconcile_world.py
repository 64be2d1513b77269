"""Small worlds for tests of the reconciler's pure parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aim_engine.api.deployment import AIMDeployment
from aim_engine.api.deployment_status import Recommendation
from aim_engine.inventory import Inventory
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.plan import Plan, Surroundings, make_plan
from aim_engine.reconcile.revision import Revision, inputs_of
from aim_engine.selection import Candidate, Recorded, Want
from unit.selection_world import FACTS, QWEN

NOW, BEFORE = "2026-03-01T12:00:00Z", "2026-02-01T00:00:00Z"


def deployment(name: str = "chat", generation: int = 1, **spec: Any) -> AIMDeployment:
    return AIMDeployment.from_object(
        {
            "apiVersion": "aim.engine.amd.com/v1alpha1",
            "kind": "AIMDeployment",
            "metadata": {"name": name, "namespace": "team-a", "uid": "u-1", "generation": generation},
            "spec": {"model": {"id": QWEN}, **spec},
        }
    )


def around(
    asked: AIMDeployment,
    candidates: Sequence[Candidate],
    free: Inventory,
    *,
    now: Inventory | None = None,
    live: int | None = None,
    changed: bool = False,
    hopes: tuple[Want, ...] = (),
    recommendation: Recommendation | None = None,
    clock: float = 1_800_000_000.0,
    recorded: Recorded | None = None,
    nodes: frozenset[str] = frozenset(),
    **config: Any,
) -> Surroundings:
    return Surroundings(
        candidates=candidates,
        free=free,
        now=free if now is None else now,
        facts=FACTS,
        config=OperatorConfig(**config),
        namespace_labels={},
        live_replicas=live,
        look_again=changed,
        hopes=hopes,
        recommendation=recommendation,
        inputs=replace(
            inputs_of(asked.spec), recorded=f"{recorded.recipe}@{recorded.hash}" if recorded else ""
        ),
        recorded=recorded,
        nodes=nodes,
        clock=clock,
    )


def plan(
    asked: AIMDeployment,
    current: Revision | None,
    candidates: Sequence[Candidate],
    free: Inventory,
    **more: Any,
) -> Plan:
    return make_plan(asked, current, around(asked, candidates, free, **more))


def revision_of(asked: AIMDeployment, candidates: Sequence[Candidate], free: Inventory) -> Revision:
    """The revision that a first pass makes."""
    found = plan(asked, None, candidates, free).revision
    assert found is not None
    return found

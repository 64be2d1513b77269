"""What a pass leaves in the ledger, and what it says of recipes that nobody can choose."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from aim_engine.api.conditions import ConditionReason
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.recipes import RecipeStatuses
from unit.cli_world import Json, deployment, node, recipe
from unit.operator_world import KEY, Objects, OperatorPlanner

HERE: Objects = (node("gpu-1", gpus=8), recipe("big", gpus=8))


class Empty:
    """An API server that has no object: it says so, and takes what is written."""

    def __init__(self) -> None:
        self.statuses: dict[str, Json] = {}

    async def get(self, _resource: Any, _namespace: str, name: str) -> Json:
        raise ApiError(404, "NotFound", f"{name} not found")

    async def merge_status(self, _resource: Any, namespace: str, name: str, patch: Json) -> Json:
        self.statuses[name] = patch
        return {
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1},
            "status": {},
        }


def reconciled(operator: OperatorPlanner, key: tuple[str, str]) -> Json:
    """The status after one pass."""
    api = Empty()
    reconciler = operator.runtime.reconciler
    reconciler.client = reconciler.applier.client = cast(KubeClient, api)

    async def once() -> None:
        with pytest.raises(Exception, match="does not exist"):
            await reconciler.reconcile(key)

    asyncio.run(once())
    return api.statuses[key[1]]


def test_a_deployment_whose_claim_is_missing_holds_no_gpus() -> None:
    operator = OperatorPlanner(
        (*HERE, deployment("chat", cache={"existingClaim": "gone"}), deployment("next"))
    )
    status = reconciled(operator, KEY)
    reasons = [each["reason"] for each in status["conditions"]]
    assert ConditionReason.VOLUME_CLAIM_NOT_FOUND in reasons
    assert operator.plan(("team-a", "next")).granted == 1


@pytest.mark.parametrize(("args", "fits"), [({"max-model-len": 8192}, 1), ({"no-such-flag": 1}, 0)])
def test_an_invalid_recipe_fits_nowhere(args: Json, fits: int) -> None:
    operator = OperatorPlanner((node("gpu-1", gpus=8), recipe("big", gpus=8, engineArgs=args)))
    runtime = operator.runtime
    statuses: RecipeStatuses = runtime.recipes
    told = statuses._status(runtime.cache.recipes["big"])
    assert told.fits == fits
    assert told.conditions[0].status == ("True" if fits else "False")

"""A random walk over deployments, pods of others, nodes, refusals and restarts. After each step nobody waits for GPUs that are
free to it, and a restart has decided nothing."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from aim_engine.inventory import place
from aim_engine.kube.client import ApiError
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import Key
from aim_engine.reconcile.plan import as_candidate
from aim_engine.reconcile.status import wanted
from aim_engine.reconcile.world import BY_KIND
from aim_engine.selection import Candidate, pod_need
from unit.cli_world import Json, deployment, pod, recipe
from unit.test_reconcile_passes import Passes, in_zone

RECIPES = {
    "eight": recipe("eight", gpus=8, maturity="optimized"),
    "four": recipe("four", gpus=4),
    "one": recipe("one", gpus=1, maturity="preview"),
}
ZONES = {"gpu-1": "a", "gpu-2": "b", "gpu-3": "a"}
GPU = "amd.com/gpu"
STEPS = 25
_SOON = 0.3
"""Seconds. What is asked for later than that is not waited for: somebody would sleep until then."""


class Walk:
    """A cluster that changes, and the operator in it. Pods go where their GPUs were promised.

    Where nodes are kept, they are at once and for ever.
    """

    def __init__(self, seed: int, *, keeps_nodes: bool) -> None:
        self.random = random.Random(seed)
        self.keeps_nodes = keeps_nodes
        self.asked: dict[str, Json] = {}
        self.strangers: dict[str, tuple[str, Json]] = {}
        self.pods: dict[str, tuple[str, tuple[str, Json], int]] = {}
        """By name: deployment, pod, GPUs."""
        self.cordoned: set[str] = set()
        self.count = 0
        self.patient = False
        self.passes = self._operator()

    def _operator(self) -> Passes:
        passes = Passes(*RECIPES.values(), *(self._node(name) for name in ZONES))
        reconciler = passes.runtime.reconciler
        reconciler.config = reconciler.config.model_copy(update={"patience_seconds": 0})
        return passes

    def _node(self, name: str) -> tuple[str, Json]:
        kind, obj = in_zone(name, ZONES[name])
        return kind, {**obj, "spec": {"unschedulable": name in self.cordoned}}

    def _number(self) -> int:
        self.count += 1
        return self.count

    async def step(self) -> None:
        """One change, and all that follows."""
        steps = (self.occupy, self.free, self.free, self.make, self.make, self.delete, self.suspend, self.scale, self.cordon, self.restart)  # fmt: skip
        if self.random.random() < 0.1:
            await self.refuse()
        else:
            self.random.choice(steps)()
        await self.settle()

    def occupy(self) -> None:
        name = self.random.choice(list(ZONES))
        free = self.passes.runtime.tracker.inventory().nodes[name].free_gpus(GPU)
        sizes = [size for size in (1, 2, 4, 8) if size <= free]
        if sizes:
            made = pod(f"stranger-{self._number()}", name, self.random.choice(sizes))
            self.strangers[made[1]["metadata"]["name"]] = made
            self.passes.operator.feed(*made)

    def free(self) -> None:
        if self.strangers:
            self.passes.gone(self.strangers.pop(self.random.choice(sorted(self.strangers))))

    def make(self) -> None:
        chance, name = self.random.random, f"d{self._number()}"
        wishes: Json = {"updatePolicy": "Automatic"} if chance() < 0.3 else {}
        if chance() < 0.4:
            wishes["name"] = self.random.choice(list(RECIPES))
        elif chance() < 0.3:
            wishes["fallback"] = {"enabled": False}
        spec: Json = {"recipe": wishes, "replicas": self.random.choice([1, 1, 2, 3])}
        if chance() < 0.4:
            spec["scheduling"] = {"nodeSelector": {"zone": self.random.choice("ab")}}
        if chance() < 0.15:
            spec["suspend"] = True
        if chance() < 0.2:
            spec["cache"] = {"sizeGiB": 10}
        kind, obj = deployment(name, **spec)
        created = f"2026-01-01T00:{self.count // 60:02}:{self.count % 60:02}Z"
        self.asked[name] = {
            **obj,
            "kind": kind,
            "metadata": {**obj["metadata"], "creationTimestamp": created},
        }
        self._tell(name)

    def _tell(self, name: str, **spec: Any) -> None:
        obj = self.asked[name]
        metadata = obj["metadata"]
        metadata = {
            **metadata,
            "generation": metadata["generation"] + 1,
            "resourceVersion": str(self._number()),
        }
        self.asked[name] = {**obj, "metadata": metadata, "spec": {**obj["spec"], **spec}}
        self.passes.runtime.on_event(resources.DEPLOYMENTS_AIM, "MODIFIED", self.asked[name])

    def _any(self) -> str | None:
        return self.random.choice(sorted(self.asked)) if self.asked else None

    def suspend(self) -> None:
        if name := self._any():
            self._tell(name, suspend=not self.asked[name]["spec"].get("suspend", False))

    def scale(self) -> None:
        if name := self._any():
            self._tell(name, replicas=self.random.choice([0, 1, 2, 3]))

    def delete(self) -> None:
        """The garbage collector takes what it owns."""
        name = self._any()
        if name is None:
            return
        gone = self.asked.pop(name)
        metadata = {**gone["metadata"], "resourceVersion": str(self._number())}
        self.passes.runtime.on_event(resources.DEPLOYMENTS_AIM, "DELETED", {**gone, "metadata": metadata})
        objects = self.passes.server.objects
        for kind, namespace, each in [at for at in objects if at[2] == name or at[2].startswith(f"{name}-")]:
            del objects[kind, namespace, each]
            self.passes.runtime.cache.children.pop((namespace, each), None)
        for each in [each for each, (owner, _, _) in self.pods.items() if owner == name]:
            self.passes.gone(self.pods.pop(each)[1])

    def cordon(self) -> None:
        name = self.random.choice(list(ZONES))
        self.cordoned ^= {name}
        self.passes.operator.feed(*self._node(name))

    async def refuse(self) -> None:
        """For a while the API server makes nothing of a kind."""
        kind = self.random.choice(["Deployment", "Service", "ControllerRevision"])
        self.passes.server.refused[kind] = ApiError(500, "InternalError", "busy")
        self.random.choice((self.make, self.free, self.scale))()
        await self.settle()
        self.passes.server.refused.clear()
        self.patient = True
        await self.settle()
        self.patient = False

    def restart(self) -> None:
        before, self.passes = self.passes, self._operator()
        self.passes.serve_from(before.server)
        runtime = self.passes.runtime
        for made in (*self.strangers.values(), *(each for _, each, _ in self.pods.values())):
            self.passes.operator.feed(*made)
        for name, obj in self.asked.items():
            status = before.server.statuses.get(("team-a", name), {})
            runtime.on_event(resources.DEPLOYMENTS_AIM, "ADDED", {**obj, "status": status})
        for (kind, _, _), obj in before.server.objects.items():
            runtime.on_event(BY_KIND[kind], "ADDED", {**obj, "kind": kind})
        runtime._restore_promises()
        for name in self.asked:
            if self.asked[name]["spec"]["recipe"].get("updatePolicy") != "Automatic":
                key = ("team-a", name)
                assert runtime.planner.current(key) == before.runtime.planner.current(key)

    async def settle(self) -> None:
        """Passes and pods until nothing changes."""
        for _ in range(8):
            await self._make_passes()
            if not self._run_pods():
                return
        raise AssertionError("pods come and go without end")

    async def _make_passes(self) -> None:
        queue, now = self.passes.runtime.queue, asyncio.get_running_loop().time
        if self.keeps_nodes:
            self.passes.runtime.reconciler.review()
        for _ in range(3):
            await self.passes.settle()
            for key in [
                key for key, timer in queue._timers.items() if self.patient or timer.when() - now() < _SOON
            ]:
                queue.add(key)
        await self.passes.settle()

    def _run_pods(self) -> bool:
        """As the Deployment's controller, the scheduler and the kubelet do; whether anything changed."""
        changed = False
        for name in sorted(self.asked):
            live = self.passes.server.objects.get(("Deployment", "team-a", name))
            if live is None:
                continue
            container = live["spec"]["template"]["spec"]["containers"][0]
            gpus = int(container["resources"]["limits"][GPU])
            mine = [each for each, (owner, _, _) in self.pods.items() if owner == name]
            old = [each for each in mine if self.pods[each][2] != gpus]
            mine = [each for each in mine if each not in old]
            for each in (*old, *mine[live["spec"]["replicas"] :]):
                self.passes.gone(self.pods.pop(each)[1])
                changed = True
            promise = self.passes.runtime.tracker._promises.get(("team-a", name))
            missing = live["spec"]["replicas"] - len(mine)
            for place_ in (list(promise.places) if promise else [])[: max(0, missing)]:
                made = pod(f"{name}-{self._number()}", place_, gpus, owner=name)
                self.pods[made[1]["metadata"]["name"]] = (name, made, gpus)
                self.passes.operator.feed(*made)
                changed = True
        return changed

    def check(self) -> None:
        """Whoever has fewer replicas than it wants has no room for more; no node runs more than it has."""
        runtime = self.passes.runtime
        for name in self.asked:
            key = ("team-a", name)
            stored = runtime.cache.deployments[key]
            assert stored.typed is not None
            live = self.passes.server.objects.get(("Deployment", "team-a", name))
            has = live["spec"]["replicas"] if live else 0
            if has >= wanted(stored.typed.spec):
                continue
            current = runtime.planner.current(key)
            for each in [as_candidate(current)] if current else self._would_do(key):
                need = pod_need(each, stored.typed.spec)
                if current is None:
                    assert place(runtime.planner.free_for(key), need).fits == 0, (
                        f"{name} waits and {each.name} has room"
                    )
                elif not need.together:
                    kept = runtime.waiters.kept_for_others(key)
                    free = [
                        state for at, state in runtime.tracker.inventory().nodes.items() if at not in kept
                    ]
                    assert all(state.free_gpus(GPU) < need.gpus or state.facts.unschedulable or not _selected(state.facts.labels, need.node_selector) for state in free), name  # fmt: skip
        for at, state in runtime.tracker.inventory().nodes.items():
            assert state.used.gpus.get(GPU, 0) <= 8, at

    def _would_do(self, key: Key) -> list[Candidate]:
        """Recipes of which any would let a deployment start."""
        wishes = self.asked[key[1]]["spec"]["recipe"]
        names = [wishes["name"]] if "name" in wishes else list(RECIPES)
        found = [self.passes.runtime.cache.recipes[name].candidate for name in names]
        known = [each for each in found if each is not None]
        return known[:1] if "fallback" in wishes else known


def _selected(labels: Any, selector: Any) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())


@pytest.mark.parametrize("keeps_nodes", [False, True])
@pytest.mark.parametrize("seed", range(12))
async def test_nobody_waits_for_what_is_free_to_it_and_a_restart_decides_nothing(
    seed: int, keeps_nodes: bool
) -> None:
    walk = Walk(seed, keeps_nodes=keeps_nodes)
    for _ in range(STEPS):
        await walk.step()
        walk.check()

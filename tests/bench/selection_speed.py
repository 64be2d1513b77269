"""Speed of selection and of the inventory in a big cluster. Pure functions, no API server. Prints, never fails.

500 recipes of twenty models, 5,000 nodes of five kinds, 40,000 pods, as docs/reference/performance.md tells.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.recipe import AIMRecipeSpec
from aim_engine.inventory import Inventory, Tracker
from aim_engine.reconcile.intake import decode_pod
from aim_engine.selection import Candidate, CatalogueFacts, Memo, Request, Source, candidate, decide

NODES, PODS, RECIPES, MODELS = 5_000, 40_000, 500, 20
DEVICES = ("74a1", "74a5", "75a3", "740f", None)
GPUS = ("MI300X", "MI325X", "MI355X", "MI210")
KNOWN = "Qwen/Qwen3-32B"


def main() -> None:
    objects = [pod(i) for i in range(PODS)]
    decoded = measure(lambda: [decode_pod(obj) for obj in objects[:4_000]], 5) / 4_000
    usages = [decode_pod(obj)[0] for obj in objects]
    tracker = Tracker()
    started = time.perf_counter()
    tracker.replace_nodes(node(i) for i in range(NODES))
    tracker.replace_pods(usages)
    print(f"inventory of {NODES} nodes and {PODS} pods: built in {time.perf_counter() - started:.2f} s")
    changed = [decode_pod(pod(i, gpus=1 + i % 2))[0] for i in range(0, PODS, 40)]
    inventory = tracker.inventory()
    update = measure(lambda: [tracker.upsert_pod(each) for each in changed], 3) / len(changed)
    print(f"pod event: {decoded * 1e6:.1f} us to decode, {update * 1e6:.1f} us to take into the inventory")
    recipes = [made(i) for i in range(RECIPES)]
    for label, model in (("known dimensions", KNOWN), ("unknown dimensions", "example/model-1")):
        decision(label, model, recipes, inventory)
    linear(inventory)
    independent(recipes)


def decision(label: str, model: str, recipes: list[Candidate], inventory: Inventory) -> None:
    """One model's decision, cold and warm; a warm one meets another cluster state each time, as in life."""
    request, facts, memo = asked(model), CatalogueFacts(), Memo()
    started = time.perf_counter()
    decide(request, recipes, inventory, facts, memo)
    cold = time.perf_counter() - started
    warm = measure(lambda: decide(request, recipes, inventory, facts, memo), 50)
    mine = sum(each.spec.model_id == model for each in recipes)
    print(
        f"decision, {mine} of {RECIPES} recipes, {label}: cold {cold * 1e3:.2f} ms, warm {warm * 1e3:.2f} ms"
    )


def linear(inventory: Inventory) -> None:
    """The time per recipe of the model stays the same, however many there are."""
    request, facts = asked(KNOWN), CatalogueFacts()
    told = []
    for count in (25, 50, 100, 200, 400):
        recipes, memo = [made(i, KNOWN) for i in range(count)], Memo()
        decide(request, recipes, inventory, facts, memo)
        spent = measure(lambda found=recipes, kept=memo: decide(request, found, inventory, facts, kept), 10)  # type: ignore[misc]
        told.append(f"{count}: {spent / count * 1e6:.0f} us")
    print(f"warm decision per recipe of the model, by their number: {', '.join(told)}")


def independent(recipes: list[Candidate]) -> None:
    """Pods of others cost a decision nothing."""
    request, facts = asked(KNOWN), CatalogueFacts()
    told = []
    for pods in (1_000, 10_000, 40_000):
        tracker, memo = Tracker(), Memo()
        tracker.replace_nodes(node(i) for i in range(NODES))
        tracker.replace_pods(decode_pod(pod(i))[0] for i in range(pods))
        inventory = tracker.inventory()
        decide(request, recipes, inventory, facts, memo)
        spent = measure(lambda seen=inventory, kept=memo: decide(request, recipes, seen, facts, kept), 20)  # type: ignore[misc]
        told.append(f"{pods}: {spent * 1e3:.2f} ms")
    print(f"warm decision by pods in the cluster: {', '.join(told)}")


def measure(work: Callable[[], Any], repeats: int) -> float:
    """Median seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def asked(model: str) -> Request:
    spec = AIMDeploymentSpec.strict_load({"model": {"id": model}})
    return Request("team-a", spec, {}, None, f"bench/{model}")


def made(index: int, model: str | None = None) -> Candidate:
    name = model or (KNOWN if index % MODELS == 0 else f"example/model-{index % MODELS}")
    hardware = {"gpuModel": GPUS[index % 4], "gpuCount": 2 ** (index // 4 % 4)}
    args = {"max-model-len": 8192 + index}
    spec = {"modelID": name, "hardware": hardware, "precision": "bf16", "engineArgs": args}
    return candidate(f"made-{index}", Source.CATALOGUE, AIMRecipeSpec.strict_load(spec))


def node(index: int) -> dict[str, Any]:
    device = DEVICES[index % len(DEVICES)]
    amounts = {"cpu": "96", "memory": "1Ti", "pods": "250", **({"amd.com/gpu": "8"} if device else {})}
    labels = {"amd.com/gpu.device-id": device} if device else {}
    return {
        "metadata": {"name": f"node-{index}", "labels": labels},
        "status": {
            "allocatable": amounts, "capacity": amounts, "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip


def pod(index: int, gpus: int | None = None) -> dict[str, Any]:
    """Every fourth pod holds a GPU; the others are somebody's web servers."""
    held = gpus if gpus is not None else int(index % 4 == 0)
    limits = {"amd.com/gpu": str(held)} if held else {}
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": limits}
    return {
        "metadata": {"name": f"p-{index}", "namespace": "web", "uid": f"u-{index}", "labels": {"app": "web"}},
        "spec": {"nodeName": f"node-{index % NODES}", "containers": [{"name": "c", "resources": resources}]},
        "status": {"phase": "Running"},
    }


if __name__ == "__main__":
    main()

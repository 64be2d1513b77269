"""Capacity: what one replica takes, whether it fits now, and why not where it does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import Reason
from aim_engine.api.quantity import format_bytes, milli, whole
from aim_engine.inventory import (
    Blocked,
    Cause,
    Hurdle,
    Placement,
    PodNeed,
    Shortage,
    Withheld,
    whole_partition,
)
from aim_engine.selection.types import Assessment, Candidate, Verdict

_NAMED = 3
"""Nodes that a message names."""


def pod_need(candidate: Candidate, spec: AIMDeploymentSpec) -> PodNeed:
    """What one replica takes from a node."""
    hardware, own, wanted = candidate.spec.hardware, candidate.spec.resources, spec.overrides.resources
    return PodNeed(
        gpu_model=hardware.gpu_model,
        partition=hardware.partition,
        gpus=hardware.gpu_count,
        cpu_milli=milli(wanted.cpu or own.cpu),
        memory_bytes=whole(wanted.memory or own.memory),
        node_selector=dict(spec.scheduling.node_selector),
        tolerations=tuple(spec.scheduling.tolerations),
        together=spec.on_one_node,
    )


def capacity_verdict(current: Assessment, replicas: int) -> Verdict | None:
    """Why the replicas do not fit now, or None when they do."""
    found = _shortage(current, replicas)
    return None if found is None else replace(found, eligible=True)


def _shortage(current: Assessment, replicas: int) -> Verdict | None:
    placement, need = current.placement, current.need
    if placement is None or need is None or placement.fits >= replicas:
        return None
    gpus = f"{_devices(need, need.gpus, 'free ')} on one node"
    if placement.usable_nodes == 0:
        return _told(
            current, Reason.NODE_NOT_USABLE, f"needs {gpus}; {_named(placement)}",
            remedy=_opening(placement.blocked, need), needed=gpus, has="0 usable nodes",
        )  # fmt: skip
    if placement.short_of in (Shortage.CPU, Shortage.MEMORY, Shortage.PODS):
        return _short_of_others(current, placement, need, placement.short_of, gpus)
    where = f" ({placement.largest_free_node})" if placement.largest_free_node else ""
    has = f"at most {placement.largest_free} on one node{where}, {placement.total_free} in all"
    if placement.fits:
        if need.together:
            return _short_of_room_together(current, placement, replicas, gpus)
        missing = replicas - placement.fits
        each = f", {need.gpus} on one node for each replica" if need.gpus > 1 else ""
        kept = "".join(f"; {_keeping(each, placement)}" for each in placement.withheld[:_NAMED])
        return _told(
            current, Reason.CAPACITY_INSUFFICIENT, f"{placement.fits} of {replicas} replicas fit now; each needs {gpus}{kept}",
            remedy=f"free or add {_counted(need, missing * need.gpus)}{each}", needed=f"{replicas} replicas", has=f"{placement.fits}",
        )  # fmt: skip
    closed = [each for each in placement.blocked if _is_selected(each)]
    besides = f"; besides, {'; '.join(map(str, closed[:_NAMED]))}" if closed else ""
    kept = "".join(f"; {_keeping(each, placement)}" for each in placement.withheld[:_NAMED])
    return _told(
        current, Reason.CAPACITY_INSUFFICIENT, f"needs {gpus}; free: {has}{kept}{besides}",
        remedy=f"{_freeing(placement, need)}, or {_opening(closed, need)}", needed=gpus, has=has,
    )  # fmt: skip


def _short_of_room_together(current: Assessment, placement: Placement, replicas: int, gpus: str) -> Verdict:
    return _told(
        current, Reason.CAPACITY_INSUFFICIENT,
        f"{placement.fits} of {replicas} replicas fit now; each needs {gpus}, and all share one node, because the claim of "
        "spec.cache is ReadWriteOnce",
        remedy="set spec.cache.accessMode to ReadWriteMany, with a storage class that can, or ask for fewer replicas",
        needed=f"{replicas} replicas on one node", has=f"{placement.fits}",
    )  # fmt: skip


def _keeping(withheld: Withheld, placement: Placement) -> str:
    """Free GPUs that are kept for somebody else are seen in the cluster, so they must be explained."""
    free = withheld.free.get(placement.resource or "", 0)
    what = f"{free} more free" if free else "what comes free"
    verb = "is" if free <= 1 else "are"
    return f"{what} on {withheld.node} {verb} kept for {'/'.join(withheld.owner)}, which waits longer"


def _freeing(placement: Placement, need: PodNeed) -> str:
    """What would make room where all usable nodes are full: nothing that comes free on a kept one does."""
    kept = {each.node: "/".join(each.owner) for each in placement.withheld}
    free = f"free {_counted(need, need.gpus - placement.largest_free)}"
    if not kept or (placement.largest_free_node and placement.largest_free_node not in kept):
        return f"{free} on {placement.largest_free_node}" if placement.largest_free_node else free
    if placement.usable_nodes > len(kept):
        return f"{free} on a node that is not kept"
    owners = " and ".join(dict.fromkeys(kept.values()))
    return f"wait until {owners} has started (to free more GPUs does not help before)"


def _short_of_others(
    current: Assessment, placement: Placement, need: PodNeed, short: Shortage, gpus: str
) -> Verdict:
    """GPUs are free, but not enough of something else beside them."""
    what, best, help_ = {
        Shortage.CPU: (
            _cpus(need.cpu_milli), f"at most {_cpus(placement.best_free_cpu_milli)}", "free cpu on a node, or lower spec.overrides.resources",
        ),
        Shortage.MEMORY: (
            f"{format_bytes(need.memory_bytes)} of memory", f"at most {format_bytes(placement.best_free_memory_bytes)}",
            "free memory on a node, or lower spec.overrides.resources",
        ),
        Shortage.PODS: ("a free pod slot", "none", "remove a pod from a node, or raise maxPods of its kubelet"),
    }[short]  # fmt: skip
    return _told(
        current, Reason.NODE_RESOURCES_INSUFFICIENT, f"needs {what} beside {gpus}; free on a node with the GPUs: {best}",
        remedy=help_, needed=what, has=best,
    )  # fmt: skip


def never_here(current: Assessment) -> Verdict | None:
    """Why no node of the cluster is big enough, however empty; None when one is."""
    placement, need = current.placement, current.need
    if placement is None or need is None or placement.matching_nodes:
        return None
    if placement.largest_node >= need.gpus:
        what = f"{_cpus(need.cpu_milli)} and {format_bytes(need.memory_bytes)} of memory"
        return _told(
            current, Reason.NODE_RESOURCES_INSUFFICIENT,
            f"needs {what}; no node with {_devices(need, need.gpus)} has as much even when empty",
            remedy="lower spec.overrides.resources, or add a larger node", needed=what, has="less on every node",
        )  # fmt: skip
    return _told(
        current, Reason.CAPACITY_INSUFFICIENT,
        f"needs {_devices(need, need.gpus)} on one node; the largest node has {placement.largest_node}",
        remedy="use a recipe with fewer GPUs, or add a larger node",
        needed=f"{_counted(need, need.gpus)} on one node", has=str(placement.largest_node),
    )  # fmt: skip


def _named(placement: Placement) -> str:
    """The nodes that are large enough and take no pod, each with all that is in the way."""
    shown = placement.blocked[:_NAMED]
    more = placement.blocked_nodes - len(shown)
    return "; ".join(map(str, shown)) + (f"; and {more} more" if more else "")


def _is_selected(blocked: Blocked) -> bool:
    """Nodes that the user did not select are nobody's business where others are full."""
    return all(hurdle.cause is not Cause.NOT_SELECTED for hurdle in blocked.hurdles)


def _opening(blocked: Iterable[Blocked], need: PodNeed) -> str:
    """What would let one of the nodes take the pod, the least first."""
    least = sorted(blocked, key=lambda each: (len(each.hurdles), each.node))[:_NAMED]
    ways = (" and ".join(_remedy(each.node, hurdle) for hurdle in each.hurdles) for each in least)
    return ", or ".join(dict.fromkeys((*ways, _adding(need))))


def _remedy(node: str, hurdle: Hurdle) -> str:
    match hurdle.cause:
        case Cause.CORDONED:
            return f"uncordon {node}"
        case Cause.NOT_READY:
            return f"wait until {node} is Ready"
        case Cause.DELETING:
            return f"wait until {node} is back"
        case Cause.TAINTED:
            return f"tolerate {hurdle.about} in spec.scheduling.tolerations"
        case Cause.NOT_SELECTED:
            return "correct spec.scheduling.nodeSelector"
        case Cause.UNHEALTHY:
            return f"repair the GPUs of {node} (the log of AMD's device plugin there tells what is wrong)"


def _adding(need: PodNeed) -> str:
    mode = whole_partition(need.partition)
    return f"add a {need.gpu_model} node" + (f" in {mode}" if mode else "")


def _cpus(milli_cores: int) -> str:
    return f"{milli_cores / 1000:g} CPUs"


def _devices(need: PodNeed, count: int, free: str = "") -> str:
    """So many GPUs of the model, or partitions of them, as the need asks for."""
    return f"{count} {free}{need.gpu_model} {_noun(need, count)}"


def _counted(need: PodNeed, count: int) -> str:
    return f"{count} {_noun(need, count)}"


def _noun(need: PodNeed, count: int) -> str:
    mode = whole_partition(need.partition)
    return f"{mode} partition{'' if count == 1 else 's'}" if mode else f"GPU{'' if count == 1 else 's'}"


def _told(
    current: Assessment, reason: Reason, message: str, *, remedy: str, needed: str, has: str
) -> Verdict:
    return Verdict(current.candidate.name, reason, message, remedy, needed, has)

"""Capacity: what one replica takes, whether it fits now, and why not where it does not."""

from __future__ import annotations

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.api.enums import Reason
from aim_engine.api.quantity import format_bytes, milli, whole
from aim_engine.inventory import PodNeed, Shortage
from aim_engine.selection.types import Assessment, Candidate, Verdict


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
    )


def capacity_verdict(current: Assessment, replicas: int) -> Verdict | None:
    """Why the replicas do not fit now, or None when they do."""
    placement, need = current.placement, current.need
    if placement is None or need is None or placement.fits >= replicas:
        return None
    gpus = f"{_gpus(need.gpus, f'free {need.gpu_model}')} on one node"
    if placement.usable_nodes == 0:
        blocked = "; ".join(f"{node}: {why}" for node, why in placement.blocked[:3]) or "no node qualifies"
        return _told(
            current, Reason.NODE_NOT_USABLE, f"needs {gpus}; {blocked}",
            remedy="uncordon the node or wait until it is Ready, correct spec.scheduling.nodeSelector, or add a toleration or node", needed=gpus, has="0 usable nodes",
        )  # fmt: skip
    if placement.short_of in (Shortage.CPU, Shortage.MEMORY, Shortage.PODS):
        what, best = {
            Shortage.CPU: (_cpus(need.cpu_milli), f"at most {_cpus(placement.best_free_cpu_milli)}"),
            Shortage.MEMORY: (
                f"{format_bytes(need.memory_bytes)} of memory", f"at most {format_bytes(placement.best_free_memory_bytes)}"
            ),
            Shortage.PODS: ("a free pod slot", "none"),
        }[placement.short_of]  # fmt: skip
        return _told(
            current, Reason.NODE_RESOURCES_INSUFFICIENT,
            f"needs {what} beside {gpus}; free on a node with the GPUs: {best}",
            remedy=f"free {placement.short_of} on a node, or lower spec.overrides.resources", needed=what, has=best,
        )  # fmt: skip
    where = f" ({placement.largest_free_node})" if placement.largest_free_node else ""
    has = f"at most {placement.largest_free} on one node{where}, {placement.total_free} in all"
    if placement.fits:
        return _told(
            current, Reason.CAPACITY_INSUFFICIENT, f"{placement.fits} of {replicas} replicas fit now; each needs {gpus}",
            remedy=f"free or add {(replicas - placement.fits) * need.gpus} GPUs", needed=f"{replicas} replicas", has=f"{placement.fits}",
        )  # fmt: skip
    missing = need.gpus - placement.largest_free
    on = f" on {placement.largest_free_node}" if placement.largest_free_node else ""
    return _told(
        current, Reason.CAPACITY_INSUFFICIENT, f"needs {gpus}; free: {has}",
        remedy=f"free {_gpus(missing)}{on}, or add a {need.gpu_model} node", needed=gpus, has=has,
    )  # fmt: skip


def never_here(current: Assessment) -> Verdict | None:
    """Why no node of the cluster is big enough, however empty; None when one is."""
    placement, need = current.placement, current.need
    if placement is None or need is None or placement.matching_nodes:
        return None
    if placement.largest_allocatable >= need.gpus:
        what = f"{_cpus(need.cpu_milli)} and {format_bytes(need.memory_bytes)} of memory"
        return _told(
            current, Reason.NODE_RESOURCES_INSUFFICIENT,
            f"needs {what}; no node with {_gpus(need.gpus, need.gpu_model)} has as much even when empty",
            remedy="lower spec.overrides.resources, or add a larger node", needed=what, has="less on every node",
        )  # fmt: skip
    return _told(
        current, Reason.CAPACITY_INSUFFICIENT,
        f"needs {_gpus(need.gpus, need.gpu_model)} on one node; the largest node has {placement.largest_allocatable}",
        remedy="use a recipe with fewer GPUs, or add a larger node",
        needed=f"{_gpus(need.gpus)} on one node", has=str(placement.largest_allocatable),
    )  # fmt: skip


def _cpus(milli_cores: int) -> str:
    return f"{milli_cores / 1000:g} CPUs"


def _gpus(count: int, model: str = "") -> str:
    return f"{count} {model} GPU{'' if count == 1 else 's'}".replace("  ", " ")


def _told(current: Assessment, reason: Reason, message: str, **more: str | None) -> Verdict:
    return Verdict(current.candidate.name, reason, message, **more)

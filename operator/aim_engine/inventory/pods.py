"""Pod objects -> what they hold of their node, computed as the scheduler computes it. Never raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from aim_engine.api.meta import LABEL_DEPLOYMENT
from aim_engine.inventory.nodes import AMD_DOMAIN
from aim_engine.inventory.quantities import CPU, MEMORY, amount, items, mapping

Owner = tuple[str, str]
"""(namespace, name) of an AIMDeployment."""
_NO_GPUS: Mapping[str, int] = MappingProxyType({})
_TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodUsage:
    """Effective requests of one pod."""

    uid: str
    namespace: str
    name: str
    node: str | None
    owner: Owner | None
    gpus: Mapping[str, int]
    """By extended resource name."""
    cpu_milli: int
    memory_bytes: int
    terminal: bool
    """Succeeded or Failed: it holds nothing any more."""
    terminating: bool
    """Deleted, but still holding its GPUs until its containers have ended."""
    problems: tuple[str, ...] = ()


def read_pod(obj: Mapping[str, Any]) -> PodUsage:
    """Usage of a Pod object; resizes in place that the kubelet has not finished are not looked at."""
    metadata, spec, status = (mapping(obj.get(part)) for part in ("metadata", "spec", "status"))
    problems: list[str] = []
    requests = _effective_requests(spec, problems)
    cpu, memory = requests.pop(CPU, 0), requests.pop(MEMORY, 0)
    namespace = str(metadata.get("namespace", ""))
    deployment = mapping(metadata.get("labels")).get(LABEL_DEPLOYMENT)
    return PodUsage(
        uid=str(metadata.get("uid", "")),
        namespace=namespace,
        name=str(metadata.get("name", "")),
        node=str(spec["nodeName"]) if spec.get("nodeName") else None,
        owner=(namespace, str(deployment)) if deployment else None,
        gpus=requests or _NO_GPUS,
        cpu_milli=cpu,
        memory_bytes=memory,
        terminal=status.get("phase") in _TERMINAL,
        terminating=metadata.get("deletionTimestamp") is not None,
        problems=tuple(problems),
    )


def _effective_requests(spec: Mapping[str, Any], problems: list[str]) -> dict[str, int]:
    """Sidecars (init containers that restart always) run beside what follows them; other init containers run alone."""
    total: dict[str, int] = {}
    for container in items(spec.get("containers")):
        _add(total, _requests(container.get("resources"), problems))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in items(spec.get("initContainers")):
        requests = _requests(container.get("resources"), problems)
        if container.get("restartPolicy") == "Always":
            _add(total, requests)
            _add(sidecars, requests)
            _raise(peak, sidecars)
        else:
            _add(requests, sidecars)
            _raise(peak, requests)
    _raise(total, peak)
    total.update(_amounts(mapping(mapping(spec.get("resources")).get("requests")), problems))
    _add(total, _amounts(mapping(spec.get("overhead")), problems))
    return total


def _requests(resources: object, problems: list[str]) -> dict[str, int]:
    """Requests, with limits standing in for absent ones as the API server's defaulting does."""
    if not resources:
        return {}
    named = mapping(resources)
    return _amounts({**mapping(named.get("limits")), **mapping(named.get("requests"))}, problems)


def _amounts(quantities: Mapping[str, Any], problems: list[str]) -> dict[str, int]:
    return {
        name: amount(name, text, problems)
        for name, text in quantities.items()
        if name in (CPU, MEMORY) or name.startswith(AMD_DOMAIN)
    }


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise(total: dict[str, int], floor: Mapping[str, int]) -> None:
    for name, value in floor.items():
        total[name] = max(total.get(name, 0), value)

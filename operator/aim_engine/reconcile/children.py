"""Bringing rendered objects into being and keeping them as rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aim_engine.api.meta import FIELD_MANAGER, GROUP, LABEL_MANAGED_BY, MANAGED_BY
from aim_engine.api.quantity import parse_quantity
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile.cache import LiveChild, read_child
from aim_engine.reconcile.status import merge_patch
from aim_engine.selection import content_hash

FINGERPRINT = f"{GROUP}/manifest-hash"
_EXACT = frozenset({"selector", "matchLabels", "nodeSelector"})
"""Maps in which one more key changes everything."""
_QUANTITIES = frozenset({"resources", "sizeLimit"})
"""Fields below which `1` and `1000m` are the same."""


class Effect(StrEnum):
    """What `ensure` did."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    UPDATED = "updated"
    CONFLICT = "conflict"
    LEFTOVER = "leftover"
    """Of a former AIMDeployment of the same name; the garbage collector is about to remove it."""


@dataclass(frozen=True, slots=True)
class Ensured:
    """Result of `ensure`: the object as it is now, unless its name belongs to somebody else."""

    effect: Effect
    child: LiveChild | None


def is_ours(child: LiveChild, uid: str, *, claim: bool) -> bool:
    """Whether an object belongs to the AIMDeployment `uid`. A claim that is retained has our label and no owner."""
    if child.owner_uid is not None or not claim:
        return child.owner_uid == uid
    labels = child.content()["metadata"].get("labels") or {}
    return labels.get(LABEL_MANAGED_BY) == MANAGED_BY


async def ensure(
    client: KubeClient, resource: Resource, desired: Mapping[str, Any], live: LiveChild | None, uid: str
) -> Ensured:
    """Create the object, or bring its owned fields back to what is desired. Somebody else's object is left alone.

    An ApiError 409 means that somebody wrote at the same time: worth another try.
    """
    metadata = desired["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    claim = resource.kind == "PersistentVolumeClaim"
    retained = claim and not metadata.get("ownerReferences")
    wanted = _with_fingerprint(desired)
    if live is None:
        try:
            created = await client.create(resource, namespace, wanted)
            return Ensured(Effect.CREATED, read_child(created))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        live = read_child(await client.get(resource, namespace, name))
    if not is_ours(live, uid, claim=claim):
        return Ensured(Effect.LEFTOVER if live.owner_uid else Effect.CONFLICT, None)
    if retained and live.owner_uid is not None and not live.deleting:
        return Ensured(Effect.UPDATED, read_child(await _let_go(client, resource, live)))
    if live.deleting or retained or holds(live.content(), wanted):
        return Ensured(Effect.UNCHANGED, live)
    return Ensured(Effect.UPDATED, read_child(await _bring_back(client, resource, wanted, live.uid)))


async def _let_go(client: KubeClient, resource: Resource, live: LiveChild) -> dict[str, Any]:
    """Take our owner reference away, so that the object outlives the AIMDeployment."""
    metadata = live.content()["metadata"]
    others = [each for each in metadata["ownerReferences"] if each["uid"] != live.owner_uid]
    patch = {"metadata": {"resourceVersion": live.resource_version, "ownerReferences": others or None}}
    return await client.merge(resource, metadata["namespace"], metadata["name"], patch)


async def _bring_back(
    client: KubeClient, resource: Resource, wanted: dict[str, Any], uid: str
) -> dict[str, Any]:
    """Server-side apply, which also removes what we no longer want; then, where somebody added to one of our lists
    (apply keeps their items, and refuses where they clash with ours), a replacement of these lists."""
    namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
    live = await client.get(resource, namespace, name)
    if live["metadata"]["uid"] != uid:
        raise ApiError(
            409, "Conflict", f"{resource.kind} {name} is another object than the one that was watched"
        )
    live = await _claim_fields(client, resource, live)
    try:
        live = await client.apply(resource, namespace, name, wanted)
    except ApiError as error:
        if error.code != 422:
            raise
    if holds(live, wanted):
        return live
    patch = merge_patch(live, overlay(live, wanted))
    patch["metadata"] = {**patch.get("metadata", {}), "resourceVersion": live["metadata"]["resourceVersion"]}
    return await client.merge(resource, namespace, name, patch)


async def _claim_fields(client: KubeClient, resource: Resource, live: dict[str, Any]) -> dict[str, Any]:
    """Turn the field ownership of our POST into that of an apply: otherwise fields we drop later would stay for ever."""
    namespace, name = live["metadata"]["namespace"], live["metadata"]["name"]
    entries = live["metadata"].get("managedFields") or []
    ours = [e for e in entries if e.get("manager") == FIELD_MANAGER and not e.get("subresource")]
    if any(entry.get("operation") == "Apply" for entry in ours) or not ours:
        return live
    upgraded = [{**entry, "operation": "Apply"} if entry in ours else entry for entry in entries]
    patch = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"], "managedFields": upgraded}}
    return await client.merge(resource, namespace, name, patch)


def _with_fingerprint(desired: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash: a field that a newer manifest lacks would not be missed otherwise.

    Replicas are left out: they are set at every pass and are not part of the decision.
    """
    spec = {key: value for key, value in desired["spec"].items() if key != "replicas"}
    metadata = desired["metadata"]
    annotations = {
        **(metadata.get("annotations") or {}),
        FINGERPRINT: content_hash({**desired, "spec": spec}),
    }
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def overlay(live: Any, desired: Any) -> Any:
    """`live` with every desired value; lists and label selectors become what is desired, nothing else in them."""
    if isinstance(desired, Mapping):
        base = live if isinstance(live, Mapping) else {}
        merged = {**base, **{key: overlay(base.get(key), value) for key, value in desired.items()}}
        return {
            key: desired.get(key, value) if key in _EXACT and key in desired else value
            for key, value in merged.items()
        }
    if isinstance(desired, list) and isinstance(live, list):
        named = {item["name"]: item for item in live if isinstance(item, Mapping) and "name" in item}
        return [
            overlay(named.get(item["name"]), item) if isinstance(item, Mapping) and "name" in item else item
            for item in desired
        ]
    return desired


def holds(live: Any, desired: Any, *, quantity: bool = False) -> bool:
    """Whether every desired value is there. The server adds defaults, and rewrites quantities where there are any."""
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return not desired and live is None
        return all(
            holds(live.get(key), value, quantity=quantity or key in _QUANTITIES)
            and (key not in _EXACT or len(live.get(key) or ()) == len(value))
            for key, value in desired.items()
        )
    if isinstance(desired, list):
        if not isinstance(live, list):
            return not desired and live is None
        pairs = zip(live, desired, strict=False)
        return len(live) == len(desired) and all(holds(a, b, quantity=quantity) for a, b in pairs)
    if live == desired:
        return True
    if desired in (None, "", 0, False):
        return live in (None, "", 0, False)
    return quantity and _same_quantity(live, desired)


def _same_quantity(live: Any, desired: Any) -> bool:
    if live is None or isinstance(live, Mapping | list | bool):
        return False
    try:
        return parse_quantity(str(live)) == parse_quantity(str(desired))
    except ValueError:
        return False

"""Bringing a plan about: the children and the record of the decision, concurrently, each only if it must change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.api.conditions import ConditionReason
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import Cache, Key, LiveChild, StoredDeployment
from aim_engine.reconcile.children import Effect, Ensured, ensure, holds
from aim_engine.reconcile.desired import BUDGET, with_replicas
from aim_engine.reconcile.plan import Plan
from aim_engine.reconcile.recorder import Recorder
from aim_engine.reconcile.revision import HISTORY, Record, read_record, to_object
from aim_engine.reconcile.status import PREREQUISITES_MET, Judgement, wanted

log = logging.getLogger(__name__)


_RACES = 4


class ForeignStateError(Exception):
    """Something outside our watches must change first; worth another look now and then."""


class LeftoverError(Exception):
    """Objects of a deleted namesake are still there; their removal is a matter of seconds."""


@dataclass(slots=True)
class Applier:
    """Writes children and revisions."""

    client: KubeClient
    cache: Cache
    recorder: Recorder
    _held: dict[tuple[Key, str], tuple[str, str, int]] = field(default_factory=dict)
    """(deployment, kind) -> (child's version, revision, replicas) last seen to be as rendered."""

    def forget(self, key: Key) -> None:
        """The deployment is gone."""
        for kind in resources.CHILDREN:
            self._held.pop((key, kind), None)

    async def apply(
        self, stored: StoredDeployment, plan: Plan, record: Record | None
    ) -> tuple[Judgement, Exception | None]:
        """Create and repair the children concurrently. Returns PrerequisitesMet, and what to retry for."""
        missing = await self._missing_claim(stored)
        if missing:
            return missing, ForeignStateError(missing.message)
        manifests = _manifests(stored, plan)
        tasks: list[Any] = [self._ensure(stored, plan, manifest) for manifest in manifests]
        tasks.append(self._store_revision(stored, plan, record))
        tasks.append(self._drop_budget(stored, manifests))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        conflicts = [
            f"{manifest['kind']} {manifest['metadata']['name']}"
            for manifest, result in zip(manifests, results, strict=False)
            if isinstance(result, Ensured) and result.effect is Effect.CONFLICT
        ]
        leftovers = any(isinstance(r, Ensured) and r.effect is Effect.LEFTOVER for r in results)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in errors:
            if not isinstance(error, ApiError):
                raise error
        if conflicts:
            told = f"{', '.join(conflicts)} exists and is not ours; it is left alone. Rename the AIMDeployment or remove it"
            return Judgement("False", ConditionReason.NAME_CONFLICT, told), ForeignStateError(told)
        if errors:
            return _refusal(errors[0])
        if leftovers:
            told = "waits until objects of a former AIMDeployment of this name are removed"
            return Judgement("Unknown", ConditionReason.RECONCILING, told), LeftoverError(told)
        return PREREQUISITES_MET, None

    async def _ensure(self, stored: StoredDeployment, plan: Plan, manifest: Mapping[str, Any]) -> Ensured:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        key = (stored.namespace, name)
        live = self.cache.children.get(key, {}).get(kind)
        about = ((stored.namespace, stored.name), kind)
        seen = (live.resource_version if live else "", f"{stored.uid}/{_number(plan)}", plan.granted)
        if live is not None and self._held.get(about) == seen:
            return Ensured(Effect.UNCHANGED, live)
        result = await self._ensure_again(resources.CHILDREN[kind], manifest, live, stored.uid)
        if result.child is not None and result.effect is not Effect.UNCHANGED:
            self.cache.store_child(resources.CHILDREN[kind], key, result.child)
        if result.child is not None:
            self._held[about] = (result.child.resource_version, *seen[1:])
        if result.effect is Effect.UPDATED and live is not None and not plan.is_new:
            self._tell_repair(stored, live, result.child, manifest)
        return result

    async def _ensure_again(
        self, resource: Resource, manifest: Mapping[str, Any], live: LiveChild | None, uid: str
    ) -> Ensured:
        """Controllers write to our objects too; a lost race is run again at once, a few times."""
        for _ in range(_RACES):
            try:
                return await ensure(self.client, resource, manifest, live, uid)
            except ApiError as error:
                if error.code != 409:
                    raise
        return await ensure(self.client, resource, manifest, live, uid)

    def _tell_repair(
        self,
        stored: StoredDeployment,
        before: LiveChild,
        after: LiveChild | None,
        manifest: Mapping[str, Any],
    ) -> None:
        """An Event for a child that somebody else had changed. Another number of replicas is ours to set, no repair.

        What an admission webhook makes of each write is none either: it stays as it is.
        """
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        content = before.content()
        if kind == "Deployment":
            content["spec"]["replicas"] = manifest["spec"]["replicas"]
        if holds(content, manifest) or after is None or not holds(after.content(), manifest):
            return
        log.info("%s %s/%s brought back to what was rendered", kind, stored.namespace, name)
        told = f"{kind} {name} was changed by somebody else and is as rendered again"
        self.recorder.record(stored, "Normal", "DriftRepaired", told, "Repair")

    async def _store_revision(self, stored: StoredDeployment, plan: Plan, record: Record | None) -> None:
        revision = plan.revision
        if revision is None or not (plan.is_new or (record and not record.uid)):
            return
        obj = to_object(stored.name, stored.namespace, stored.uid, revision)
        records = self.cache.revisions[stored.uid]
        # Its children are made at the same time, so the decision holds whatever is answered; without a uid it is stored later.
        records[obj["metadata"]["name"]] = read_record(obj, stored.uid)
        try:
            created = await self.client.create(resources.REVISIONS, stored.namespace, obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            created = await self.client.get(resources.REVISIONS, stored.namespace, obj["metadata"]["name"])
        records[obj["metadata"]["name"]] = read_record(created, stored.uid)
        for old in sorted(records.values(), key=lambda r: r.number)[:-HISTORY]:
            await self.client.delete(resources.REVISIONS, stored.namespace, old.name, old.uid)
            records.pop(old.name, None)

    async def _drop_budget(self, stored: StoredDeployment, manifests: list[dict[str, Any]]) -> None:
        """A disruption budget is for several replicas; with one it would only block drains."""
        key = (stored.namespace, stored.name)
        live = self.cache.children.get(key, {}).get(BUDGET)
        if live and live.owner_uid == stored.uid and all(m["kind"] != BUDGET for m in manifests):
            await self.client.delete(resources.BUDGETS, stored.namespace, stored.name, live.uid)

    async def _missing_claim(self, stored: StoredDeployment) -> Judgement | None:
        cache = stored.typed.spec.cache if stored.typed else None
        if cache is None or cache.existing_claim is None:
            return None
        try:
            await self.client.get(resources.CLAIMS, stored.namespace, cache.existing_claim)
        except ApiError as error:
            if error.code != 404:
                raise
            return Judgement(
                "False", ConditionReason.VOLUME_CLAIM_NOT_FOUND,
                f"spec.cache.existingClaim '{cache.existing_claim}' does not exist in {stored.namespace}; create it or correct the name",
            )  # fmt: skip
        return None


def _manifests(stored: StoredDeployment, plan: Plan) -> list[dict[str, Any]]:
    assert plan.revision is not None  # noqa: S101
    assert stored.typed is not None  # noqa: S101
    return with_replicas(plan.revision.manifests, running=plan.granted, asked=wanted(stored.typed.spec))


def _number(plan: Plan) -> int:
    return plan.revision.number if plan.revision else 0


def _refusal(error: BaseException) -> tuple[Judgement, Exception]:
    assert isinstance(error, ApiError)  # noqa: S101
    if error.code == 403 and "being terminated" in error.message:
        reason, told = (
            ConditionReason.NAMESPACE_TERMINATING,
            "the namespace is being deleted; use another one",
        )
        return Judgement("False", reason, told), ForeignStateError(told)
    if error.code in (400, 403, 422):
        told = f"the API server refused an object: {error.message[:600]}"
        return Judgement("False", ConditionReason.REJECTED_BY_CLUSTER, told), ForeignStateError(told)
    return PREREQUISITES_MET, error

"""Whether a live object holds what was rendered: server defaults and rewritten quantities are no drift, edits are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import read_child
from aim_engine.reconcile.children import (
    FINGERPRINT,
    Effect,
    _with_fingerprint,
    ensure,
    holds,
    is_ours,
    overlay,
)
from unit.reconcile_world import deployment, revision_of
from unit.selection_world import UNHURRIED, cluster, node, recipe

REVISION = revision_of(
    deployment(
        replicas=2, cache={"sizeGiB": 10}, service={"annotations": {"a": "b"}}, overrides={"resources": {"cpu": "1.5", "memory": "1024Mi"}}
    ),
    [recipe("r")], cluster(node()),
)  # fmt: skip
MANIFESTS: list[dict[str, Any]] = [copy.deepcopy(dict(manifest)) for manifest in REVISION.manifests]
DEPLOYMENT = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Deployment")


def claim_of(*, retain: bool) -> dict[str, Any]:
    asked = deployment(cache={"sizeGiB": 10, "retain": retain})
    made = revision_of(asked, [recipe("r")], cluster(node())).manifests
    return dict(next(each for each in made if each["kind"] == "PersistentVolumeClaim"))


def as_served(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of it: metadata, defaults, canonical quantities, a status."""
    live = copy.deepcopy(manifest)
    live["metadata"] |= {
        "uid": "x",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{}],
    }
    live["status"] = {"replicas": 1}
    if live["kind"] == "Deployment":
        _default(live["spec"], revisionHistoryLimit=10)
        pod = live["spec"]["template"]["spec"]
        _default(pod, dnsPolicy="ClusterFirst", restartPolicy="Always", schedulerName="default-scheduler")
        for container in pod["containers"]:
            _default(container, imagePullPolicy="IfNotPresent", terminationMessagePath="/dev/termination-log")
            for amounts in container["resources"].values():
                amounts |= {name: _canonical(text) for name, text in amounts.items()}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    _default(container[probe], successThreshold=1)
    if live["kind"] == "Service":
        _default(live["spec"], clusterIP="10.0.0.1", sessionAffinity="None", ipFamilies=["IPv4"])
    return live


def _default(target: dict[str, Any], **defaults: Any) -> None:
    for name, value in defaults.items():
        target.setdefault(name, value)


def _canonical(text: str) -> str:
    """Quantities as Kubernetes writes them back."""
    return {"1.5": "1500m", "1000m": "1", "1024Mi": "1Gi"}.get(text, text)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_what_the_server_stored_of_a_manifest_holds_it(manifest: dict[str, Any]) -> None:
    assert holds(as_served(manifest), manifest)
    assert holds(manifest, manifest)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from leaves(child, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from leaves(child, (*path, index))
    else:
        yield path, value


def changed(manifest: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    live = as_served(manifest)
    at: Any = live
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return live


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_every_single_value_edited_by_hand_is_seen(manifest: dict[str, Any]) -> None:
    for path, value in leaves(manifest):
        other = (
            (not value) if isinstance(value, bool) else value + 7 if isinstance(value, int) else f"{value}x"
        )
        assert not holds(changed(manifest, path, other), manifest), path


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_every_single_value_removed_by_hand_is_seen(manifest: dict[str, Any]) -> None:
    for path, value in leaves(manifest):
        if value in (None, "", 0, False):
            continue
        live = as_served(manifest)
        at: Any = live
        for step in path[:-1]:
            at = at[step]
        del at[path[-1]]
        assert not holds(live, manifest), path


def test_an_added_container_or_argument_is_seen() -> None:
    for path in (("template", "spec", "containers"), ("template", "spec", "containers", 0, "args")):
        live = as_served(DEPLOYMENT)
        at: Any = live["spec"]
        for step in path:
            at = at[step]
        at.append(copy.deepcopy(at[-1]))
        assert not holds(live, DEPLOYMENT)


@pytest.mark.parametrize(
    ("live", "desired", "same"),
    [
        ({"resources": {"cpu": "1500m"}}, {"resources": {"cpu": "1.5"}}, True),
        ({"resources": {"limits": {"cpu": "2"}}}, {"resources": {"limits": {"cpu": "2000m"}}}, True),
        ({"sizeLimit": "64Gi"}, {"sizeLimit": str(64 * 2**30)}, True),
        ({"resources": {"cpu": "2"}}, {"resources": {"cpu": 2}}, True),
        ({"resources": {"cpu": "2"}}, {"resources": {"cpu": "3"}}, False),
        ({"resources": {"memory": "64Gi"}}, {"resources": {"memory": "64G"}}, False),
        ({"env": [{"value": "1000"}]}, {"env": [{"value": "1e3"}]}, False),
        ({"args": ["0.9"]}, {"args": ["0.90"]}, False),
        ({}, {"optional": False}, True),
        ({}, {"list": []}, True),
        ({}, {"map": {}}, True),
        ({}, {"text": ""}, True),
        ({}, {"count": 0}, True),
        ({}, {"text": "a"}, False),
        ({}, {"map": {"a": "b"}}, False),
        ({"map": {}}, {"map": {"a": "b"}}, False),
        ({"list": [1, 2]}, {"list": [2, 1]}, False),
        ({"list": [1]}, {"list": [1, 2]}, False),
        ({"list": "a"}, {"list": ["a"]}, False),
        ({"map": "a"}, {"map": {"a": "b"}}, False),
        ({"flag": True}, {"flag": False}, False),
        ({"flag": False}, {"flag": True}, False),
        ({"more": 1, "same": 2}, {"same": 2}, True),
        (None, {}, True),
        (None, {"a": 1}, False),
        ({"a": None}, {"a": None}, True),
    ],
)
def test_what_counts_as_held(live: Any, desired: Any, same: bool) -> None:
    assert holds(live, desired) is same


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text("ab1", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@UNHURRIED
@given(JSON)
def test_everything_holds_itself(value: Any) -> None:
    assert holds(value, value)


@UNHURRIED
@given(
    st.dictionaries(st.text("abc", max_size=2), JSON),
    st.dictionaries(st.text("xyz", min_size=1, max_size=2), JSON),
)
def test_more_fields_never_make_it_hold_less(desired: dict[str, Any], more: dict[str, Any]) -> None:
    assert holds({**more, **desired}, desired)


@UNHURRIED
@given(JSON, JSON)
def test_holding_never_raises(live: Any, desired: Any) -> None:
    assert holds(live, desired) in (True, False)


# Ownership


def child(owner: str | None, labels: dict[str, str] | None = None) -> Any:
    metadata: dict[str, Any] = {
        "name": "chat",
        "namespace": "team-a",
        "uid": "c",
        "resourceVersion": "1",
        "labels": labels or {},
    }
    if owner:
        metadata["ownerReferences"] = [
            {"apiVersion": "aim.engine.amd.com/v1alpha1", "kind": "AIMDeployment", "name": "chat", "uid": owner, "controller": True}
        ]  # fmt: skip
    return read_child({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {}})


MANAGED = {"app.kubernetes.io/managed-by": "aim-engine"}


@pytest.mark.parametrize(
    ("owner", "labels", "claim", "ours"),
    [
        ("u-1", {}, False, True),
        ("u-2", {}, False, False),
        ("u-2", MANAGED, True, False),
        (None, MANAGED, False, False),
        (None, {}, False, False),
        (None, {}, True, False),
        (None, MANAGED, True, True),
        (None, {"app.kubernetes.io/managed-by": "helm"}, True, False),
    ],
)
def test_what_is_ours(owner: str | None, labels: dict[str, str], claim: bool, ours: bool) -> None:
    assert is_ours(child(owner, labels), "u-1", claim=claim) is ours


# Repair


class _Server:
    """Answers as the API server would, and notes what is asked of it."""

    def __init__(self, stored: dict[str, Any]) -> None:
        self.stored = stored
        self.asked: list[str] = []

    async def get(self, *_: Any) -> dict[str, Any]:
        self.asked.append("get")
        return copy.deepcopy(self.stored)

    async def apply(self, _: Any, __: Any, ___: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append("apply")
        return as_served(body)

    async def merge(self, _: Any, __: Any, ___: Any, patch: dict[str, Any]) -> dict[str, Any]:
        self.patch = patch
        return copy.deepcopy(self.stored)

    async def request(self, method: str, *_: Any, **__: Any) -> dict[str, Any]:
        self.asked.append(method)
        return copy.deepcopy(self.stored)


async def _ensured(manifest: dict[str, Any], stored: dict[str, Any]) -> tuple[Effect, list[str]]:
    server = _Server(stored)
    done = await ensure(cast("KubeClient", server), resources.CHILDREN[manifest["kind"]], manifest, read_child(stored), "u-1")  # fmt: skip
    return done.effect, server.asked


def stored_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """As the API server keeps what `ensure` created."""
    return as_served(_with_fingerprint(manifest))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
async def test_what_is_as_rendered_costs_no_request(manifest: dict[str, Any]) -> None:
    assert await _ensured(manifest, stored_of(manifest)) == (Effect.UNCHANGED, [])


async def test_a_field_that_the_user_dropped_is_dropped_from_the_child() -> None:
    before = copy.deepcopy(DEPLOYMENT)
    before["spec"]["template"]["spec"]["nodeSelector"] = {"zone": "a"}
    effect, asked = await _ensured(DEPLOYMENT, stored_of(before))
    assert effect is Effect.UPDATED
    assert "apply" in asked


async def test_an_object_of_somebody_else_is_left_alone() -> None:
    stored = stored_of(DEPLOYMENT)
    stored["metadata"].pop("ownerReferences")
    assert await _ensured(DEPLOYMENT, stored) == (Effect.CONFLICT, [])


async def test_an_object_that_took_the_name_of_ours_unseen_is_left_alone() -> None:
    """Ours was deleted and somebody else made one while no watch told of it."""
    server = _Server(stored_of(DEPLOYMENT))
    known = copy.deepcopy(server.stored)
    known["metadata"]["uid"] = "gone"
    known["spec"]["replicas"] = 7
    with pytest.raises(ApiError) as refused:
        await ensure(cast("KubeClient", server), resources.DEPLOYMENTS, DEPLOYMENT, read_child(known), "u-1")
    assert refused.value.code == 409
    assert server.asked == ["get"]


@pytest.mark.parametrize("retain", [True, False])
async def test_whether_a_claim_is_retained_may_change_while_it_is_in_use(retain: bool) -> None:
    """It goes with its deployment, or stays, as the spec says now and not as it said when the claim was made."""
    before, after = claim_of(retain=not retain), claim_of(retain=retain)
    server = _Server(stored_of(before))
    done = await ensure(cast("KubeClient", server), resources.CLAIMS, after, read_child(server.stored), "u-1")
    assert done.effect is Effect.UPDATED
    if retain:
        assert server.patch["metadata"]["ownerReferences"] is None
    else:
        assert "apply" in server.asked


@UNHURRIED
@given(JSON, JSON)
def test_a_replacement_holds_what_is_desired(live: Any, desired: Any) -> None:
    assert holds(overlay(live, desired), desired)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_a_replacement_keeps_what_the_server_filled_in(manifest: dict[str, Any]) -> None:
    live = as_served(manifest)
    assert overlay(live, manifest)["metadata"]["resourceVersion"] == "7"
    assert holds(overlay(live, manifest), live)


def test_a_replacement_removes_what_was_added_to_our_lists() -> None:
    live = as_served(DEPLOYMENT)
    containers = live["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "miner", "image": "evil"})
    containers[0]["env"].append({"name": "EXTRA", "value": "1"})
    mended = overlay(live, DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in mended] == ["engine"]
    assert "EXTRA" not in {entry["name"] for entry in mended[0]["env"]}
    assert mended[0]["imagePullPolicy"]


def test_a_key_added_to_a_selector_is_seen_and_removed() -> None:
    service = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Service")
    live = as_served(service)
    live["spec"]["selector"]["extra"] = "x"
    assert not holds(live, service)
    assert overlay(live, service)["spec"]["selector"] == service["spec"]["selector"]


def test_the_fingerprint_changes_with_the_manifest_but_not_with_the_replicas() -> None:
    def fingerprint(**spec: Any) -> str:
        changed_spec = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], **spec}}
        return str(_with_fingerprint(changed_spec)["metadata"]["annotations"][FINGERPRINT])

    assert fingerprint(replicas=1) == fingerprint(replicas=7)
    assert fingerprint(minReadySeconds=5) != fingerprint()

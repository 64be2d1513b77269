"""Whether a live object holds what was rendered: server defaults and rewritten quantities are no drift, edits are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.reconcile.cache import read_child
from aim_engine.reconcile.children import holds, is_ours
from unit.reconcile_world import deployment, revision_of
from unit.selection_world import cluster, node, recipe

REVISION = revision_of(
    deployment(
        replicas=2, cache={"sizeGiB": 10}, service={"annotations": {"a": "b"}}, overrides={"resources": {"cpu": "1.5", "memory": "1024Mi"}}
    ),
    [recipe("r")], cluster(node()),
)  # fmt: skip
MANIFESTS: list[dict[str, Any]] = [copy.deepcopy(dict(manifest)) for manifest in REVISION.manifests]
DEPLOYMENT = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Deployment")


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
        ({"cpu": "1500m"}, {"cpu": "1.5"}, True),
        ({"cpu": "2"}, {"cpu": "2000m"}, True),
        ({"memory": "64Gi"}, {"memory": str(64 * 2**30)}, True),
        ({"cpu": "2"}, {"cpu": 2}, True),
        ({"cpu": "2"}, {"cpu": "3"}, False),
        ({"memory": "64Gi"}, {"memory": "64G"}, False),
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


@given(JSON)
def test_everything_holds_itself(value: Any) -> None:
    assert holds(value, value)


@given(
    st.dictionaries(st.text("abc", max_size=2), JSON),
    st.dictionaries(st.text("xyz", min_size=1, max_size=2), JSON),
)
def test_more_fields_never_make_it_hold_less(desired: dict[str, Any], more: dict[str, Any]) -> None:
    assert holds({**more, **desired}, desired)


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
    ("owner", "labels", "retained", "ours"),
    [
        ("u-1", {}, False, True),
        ("u-2", {}, False, False),
        ("u-2", MANAGED, True, False),
        (None, {}, False, False),
        (None, MANAGED, False, False),
        (None, {}, True, False),
        (None, MANAGED, True, True),
        (None, {"app.kubernetes.io/managed-by": "helm"}, True, False),
    ],
)
def test_what_is_ours(owner: str | None, labels: dict[str, str], retained: bool, ours: bool) -> None:
    assert is_ours(child(owner, labels), "u-1", retained=retained) is ours

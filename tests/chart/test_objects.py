"""Every object that the chart can render, as a real API server judges it: strict, with the CRDs of those we make objects of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest
import yaml

from chart.documented import NAMESPACE
from chart.helm import Json, named, template
from chart.pages import WRITTEN, blocks
from chart.test_docs import CLUSTER_KINDS
from chart.test_golden import CASES, render
from testbed import foreign
from testbed.cluster import Cluster
from testbed.fixtures import WITHOUT_CLUSTER
from testbed.plane import ControlPlane
from testbed.product import ROOT


@pytest.fixture(scope="module")
def judge() -> Iterator[ControlPlane]:
    """A plane with our CRDs, the Prometheus Operator's and cert-manager's, whose namespaces warn about what is not restricted."""
    if os.environ.get(WITHOUT_CLUSTER) == "1":
        pytest.skip(f"needs a control plane ({WITHOUT_CLUSTER}=1)")
    with ControlPlane.start(scheduler=False, kwok=False) as plane:
        files = [
            *(ROOT / "deploy" / "helm" / "crds").iterdir(),
            *foreign.crds("prometheus-operator"),
            *foreign.crds("cert-manager"),
        ]
        plane.kubectl("apply", "--server-side", *(word for path in files for word in ("-f", str(path))))
        plane.establish_crds()
        for name in (NAMESPACE, "aim-demo", "team-a", "team-b"):
            labels = {"pod-security.kubernetes.io/warn": "restricted"}
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        yield plane


def objects() -> list[Json]:
    """Each object of each case once."""
    found = {json.dumps(obj, sort_keys=True): obj for case in CASES for obj in render(case)}
    return list(found.values())


def test_releases_of_one_name_in_two_namespaces_share_no_cluster_wide_hook() -> None:
    def names(namespace: str) -> set[tuple[str, str]]:
        words = ("model", "./helm", "--namespace", namespace, "--set", "operator.mode=never")
        return {
            (obj["kind"], obj["metadata"]["name"])
            for obj in template(*words)
            if "namespace" not in obj["metadata"]
        }

    mine, others = names("team-a"), names("team-b")
    assert ("ClusterRole", "model-recipe-selector:team-a") in mine
    assert not mine & others


def judged(plane: Cluster, given: list[Json]) -> tuple[list[str], list[str]]:
    """(objects that were accepted, warnings) of a dry run."""
    done = plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(given)
    )  # fmt: skip
    return re.findall(r"^(\S+) serverside-applied", done.stdout, re.MULTILINE), re.findall(
        r"^Warning: .*", done.stderr, re.MULTILINE
    )


def test_every_object_is_accepted_without_a_warning(judge: ControlPlane) -> None:
    given = objects()
    # A Pod, unlike what makes Pods, is refused as long as its account is not there.
    judge.apply(*(obj for obj in given if obj["kind"] == "ServiceAccount"))
    accepted, warnings = judged(judge, given)
    assert warnings == []
    assert len(accepted) == len(given)
    kinds = {name.partition("/")[0] for name, _ in named(given)}
    assert {
        "Certificate",
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
        "ValidatingAdmissionPolicy",
    } <= kinds


def test_an_object_with_an_unknown_field_would_be_refused(judge: ControlPlane) -> None:
    (service, *_) = (obj for obj in objects() if obj["kind"] == "Service")
    with pytest.raises(RuntimeError, match=r"unknown field|field not declared"):
        judged(judge, [{**service, "spec": {**service["spec"], "prots": []}}])


def test_objects_of_kubernetes_in_the_pages_are_accepted(judge: ControlPlane) -> None:
    shown = [
        obj
        for page in WRITTEN
        for block in blocks(page)
        if block.language == "yaml"
        for obj in yaml.safe_load_all(block.text)
        if isinstance(obj, dict) and obj.get("kind") in CLUSTER_KINDS | {"AIMDeployment", "AIMRecipe"}
    ]
    accepted, warnings = judged(judge, shown)
    assert (len(accepted), warnings) == (len(shown), [])

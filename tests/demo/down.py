"""End the demo and remove what it brought."""

from __future__ import annotations

import sys
from pathlib import Path

from demo.holder import ROOT
from demo.kube import Kubectl, KubectlError, find_kubectl
from demo.place import Place, State
from testbed.background import down as plane_down
from testbed.background import holder as plane_holder

REMOVED = (ROOT / "deploy" / "samples" / "namespace.yaml", ROOT / "crds" / "aimdeployments.yaml",
           ROOT / "crds" / "aimrecipes.yaml", ROOT / "deploy" / "manifests" / "user-roles.yaml",
           ROOT / "deploy" / "manifests" / "rbac.yaml",
           ROOT / "deploy" / "manifests" / "namespace.yaml")  # fmt: skip
"""From the user's cluster. With the CRDs go all recipes; the demo refuses a cluster that had them before."""


def take_down(place: Place) -> int:
    """End all processes of the demo; on the user's cluster remove its objects first."""
    state = State.read(place)
    code = 0
    if state is not None and state.own_cluster:
        code = _remove_objects(Kubectl(find_kubectl(own_cluster=True), Path(state.kubeconfig)))
    try:
        place.end_holder()
    except TimeoutError as error:
        print(error, file=sys.stderr)
        code = 1
    if plane_holder(place.plane) is not None:
        code = plane_down(place.plane) or code
    if code == 0:
        place.forget()
    return code


def _remove_objects(admin: Kubectl) -> int:
    for path in REMOVED:
        try:
            admin.run("delete", "--ignore-not-found", "--wait=true", "--timeout=120s", f"--filename={path}")
        except KubectlError as error:
            print(error, file=sys.stderr)
            return 1
    return 0

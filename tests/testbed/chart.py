"""The chart as `helm template` renders it, and what its roles allow."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from testbed import tools
from testbed.product import NAMESPACE, ROOT

RELEASE = "aim-engine"
CHART = ROOT / "deploy" / "helm"
EVERYWHERE = "*"
Object = Mapping[str, Any]


class Right(NamedTuple):
    """One verb on one resource."""

    namespace: str
    """EVERYWHERE for a right of the whole cluster."""
    resource: str
    """As in an audit record: plural, group unless core, subresource."""
    names: tuple[str, ...]
    """Objects it is limited to; () is all."""
    verb: str


def render(*, namespace: str = NAMESPACE, release: str = RELEASE, **values: Any) -> list[dict[str, Any]]:
    """Objects of the chart, hooks among them; `values` are merged over the chart's own. The release brings the operator."""
    told = {"operator": {"mode": "always"}, **values}
    done = subprocess.run(
        [str(tools.tool("helm")), "template", release, str(CHART), "--namespace", namespace, "--values", "-"],
        input=yaml.safe_dump(told), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """The objects of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def one(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The object of a kind and name."""
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def rights(objects: Sequence[Object], account: str) -> set[Right]:
    """What the roles give a ServiceAccount of the release's namespace."""
    return {
        right
        for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding")
        if any(s["kind"] == "ServiceAccount" and s["name"] == account for s in binding["subjects"])
        for right in _rights(objects, binding)
    }


def accounts(objects: Iterable[Object]) -> list[str]:
    """Names of the chart's ServiceAccounts, each once."""
    return sorted({each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")})


def _rights(objects: Sequence[Object], binding: Object) -> Iterator[Right]:
    where = binding["metadata"].get("namespace", EVERYWHERE)
    roles = [
        each
        for each in of_kind(objects, binding["roleRef"]["kind"])
        if each["metadata"]["name"] == binding["roleRef"]["name"]
        and (each["kind"] == "ClusterRole" or each["metadata"]["namespace"] == where)
    ]
    (role,) = roles
    for rule in role["rules"]:
        assert "nonResourceURLs" not in rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                plural, slash, sub = resource.partition("/")
                name = f"{plural}.{group}" if group else plural
                for verb in rule["verbs"]:
                    yield Right(where, f"{name}{slash}{sub}", tuple(rule.get("resourceNames", ())), verb)

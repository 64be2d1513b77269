"""Helm as a program: rendering the chart and installing it on a plane."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from chart.schema import HELM
from testbed import tools
from testbed.cluster import Cluster

Json = dict[str, Any]
SECONDS = 400


def helm(
    *words: str | Path,
    kubeconfig: Path | None = None,
    stdin: str | None = None,
    check: bool = True,
    program: str = "helm",
) -> subprocess.CompletedProcess[str]:
    """Run helm in `deploy/`, with nothing of the user's own configuration; `program` may be helm3."""
    home = tools.cache_root() / "helm-home"
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))},
        "HELM_CACHE_HOME": str(home), "HELM_CONFIG_HOME": str(home), "HELM_DATA_HOME": str(home),
        "KUBECONFIG": str(kubeconfig or home / "no-kubeconfig"), "no_proxy": "127.0.0.1,localhost",
    }  # fmt: skip
    done = subprocess.run(
        [tools.tool(program), *words], cwd=HELM.parent, env=environment, input=stdin, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert not check or done.returncode == 0, (
        f"helm {shlex.join(map(str, words))}\n{done.stdout}{done.stderr}"
    )
    return done


def rendered(text: str) -> list[Json]:
    """The objects of a render."""
    return [obj for obj in yaml.safe_load_all(text) if obj]


def template(*words: str, api_versions: Sequence[str] = (), check: bool = True) -> list[Json]:
    """Objects that `helm template` gives for the words after it."""
    versions = [word for version in api_versions for word in ("--api-versions", version)]
    return rendered(helm("template", *words, *versions, check=check).stdout)


def named(objects: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """Each object by kind, name and, where it is one, its hook."""
    for obj in objects:
        hook = (obj["metadata"].get("annotations") or {}).get("helm.sh/hook")
        yield f"{obj['kind']}/{obj['metadata']['name']}{f' ({hook})' if hook else ''}", obj


def on(
    plane: Cluster, *words: str | Path, check: bool = True, program: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """Run helm against a plane."""
    return helm(*words, kubeconfig=plane.kubeconfig, check=check, program=program)

"""CRDs of other projects, read from their Go modules at pinned versions; nothing of them is kept in our tree."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from testbed import gobuild
from testbed.tools import ToolUnavailable, cache_root

_SECONDS = 300


@dataclass(frozen=True)
class Project:
    """A module, its version, and the folder of its CRDs."""

    module: str
    version: str
    folder: str


PROJECTS = {
    "prometheus-operator": Project(
        "github.com/prometheus-operator/prometheus-operator", "v0.85.0", "example/prometheus-operator-crd"
    ),
    "cert-manager": Project("github.com/cert-manager/cert-manager", "v1.21.2", "deploy/crds"),
}


@cache
def crds(project: str) -> tuple[Path, ...]:
    """CRD files of a project; ToolUnavailable when its module cannot be had."""
    wanted = PROJECTS[project]
    go = gobuild.find_go(cache_root())
    name = f"{wanted.module}@{wanted.version}"
    done = subprocess.run(
        [go, "mod", "download", "-json", name], capture_output=True, text=True, timeout=_SECONDS, cwd="/"
    )
    if done.returncode:
        raise ToolUnavailable(f"{name}: {done.stdout}{done.stderr}")
    folder = Path(json.loads(done.stdout)["Dir"]) / wanted.folder
    return tuple(sorted(folder.glob("*.yaml")))

"""Where the testbed's programs come from: an assets directory, PATH, the user cache, or a build from source.

The version of each program is the one its wrapper module ``go/<module>/go.mod`` requires, and a program found on the
machine is taken only if it reports exactly that version. ``python -m testbed.tools [tool ...]`` makes tools available
and prints their paths.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from testbed import gobuild

MODULES = Path(__file__).parent / "go"


class ToolUnavailable(RuntimeError):  # noqa: N818 - reads as the state it reports
    """A program can neither be found in the right version nor be built; the message says what was tried."""


@dataclass(frozen=True)
class Tool:
    """One program: the wrapper module and package it is built from, and how to ask for its version."""

    name: str
    module: str
    package: str
    requires: str
    """Path of the module whose version in go.mod is the version of the program."""
    version_command: tuple[str, ...]
    version_variables: Callable[[str], Mapping[str, str]]
    """From the module version ("v1.36.3") to the Go variables that make the program report it."""
    reported: Callable[[str], str] = lambda version: version
    """From the module version to the text that the version command prints."""


def kubernetes_variables(version: str) -> dict[str, str]:
    """Link-time variables by which Kubernetes programs know their version."""
    major, minor, _ = version.lstrip("v").split(".")
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "none",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in values.items()}


def prometheus_version(version: str) -> str:
    """The released version of a Prometheus module version: v0.314.0 is Prometheus 3.14.0."""
    _, minor, patch = version.lstrip("v").split(".")
    return f"{int(minor) // 100}.{int(minor) % 100}.{patch}"


def kubernetes_tool(name: str, version_command: tuple[str, ...] = ("--version",)) -> Tool:
    """A program of the Kubernetes release."""
    package = f"k8s.io/kubernetes/cmd/{name}"
    return Tool(name, "kubernetes", package, "k8s.io/kubernetes", version_command, kubernetes_variables)


def prometheus_tool(name: str) -> Tool:
    """A program of the Prometheus release."""
    path = "github.com/prometheus/prometheus"
    return Tool(
        name,
        "prometheus",
        f"{path}/cmd/{name}",
        path,
        ("--version",),
        lambda version: {"github.com/prometheus/common/version.Version": prometheus_version(version)},
        prometheus_version,
    )


def single_tool(name: str, path: str, package: str, variable: str, version_command: tuple[str, ...]) -> Tool:
    """A program with a wrapper module of its own and one version variable."""
    return Tool(name, name, f"{path}/{package}", path, version_command, lambda version: {variable: version})


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        kubernetes_tool("kube-apiserver"),
        kubernetes_tool("kube-controller-manager"),
        kubernetes_tool("kube-scheduler"),
        kubernetes_tool("kubectl", ("version", "--client")),
        kubernetes_tool("kubelet"),
        kubernetes_tool("kube-proxy"),
        Tool(
            "etcd",
            "etcd",
            "go.etcd.io/etcd/server/v3",
            "go.etcd.io/etcd/server/v3",
            ("--version",),
            lambda _: {},
            lambda version: version.lstrip("v"),
        ),
        single_tool(
            "kwok", "sigs.k8s.io/kwok", "cmd/kwok", "sigs.k8s.io/kwok/pkg/consts.Version", ("--version",)
        ),
        Tool(
            "coredns",
            "coredns",
            "aim-engine-operator/testbed/coredns",
            "github.com/coredns/coredns",
            ("-version",),
            lambda _: {},
            lambda version: version.lstrip("v"),
        ),
        single_tool(
            "helm",
            "helm.sh/helm/v4",
            "cmd/helm",
            "helm.sh/helm/v4/internal/version.version",
            ("version", "--short"),
        ),
        Tool(
            "helm3",
            "helm3",
            "helm.sh/helm/v3/cmd/helm",
            "helm.sh/helm/v3",
            ("version", "--short"),
            lambda version: {"helm.sh/helm/v3/internal/version.version": version},
        ),
        single_tool(
            "kubeconform", "github.com/yannh/kubeconform", "cmd/kubeconform", "main.version", ("-v",)
        ),
        prometheus_tool("prometheus"),
        prometheus_tool("promtool"),
        Tool(
            "prometheus-operator",
            "prometheus-operator",
            "github.com/prometheus-operator/prometheus-operator/cmd/operator",
            "github.com/prometheus-operator/prometheus-operator",
            ("--version",),
            lambda version: {"github.com/prometheus/common/version.Version": version.lstrip("v")},
            lambda version: version.lstrip("v"),
        ),
    )
}

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "etcd", "kwok")
"""What a ControlPlane needs, and what ``python -m testbed.tools`` builds when nothing is named."""


@cache
def module_version(module: str, path: str) -> str:
    """Version of the module ``path`` that the wrapper module ``module`` requires, such as "v1.36.3"."""
    text = (MODULES / module / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s*{re.escape(path)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise LookupError(f"go/{module}/go.mod does not require {path}")
    return found[1]


def cache_root() -> Path:
    """Directory that keeps everything the testbed builds, shared by all checkouts of one user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "aim-engine-testbed"


def module_cache(module: str) -> Path:
    """Cache directory of a wrapper module; a change of its go.mod, go.sum or program gives another directory."""
    directory = MODULES / module
    sources = [directory / "go.mod", directory / "go.sum", *sorted(directory.glob("*.go"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    return cache_root() / f"{module}-{digest.hexdigest()[:16]}"


def expected_version(tool: Tool) -> str:
    """The text a usable program must print when asked for its version."""
    return tool.reported(module_version(tool.module, tool.requires))


def reports_version(program: Path, tool: Tool) -> bool:
    """Whether the program at ``program`` runs and says it is the version we pin."""
    try:
        reply = subprocess.run([program, *tool.version_command], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    pattern = rf"(?<![\w.]){re.escape(expected_version(tool))}(?![\w.-])"
    return reply.returncode == 0 and re.search(pattern, reply.stdout + reply.stderr) is not None


def installed_candidates(tool: Tool) -> list[Path]:
    """Programs of that name on the machine: first the assets directory, then PATH."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    found = [Path(assets) / tool.name] if assets else []
    on_path = shutil.which(tool.name)
    return [path for path in [*found, *([Path(on_path)] if on_path else [])] if path.is_file()]


def find_installed(tool: Tool) -> Path | None:
    """A program of the machine in the right version, if there is one."""
    return next((path for path in installed_candidates(tool) if reports_version(path, tool)), None)


def build_module(module: str, names: Sequence[str]) -> dict[str, Path]:
    """Paths of the named programs of one wrapper module in the cache, built now if they are not there."""

    def build(output: Path, missing: Sequence[str]) -> None:
        go = gobuild.find_go(cache_root())
        first = TOOLS[missing[0]]
        variables = first.version_variables(module_version(module, first.requires))
        gobuild.go_build(
            go, MODULES / module, {name: TOOLS[name].package for name in missing}, variables, output
        )

    directory = module_cache(module)
    try:
        gobuild.build_once(directory, names, build)
    except (gobuild.BuildError, OSError) as error:
        raise ToolUnavailable(unavailable_message(names, str(error))) from error
    return {name: directory / name for name in names}


def unavailable_message(names: Sequence[str], cause: str) -> str:
    """What to tell a user whose machine cannot provide a tool."""
    lines = [f"the testbed needs {', '.join(names)} and could not get it. Tried:"]
    for name in names:
        tool = TOOLS[name]
        others = ", ".join(str(path) for path in installed_candidates(tool)) or "none found"
        lines.append(f"  - {name} {expected_version(tool)} from $KUBEBUILDER_ASSETS or PATH ({others})")
    lines += [
        f"  - a build from tests/testbed/go/{TOOLS[names[0]].module} into {cache_root()}, which failed:",
        *(f"    {line}" for line in cause.splitlines()),
        "Remedy: give Go >= 1.26 (or pip access) and a reachable Go module proxy (GOPROXY), and about 10 GB of disk; "
        "or put the right versions into a directory and point KUBEBUILDER_ASSETS at it.",
    ]
    return "\n".join(lines)


@cache
def _ensure(names: tuple[str, ...]) -> dict[str, Path]:
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        raise ToolUnavailable(f"unknown tool {', '.join(unknown)}; known: {', '.join(TOOLS)}")
    found: dict[str, Path] = {}
    to_build: dict[str, list[str]] = {}
    for name in names:
        cached = module_cache(TOOLS[name].module) / name
        path = cached if cached.is_file() else find_installed(TOOLS[name])
        if path:
            found[name] = path
        else:
            to_build.setdefault(TOOLS[name].module, []).append(name)
    for module, missing in to_build.items():
        found |= build_module(module, missing)
    return found


def ensure(names: Iterable[str] = CONTROL_PLANE) -> dict[str, Path]:
    """Paths of the named tools, building what is missing; ToolUnavailable when one cannot be had.

    Programs in the cache win over installed ones: they are known to fit, and asking them costs no process.
    """
    return dict(_ensure(tuple(dict.fromkeys(names))))


def tool(name: str) -> Path:
    """Path of one tool, see :func:`ensure`."""
    return ensure((name,))[name]


def main(arguments: Sequence[str]) -> int:
    """Make the named tools available (the control plane's without a name) and print ``name path`` lines."""
    try:
        paths = ensure(tuple(arguments) or CONTROL_PLANE)
    except ToolUnavailable as error:
        gobuild.say(str(error))
        return 1
    for name, path in paths.items():
        print(f"{name} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

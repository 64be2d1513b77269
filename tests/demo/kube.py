"""The cluster as a user of kubectl sees it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed import tools

TIMEOUT = 180.0
TOKEN_LIFETIME = "24h"


class KubectlError(RuntimeError):
    """kubectl failed; the message is what it wrote."""


def find_kubectl(*, own_cluster: bool) -> Path:
    """The user's kubectl for the user's cluster where there is one, else the testbed's."""
    installed = shutil.which("kubectl") if own_cluster else None
    return Path(installed) if installed else tools.tool("kubectl")


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl writes; KubectlError when it fails."""
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT)
        if done.returncode != 0:
            raise KubectlError(
                f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
            )
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object or list, parsed."""
        parsed: dict[str, Any] = json.loads(self.run("get", *arguments, "--output=json"))
        return parsed

    def exists(self, *arguments: str) -> bool:
        """Whether `kubectl get` finds anything."""
        return bool(self.run("get", *arguments, "--ignore-not-found", "--output=name").strip())

    def apply(self, path: Path) -> None:
        """Server-side apply a file or a directory tree."""
        self.run(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=aim-demo",
            "--recursive",
            f"--filename={path}",
        )


def account_kubeconfig(admin: Kubectl, namespace: str, account: str) -> str:
    """A kubeconfig that reaches the same cluster as a ServiceAccount."""
    token = admin.run(
        "create", "token", account, f"--namespace={namespace}", f"--duration={TOKEN_LIFETIME}"
    ).strip()
    config = json.loads(admin.run("config", "view", "--minify", "--flatten", "--raw", "--output=json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    for context in config["contexts"]:
        context["context"]["namespace"] = namespace
    text: str = yaml.safe_dump(config)
    return text

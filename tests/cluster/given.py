"""A cluster that the user already has, for the tests that need no node of our own."""

from __future__ import annotations

import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from cluster.commands import CommandCluster, kill_group
from testbed import tools
from testbed.api import ApiClient

PROXY_TIMEOUT = 180.0


class GivenCluster(CommandCluster):
    """A cluster behind a kubeconfig of any kind; kubectl speaks for us, so that every way to log in works."""

    def __init__(self, workdir: Path, kubeconfig: Path) -> None:
        """``workdir`` gets logs and caches, and a copy of the kubeconfig, which tests may change."""
        super().__init__(workdir, "")
        kubectl = str(tools.tool("kubectl"))
        copied = [kubectl, f"--kubeconfig={kubeconfig}", "config", "view", "--raw", "--flatten", "--minify"]
        self.kubeconfig = workdir / "kubeconfig.yaml"
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(subprocess.run(copied, check=True, capture_output=True, text=True).stdout)
        self._proxy = subprocess.Popen(
            [kubectl, f"--kubeconfig={self.kubeconfig}", "proxy", "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.url = f"http://127.0.0.1:{self._proxy_port()}"
        self._api = ApiClient(self.url)

    def _proxy_port(self) -> int:
        assert self._proxy.stdout is not None
        deadline = time.monotonic() + PROXY_TIMEOUT
        while select.select([self._proxy.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = self._proxy.stdout.readline().decode()
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                return int(found[1])
            if not line:
                break
        self.stop()
        raise RuntimeError("kubectl proxy did not start; does the kubeconfig work?")

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = None,
        user: str | None = None,
    ) -> Any:
        """As :meth:`testbed.cluster.Cluster.request`, as the user of the kubeconfig and nobody else."""
        if user is not None:
            raise NotImplementedError("requests of other users need a cluster of the testbed")
        return self._api.request(method, path, body, content_type=content_type)

    def stop(self) -> None:
        """End what we started; the cluster stays."""
        kill_group(self._proxy)
        self._proxy.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

"""A real Prometheus on loopback."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from testbed import tools
from testbed.addresses import free_port
from testbed.processes import Processes

START_TIMEOUT = 120.0
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Prometheus:
    """One server, with its files in a directory of its own."""

    directory: Path
    processes: Processes
    port: int

    @classmethod
    def start(
        cls,
        directory: Path,
        scrape_configs: Sequence[Mapping[str, Any]],
        *,
        interval: str = "1s",
        rule_files: Sequence[Path] = (),
    ) -> Self:
        """Start it and wait until it is ready. Every target is scraped, and every rule evaluated, each ``interval``."""
        program = tools.tool("prometheus")
        directory.mkdir(parents=True, exist_ok=True)
        server = cls(directory, Processes(directory), free_port())
        config = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(file) for file in rule_files],
            "scrape_configs": list(scrape_configs),
        }
        file = directory / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        server.processes.start(
            "prometheus",
            [
                str(program), f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{server.port}", "--web.enable-lifecycle",
            ],
        )  # fmt: skip
        server.wait_for(server.ready, START_TIMEOUT, "Prometheus to be ready")
        return server

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **parameters: Any) -> Any:
        """JSON of a GET; AssertionError with Prometheus' own words when it refuses the request."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with _NO_PROXY.open(f"{self.url}{path}?{query}", timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(
                f"{path} {parameters}: {error.code} {error.read().decode()[:1000]}"
            ) from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, now."""
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["data"]["result"]
        return found

    def targets(self) -> dict[str, str]:
        """URL of every target -> "" when its last scrape was good, else what was wrong with it."""
        active = self.get("/api/v1/targets")["data"]["activeTargets"]
        return {
            each["scrapeUrl"]: "" if each["health"] == "up" else each["lastError"] or each["health"]
            for each in active
        }

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with _NO_PROXY.open(f"{self.url}/-/ready", timeout=5) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    def wait_for(self, holds: Callable[[], Any], timeout: float, what: str) -> Any:
        """What ``holds`` gives, as soon as it is true; AssertionError with Prometheus' last lines after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := holds():
                return found
            time.sleep(0.2)
        log = self.processes.log_file("prometheus")
        told = "\n".join(log.read_text().splitlines()[-10:]) if log.exists() else ""
        raise AssertionError(f"waited {timeout:g} s for {what}\n{told}")

    def close(self) -> None:
        """End it."""
        self.processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

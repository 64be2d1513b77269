"""Running commands against a cluster, and waiting for what they should bring about."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed import tools
from testbed.cluster import Cluster, tail

COMMAND_TIMEOUT = 900.0
CHANGE_DIRECTORY = 'cd "$1" && shift && exec "$@"'
FETCH = """
import json, sys, urllib.error, urllib.request
url, method, body, headers, timeout = json.load(sys.stdin)
request = urllib.request.Request(url, body.encode() if body else None, headers, method=method)
try:
    answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout)
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    json.dump([0, str(error)], sys.stdout)
    sys.exit()
json.dump([answer.status, answer.read().decode(errors="replace")], sys.stdout)
"""


class CommandCluster(Cluster):
    """A cluster against which a user's commands can be run."""

    _numbers = itertools.count(1)

    def enter(self, directory: Path) -> list[str]:
        """The words that, before a command, let it run in ``directory`` where the cluster can be reached."""
        return ["sh", "-c", CHANGE_DIRECTORY, "sh", str(directory)]

    def environment(self) -> dict[str, str]:
        """Environment of commands: our own, with this cluster's credentials and without traces at home."""
        own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        homes = {
            f"HELM_{kind}_HOME": str(self.workdir / "helm" / kind.lower())
            for kind in ("CACHE", "CONFIG", "DATA")
        }
        path = os.pathsep.join([str(self.workdir / "bin"), own.get("PATH", os.defpath)])
        kubernetes = {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.workdir / "kubectl-cache")}
        return {**own, **homes, **kubernetes, "PATH": path}

    def offer(self, *names: str) -> None:
        """Put programs of the testbed, built if need be, on the PATH of commands."""
        programs = self.workdir / "bin"
        programs.mkdir(exist_ok=True)
        for name, path in tools.ensure(names).items():
            if not (programs / name).exists():
                (programs / name).symlink_to(path)

    def _words(self, argv: Sequence[str | Path], cwd: Path | None) -> list[str]:
        if str(argv[0]) in tools.TOOLS:
            self.offer(str(argv[0]))
        return [*self.enter((cwd or self.workdir).absolute()), *map(str, argv)]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = COMMAND_TIMEOUT,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as administrator of the cluster, with ``kubectl`` on its PATH, and return what it wrote.

        ``argv[0]`` may be a program of the testbed (``helm``, ...), which is made available; :meth:`offer` does the same for
        scripts. With ``check`` a failure raises RuntimeError that shows the output. After ``timeout`` seconds the command is
        killed with all that it started, and subprocess.TimeoutExpired raised.
        """
        self.offer("kubectl")
        variables = {**self.environment(), **(environment or {})}
        done = run_to_end(self._words(argv, cwd), stdin, timeout, variables)
        if check and done.returncode != 0:
            command = " ".join(map(str, argv))
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr}{done.stdout}")
        return done

    @contextmanager
    def background(self, argv: Sequence[str | Path], *, cwd: Path | None = None) -> Iterator[Background]:
        """Run a command as :meth:`run` does while the block lasts, such as ``kubectl port-forward``."""
        self.offer("kubectl")
        log = self.workdir / "logs" / f"background-{next(self._numbers)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            process = subprocess.Popen(
                self._words(argv, cwd),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,
            )
        try:
            yield Background(process, log)
        finally:
            kill_group(process)
            process.wait()

    def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> tuple[int, str]:
        """(status, body) of an HTTP request made where commands run; status 0 and the reason when nobody answers."""
        request = json.dumps([url, method, body, dict(headers or {}), timeout])
        answer = self.run([sys.executable, "-I", "-S", "-c", FETCH], stdin=request, timeout=timeout + 60)
        status, text = json.loads(answer.stdout)
        return int(status), str(text)

    def fetch_served(self, url: str, timeout: float = 240.0) -> str:
        """Body of the first answer with status 200: that a pod is ready reaches the node a moment after everybody else."""

        def answered() -> tuple[int, str] | None:
            status, body = self.fetch(url)
            return (status, body) if status == http.client.OK else None

        found = self.wait_for(answered, timeout, f"{url} to be served")
        assert found is not None
        return found[1]

    @contextmanager
    def default_namespace(self, name: str) -> Iterator[None]:
        """Let the kubeconfig's context have this namespace while the block lasts."""
        set_namespace = ("config", "set-context", "--current")
        self.kubectl(*set_namespace, f"--namespace={name}")
        try:
            yield
        finally:
            self.kubectl(*set_namespace, "--namespace=default")

    # Waiting

    def wait_pod(self, namespace: str, name: str, timeout: float = 480.0) -> dict[str, Any]:
        """The pod as soon as it is Ready. WaitTimeoutError shows its status and what happened to it."""

        def ready() -> dict[str, Any] | None:
            pod: dict[str, Any] = self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
            return pod if is_true(pod, "Ready") else None

        return self._wait(ready, timeout, namespace, f"pod {name} to be Ready")

    def wait_job(self, namespace: str, name: str, timeout: float = 480.0) -> dict[str, Any]:
        """The Job as soon as it is complete. RuntimeError at once when it failed."""

        def complete() -> dict[str, Any] | None:
            job: dict[str, Any] = self.request("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")
            if is_true(job, "Failed"):
                raise RuntimeError(f"Job {name} failed\n{self.happenings(namespace)}")
            return job if is_true(job, "Complete") else None

        return self._wait(complete, timeout, namespace, f"Job {name} to complete")

    def wait_deployment(self, namespace: str, name: str, timeout: float = 480.0) -> dict[str, Any]:
        """The Deployment as soon as its present template has all its pods and they are available."""

        def rolled_out() -> dict[str, Any] | None:
            found: dict[str, Any] = self.request(
                "GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
            )
            status, wanted = found.get("status", {}), found["spec"].get("replicas", 1)
            counts = [status.get(f"{kind}eplicas", 0) for kind in ("r", "updatedR", "availableR")]
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return found if seen and counts == [wanted] * 3 else None

        return self._wait(rolled_out, timeout, namespace, f"Deployment {name} to be rolled out")

    def _wait(self, predicate: Any, timeout: float, namespace: str, what: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.wait_for(predicate, timeout, what)
        except AssertionError as error:
            raise type(error)(f"{error}\n{self.happenings(namespace)}") from None
        return found

    def happenings(self, namespace: str) -> str:
        """Pods, events and the last lines of all containers of a namespace, for messages about what went wrong."""
        words = ("--namespace", namespace)
        pods = self.kubectl("get", "pods", "--output=wide", *words, check=False).stdout
        events = self.kubectl("events", *words, check=False).stdout
        names = self.kubectl("get", "pods", "--output=name", *words, check=False).stdout.split()
        logs = [
            self.kubectl("logs", name, "--all-containers", "--tail=15", *words, check=False) for name in names
        ]
        return "\n".join(
            [pods, events, *(f"--- {name}\n{log.stdout}" for name, log in zip(names, logs, strict=True))]
        )


class Background:
    """A command that runs while something else is done."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def output(self) -> str:
        """What it has written."""
        return tail(self._log, 200)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()


def is_true(thing: Mapping[str, Any], condition: str) -> bool:
    """Whether an object has a condition of that type with status True."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions)


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all that it started, if it runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def run_to_end(
    command: Sequence[str], stdin: str | None, timeout: float, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command; nothing of it goes on after ``timeout`` seconds or an interruption."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(environment),
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(stdin, timeout)
        except BaseException:
            kill_group(process)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

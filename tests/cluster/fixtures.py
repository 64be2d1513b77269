"""Pytest plugin: one cluster with a real node for the tests that ask for one, or the cluster that the user has.

Add ``"cluster.fixtures"`` to ``pytest_plugins`` in the top conftest.py.

==================  ==================================================================================
``real_cluster``    a :class:`~cluster.real.RealCluster`
``live_cluster``    the same, or with AIM_TESTS_KUBECONFIG the cluster behind that file, where tests of
                    ``real_cluster`` do not run
``live_namespace``  a new namespace of the live cluster
``operator_image``  name of the shipped image on the live cluster
``engine_image``    name of the image with the simulated ``vllm`` on the live cluster
==================  ==================================================================================

Tests that use these are marked ``serial``. Those that cannot run are listed by name at the end of the report.
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import host, images
from cluster.commands import CommandCluster
from cluster.given import GivenCluster
from cluster.real import RealCluster
from testbed.fixtures import WITHOUT_CLUSTER

KUBECONFIG = "AIM_TESTS_KUBECONFIG"
OPERATOR_IMAGE = "AIM_TESTS_OPERATOR_IMAGE"
ENGINE_IMAGE = "AIM_TESTS_ENGINE_IMAGE"
NOT_RUN = "for want of a real node: "
USERS = pytest.StashKey[set[Path]]()


class SharedCluster:
    """The session's real cluster: started when a test asks for it, ended when tests come that do not.

    It would burden those, and only one may run at a time, so that those which start their own would wait for ever.
    """

    def __init__(self) -> None:
        self.cluster: RealCluster | None = None
        self.loaded: dict[str, str] = {}

    def get(self) -> RealCluster:
        """The cluster, started now if it does not run."""
        if self.cluster is None:
            self.cluster = RealCluster.start()
        return self.cluster

    def load(self, image: images.Image) -> str:
        """Name of an image that is on the node."""
        if image.name not in self.loaded:
            self.loaded[image.name] = self.get().load(image)
        return self.loaded[image.name]

    def stop(self) -> None:
        """End it, if it runs."""
        if self.cluster is not None:
            self.cluster.stop()
        self.cluster = None
        self.loaded = {}


SHARED = SharedCluster()


def given_kubeconfig() -> str:
    """The user's kubeconfig, or nothing."""
    return os.environ.get(KUBECONFIG, "")


def why_not(item: pytest.Item) -> str | None:
    """Why a test that needs a cluster of this kind cannot run."""
    if os.environ.get(WITHOUT_CLUSTER) == "1":
        return f"{WITHOUT_CLUSTER}=1"
    if given_kubeconfig():
        real = "real_cluster" in getattr(item, "fixturenames", ())
        return f"it is the testbed's own, and {KUBECONFIG} is set" if real or starts_nodes(item) else None
    return why_unfit()


@functools.cache
def why_unfit() -> str | None:
    """Why this machine can hold no real node; looked at once a session."""
    return host.why_unfit()


def uses_live(item: pytest.Item) -> bool:
    """Whether a test works on the shared or the user's cluster."""
    return bool({"real_cluster", "live_cluster"} & set(getattr(item, "fixturenames", ())))


def starts_nodes(item: pytest.Item) -> bool:
    """Whether a test starts real nodes of its own."""
    return item.get_closest_marker("real_node") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let tests of real nodes run one after the other, and not where none can be had."""
    config.stash[USERS] = {item.path for item in items if uses_live(item)}
    for item in items:
        if not (uses_live(item) or starts_nodes(item)):
            continue
        item.add_marker("cluster")
        item.add_marker("serial")
        reason = why_not(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"{NOT_RUN}{reason}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End the shared cluster before tests of a module that does not use it."""
    if item.path not in item.config.stash[USERS]:
        SHARED.stop()


def pytest_sessionfinish() -> None:
    """Nothing stays."""
    SHARED.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that did not run for want of a node."""
    missing: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if NOT_RUN in reason:
            missing.setdefault(reason.partition(NOT_RUN)[2], []).append(report.nodeid)
    for reason, names in missing.items():
        terminalreporter.section(f"NOT RUN {NOT_RUN}{reason}")
        for name in names:
            terminalreporter.write_line(name)


@pytest.fixture(scope="module")
def real_cluster() -> RealCluster:
    """A cluster with a real node. It must be left as it was found: without pods, GPUs and simulated nodes."""
    try:
        return SHARED.get()
    except Exception as error:
        pytest.fail(f"the cluster could not be started: {error}", pytrace=False)


@pytest.fixture(scope="module")
def live_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CommandCluster]:
    """The user's cluster if one is given, else the real one."""
    if given_kubeconfig():
        workdir = tmp_path_factory.mktemp("given-cluster")
        with GivenCluster(workdir, Path(given_kubeconfig()).absolute()) as cluster:
            yield cluster
    else:
        yield request.getfixturevalue("real_cluster")


@pytest.fixture
def live_namespace(live_cluster: CommandCluster) -> Iterator[str]:
    """A new namespace; deleted, with the pods in it, after the test."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    live_cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    live_cluster.wait_for(lambda: live_cluster.request("GET", account), 240, f"the ServiceAccount of {name}")
    yield name
    live_cluster.request("DELETE", f"/api/v1/namespaces/{name}")


def image_name(variable: str, build: Callable[[], images.Image]) -> str:
    """Name of an image that the live cluster can run."""
    if not given_kubeconfig():
        return SHARED.load(build())
    if not os.environ.get(variable):
        pytest.skip(f"name the image that your cluster shall pull: {variable}")
    return os.environ[variable]


@pytest.fixture(scope="module")
def operator_image(live_cluster: CommandCluster) -> str:
    """Name of the shipped image, built from the repository's Dockerfile."""
    return image_name(OPERATOR_IMAGE, images.operator_image)


@pytest.fixture(scope="module")
def engine_image(live_cluster: CommandCluster) -> str:
    """Name of the image whose ``vllm`` is the simulated engine."""
    return image_name(ENGINE_IMAGE, images.engine_image)

"""Simulated inference engines: one listens on the address and port of every ready engine pod.

In a test: ``with EngineFleet(plane) as fleet: fleet.set(namespace, pod, tokens_per_second=1200)``. As a program of its
own: ``python -m testbed.engines --kubeconfig FILE``; loads are then set by the pod annotation ``testbed.aim/load``,
JSON with the fields of :class:`testbed.vllm_metrics.Load`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web

from testbed.cluster import Cluster
from testbed.engine_server import DEFAULT_PORT, Engine, engine_application, served_models
from testbed.kubeconfig import read_kubeconfig
from testbed.vllm_metrics import EngineState, Load

T = TypeVar("T")
SELECTOR = "app.kubernetes.io/component=inference-engine"
LOAD_ANNOTATION = "testbed.aim/load"
RETRY_SECONDS = 0.2
CALL_TIMEOUT = 60.0

Key = tuple[str, str]
Address = tuple[str, int]


def pod_key(pod: dict[str, Any]) -> Key:
    """(namespace, name)."""
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def engine_address(pod: dict[str, Any]) -> Address | None:
    """Where the pod's engine listens: the pod's address and its port named "http"; None while it is not ready.

    An engine opens its port when the model is loaded, so a pod that is starting, crashed or going has none.
    """
    status = pod.get("status", {})
    ready = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    if status.get("phase") != "Running" or not status.get("podIP") or ready.get("Ready") != "True":
        return None
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    named = [port["containerPort"] for port in ports if port.get("name") == "http"]
    return status["podIP"], (named or [DEFAULT_PORT])[0]


def annotated_load(pod: dict[str, Any], base: Load) -> Load:
    """``base`` with what the pod's annotation says; ValueError or TypeError when that is no load."""
    text = pod["metadata"].get("annotations", {}).get(LOAD_ANNOTATION)
    return dataclasses.replace(base, **json.loads(text)) if text else base


@dataclasses.dataclass
class Served:
    """An engine that listens."""

    uid: str
    address: Address
    site: web.TCPSite
    annotation: str | None


class Fleet:
    """Keeps one engine for each ready pod. To be used inside one event loop."""

    def __init__(self, kubeconfig: Path, selector: str = SELECTOR) -> None:
        self._kubeconfig = kubeconfig
        self._selector = selector
        self.served: dict[Key, Served] = {}
        self.engines: dict[Address, Engine] = {}
        self._waiting: dict[Key, dict[str, Any]] = {}
        self._changing = asyncio.Lock()
        self._runner = web.AppRunner(engine_application(self.engines), access_log=None, shutdown_timeout=0.1)

    async def run(self) -> None:
        """Follow the pods until cancelled."""
        await self._runner.setup()
        server, context, headers = read_kubeconfig(self._kubeconfig)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        connector = aiohttp.TCPConnector(ssl=context)
        retrying = asyncio.ensure_future(self._retry_for_ever())
        try:
            async with aiohttp.ClientSession(
                server, connector=connector, headers=headers, timeout=timeout
            ) as client:
                while True:
                    try:
                        await self._follow(client)
                    except Exception as error:  # whatever it was, the next list begins anew
                        print(f"engines: {error!r}; listing the pods again", file=sys.stderr)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            retrying.cancel()
            await self._runner.cleanup()

    async def _follow(self, client: aiohttp.ClientSession) -> None:
        async with client.get("/api/v1/pods", params={"labelSelector": self._selector}) as answer:
            answer.raise_for_status()
            listing = await answer.json()
        present = {pod_key(pod) for pod in listing["items"]}
        async with self._changing:
            for key in [key for key in self.served if key not in present]:
                await self._forget(key)
        for pod in listing["items"]:
            await self._pod_changed(pod)
        params = {
            "labelSelector": self._selector,
            "watch": "true",
            "resourceVersion": listing["metadata"]["resourceVersion"],
        }
        async with client.get("/api/v1/pods", params=params) as answer:
            answer.raise_for_status()
            async for line in _lines(answer):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] == "DELETED":
                    async with self._changing:
                        await self._forget(pod_key(event["object"]))
                else:
                    await self._pod_changed(event["object"])

    async def _pod_changed(self, pod: dict[str, Any]) -> None:
        async with self._changing:  # the watch and the retries must not open the same port twice
            await self._change(pod)

    async def _change(self, pod: dict[str, Any]) -> None:
        key, address, uid = pod_key(pod), engine_address(pod), pod["metadata"]["uid"]
        served = self.served.get(key)
        if served and (served.address != address or served.uid != uid):
            await self._forget(key)
            served = None
        if address is None:
            self._waiting.pop(key, None)
        elif served is None:
            await self._serve(key, address, pod)
        else:
            self._adopt_annotation(served, pod)

    async def _serve(self, key: Key, address: Address, pod: dict[str, Any]) -> None:
        # Addresses are reused: the event of the previous owner's end may come after that of the new owner's start.
        for other in [other for other, served in self.served.items() if served.address == address]:
            await self._forget(other)
        site = web.TCPSite(self._runner, *address)
        self.engines[address] = Engine(served_models(pod["spec"]["containers"][0]), EngineState(time.time()))
        try:
            await site.start()
        except OSError:
            del self.engines[address]
            self._waiting[key] = pod
            return
        self._waiting.pop(key, None)
        self.served[key] = Served(pod["metadata"]["uid"], address, site, None)
        self._adopt_annotation(self.served[key], pod)

    def _adopt_annotation(self, served: Served, pod: dict[str, Any]) -> None:
        text = pod["metadata"].get("annotations", {}).get(LOAD_ANNOTATION)
        if text == served.annotation:
            return
        served.annotation = text
        engine = self.engines[served.address]
        try:
            load = annotated_load(pod, engine.state.load)
        except (ValueError, TypeError) as error:
            print(f"{'/'.join(pod_key(pod))}: {LOAD_ANNOTATION} is no load: {error}", file=sys.stderr)
            return
        engine.advance()
        engine.state.load = load

    async def _forget(self, key: Key) -> None:
        self._waiting.pop(key, None)
        served = self.served.get(key)
        if served:
            await served.site.stop()
            # Only now, so that a pod without an engine in our books has nobody at its address.
            del self.served[key]
            del self.engines[served.address]

    async def _retry_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            for pod in list(self._waiting.values()):
                await self._pod_changed(pod)

    def set_load(self, key: Key, **changes: Any) -> Load:
        """Change fields of an engine's load; KeyError when no engine listens for that pod."""
        engine = self.engines[self.served[key].address]
        engine.advance()
        engine.state.load = dataclasses.replace(engine.state.load, **changes)
        return engine.state.load


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of a stream, however long they are."""
    buffer = b""
    async for chunk in answer.content.iter_any():
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


class EngineFleet:
    """The engines of one plane's pods, in a thread of this process until :meth:`stop` or the end of ``with``."""

    def __init__(self, plane: Cluster, *, label_selector: str = SELECTOR) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engines", daemon=True)
        self._thread.start()
        self._fleet, self._task = self._call(self._begin(plane.kubeconfig, label_selector))

    @staticmethod
    async def _begin(kubeconfig: Path, selector: str) -> tuple[Fleet, asyncio.Task[None]]:
        fleet = Fleet(kubeconfig, selector)
        return fleet, asyncio.ensure_future(fleet.run())

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT)

    def url(self, namespace: str, pod: str) -> str | None:
        """Base address of a pod's engine, None while it does not listen."""
        served = self._fleet.served.get((namespace, pod))
        return "http://{}:{}".format(*served.address) if served else None

    def set(self, namespace: str, pod: str, **changes: Any) -> Load:
        """Change fields of an engine's :class:`Load` and return it; KeyError while the engine does not listen."""

        async def change() -> Load:
            return self._fleet.set_load((namespace, pod), **changes)

        return self._call(change())

    def serving(self) -> dict[Key, str]:
        """Base addresses of all engines that listen, by (namespace, pod)."""
        return {
            key: "http://{}:{}".format(*served.address) for key, served in dict(self._fleet.served).items()
        }

    def stop(self) -> None:
        """Close all engines. A second call does nothing."""
        if not self._thread.is_alive():
            return

        async def end() -> None:
            self._task.cancel()
            await asyncio.wait([self._task])

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def main() -> None:
    """Run engines for the pods of one cluster until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m testbed.engines", description=main.__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--label-selector", default=SELECTOR)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Fleet(options.kubeconfig, options.label_selector).run())


if __name__ == "__main__":
    main()

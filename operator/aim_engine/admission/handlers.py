"""kopf's admission handlers and nothing else: which kinds are judged, and how the answer is given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from aim_engine.admission.answer import Answer, Object
from aim_engine.admission.runtime import Validator
from aim_engine.api.meta import GROUP, LABEL_RECIPE, VERSION
from aim_engine.api.wording import briefly
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.connection import connect
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.reconcile.framework import begin, configure, log_in

log = logging.getLogger(__name__)

_DISCOVERY_SECONDS = 2.0


def register(registry: kopf.OperatorRegistry, validator: Validator) -> None:
    """Register the handlers of one running validator. Their ids are the paths of the webhooks."""

    log_in(registry, validator.connection, validator.config.namespace)
    gate = validator.gate

    @kopf.on.validate(GROUP, VERSION, "aimdeployments", id="aimdeployments", registry=registry)
    async def deployment(*, warnings: list[str], namespace: str | None, **more: Any) -> None:
        _give(await gate.deployment(namespace or "", *_objects(more)), warnings)

    @kopf.on.validate(GROUP, VERSION, "aimrecipes", id="aimrecipes", registry=registry)
    async def recipe(*, warnings: list[str], **more: Any) -> None:
        _give(gate.recipe(*_objects(more)), warnings)

    @kopf.on.validate(
        "", "v1", "configmaps", id="configmaps", labels={LABEL_RECIPE: "true"}, registry=registry
    )
    async def config_map(*, warnings: list[str], namespace: str | None, **more: Any) -> None:
        _give(gate.config_map(namespace or "", *_objects(more)), warnings)


def _objects(given: Mapping[str, Any]) -> tuple[Object, Object | None]:
    """The object as it would be stored, and as it is stored."""
    old = given["old"]
    return dict(given["new"]), None if old is None else dict(old)


def _give(answer: Answer, warnings: list[str]) -> None:
    warnings.extend(answer.warnings)
    if answer.refusals:
        raise kopf.AdmissionError("\n".join(briefly(answer.refusals)), code=422)


async def run(config: OperatorConfig, stop: asyncio.Event, take_signals: Callable[[], None]) -> bool:
    """Run the validator until `stop` is set; False when it ended for another cause."""
    connection = await connect()
    validator = Validator(config, connection)
    try:
        if not await _prepared(validator, KubeClient(connection), stop):
            return True
        return await _serve(validator, stop, take_signals)
    finally:
        await validator.end()
        await connection.close()


async def _serve(validator: Validator, stop: asyncio.Event, take_signals: Callable[[], None]) -> bool:
    registry = kopf.OperatorRegistry()
    register(registry, validator)
    settings = kopf.OperatorSettings()
    configure(settings)
    settings.admission.server = validator.server
    settings.admission.managed = None
    serving = await begin(registry, settings, take_signals)
    # kopf listens once it has asked the API server for all kinds, which may take long.
    awaited = [asyncio.create_task(event.wait()) for event in (validator.server.listening, stop)]
    await asyncio.wait({serving.ended, *awaited}, return_when=asyncio.FIRST_COMPLETED)
    for task in awaited:
        task.cancel()
    return await serving.beside(asyncio.create_task(validator.run(stop), name="validator"), stop)


async def _prepared(validator: Validator, client: KubeClient, stop: asyncio.Event) -> bool:
    """False when `stop` was set before all is there that serving needs."""

    async def prepare() -> None:
        await _served(client)
        await validator.prepare()

    preparing, stopped = asyncio.create_task(prepare()), asyncio.create_task(stop.wait())
    await asyncio.wait({preparing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if preparing.done():
        await preparing
        return True
    preparing.cancel()
    await asyncio.gather(preparing, return_exceptions=True)
    return False


async def _served(client: KubeClient) -> None:
    """Wait until the API server has our kinds: kopf looks for them once, at its start."""
    while True:
        try:
            found = await client.request("GET", f"/apis/{GROUP}/{VERSION}")
            if {"aimdeployments", "aimrecipes"} <= {each["name"] for each in found.get("resources", ())}:
                return
            log.warning("the CRDs of %s are incomplete; waiting for them", GROUP)
        except ApiError as error:
            log.warning("the CRDs of %s are not there: %s; waiting for them", GROUP, error)
        await asyncio.sleep(_DISCOVERY_SECONDS)

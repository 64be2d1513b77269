"""Certificates that others renew: what cannot be used is told, and the last good one is served on."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

from aim_engine.admission.keeper import Keeper
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.telemetry.tls import server_context
from testbed.certs import certificate_authority, server_certificate

AUTHORITY = certificate_authority("test")


def keeper_of(folder: Path) -> Keeper:
    """One whose files others write. It serves nobody yet, so it asks the API server nothing."""
    config = OperatorConfig.model_validate(
        {"admission": {"certificates": "secret", "directory": str(folder)}}
    )
    return Keeper(cast(KubeClient, None), config, server_context(), lambda: False)


def put(folder: Path) -> dict[str, bytes]:
    """A new pair in the folder, and what is in its files."""
    leaf = server_certificate(AUTHORITY, ["127.0.0.1"])
    files = {"tls.crt": leaf.certificate_pem, "tls.key": leaf.key_pem, "ca.crt": AUTHORITY.certificate_pem}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


async def served(keeper: Keeper) -> bytes:
    """The certificate that a client gets."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=keeper.tls)
    async with server:
        address = server.sockets[0].getsockname()
        return (await asyncio.to_thread(ssl.get_server_certificate, address)).encode()


async def test_a_renewal_that_cannot_be_used_leaves_the_last_certificate_served(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    await keeper.look()
    assert "cannot be read" in str(keeper.problem), "nothing can be served yet"
    first = put(tmp_path)
    await keeper.look()
    assert keeper.problem is None
    for wrong in ("ca.crt", "tls.key"):
        (tmp_path / wrong).unlink()
        await keeper.look()
        assert (keeper.problem, await served(keeper)) == (None, first["tls.crt"])
        (tmp_path / wrong).write_bytes(first[wrong])
    second = put(tmp_path)
    (tmp_path / "tls.key").write_bytes(first["tls.key"])
    await keeper.look()
    assert (keeper.problem, await served(keeper)) == (None, first["tls.crt"])
    (tmp_path / "tls.key").write_bytes(second["tls.key"])
    await keeper.look()
    assert (keeper.problem, await served(keeper)) == (None, second["tls.crt"])


class AlwaysFaster:
    """An API server on which another replica always writes the Secret first."""

    def __init__(self) -> None:
        self.writes = 0

    async def get(self, *_: object) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"metadata": {"resourceVersion": "1"}, "data": {}}

    async def merge(self, *_: object) -> None:
        self.writes += 1
        await asyncio.sleep(0)
        raise ApiError(409, "Conflict", "the object has been modified")


async def test_a_race_for_the_secret_that_is_lost_again_and_again_is_no_hot_loop() -> None:
    api = AlwaysFaster()
    keeper = Keeper(cast(KubeClient, api), OperatorConfig(), server_context(), lambda: False)
    async with asyncio.timeout(120):
        await keeper.look()
    assert 1 < api.writes < 10

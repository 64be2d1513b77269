"""Serving TLS: contexts whose certificate is renewed, and the certificate of the operator's port, from a mounted Secret."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

_POLL_SECONDS = 10.0


class ServingError(Exception):
    """A port cannot be served; the message names the setting, its value and the cause."""


class Certificate:
    """tls.crt and tls.key of a directory. `context` serves what was read last: connections made later get it at once."""

    def __init__(self, directory: Path) -> None:
        self._files = (directory / "tls.crt", directory / "tls.key")
        self.context = server_context()
        try:
            self._read = self._contents()
            self.context.load_cert_chain(*self._files)
        except OSError as error:
            raise ServingError(
                f"no certificate for /metrics: {error}; metrics.tlsDirectory ({directory}) must hold tls.crt and tls.key in PEM"
            ) from error

    async def watch(self) -> None:
        """Take up what is renewed, until cancelled. A pair that cannot be used is told, and the last one stays."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            self.look()

    def look(self) -> None:
        """Compare with the files now."""
        try:
            contents = self._contents()
            if contents == self._read:
                return
            renew(self.context, *self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate %s: %s; the last one stays", self._files[0], error)
            return
        self._read = contents
        log.info("certificate %s was renewed", self._files[0])

    def _contents(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._files)


def server_context() -> ssl.SSLContext:
    """TLS of a server; the certificate is loaded later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def renew(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Serve another pair from now on; raises ssl.SSLError for one that cannot be used, and the last one stays.

    A context that refuses a pair has lost the one before, so what is served is not the first to try it.
    """
    server_context().load_cert_chain(certificate, key)
    context.load_cert_chain(certificate, key)

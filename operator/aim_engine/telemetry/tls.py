"""The certificate of the operator's port, from a mounted Secret."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

_POLL_SECONDS = 10.0


class Certificate:
    """tls.crt and tls.key of a directory. `context` serves what was read last: connections made later get it at once."""

    def __init__(self, directory: Path) -> None:
        self._files = (directory / "tls.crt", directory / "tls.key")
        self.context = _context()
        self._read = self._contents()
        self.context.load_cert_chain(*self._files)

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
            # A context that refuses a pair has lost the one before: what is served must not be the first to try it.
            _context().load_cert_chain(*self._files)
            self.context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate %s: %s; the last one stays", self._files[0], error)
            return
        self._read = contents
        log.info("certificate %s was renewed", self._files[0])

    def _contents(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._files)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context

"""Texts served over HTTP on loopback, each made anew when it is asked for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Pages:
    """``with Pages({"/metrics": make}) as pages``: listens on 127.0.0.1 at a free ``port`` until the end of ``with``."""

    def __init__(self, pages: Mapping[str, Callable[[], str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                make = pages.get(self.path)
                body = make().encode() if make else b""
                self.send_response(200 if make else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who asked was in a hurry
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: a scrape a second is no news."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="pages", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

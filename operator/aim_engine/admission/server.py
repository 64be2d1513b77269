"""The HTTPS server of the gate: kopf's, with its weak points mended.

kopf's server closes its socket to take a new certificate, and reads at most 1 MiB. This one keeps the socket and reloads
the certificate in place, reads as much as the API server may store, and answers whatever cannot be an AdmissionReview.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import kopf
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from aim_engine.api.rules import is_deeper
from aim_engine.api.wording import printable, shown

log = logging.getLogger(__name__)


class _Plainly(logging.Filter):
    """What clients get wrong in HTTP is worth a line, and no traceback of the library."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args, record.exc_info = (
                "a request that is no HTTP: %s",
                (printable(shown(error.message)),),
                None,
            )
        return True


logging.getLogger("aiohttp.server").addFilter(_Plainly())

LARGEST_BODY = 8 * 2**20
"""An AdmissionReview holds the new and the old object, of at most 3 MiB each."""
DEEPEST = 100
"""Levels of a review that kopf and we can walk through; the API server takes thousands."""
READ_SECONDS = 10.0
_CLOSING_SECONDS = 10.0


class AdmissionServer(kopf.WebhookServer):
    """Serves kopf's admission handlers with a TLS context that others keep up to date."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(addr=host, port=port, context=tls)
        self.listening = asyncio.Event()
        self.draining = False
        """True: every connection is closed after its answer, so that clients go to another replica."""
        self._tls = tls

    async def __call__(self, fn: Any) -> AsyncIterator[Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = await self._answer(fn, request)
            if self.draining:
                response.force_close()
            return response

        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_post("/{id:.*}", answer)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_CLOSING_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.addr, self.port, ssl_context=self._tls).start()
            self.listening.set()
            yield {"url": f"https://{self.addr}:{self.port}"}
            await asyncio.Event().wait()
        finally:
            self.listening.clear()
            await runner.cleanup()

    async def _answer(self, fn: Any, request: web.Request) -> web.StreamResponse:
        """kopf answers a review; what is none is told so here."""
        if request.content_type != "application/json":
            return _refuse(415, f"Content-Type is '{request.content_type[:80]}'; send application/json")
        try:
            async with asyncio.timeout(READ_SECONDS):
                content = json.loads(await request.read())
        except TimeoutError:
            return _refuse(408, f"the body did not arrive within {READ_SECONDS:g} s")
        except web.HTTPRequestEntityTooLarge:
            return _refuse(413, f"the body is larger than {LARGEST_BODY} bytes")
        except (ValueError, RecursionError) as error:
            return _refuse(400, f"the body is not JSON: {error}")
        problem = _malformed(content)
        if problem is not None:
            return _refuse(400, f"this is no AdmissionReview: {problem}")
        review = content["request"]
        if is_deeper(review, DEEPEST):
            return web.json_response(_too_deep(review))
        return await self._serve(fn, request)


def _malformed(content: object) -> str | None:
    """What an AdmissionReview must have for kopf to answer it."""
    if not isinstance(content, dict) or content.get("kind") != "AdmissionReview":
        return "kind is not AdmissionReview"
    request = content.get("request")
    if not isinstance(request, dict):
        return "request is missing"
    for field in ("uid", "operation"):
        if not isinstance(request.get(field), str):
            return f"request.{field} is missing"
    resource = request.get("resource")
    if not isinstance(resource, dict) or not {"group", "version", "resource"} <= resource.keys():
        return "request.resource is incomplete"
    if not isinstance(request.get("userInfo"), dict):
        return "request.userInfo is missing"
    bodies = [request.get("object"), request.get("oldObject")]
    if not all(body is None or isinstance(body, dict) for body in bodies) or not any(bodies):
        return "request.object is missing"
    return None


def _too_deep(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to an object of more levels. One that was stored so may be changed: how else could it be mended?"""
    stored = is_deeper(request.get("oldObject"), DEEPEST)
    told = f"spec: is nested more than {DEEPEST} levels deep; write it with fewer"
    answer: dict[str, Any] = {"uid": request["uid"], "allowed": stored}
    answer |= {"warnings": [told]} if stored else {"status": {"code": 422, "message": told}}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _refuse(status: int, text: str) -> web.Response:
    log.warning("a request that is no admission review: %s", text)
    response = web.Response(status=status, text=text)
    response.force_close()
    return response

"""Keeps the served certificate and the webhook configuration in step with each other."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from aim_engine.admission.certificates import BUNDLE, Keys, advance, from_files, to_files
from aim_engine.admission.configuration import webhooks
from aim_engine.api.meta import GROUP
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.kube.resource import Resource
from aim_engine.reconcile.config import CertificateSource, OperatorConfig
from aim_engine.telemetry.tls import renew

log = logging.getLogger(__name__)

SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIGURATIONS = Resource(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
    namespaced=False,
)  # fmt: skip
ACTIVATE_AT = f"{GROUP}/activate-at"
ROTATE = f"{GROUP}/rotate-certificates"
"""Annotation of the Secret: any value makes the next rotation begin now."""
FIELD_MANAGER = "aim-engine-validator"
_DIAL_SECONDS = 3.0
_AGAIN_SECONDS = 1.0
_RACES = 5
"""So often another replica may be faster before there is a pause."""


@dataclass(slots=True)
class Keeper:
    """Reads, makes and rotates the certificate; loads it into the server's TLS context; tells the API server whom to trust."""

    client: KubeClient
    config: OperatorConfig
    tls: ssl.SSLContext
    answers: Callable[[], bool]
    """Whether this process answers reviews: only then is the API server sent here."""
    expires: datetime | None = None
    """End of the served certificate."""
    _loaded: tuple[bytes, bytes] | None = None
    _bundle: bytes = b""
    _problem: str | None = field(default="no certificate yet")
    _dialled_since: float | None = None
    _reached: bool = False
    _told: bool = False

    @property
    def problem(self) -> str | None:
        """Why nothing can be served; None when all is well."""
        return self._problem

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self.config.admission.poll_seconds if self._reached else _AGAIN_SECONDS)

    async def look(self) -> None:
        """One round: certificate first, then the configuration that trusts it."""
        try:
            await self._certificate()
            if self.answers():
                self._reached = self._reached or await self._reachable()
            if self._reached and self.answers():
                await self._configuration()
        except ApiError as error:
            log.warning(
                "certificate or webhook configuration: %s; again in %d s",
                error,
                self.config.admission.poll_seconds,
            )
        except (OSError, ValueError) as error:
            told = f"the certificate cannot be read: {error}"
            if self._loaded is None:
                self._problem = told
            log.warning("%s%s", told, "; the last one is served" if self._loaded else "")

    async def _certificate(self) -> None:
        if self.config.admission.certificates is CertificateSource.SELF_SIGNED:
            keys = await self._own_keys()
            self._bundle = keys.bundle
            self._load(keys.current.certificate, keys.current.key)
            return
        folder = Path(self.config.admission.directory)
        certificate, key = (folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes()
        self._bundle = (folder / BUNDLE).read_bytes()
        self._load(certificate, key)

    async def _own_keys(self) -> Keys:
        """Keys of the Secret, made or advanced where that is due. Another replica may do it at the same time: who is first counts."""
        settings = self.config.admission
        namespace = self.config.namespace
        for attempt in range(1, _RACES + 1):
            secret = await self.client.get(SECRETS, namespace, settings.secret_name)
            metadata = secret["metadata"]
            annotations = metadata.get("annotations") or {}
            files = {name: base64.b64decode(text) for name, text in (secret.get("data") or {}).items()}
            keys = from_files(files, annotations.get(ACTIVATE_AT))
            wanted = advance(
                keys, service_names(settings.service_name, namespace), datetime.now(UTC), days=settings.certificate_days,
                overlap=timedelta(seconds=settings.rotation_overlap_seconds), forced=ROTATE in annotations,
            )  # fmt: skip
            if wanted == keys:
                return wanted
            try:
                await self.client.merge(
                    SECRETS, namespace, settings.secret_name, _patch(wanted, metadata["resourceVersion"])
                )
            except ApiError as error:
                if error.code != 409 or attempt == _RACES:
                    raise
                continue
            log.info(
                "certificate: %s",
                "the next one joins the bundle" if wanted.upcoming else "a new one is served",
            )
            return wanted
        raise AssertionError("the loop returns or raises")

    def _load(self, certificate: bytes, key: bytes) -> None:
        """New connections use it at once; those that stand are not touched."""
        if (certificate, key) == self._loaded:
            return
        with tempfile.TemporaryDirectory() as folder:
            chain, private = Path(folder) / "tls.crt", Path(folder) / "tls.key"
            chain.write_bytes(certificate)
            private.touch(mode=0o600)
            private.write_bytes(key)
            renew(self.tls, chain, private)
        self._loaded = (certificate, key)
        self.expires = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        self._problem = None

    async def _reachable(self) -> bool:
        """Whether the Service leads to a validator: before that, the API server would find a closed door.

        A pod that cannot dial its own Service (no hairpin traffic, no cluster DNS) is no reason to leave the gate open for
        ever: after `reach_seconds` it counts as reached.
        """
        settings = self.config.admission
        now = time.monotonic()
        self._dialled_since = self._dialled_since or now
        host = service_names(settings.service_name, self.config.namespace)[0]
        if now - self._dialled_since >= settings.reach_seconds:
            if settings.reach_seconds:
                log.warning("%s does not answer from here; the API server is sent there all the same", host)
            return True
        trusting = ssl.create_default_context(cadata=self._bundle.decode())
        try:
            async with asyncio.timeout(_DIAL_SECONDS):
                _, writer = await asyncio.open_connection(host, settings.service_port, ssl=trusting)
        except (OSError, TimeoutError) as error:
            log.info("%s does not answer yet: %s", host, error or "timeout")
            return False
        writer.close()
        return True

    async def _configuration(self) -> None:
        """Fill in the webhooks where they differ. The object itself is the chart's; without it nobody is sent here."""
        settings = self.config.admission
        live = await self.client.get(CONFIGURATIONS, None, settings.configuration_name)
        wanted = webhooks(settings, self.config.namespace, self._trusted(live), self.config.watch_namespaces)
        if live.get("webhooks") == wanted:
            self._tell_on()
            return
        await self.client.request(
            "PATCH", CONFIGURATIONS.path(None, settings.configuration_name),
            {
                "apiVersion": CONFIGURATIONS.api_version, "kind": CONFIGURATIONS.kind,
                "metadata": {"name": settings.configuration_name}, "webhooks": wanted,
            },
            params={"fieldManager": FIELD_MANAGER, "force": "true"}, content_type="application/apply-patch+yaml",
        )  # fmt: skip
        self._told = False
        self._tell_on()

    def _tell_on(self) -> None:
        """Each replica says it once, and again when it changed something: `kubectl logs` shows any one of them."""
        if not self._told:
            log.info("webhook configuration %s is on", self.config.admission.configuration_name)
        self._told = True

    def _trusted(self, live: dict[str, Any]) -> bytes:
        """The bundle; where somebody else rotates, together with the CA that was trusted before and still is valid."""
        if self.config.admission.certificates is CertificateSource.SELF_SIGNED:
            return self._bundle
        now = datetime.now(UTC)
        known = [
            x509.load_pem_x509_certificates(base64.b64decode(each["clientConfig"]["caBundle"]))
            for each in live.get("webhooks", ())[:1]
            if each["clientConfig"].get("caBundle")
        ]
        new = x509.load_pem_x509_certificates(self._bundle)
        old = [ca for cas in known for ca in cas if ca not in new and ca.not_valid_after_utc > now]
        return self._bundle + b"".join(_pem(ca) for ca in old[:1])


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """Names under which the API server reaches the Service."""
    return (
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        f"{service}.{namespace}",
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _patch(keys: Keys, version: str) -> dict[str, Any]:
    """With the version that was read, so that of two replicas one comes first."""
    files = {
        name: None if content is None else base64.b64encode(content).decode()
        for name, content in to_files(keys).items()
    }
    at = keys.activate_at.isoformat() if keys.upcoming and keys.activate_at else None
    return {
        "metadata": {"resourceVersion": version, "annotations": {ACTIVATE_AT: at, ROTATE: None}},
        "data": files,
    }

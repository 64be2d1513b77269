"""Self-contained kubeconfig files: credentials inside, no path to anything else."""

from __future__ import annotations

import base64
import ssl
import tempfile
from pathlib import Path
from typing import Any

import yaml

from testbed.certs import KeyPair


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def certificate_user(pair: KeyPair) -> dict[str, Any]:
    """The ``user`` entry for a client certificate."""
    return {
        "client-certificate-data": _encoded(pair.certificate_pem),
        "client-key-data": _encoded(pair.key_pem),
    }


def token_user(token: str) -> dict[str, Any]:
    """The ``user`` entry for a bearer token."""
    return {"token": token}


def kubeconfig(server: str, ca: Path, user: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    """A kubeconfig with one context."""
    cluster = {"server": server, "certificate-authority-data": _encoded(ca.read_bytes())}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": "testbed", "user": user}],
        "contexts": [
            {"name": "testbed", "context": {"cluster": "testbed", "user": "testbed", "namespace": namespace}}
        ],
        "current-context": "testbed",
    }


def write_kubeconfig(path: Path, content: dict[str, Any]) -> Path:
    """Write ``content`` to ``path``, readable by the owner only, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def read_kubeconfig(path: Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    """Server, TLS context and headers of a kubeconfig that :func:`kubeconfig` made."""
    content = yaml.safe_load(path.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if "client-certificate-data" in user:
        # The ssl module loads client certificates from files only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return cluster["server"], context, headers

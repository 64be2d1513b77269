"""The AIMDeployment that a benchmark measures: where it answers, and what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.api.deployment import AIMDeploymentSpec
from aim_engine.cli.cluster import home
from aim_engine.cli.live import with_client
from aim_engine.cli.output import CommandError, invalid
from aim_engine.inventory.quantities import mapping
from aim_engine.kube.client import ApiError, KubeClient
from aim_engine.reconcile import resources
from aim_engine.reconcile.cache import StoredDeployment, StoredRecipe, read_deployment, read_stored_recipe
from aim_engine.reconcile.status import by_type


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured."""

    stored: StoredDeployment
    spec: AIMDeploymentSpec
    catalogued: StoredRecipe | None
    """The AIMRecipe in use; None where a ConfigMap or nobody wrote it, or it is gone."""

    @property
    def namespace(self) -> str:
        return self.stored.namespace

    @property
    def name(self) -> str:
        return self.stored.name

    @property
    def url(self) -> str:
        """Address of the Service."""
        return str(self.stored.status.get("url"))

    @property
    def recipe(self) -> str | None:
        """Name of the recipe in use."""
        name = mapping(self.stored.status.get("recipe")).get("name")
        return str(name) if name else None

    @property
    def models(self) -> list[str]:
        """Names its engine may serve the model under."""
        names = (self.spec.model.id, self.stored.status.get("modelID"))
        return list(dict.fromkeys(str(name) for name in names if name))

    @property
    def key_of(self) -> str | None:
        """Where the key for clients is."""
        secret = self.spec.service.api_key_secret
        return f"Secret {self.namespace}/{secret.name}, key {secret.key}" if secret else None

    @property
    def forward(self) -> str:
        """How to make the Service reachable from here."""
        port = self.spec.service.port
        return f"from outside the cluster run `kubectl port-forward -n {self.namespace} service/{self.name}-service 8000:{port}`"

    @property
    def forwarded(self) -> str:
        """Where it is reachable then."""
        return "http://127.0.0.1:8000/v1"


def find(arguments: argparse.Namespace) -> Subject:
    """The deployment that the flags name; raises CommandError when it does not exist or has no engine that answers."""
    namespace = home(arguments)
    subject = look(namespace, arguments.name)
    if not subject.stored.status.get("readyReplicas"):
        why = by_type(subject.stored.status).get("Ready", {}).get("message")
        raise CommandError(
            f"AIMDeployment {namespace}/{arguments.name} has no replica that answers{f': {why}' if why else ''}; "
            "wait until it is Ready: kubectl wait --for=condition=Ready"
        )
    return subject


def look(namespace: str, name: str) -> Subject:
    """The deployment and its recipe as they are now; raises CommandError."""
    return with_client(lambda client: _look(client, namespace, name))


async def _look(client: KubeClient, namespace: str, name: str) -> Subject:
    try:
        obj = await client.get(resources.DEPLOYMENTS_AIM, namespace, name)
    except ApiError as error:
        if error.code != 404:
            raise
        raise invalid(
            f"AIMDeployment '{name}' does not exist in namespace '{namespace}'; see `aim-engine status`"
        ) from None
    stored = read_deployment(obj)
    if stored.typed is None:
        raise invalid(f"AIMDeployment {namespace}/{name} cannot be read: {stored.error}")
    return Subject(stored, stored.typed.spec, await _recipe(client, mapping(stored.status.get("recipe"))))


async def _recipe(client: KubeClient, chosen: Mapping[str, Any]) -> StoredRecipe | None:
    name = str(chosen.get("name") or "")
    if not name or "/" in name:
        return None
    try:
        return read_stored_recipe(await client.get(resources.RECIPES, None, name))
    except ApiError as error:
        if error.code == 404:
            return None
        raise

"""How the Hub is asked, by configuration and environment: the operator and the command line ask alike."""

from __future__ import annotations

from pathlib import Path

from aim_engine.hub.environment import endpoint, offline
from aim_engine.hub.store import HubSettings
from aim_engine.reconcile.config import HubConfig


def hub_settings(config: HubConfig) -> HubSettings | None:
    """Settings of the Hub; None where it must not be asked."""
    if not config.enabled or offline():
        return None
    folder = Path(config.cache_directory) if config.cache_directory else None
    return HubSettings(endpoint(config.endpoint), config.timeout_seconds, config.max_concurrent, folder)

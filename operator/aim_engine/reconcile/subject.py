"""What is measured of a deployment, and what it is compared with. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.api.deployment import Targets
from aim_engine.telemetry.window import Window


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, and what it is compared with."""

    recipe_hash: str
    engine_version: str
    driver_version: str | None
    targets: Targets
    expected: tuple[int, str] | None
    """Tokens per second of one replica by the recipe, and `published` or `declared`."""
    max_num_seqs: int | None
    """Requests one replica executes at a time."""
    pristine: bool
    """Runs the recipe as it stands: no overrides and no workload of the user's."""


def is_loaded(window: Window, subject: Subject) -> bool:
    """Whether the engines were asked for more than they could do at once: only then throughput tells what they can."""
    full = subject.max_num_seqs is not None and window.running >= 0.9 * subject.max_num_seqs * window.replicas
    return window.queued_share >= 0.5 or full

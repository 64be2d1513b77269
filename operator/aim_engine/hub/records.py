"""What was learned of repositories, kept in files over restarts."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from aim_engine import __version__
from aim_engine.catalog.models import checkpoint_from_row, checkpoint_row, model_from_row, model_row
from aim_engine.hub.config_json import Described

log = logging.getLogger(__name__)

MAIN = "main"
FRESH_SECONDS = 24 * 3600.0
"""A branch may move; what it said is asked for again after a day. A commit never changes."""
_RULES = 2
"""To be raised whenever a configuration is read by other rules: commits are never asked for again."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Repository(NamedTuple):
    """A repository at a revision: a branch, a tag or a commit."""

    name: str
    revision: str = MAIN

    @property
    def is_fixed(self) -> bool:
        """A commit says the same for ever."""
        return _COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True, slots=True)
class Learned:
    """What a repository said, of which commit, and when."""

    described: Described
    commit: str | None
    asked_at: float
    """Seconds since the epoch."""

    def age(self) -> float:
        """Seconds since it was asked; a clock that was set back counts as no time."""
        return max(0.0, time.time() - self.asked_at)


def read(folder: Path | None, repository: Repository) -> Learned | None:
    """What an earlier process learned. A file that cannot be read, or that another version wrote by other rules, counts as none."""
    if folder is None:
        return None
    path = _path(folder, repository)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["operatorVersion"], content.get("rules")) != (__version__, _RULES):
            return None
        described = Described(model_from_row(content["model"]), checkpoint_from_row(content["checkpoint"]))
        return Learned(described, content["commit"], float(content["askedAt"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s is not a record of model facts and is passed over: %s", path, error)
        return None


def write(folder: Path | None, repository: Repository, learned: Learned) -> None:
    """Keep what was learned: all of it or nothing."""
    if folder is None:
        return
    path = _path(folder, repository)
    content = {
        "operatorVersion": __version__,
        "rules": _RULES,
        "revision": repository.revision,
        "commit": learned.commit,
        "askedAt": learned.asked_at,
        "model": model_row(learned.described.facts),
        "checkpoint": checkpoint_row(learned.described.checkpoint),
    }
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        log.warning("model facts are not kept in %s: %s", path.parent, error)


def _path(folder: Path, repository: Repository) -> Path:
    name, revision = (quote(part, safe="") for part in repository)
    return folder / f"{name}@{revision}.json"

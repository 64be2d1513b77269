"""`aim-engine snapshot`: what the operator decides from, as one file."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from aim_engine import __version__
from aim_engine.cli.cluster import read_config
from aim_engine.cli.facts import facts_of_records, places_of_all
from aim_engine.cli.files import Found
from aim_engine.cli.output import CommandError, Exit, progress, tell
from aim_engine.cli.snapshot_file import write_snapshot


def run(arguments: argparse.Namespace) -> int:
    """Write a snapshot."""
    from aim_engine.cli.live import fetch, with_client

    progress("reading the cluster")
    objects, config = with_client(fetch)
    if arguments.config is not None:
        config = read_config(arguments.config)
    named = [{**obj, "kind": kind} for kind, obj in objects]
    places = places_of_all(named)
    facts = facts_of_records(Found(obj, obj["metadata"]["name"]) for obj in named)
    if arguments.hub:
        from aim_engine.cli.inquiry import ask

        facts = ask(places, facts, config.hub)
    lines = write_snapshot(objects, config, facts, places, datetime.now(UTC), __version__)
    if arguments.file is None:
        sys.stdout.writelines(lines)
        return Exit.OK
    _replace(arguments.file, "".join(lines))
    tell(f"{arguments.file}: {len(objects)} objects")
    return Exit.OK


def _replace(path: Path, text: str) -> None:
    """All of the new content or all of the old: never a half."""
    part = path.parent / f".{path.name}.{os.getpid()}"
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise CommandError(f"{path}: {error.strerror}; name a file that can be written") from None

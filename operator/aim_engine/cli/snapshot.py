"""`aim-engine snapshot`: what the operator decides from, as one file."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from aim_engine import __version__
from aim_engine.cli.cluster import read_config
from aim_engine.cli.files import Object
from aim_engine.cli.output import CommandError, Exit, progress, tell
from aim_engine.cli.snapshot_file import write_snapshot
from aim_engine.selection import CatalogueFacts, Facts

EXAMPLES = """\
examples:
  aim-engine snapshot > snapshot.yaml
  aim-engine snapshot --file snapshot.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--file", type=Path, metavar="FILE", help="file to write (default: standard output)")
    parser.add_argument(
        "--hub",
        action="store_true",
        help="ask the Hub about models that the catalogue does not know, as the operator does",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration of the operator, instead of the cluster's"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write a snapshot."""
    from aim_engine.cli.live import fetch, with_client

    progress("reading the cluster")
    objects, config = with_client(fetch)
    if arguments.config is not None:
        config = read_config(arguments.config)
    facts: Facts = CatalogueFacts()
    if arguments.hub:
        from aim_engine.cli.hub_facts import ask_hub

        facts = ask_hub(_models(objects), config.hub)
    lines = write_snapshot(objects, config, facts, _models(objects), datetime.now(UTC), __version__)
    if arguments.file is None:
        sys.stdout.writelines(lines)
        return Exit.OK
    _replace(arguments.file, "".join(lines))
    tell(f"{arguments.file}: {len(objects)} objects")
    return Exit.OK


def _models(objects: list[tuple[str, Object]]) -> list[str]:
    """Models and checkpoints that deployments and recipes name."""
    found: set[str] = set()
    for kind, obj in objects:
        spec = obj.get("spec") or {}
        if kind == "AIMDeployment":
            found.add(str((spec.get("model") or {}).get("id")))
        elif kind == "AIMRecipe":
            found |= {str(spec.get("modelID")), str(spec.get("source"))}
    return sorted(found)


def _replace(path: Path, text: str) -> None:
    """All of the new content or all of the old: never a half."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CommandError(f"{path}: {error.strerror}; name a file that can be written") from None

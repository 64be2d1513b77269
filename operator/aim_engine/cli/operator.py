"""`aim-engine operator`: run the operator in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from aim_engine import handlers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    default = os.environ.get(handlers.CONFIG_VARIABLE)
    parser.add_argument(
        "--config", type=Path, default=Path(default) if default else None,
        help=f"configuration file (default: ${handlers.CONFIG_VARIABLE}, else built-in defaults)",
    )  # fmt: skip
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when the operator ended by itself (Lease lost, a watch died)."""
    logging.basicConfig(
        level=arguments.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    return 0 if asyncio.run(_until_signalled(arguments.config)) else 1


async def _until_signalled(config: Path | None) -> bool:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    take_signals()
    return await handlers.run(config, stop, take_signals)

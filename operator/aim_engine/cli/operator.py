"""`aim-engine operator`: run the operator in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from aim_engine import handlers
from aim_engine.cli.cluster import read_config
from aim_engine.cli.output import CommandError
from aim_engine.kube.connection import KubeconfigError
from aim_engine.reconcile.config import OperatorConfig


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when the operator ended by itself (Lease lost, a watch died)."""
    logging.basicConfig(
        level=arguments.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    config = read_config(arguments.config) if arguments.config else OperatorConfig()
    try:
        return 0 if asyncio.run(_until_signalled(config)) else 1
    except KubeconfigError as error:
        raise CommandError(f"{error}; run in a pod with a ServiceAccount, or set KUBECONFIG") from None
    except Exception:
        logging.getLogger(__name__).exception(
            "the operator ended"
        )  # its log is where its faults are looked for
        return 1


async def _until_signalled(config: OperatorConfig) -> bool:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    take_signals()
    return await handlers.run(config, stop, take_signals)

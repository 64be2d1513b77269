"""`aim-engine operator`: run the operator in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

from aim_engine import handlers
from aim_engine.cli.cluster import read_config
from aim_engine.cli.output import CommandError
from aim_engine.kube.connection import KubeconfigError
from aim_engine.reconcile.config import OperatorConfig
from aim_engine.telemetry.tls import ServingError

Serve = Callable[[OperatorConfig, asyncio.Event, Callable[[], None]], Awaitable[bool]]
"""Runs until the event is set, given a way to take the signals back from kopf."""


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when the operator ended by itself (Lease lost, a watch died)."""
    return until_signalled(arguments, handlers.run)


def until_signalled(arguments: argparse.Namespace, serve: Serve) -> int:
    """Run something that serves; 0 when a signal ended it."""
    logging.basicConfig(
        level=arguments.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    config = read_config(arguments.config) if arguments.config else OperatorConfig()
    try:
        return 0 if asyncio.run(_until_signalled(config, serve)) else 1
    except KubeconfigError as error:
        raise CommandError(f"{error}; run in a pod with a ServiceAccount, or set KUBECONFIG") from None
    except ServingError as error:
        raise CommandError(str(error)) from None
    except Exception:
        logging.getLogger(__name__).exception(
            "ended by a fault of ours"
        )  # its log is where its faults are looked for
        return 1


async def _until_signalled(config: OperatorConfig, serve: Serve) -> bool:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    take_signals()
    return await serve(config, stop, take_signals)

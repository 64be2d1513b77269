"""`aim-engine webhook`: run the validator in the foreground."""

from __future__ import annotations

import argparse

from aim_engine.admission import handlers
from aim_engine.cli.operator import until_signalled


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when the validator ended by itself."""
    return until_signalled(arguments, handlers.run)

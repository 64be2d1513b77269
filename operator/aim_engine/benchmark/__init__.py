"""A load generator for OpenAI-compatible servers: the standard library alone, so that it runs wherever Python does."""

from aim_engine.benchmark.book import Ending, Run
from aim_engine.benchmark.connection import Connection
from aim_engine.benchmark.load import Load, drive
from aim_engine.benchmark.probe import Probed, probe
from aim_engine.benchmark.summary import summarize
from aim_engine.benchmark.wire import Endpoint, Fault, RequestError

__all__ = [
    "Connection",
    "Ending",
    "Endpoint",
    "Fault",
    "Load",
    "Probed",
    "RequestError",
    "Run",
    "drive",
    "probe",
    "summarize",
]

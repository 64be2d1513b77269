"""`aim-engine bench`: a model server under load."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import math
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aim_engine.benchmark import (
    Connection,
    Ending,
    Endpoint,
    Fault,
    Load,
    Probed,
    RequestError,
    Run,
    drive,
    probe,
    summarize,
)
from aim_engine.cli.arguments import API_KEY_VARIABLE
from aim_engine.cli.bench_deployment import Subject, find
from aim_engine.cli.bench_save import check, save, small_load
from aim_engine.cli.bench_table import table
from aim_engine.cli.output import CommandError, Exit, emit, invalid, progress, tell

_INTERRUPTED = 130
_OTHER_FILES = 64
_LIMITS: Mapping[str, tuple[float, float]] = {
    "concurrency": (1, 4096),
    "input-tokens": (1, 1_000_000),
    "output-tokens": (1, 1_000_000),
    "duration": (1, 3600),
    "requests": (1, 1_000_000),
    "warmup": (0, 600),
    "timeout": (1, 3600),
}
_REMEDIES: Mapping[Fault, str] = {
    Fault.TLS: "name the server's authority in SSL_CERT_FILE",
    Fault.STALLED: "look at the engine's log, or wait longer with --timeout",
    Fault.NOT_OPENAI: "give the address of an OpenAI-compatible server, like http://host:8000/v1",
    Fault.NOT_FOUND: "name a model that it serves with --model",
    Fault.REJECTED: "ask for what the model allows, for example fewer --input-tokens",
    Fault.RATE_LIMITED: "ask the server itself rather than a gateway that limits requests",
}


def run(arguments: argparse.Namespace) -> int:
    """Measure; 1 when no request was answered, 130 when interrupted."""
    gc.enable()  # unlike other commands it runs for long
    load = _load(arguments)
    if arguments.name is None and (arguments.url is None or arguments.save):
        what = (
            "--save needs the AIMDeployment that is measured"
            if arguments.save
            else "name an AIMDeployment, or a server with --url"
        )
        raise CommandError(f"{what}: aim-engine bench DEPLOYMENT", Exit.USAGE)
    subject = find(arguments) if arguments.name is not None else None
    if arguments.save and subject is not None:
        if arguments.model not in (None, *subject.models):
            raise CommandError(
                f"--save keeps results of {' or '.join(subject.models)}, not of {arguments.model}", Exit.USAGE
            )
        check(subject)
        if (warning := small_load(load.concurrency)) is not None:
            tell(warning)
    _allow_connections(load.concurrency)
    endpoint = _endpoint(arguments.url or (subject.url if subject else ""))
    models = [arguments.model] if arguments.model else subject.models if subject else []
    headers = _headers(arguments.api_key_file)
    probed, measured = asyncio.run(_measure(arguments, endpoint, headers, models, load, subject))
    result = _document(endpoint, load, probed, measured, arguments, subject)
    emit(arguments.output, result, lambda _: table(result))
    if measured.ending is Ending.INTERRUPTED:
        if arguments.save:
            tell("not saved: the run was interrupted")
        return _INTERRUPTED
    if measured.answered == 0:
        raise CommandError(f"no request was answered{_why(measured)}")
    if arguments.save and subject is not None:
        tell(save(subject, result, measured))
    return Exit.OK


async def _measure(
    arguments: argparse.Namespace,
    endpoint: Endpoint,
    headers: Mapping[str, str],
    models: list[str],
    load: Load,
    subject: Subject | None,
) -> tuple[Probed, Run]:
    chance = random.Random()  # noqa: S311
    connection = Connection(endpoint, headers, load.silence)
    progress(f"asking {endpoint}")
    try:
        probed = await probe(
            connection, models, input_tokens=arguments.input_tokens, output_tokens=arguments.output_tokens, chance=chance
        )  # fmt: skip
    except RequestError as error:
        raise CommandError(f"{endpoint}: {error}; {_remedy(error, subject, arguments)}") from None
    finally:
        connection.close()
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # no signals in this thread
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
    progress(f"warming up for {load.warm_up:g} s; Ctrl-C ends with what was measured")
    measured = await drive(
        endpoint, headers, probed.ask, load,
        chance=chance, interrupted=interrupted, measuring=lambda: progress(f"measuring for up to {load.duration:g} s"),
    )  # fmt: skip
    return probed, measured


def _load(arguments: argparse.Namespace) -> Load:
    for name, (least, most) in _LIMITS.items():
        value = getattr(arguments, name.replace("-", "_"))
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            raise CommandError(f"--{name} {value:g} must be {least:g} to {most:g}", Exit.USAGE)
    return Load(
        concurrency=arguments.concurrency,
        duration=arguments.duration,
        requests=arguments.requests,
        warm_up=arguments.warmup,
        silence=arguments.timeout,
    )


def _allow_connections(count: int) -> None:
    """Raise the limit of open files where it is too low, as far as the system lets us."""
    try:
        import resource
    except ImportError:  # not every system has it
        return
    needed = count + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CommandError(
            f"--concurrency {count} needs {needed} open files, the limit is {hard}; raise it, or ask for less"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _endpoint(url: str) -> Endpoint:
    try:
        return Endpoint.parse(url)
    except ValueError as error:
        raise CommandError(f"--url: {error}", Exit.USAGE) from None


def _headers(path: Path | None) -> dict[str, str]:
    """The key goes to the server that was named and nowhere else: no redirect is followed."""
    where = f"--api-key-file {path}" if path else f"${API_KEY_VARIABLE}"
    try:
        key = path.read_text("utf-8").strip() if path else os.environ.get(API_KEY_VARIABLE, "").strip()
    except OSError as error:
        raise invalid(f"{where}: {error.strerror}; name a file that can be read") from None
    except UnicodeDecodeError:
        raise invalid(f"{where}: is no text; it must hold the key alone") from None
    if path and not key:
        raise invalid(f"{where}: is empty; it must hold the key alone")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise invalid(f"{where}: must hold one line of printable ASCII, the key alone")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _remedy(error: RequestError, subject: Subject | None, arguments: argparse.Namespace) -> str:
    match error.fault:
        case Fault.UNAUTHORIZED if subject is not None and subject.key_of is not None:
            return f"its key is in {subject.key_of}; write it to a file and name that with --api-key-file"
        case Fault.UNAUTHORIZED:
            return f"name a file with its key with --api-key-file, or set {API_KEY_VARIABLE}"
        case Fault.REFUSED if subject is not None and arguments.url is None:
            return f"{subject.forward}, and ask aim-engine bench {subject.name} -n {subject.namespace} --url {subject.forwarded}"
        case Fault.REFUSED:
            return "start the server or correct --url"
        case fault:
            return _REMEDIES.get(fault, "look at the engine's log")


def _why(measured: Run) -> str:
    worst = max(measured.failures.values(), key=lambda each: each.count, default=None)
    if worst is not None:
        return f": {worst.example}; look at the engine's log"
    return " in time; measure longer with --duration, or ask for fewer --output-tokens"


def _document(
    endpoint: Endpoint,
    load: Load,
    probed: Probed,
    measured: Run,
    arguments: argparse.Namespace,
    subject: Subject | None,
) -> dict[str, Any]:
    return {
        "server": str(endpoint),
        "model": probed.ask.model,
        "deployment": f"{subject.namespace}/{subject.name}" if subject else None,
        "recipe": subject.recipe if subject else None,
        "load": {
            "concurrency": load.concurrency,
            "inputTokens": arguments.input_tokens,
            "outputTokens": arguments.output_tokens,
            "durationSeconds": load.duration,
            "requests": load.requests,
            "warmupSeconds": load.warm_up,
        },
        **summarize(measured),
        "notes": list(probed.notes),
    }

